"""Mints, lists and revokes through a program of the user's: JSON on its stdin, JSON on its stdout. The protocol: docs/issuers.md.

One process for each call. Its exit code says whether something was done: 0 done, 2 surely not, anything else perhaps. The label is the
key of idempotency: a mint that is repeated under one label gives the same key or refuses.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rotator.domain.errors import AnswerLost, MalformedKey, Misconfigured, RateLimited, Refused, RotatorError, Unreachable
from rotator.domain.keys import KeyId, parse_key_id
from rotator.domain.ports import Abilities, Issued, ListedKey, MintOrder
from rotator.domain.reasons import Reason
from rotator.domain.secret import Secret
from rotator.issuers.programs import Finished, run_program
from rotator.issuers.surroundings import Surroundings
from rotator.remote.fields import Duration, EnvName
from rotator.remote.http import Outcome, judge_failure

__all__ = ["CommandIssuer", "CommandIssuerConfig"]

_VERSION = 1
_DONE, _NOT_DONE = 0, 2
_LONGEST = timedelta(seconds=10)
_LARGEST_KEY = 16_384
_LARGEST_LIST = 4_000_000
_ALWAYS = ("PATH", "HOME", "LANG")


class CommandIssuerConfig(BaseModel):
    """A program of yours that mints keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True, populate_by_name=True)

    type: Literal["command"] = "command"
    """The kind of issuer."""
    command: tuple[str, ...] = Field(min_length=1)
    """The program with its arguments: an absolute path, or a name that is found in PATH. No shell; never write a token here."""
    list_: bool = Field(default=False, alias="list")
    """Whether it can list keys by label. Without that a mint whose answer is lost is left for a person to look after."""
    revoke: bool = False
    """Whether it can revoke. Without that a person revokes each old key."""
    timeout: Duration = _LONGEST
    """Time limit of one call, at most 10s; then it is ended with its children."""
    environment: tuple[EnvName, ...] = ()
    """Names of variables that it gets from rotator's environment, beside PATH, HOME and LANG."""

    @field_validator("command")
    @classmethod
    def _findable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0] or ("/" in value[0] and not Path(value[0]).is_absolute()):
            raise ValueError("the program must be an absolute path, or a name that is found in PATH")
        if any("\0" in word for word in value):
            raise ValueError("a program's arguments hold no NUL characters")
        return value

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= _LONGEST:
            raise ValueError("a call's time limit must be more than nothing and at most 10s")
        return value

    def list_places(self, credentials: Sequence[str]) -> Iterator[tuple[str, str, str]]:  # noqa: ARG002
        """It keeps nothing in a store."""
        yield from ()

    def build(self, name: str, around: Surroundings) -> CommandIssuer:
        """The issuer called `name`. Starts nothing."""
        return CommandIssuer(name, self, around)


