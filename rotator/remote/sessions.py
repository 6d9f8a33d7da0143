"""Who we are to an admin API: a bearer token, or a session that is refreshed from a refresh token.

Holds access tokens in memory only. It must not decide what is asked for with them.
"""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from rotator.domain.errors import NeedsHuman, Unreachable
from rotator.domain.ports import Clock
from rotator.domain.reasons import Reason
from rotator.remote.fields import EnvName, FilePath
from rotator.remote.http import Remote, Reply, ensure_header_value
from rotator.remote.templates import ensure_placeholders, fill_json, find_at, find_text
from rotator.remote.tokens import read_token, write_token

__all__ = ["Bearer", "BearerAuth", "Credentials", "Session", "SessionAuth", "build_credentials"]

_UNAUTHORIZED = 401
_REFRESH_EARLY = 60.0
"""Seconds before its end at which an access token counts as spent; at most half of its life."""
_DEFAULT_LIFE = 300.0
_CONFIG = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)


def _refuse_inline(data: object, name: str) -> object:
    if isinstance(data, dict) and name in data:
        raise ValueError(f"a token never stands in the configuration: name a file ({name}_file) or an environment variable ({name}_env)")
    return data


def _ensure_one(file: object, env: object, name: str) -> None:
    if (file is None) == (env is None):
        raise ValueError(f"name exactly one of {name}_file and {name}_env")


class BearerAuth(BaseModel):
    """A token that stays the same until someone changes it. It is read at each use."""

    model_config = _CONFIG

    type: Literal["bearer"] = "bearer"
    """The way to sign in: a fixed token."""
    token_file: FilePath | None = None
    """File that holds the token; must not be readable by everybody."""
    token_env: EnvName | None = None
    """Environment variable that holds the token."""

    @model_validator(mode="before")
    @classmethod
    def _not_inline(cls, data: object) -> object:
        return _refuse_inline(data, "token")

    @model_validator(mode="after")
    def _one_source(self) -> BearerAuth:
        _ensure_one(self.token_file, self.token_env, "token")
        return self


def _refresh_body() -> JsonValue:
    return {"refresh_token": "{refresh_token}"}


class RefreshCall(BaseModel):
    """How an access token is got for a refresh token."""

    model_config = _CONFIG

    method: Literal["POST", "PUT"] = "POST"
    """HTTP method."""
    path: str = Field(default="/admin/v1/session", pattern=r"^/[^\s?#\\]*$")
    """Path below the issuer's base_url."""
    body: JsonValue = Field(default_factory=_refresh_body)
    """JSON body; placeholder {refresh_token}."""
    access_token: str = "access_token"  # noqa: S105  # a place in the answer
    """Where the access token stands in the answer."""
    expires_in: str | None = "expires_in"
    """Where its life in seconds stands; null: it is taken for five minutes."""
    next_refresh_token: str | None = None
    """Where a new refresh token stands, for services whose refresh tokens work once. It replaces the content of refresh_token_file."""

    @field_validator("body")
    @classmethod
    def _placeholders(cls, value: JsonValue) -> JsonValue:
        ensure_placeholders(value, {"refresh_token"}, "body")
        return value


class SessionAuth(BaseModel):
    """A signed-in user's session, kept alive with a refresh token."""

    model_config = _CONFIG

    type: Literal["session"]
    """The way to sign in: a session, refreshed with a refresh token."""
    refresh_token_file: FilePath | None = None
    """File that holds the refresh token; must not be readable by everybody."""
    refresh_token_env: EnvName | None = None
    """Environment variable that holds the refresh token."""
    refresh: RefreshCall = Field(default_factory=RefreshCall)
    """How an access token is got."""
    expired_codes: frozenset[str] = frozenset({"invalid_session"})
    """Error codes of a 401 after which the session is refreshed and the call made once more."""

    @model_validator(mode="before")
    @classmethod
    def _not_inline(cls, data: object) -> object:
        return _refuse_inline(data, "refresh_token")

    @model_validator(mode="after")
    def _one_source(self) -> SessionAuth:
        _ensure_one(self.refresh_token_file, self.refresh_token_env, "refresh_token")
        if self.refresh.next_refresh_token is not None and self.refresh_token_file is None:
            raise ValueError("refresh.next_refresh_token needs refresh_token_file: a new token cannot be kept in the environment")
        return self


