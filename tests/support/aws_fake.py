"""A strict stand-in for AWS Secrets Manager over real HTTP: the stage machine as AWS documents it, where moto is more lenient.

    a put under a known token with another content      refused (ResourceExistsException); with the same content: nothing happens
    a label's move without, or from the wrong, version   refused (InvalidParameterException), and nothing is moved
    AWSCURRENT moved, by whatever call                   AWSPREVIOUS follows by itself
    the first version of a secret                        is AWSCURRENT, whatever labels were asked for
    a version without labels                             gone at once (AWS keeps it for a day: the worst case is tested)
    more than 20 labels on a version, 100 versions       refused (LimitExceededException)
    a secret with a recovery window                      refuses everything but describe and restore
    an action that the policy does not allow             refused, with the message that AWS has for it

Weather, for tests: `before` and `after` are called around each call that is allowed; what they raise becomes the answer (`Fault`), or there
is none (`Lost`). `lag`: reads show the state before the last so many writes; `lags`: those of single secrets.
"""

from __future__ import annotations

import copy
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

ACCOUNT, REGION = "123456789012", "eu-west-1"
CURRENT, PREVIOUS = "AWSCURRENT", "AWSPREVIOUS"
MOST_LABELS, MOST_VERSIONS, LARGEST = 20, 100, 65_536
DAY = 86_400.0
READS = {"GetSecretValue", "DescribeSecret", "ListSecrets"}

Body = dict[str, Any]


class Fault(Exception):
    """An error as AWS answers it."""

    def __init__(self, code: str, message: str = "", status: int = 400) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


class Lost(Exception):
    """The connection ends without an answer."""


@dataclass(frozen=True)
class Call:
    """One call, as the weather sees it."""

    number: int
    action: str
    name: str
    body: Mapping[str, Any] = field(repr=False)

    @property
    def writes(self) -> bool:
        return self.action not in READS


Weather = Callable[[Call], None]


@dataclass
class _Version:
    text: str | None
    created: float
    binary: str | None = None


@dataclass
class _Secret:
    arn: str
    versions: dict[str, _Version] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    deleted: float | None = None
    rotated: bool = False
    primary: str | None = None
    tags: list[Body] = field(default_factory=list)
    more: Body = field(default_factory=dict)


