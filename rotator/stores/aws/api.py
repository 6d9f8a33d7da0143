"""Secrets Manager, one method a call: which ones there are, what they cost, and how much time a verb of the port has for all of them.

`swap` is the only compare-and-set that AWS has: a label is moved from a named version, or the whole call is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError

from rotator.domain.errors import Unreachable
from rotator.remote.http import Outcome, judge_failure
from rotator.stores.aws.config import AwsStoreConfig
from rotator.stores.aws.errors import Absent, Invalid, Misplaced, explain
from rotator.stores.aws.places import CURRENT, Place

__all__ = ["Api", "Connect", "Observe", "Stored"]

VERB_WITHIN = 20.0
"""Seconds after which a verb begins no further call. With one call of 10 s on top a step in hand ends within 30 s (L25)."""
_PAGE = 100
_MARKS = frozenset({"ARN", "SecretList"})
"""One of them is in each answer of AWS's; botocore takes a page of a proxy's for an answer with nothing in it."""
_FOREIGN = (ClientError, BotoCoreError, ResponseParserError, OSError, ValueError)
"""What a call raises. The last two come from where credentials are looked for: a file that is not there, a program that says nonsense."""
_FORGET = frozenset({"ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId"})

Connect = Callable[[AwsStoreConfig], Any]
Observe = Callable[[str, str, float], None]


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a secret. Versions never change."""

    version: str
    text: str | None = field(repr=False)
    """the value; None: it is binary"""
    created: datetime | None


class Api:
    """Calls to one account and region. Safe for threads; the client is made at first use, and anew after its credentials failed."""

    def __init__(self, config: AwsStoreConfig, connect: Connect | None = None, observe: Observe | None = None) -> None:
        """`observe` is told of each call: (operation, outcome, seconds)."""
        self._config = config
        self._observe = observe or (lambda _operation, _outcome, _seconds: None)
        self._connect = connect
        self._client: Any = None
        self._guard = threading.Lock()
        self._verb = threading.local()

    @contextmanager
    def verb(self) -> Iterator[None]:
        """Every call of this thread within belongs to one verb of the port, and to its time limit."""
        self._verb.ends = time.monotonic() + VERB_WITHIN
        try:
            yield
        finally:
            self._verb.ends = None

    def has_time(self) -> bool:
        """Whether the verb may begin another call."""
        ends = getattr(self._verb, "ends", None)
        return ends is None or time.monotonic() < ends

    def describe(self, name: str) -> Place:
        """The labels and the state of a secret, also of one that is absent or scheduled for deletion."""
        try:
            told = self._call("describe_secret", name)
        except Absent:
            return Place()
        labels = {label: version for version, stages in (told.get("VersionIdsToStages") or {}).items() for label in stages}
        return Place(
            exists=True,
            arn=str(told.get("ARN", "")),
            labels=labels,
            deleted=told.get("DeletedDate") is not None,
            rotated=bool(told.get("RotationEnabled")),
            primary=str(told.get("PrimaryRegion") or ""),
        )

    def find_value(self, name: str, version: str | None = None) -> Stored | None:
        """A version of a secret, by default the current one; None where there is none."""
        named: dict[str, Any] = {"VersionStage": CURRENT} if version is None else {"VersionId": version}
        try:
            told = self._call("get_secret_value", name, **named)
        except Absent:
            return None
        text, created = told.get("SecretString"), told.get("CreatedDate")
        return Stored(str(told["VersionId"]), text, created.astimezone(UTC) if isinstance(created, datetime) else None)

    def create(self, name: str, text: str | None, token: str, description: str | None) -> None:
        """Make a secret. Raises `Exists`."""
        config = self._config
        more: dict[str, Any] = {"Tags": [{"Key": key, "Value": value} for key, value in config.tags.items()]} if config.tags else {}
        if config.kms_key_id is not None:
            more["KmsKeyId"] = config.kms_key_id
        if description is not None:
            more["Description"] = description
        if text is not None:
            more |= {"SecretString": text, "ClientRequestToken": token}
        self._call("create_secret", name, writes=True, parameter="Name", **more)

    def put(self, name: str, version: str, text: str, label: str) -> bool:
        """Add a version under its id and one label, which leaves the version that had it; whether it is current now, as a secret's first
        version is. Raises `Exists` where that version has another content."""
        told = self._call("put_secret_value", name, writes=True, ClientRequestToken=version, SecretString=text, VersionStages=[label])
        return CURRENT in (told.get("VersionStages") or ())

    def swap(self, name: str, label: str, source: str | None, to: str | None) -> None:
        """Move a label, if it stands at `source` (None: nowhere); to None takes it off. Raises `Misplaced`: nothing was moved."""
        named = {"RemoveFromVersionId": source} if source else {}
        named |= {"MoveToVersionId": to} if to else {}
        try:
            self._call("update_secret_version_stage", name, writes=True, VersionStage=label, **named)
        except (Absent, Invalid):
            raise Misplaced(f"AWS secret {name}: {label} was moved by someone else: read it again") from None

    def gather_labels(self, prefixes: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Sequence[str]]]]:
        """(name, version → labels) of every secret whose name begins with one of the prefixes; without prefixes of all. Lags by minutes."""
        wanted: dict[str, Any] = {"MaxResults": _PAGE}
        if prefixes:
            wanted["Filters"] = [{"Key": "name", "Values": list(prefixes)}]
        while True:
            told = self._call("list_secrets", "", parameter=None, **wanted)
            for secret in told.get("SecretList", ()):
                yield str(secret["Name"]), secret.get("SecretVersionsToStages") or {}
            if not told.get("NextToken"):
                return
            wanted["NextToken"] = told["NextToken"]

    def region(self) -> str:
        """The region that calls go to."""
        return str(self._get_client().meta.region_name)

    def _call(self, verb: str, name: str, *, writes: bool = False, parameter: str | None = "SecretId", **given: Any) -> Mapping[str, Any]:
        operation = "".join(word.capitalize() for word in verb.split("_"))
        if not self.has_time():
            raise Unreachable(f"{operation} of AWS secret {name}: not asked, the calls before it took too long")
        named = {parameter: name} if parameter else {}
        call, started, outcome = getattr(self._get_client(), verb), time.monotonic(), Outcome.FAILED
        try:
            answer: Mapping[str, Any] = call(**named, **given)
            if not answer.keys() & _MARKS:
                raise ResponseParserError("nothing that AWS answers is in it")
            outcome = Outcome.OK
        except _FOREIGN as error:
            self._forget_client(error)
            failure = explain(error, operation, name, writes=writes)
            outcome = judge_failure(failure)
            raise failure from None
        finally:
            self._observe(operation, outcome, time.monotonic() - started)
        return answer

    def _get_client(self) -> Any:
        with self._guard:
            if self._client is None:
                if self._connect is None:
                    from rotator.stores.aws.session import build_client

                    self._connect = build_client
                try:
                    self._client = self._connect(self._config)
                except _FOREIGN as error:
                    raise explain(error, "connecting", "", writes=False) from None
            return self._client

    def _forget_client(self, error: Exception) -> None:
        """Credentials that failed are looked for anew: a role may be there by now."""
        code = error.response.get("Error", {}).get("Code") if isinstance(error, ClientError) else None
        if isinstance(error, NoCredentialsError | OSError) or code in _FORGET:
            with self._guard:
                self._client = None