class Credentials(Protocol):
    """What signs requests."""

    def get_token(self) -> str:
        """A token for the Authorization header. Raises `Misconfigured`, `NeedsHuman`, `Unreachable`, `RateLimited`."""

    def find_fresh(self, refused: str, reply: Reply) -> str | None:
        """Another token after a 401, or None where a new one would not help."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """The token as it stands in its file or variable now."""

    config: BearerAuth
    place: str

    def get_token(self) -> str:
        return read_token(self.config.token_file, self.config.token_env, f"{self.place}.token")

    def find_fresh(self, refused: str, reply: Reply) -> str | None:  # noqa: ARG002
        """The file may have changed since."""
        token = self.get_token()
        return None if token == refused else token


@dataclass(slots=True)
class Session:
    """An access token that is renewed before it ends. Shared by threads: one refreshes, the others wait for it."""

    config: SessionAuth
    place: str
    remote: Remote
    clock: Clock
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _token: str | None = field(default=None, repr=False)
    _spent_at: float = field(default=0.0, repr=False)

    def get_token(self) -> str:
        with self._lock:
            if self._token is None or self.clock.monotonic() >= self._spent_at:
                self._refresh()
            assert self._token is not None
            return self._token

    def find_fresh(self, refused: str, reply: Reply) -> str | None:
        """Refreshes, unless another thread already did since the refused token was handed out."""
        if reply.find_code(self.config.expired_codes) is None:
            return None
        with self._lock:
            if self._token is None or self._token == refused:
                self._token = None
                self._refresh()
            return self._token

    def _refresh(self) -> None:
        config, call = self.config, self.config.refresh
        token = read_token(config.refresh_token_file, config.refresh_token_env, f"{self.place}.refresh_token")
        content = json.dumps(fill_json(call.body, {"refresh_token": token})).encode()
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        asked = self.clock.monotonic()
        reply = self.remote.call("refresh", call.method, call.path, headers, content)
        answer = self._parse(reply)
        access = find_text(answer, call.access_token)
        if access is None:
            raise NeedsHuman(f"{self.remote.name}: the answer to refresh has no token at {call.access_token}: correct {self.place}.refresh")
        self._token = ensure_header_value(access, f"{self.remote.name}: the access token")
        life = _life(None if call.expires_in is None else find_at(answer, call.expires_in))
        self._spent_at = asked + life - min(_REFRESH_EARLY, life / 2)
        self._keep_next(None if call.next_refresh_token is None else find_text(answer, call.next_refresh_token), token)

    def _parse(self, reply: Reply) -> object:
        if reply.status in {400, _UNAUTHORIZED, 403}:
            raise NeedsHuman(
                f"{self.remote.name} refuses the refresh token ({reply.status}): sign in again, and renew {self.place}.refresh_token_*",
                reason=Reason.REFUSED,
            )
        if reply.status not in {200, 201}:
            raise Unreachable(f"{self.remote.name} answered refresh with {reply.status}", after=reply.retry_after)
        try:
            return reply.parse_json()
        except ValueError:
            raise Unreachable(f"{self.remote.name} did not answer refresh with JSON") from None

    def _keep_next(self, fresh: str | None, used: str) -> None:
        if fresh is None or fresh == used or self.config.refresh_token_file is None:
            return
        what = f"{self.remote.name}: the next refresh token"
        write_token(self.config.refresh_token_file, ensure_header_value(fresh, what), f"{self.place}.refresh_token")


def build_credentials(config: BearerAuth | SessionAuth, place: str, remote: Remote, clock: Clock) -> Bearer | Session:
    """What signs requests to the remote. `place` is the configuration's path, for messages."""
    if isinstance(config, BearerAuth):
        return Bearer(config, place)
    return Session(config, place, remote, clock)


def _life(seconds: object) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds <= 0:
        return _DEFAULT_LIFE
    return float(seconds)