class FakeAws:
    """The service's state and rules, without HTTP; `ask` is one call. Safe for threads."""

    def __init__(self, *, prunes: bool = True) -> None:
        self.prunes = prunes
        self.before: Weather | None = None
        self.after: Weather | None = None
        self.lag = 0
        self.lags: dict[str, int] = {}
        self.policy: Body | None = None
        """an IAM policy that says what is allowed; None: everything"""
        self.denied: set[str] = set()
        """names of actions that are refused in any case"""
        self.calls: list[Call] = []
        self._secrets: dict[str, _Secret] = {}
        self._past: list[dict[str, _Secret]] = []
        self._lock = threading.RLock()
        self._numbers = 0

    def ask(self, action: str, body: Mapping[str, Any]) -> Body:
        """Answer one call with weather and permissions, as over HTTP. Raises `Fault`, `Lost`."""
        with self._lock:
            self._numbers += 1
            call = Call(self._numbers, action, str(body.get("SecretId") or body.get("Name") or ""), body)
            self.calls.append(call)
        self._authorise(call)
        if self.before is not None:
            self.before(call)
        answer = self.do(action, body)
        if self.after is not None:
            self.after(call)
        return answer

    def do(self, action: str, body: Mapping[str, Any]) -> Body:
        """One call without weather or permissions: an outsider's."""
        with self._lock:
            if action in READS:
                seen = self._seen(str(body.get("SecretId")))
                return getattr(self, f"_{_snake(action)}")(dict(body), seen)  # type: ignore[no-any-return]
            past = dict(self._secrets)
            name = str(body.get("SecretId") or body.get("Name"))
            if name in self._secrets:
                self._secrets[name] = copy.deepcopy(self._secrets[name])
            try:
                answer: Body = getattr(self, f"_{_snake(action)}")(dict(body))
            except Fault:
                self._secrets = past
                raise
            self._past = [*self._past[-49:], past]
            return answer

    def labels(self, name: str) -> dict[str, str]:
        """Label → version id, as it stands."""
        with self._lock:
            return dict(self._secrets[name].labels) if name in self._secrets else {}

    def text(self, name: str, label: str = CURRENT) -> str | None:
        """The value under a label, as it stands."""
        with self._lock:
            secret = self._secrets.get(name)
            return secret.versions[secret.labels[label]].text if secret and label in secret.labels else None

    def reset(self) -> None:
        """As new: empty, in fine weather."""
        with self._lock:
            self.before = self.after = self.policy = None
            self.lag, self.lags, self.prunes = 0, {}, True
            self.denied, self.calls, self._secrets, self._past = set(), [], {}, []

    def save(self) -> tuple[dict[str, _Secret], list[dict[str, _Secret]]]:
        """The state, for `restore`: writes replace a secret, so that what was saved stays."""
        with self._lock:
            return dict(self._secrets), list(self._past)

    def restore(self, saved: tuple[dict[str, _Secret], list[dict[str, _Secret]]]) -> None:
        """Go back to a saved state, in fine weather."""
        self.reset()
        with self._lock:
            self._secrets, self._past = dict(saved[0]), list(saved[1])

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._secrets)

    def mark(self, name: str, **state: Any) -> None:
        """Set `rotated`, `primary` of a secret."""
        with self._lock:
            self._secrets[name] = copy.deepcopy(self._secrets[name])
            for key, value in state.items():
                setattr(self._secrets[name], key, value)

    def _seen(self, name: str) -> dict[str, _Secret]:
        lag = self.lags.get(name, self.lag)
        return self._secrets if lag == 0 else self._past[-min(lag, len(self._past))] if self._past else {}

    def _authorise(self, call: Call) -> None:
        name = call.name
        arn = self._secrets[name].arn if name in self._secrets else f"{_arn(name)}-AbCdEf"
        action = f"secretsmanager:{call.action}"
        wanted = [action] + (["secretsmanager:TagResource"] if call.action == "CreateSecret" and call.body.get("Tags") else [])
        for one in wanted:
            resource = "*" if call.action == "ListSecrets" else arn
            if one.split(":")[1] in self.denied or (self.policy is not None and not _allows(self.policy, one, resource)):
                raise Fault(
                    "AccessDeniedException",
                    f"User: arn:aws:iam::{ACCOUNT}:user/rotator is not authorized to perform: {one} on resource: {resource} because no "
                    f"identity-based policy allows the {one} action",
                )

    def _get(self, name: str, secrets: dict[str, _Secret] | None = None) -> _Secret:
        secret = (self._secrets if secrets is None else secrets).get(name)
        if secret is None:
            raise Fault("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
        return secret

    def _get_living(self, name: str, secrets: dict[str, _Secret] | None = None) -> _Secret:
        secret = self._get(name, secrets)
        if secret.deleted is not None:
            raise Fault("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
        return secret

    def _create_secret(self, body: Body) -> Body:
        name, token = body["Name"], body.get("ClientRequestToken")
        if not re.fullmatch(r"[A-Za-z0-9/_+=.@-]{1,512}", name):
            raise Fault("ValidationException", "Invalid name.")
        known = self._secrets.get(name)
        if known is not None and known.deleted is not None:
            raise Fault(
                "InvalidRequestException",
                "You can't create this secret because a secret with this name is already scheduled for deletion.",
            )
        if known is not None:
            same = token in known.versions and known.versions[token].text == body.get("SecretString")
            if not same:
                raise Fault("ResourceExistsException", f"The operation failed because the secret {name} already exists.")
            return {"ARN": known.arn, "Name": name, "VersionId": token}
        more = {key: body[key] for key in ("KmsKeyId", "Description") if key in body}
        self._secrets[name] = secret = _Secret(f"{_arn(name)}-AbCdEf", tags=body.get("Tags", []), more=more)
        if "SecretString" in body or "SecretBinary" in body:
            self._add(secret, token, body, [CURRENT])
        return {"ARN": secret.arn, "Name": name} | ({"VersionId": token} if secret.versions else {})

    def _put_secret_value(self, body: Body) -> Body:
        secret, token = self._get_living(body["SecretId"]), body["ClientRequestToken"]
        if secret.primary is not None and secret.primary != REGION:
            raise Fault("InvalidRequestException", "You can't perform this operation on a replica secret.")
        known = secret.versions.get(token)
        if known is not None:
            if known.text != body.get("SecretString") or known.binary != body.get("SecretBinary"):
                raise Fault("ResourceExistsException", "A version with this token exists, with another value.")
        else:
            self._add(secret, token, body, body.get("VersionStages") or [CURRENT])
        stages = [label for label, version in secret.labels.items() if version == token]
        return {"ARN": secret.arn, "Name": body["SecretId"], "VersionId": token, "VersionStages": stages}

    def _add(self, secret: _Secret, token: str, body: Body, stages: list[str]) -> None:
        if len((body.get("SecretString") or "").encode()) > LARGEST:
            raise Fault("ValidationException", "The value is too long.")
        if not re.fullmatch(r"[A-Za-z0-9-]{32,64}", token):
            raise Fault("ValidationException", "The token has a wrong length.")
        if len(secret.versions) >= MOST_VERSIONS:
            raise Fault("LimitExceededException", "You have reached the maximum number of versions for this secret.")
        first = not secret.versions
        secret.versions[token] = _Version(body.get("SecretString"), time.time(), body.get("SecretBinary"))
        for label in dict.fromkeys([*stages, *([CURRENT] if first else [])]):
            self._set(secret, label, token)
        self._prune(secret)

    def _set(self, secret: _Secret, label: str, version: str) -> None:
        former = secret.labels.get(label)
        secret.labels[label] = version
        if label == CURRENT and former is not None and former != version:
            secret.labels[PREVIOUS] = former
        if sum(held == version for held in secret.labels.values()) > MOST_LABELS:
            raise Fault("LimitExceededException", "A version has 20 labels at most.")

    def _prune(self, secret: _Secret) -> None:
        if self.prunes:
            secret.versions = {token: version for token, version in secret.versions.items() if token in secret.labels.values()}

    def _update_secret_version_stage(self, body: Body) -> Body:
        secret, label = self._get_living(body["SecretId"]), body["VersionStage"]
        source, to, holder = body.get("RemoveFromVersionId"), body.get("MoveToVersionId"), secret.labels.get(body["VersionStage"])
        if holder is not None and holder not in (source, to):
            raise Fault(
                "InvalidParameterException", f"Staging label {label} is attached to another version: name it in RemoveFromVersionId."
            )
        if source is not None and holder != source:
            raise Fault("InvalidParameterException", f"Staging label {label} is not attached to the version in RemoveFromVersionId.")
        if to is None and label == CURRENT:
            raise Fault("InvalidParameterException", "You can only move AWSCURRENT to another version, not remove it.")
        if to is not None and to not in secret.versions:
            raise Fault("ResourceNotFoundException", "Secrets Manager can't find the specified secret version.")
        if to is None:
            secret.labels.pop(label, None)
        else:
            self._set(secret, label, to)
        self._prune(secret)
        return {"ARN": secret.arn, "Name": body["SecretId"]}

    def _get_secret_value(self, body: Body, secrets: dict[str, _Secret]) -> Body:
        secret = self._get_living(body["SecretId"], secrets)
        version, label = body.get("VersionId"), body.get("VersionStage")
        found = version or secret.labels.get(label or CURRENT)
        held = [name for name, holder in secret.labels.items() if holder == found]
        if found not in secret.versions or (version and label and label not in held):
            raise Fault("ResourceNotFoundException", "Secrets Manager can't find the specified secret value.")
        stored = secret.versions[found]
        value = {"SecretString": stored.text} if stored.binary is None else {"SecretBinary": stored.binary}
        return {
            "ARN": secret.arn,
            "Name": body["SecretId"],
            "VersionId": found,
            "VersionStages": held,
            "CreatedDate": stored.created,
            **value,
        }

    def _describe_secret(self, body: Body, secrets: dict[str, _Secret]) -> Body:
        secret = self._get(body["SecretId"], secrets)
        told: Body = {"ARN": secret.arn, "Name": body["SecretId"], "VersionIdsToStages": _by_version(secret), "Tags": secret.tags}
        if secret.rotated:
            told["RotationEnabled"] = True
        if secret.primary is not None:
            told["PrimaryRegion"] = secret.primary
        if secret.deleted is not None:
            told["DeletedDate"] = secret.deleted
        return told | secret.more

    def _list_secrets(self, body: Body, secrets: dict[str, _Secret]) -> Body:
        prefixes = next((one["Values"] for one in body.get("Filters", ()) if one["Key"] == "name"), [""])
        if len(prefixes) > 10:
            raise Fault("ValidationException", "A filter has 10 values at most.")
        names = [n for n in sorted(secrets) if secrets[n].deleted is None and n.startswith(tuple(prefixes))]
        start, most = int(body.get("NextToken") or 0), int(body.get("MaxResults") or 100)
        page = names[start : start + most]
        told: Body = {"SecretList": [{"Name": n, "ARN": secrets[n].arn, "SecretVersionsToStages": _by_version(secrets[n])} for n in page]}
        return told | ({"NextToken": str(start + most)} if start + most < len(names) else {})

    def _delete_secret(self, body: Body) -> Body:
        secret = self._get(body["SecretId"])
        if body.get("ForceDeleteWithoutRecovery"):
            del self._secrets[body["SecretId"]]
        else:
            secret.deleted = time.time() + 30 * DAY
        return {"ARN": secret.arn, "Name": body["SecretId"]}

    def _restore_secret(self, body: Body) -> Body:
        self._get(body["SecretId"]).deleted = None
        return {"ARN": self._get(body["SecretId"]).arn, "Name": body["SecretId"]}


def _by_version(secret: _Secret) -> dict[str, list[str]]:
    return {token: held for token in secret.versions if (held := [label for label, at in secret.labels.items() if at == token])}


def _arn(name: str) -> str:
    return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{name}"


def _snake(action: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", action).lower()


def _allows(policy: Body, action: str, resource: str) -> bool:
    return any(
        statement["Effect"] == "Allow"
        and any(fnmatchcase(action, pattern) for pattern in statement["Action"])
        and any(fnmatchcase(resource, pattern) for pattern in statement["Resource"])
        for statement in policy["Statement"]
    )


class FakeServer:
    """A `FakeAws` behind HTTP on a free loopback port. Use as a context manager, or call `stop`."""

    def __init__(self, fake: FakeAws | None = None) -> None:
        self.fake = fake or FakeAws()
        handler = type("Handler", (_Handler,), {"fake": self.fake})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed in the middle of a call are what the suites are about."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    fake: FakeAws
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:  # the client died in the middle of its request
            self.close_connection = True
            return
        body = json.loads(content or b"{}")
        try:
            answer, status = self.fake.ask(self.headers["X-Amz-Target"].split(".")[1], body), 200
        except Fault as fault:
            answer, status = {"__type": fault.code, "message": fault.message}, fault.status
        except Lost:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        said = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        return