class CommandIssuer:
    """Fulfils `Issuer`. Safe to share between threads; each call is a process of its own."""

    def __init__(self, name: str, config: CommandIssuerConfig, around: Surroundings) -> None:
        self.name = name
        self._config = config
        self._around = around

    def __repr__(self) -> str:
        return f"<CommandIssuer {self.name}: {self._config.command[0]}>"

    @property
    def abilities(self) -> Abilities:
        """As configured."""
        return Abilities(mint=True, list=self._config.list_, revoke=self._config.revoke)

    def mint(self, order: MintOrder) -> Issued:
        """See `Issuer.mint`. `minted_at` is the time just before the call: no key is thought younger than it is."""
        asked = self._around.clock.now()
        answer = self._ask("mint", _describe(order), "mint", may_have_effect=True)
        try:
            return Issued(Secret(_text(answer, "key")), _find_text(answer, "reference"), asked)
        except (MalformedKey, ValueError) as problem:
            raise self._unusable(f"has no usable key: {problem}") from None

    def list_labelled(self, prefix: str, credential: str = "") -> Sequence[ListedKey]:  # noqa: ARG002
        """See `Issuer.list_labelled`. Labels are compared here too, as the program may filter less than asked."""
        if not self._config.list_:
            raise Refused(f"issuer {self.name} cannot list keys: its `list` is false")
        answer = self._ask("list", {"label": prefix}, "list", may_have_effect=False)
        keys = answer.get("keys")
        if not isinstance(keys, list):
            raise Refused(f"issuer {self.name} answers list without a list of `keys`: correct the program")
        try:
            return [listed for entry in keys if (listed := _parse_listed(entry)).label.startswith(prefix)]
        except (MalformedKey, ValueError) as problem:
            raise Refused(f"issuer {self.name} lists a key that cannot be read ({problem}): correct the program") from None

    def revoke(self, key_id: KeyId, reference: str | None) -> None:
        """See `Issuer.revoke`."""
        if not self._config.revoke:
            raise Refused(f"issuer {self.name} cannot revoke keys: revoke {key_id} in the dashboard", reason=Reason.REVOKE_BY_HAND)
        self._ask("revoke", {"key_id": str(key_id), "reference": reference}, f"revoke of {key_id}", may_have_effect=True)

    def settle(self, label: str, credential: str = "") -> None:
        """Nothing is kept here."""

    def check(self, order: MintOrder) -> None:
        """See `Issuer.check`: asks the program, which mints nothing for it."""
        self._ask("check", _describe(order), "check", may_have_effect=False)

    def _ask(self, operation: str, fields: Mapping[str, str | None], what: str, *, may_have_effect: bool) -> Mapping[str, Any]:
        """One call. Without an effect a lost answer is only `Unreachable`."""
        request = {"version": _VERSION, "operation": operation, **{name: value for name, value in fields.items() if value is not None}}
        started = self._around.clock.monotonic()
        outcome = Outcome.OK
        try:
            return self._parse(self._run(operation, request), operation, what)
        except AnswerLost as problem:
            outcome = judge_failure(problem)
            if may_have_effect:
                raise
            raise Unreachable(str(problem)) from None
        except RotatorError as problem:
            outcome = judge_failure(problem)
            raise
        finally:
            self._around.observe(f"issuer {self.name}", operation, outcome, self._around.clock.monotonic() - started)

    def _run(self, operation: str, request: Mapping[str, object]) -> Finished:
        config, environ = self._config, self._around.environ
        limit = _LARGEST_LIST if operation == "list" else _LARGEST_KEY
        kept = {name: environ[name] for name in (*_ALWAYS, *config.environment) if name in environ}
        try:
            return run_program(
                config.command,
                json.dumps(request, ensure_ascii=False).encode() + b"\n",
                kept,
                timeout=config.timeout.total_seconds(),
                limit=limit,
            )
        except OSError as problem:
            raise Misconfigured(
                f"the program of issuer {self.name}, {config.command[0]}, cannot be started ({problem.strerror}): see that it is there and "
                "executable for the user that runs rotator"
            ) from None

    def _parse(self, done: Finished, operation: str, what: str) -> Mapping[str, Any]:
        said = f"; it said: {done.stderr}" if done.stderr else ""
        if done.timed_out:
            raise AnswerLost(
                f"the program of issuer {self.name} took longer than {self._config.timeout.total_seconds():g} s for {what} and was ended; "
                f"it may have been carried out{said}"
            )
        limit = _LARGEST_LIST if operation == "list" else _LARGEST_KEY
        if len(done.stdout) > limit:
            problem = f"is longer than {limit} bytes"
            raise self._unusable(problem) if operation == "mint" else AnswerLost(f"the answer of issuer {self.name} to {what} {problem}")
        answer = _load(done.stdout)
        if done.status == _NOT_DONE:
            raise self._refusal(answer or {}, what, said)
        if done.status != _DONE:
            how = f"was ended by signal {-done.status}" if done.status < 0 else f"ended with exit code {done.status}"
            raise AnswerLost(f"the program of issuer {self.name} {how} for {what}; it may have been carried out{said}")
        if answer is None:
            if operation == "mint":
                raise self._unusable(f"is not a JSON object{said}")
            raise AnswerLost(f"the program of issuer {self.name} does not answer {what} with a JSON object{said}")
        return answer

    def _refusal(self, answer: Mapping[str, Any], what: str, said: str) -> RotatorError:
        """Exit code 2: surely not carried out. Its own words are not repeated, but for stderr, which is redacted."""
        text = f"the program of issuer {self.name} says no to {what}{said}"
        after = answer.get("retry_after")
        if (
            isinstance(after, int | float)
            and not isinstance(after, bool)
            and math.isfinite(after)
            and 0 <= after <= timedelta(days=1).total_seconds()
        ):
            return RateLimited(text, after=timedelta(seconds=after))
        return Unreachable(text) if answer.get("retry") is True else Refused(text)

    def _unusable(self, what: str) -> RotatorError:
        """A key was born that nobody can use. The sweep finds it by its label; where nothing can be listed it must be told of (L8)."""
        text = f"the answer of issuer {self.name} to mint {what}: correct the program"
        return Refused(text) if self._config.list_ else AnswerLost(text)


def _describe(order: MintOrder) -> dict[str, str | None]:
    return {
        "label": order.label,
        "kind": str(order.kind),
        "env": order.env,
        "project": order.project,
        "credential": order.credential or None,
    }


def _load(data: bytes) -> Mapping[str, Any] | None:
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _parse_listed(entry: object) -> ListedKey:
    if not isinstance(entry, dict):
        raise ValueError("an entry of `keys` is no object")  # noqa: TRY004  # as every other mistake in the answer
    return ListedKey(
        parse_key_id(_text(entry, "key_id")), _text(entry, "label"), _find_text(entry, "reference"), revoked=entry.get("revoked") is True
    )


def _text(answer: Mapping[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        raise ValueError(f"`{name}` is missing, or no text")  # noqa: TRY004
    return value


_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,1024}\Z")


def _find_text(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _NAME.match(value):
        raise ValueError(f"`{name}` is no text of at most 1024 printable characters")
    return value
