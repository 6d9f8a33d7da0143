"""Who we are to the server: a token that is renewed in time, and got anew when it is refused.

There is no thread for it: a token is looked after when it is used, and a store is asked every minute. Tokens, secret ids and signed tokens
are in memory only and in no message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from hvac.api.auth_methods import JWT, AppRole, Kubernetes, Token
from hvac.api.system_backend import Wrapping

from rotator.domain.errors import Misconfigured, Refused, Retry, RotatorError, Unreachable
from rotator.domain.ports import Clock
from rotator.remote.tokens import read_token
from rotator.stores.vault.adapter import Answered, VaultAdapter
from rotator.stores.vault.config import AppRoleAuth, AuthConfig, JwtAuth, KubernetesAuth, TokenAuth, TokenFileAuth
from rotator.stores.vault.faults import explain

__all__ = ["Session", "build_session"]

log = structlog.get_logger(__name__)

_CHECK = "check role, ids and how the auth method is set up"

BuildAdapter = Callable[[str | None], VaultAdapter]
"""An adapter that sends one token, or none"""

_RENEW_AT = 1 / 2
"""of its life, a token is renewed"""
_REPLACE_AT = 2 / 3
"""of its life, a token that can't be renewed is replaced"""
_LITTLE = 1 / 2
"""of its first life; a renewal that gives less than that is near the end of what renewals can give"""
_FORBIDDEN = 403
_TRY_AGAIN = 5.0
"""seconds after a renewal that failed"""


@dataclass(frozen=True, slots=True)
class Lease:
    """A token and how long it is good for."""

    token: str = field(repr=False)
    life: float = 0.0
    """seconds; 0: without end, or not ours to know"""
    renewable: bool = False
    got_at: float = 0.0
    """monotonic seconds"""
    first_life: float = 0.0

    def age(self, now: float) -> float:
        """Of its life, how much is over: 1 and more is none left."""
        return (now - self.got_at) / self.life if self.life else 0.0


class Way(Protocol):
    """One way to sign in."""

    renews: bool
    """whether renewing the token is our business"""

    def sign_in(self, now: float) -> Lease:
        """A token to work with. Raises `Answered`, `Misconfigured`, and what a call raises."""

    def say_refused(self) -> str:
        """What to do where the server refuses the token and there is no other one; empty where signing in again may bring another."""


class FromEnv:
    """A token in the environment, which stays the same for as long as the process lives."""

    renews = True

    def __init__(self, config: TokenAuth, adapter: BuildAdapter, name: str) -> None:
        self._env, self._adapter, self._field = config.token_env, adapter, f"stores.{name}.auth.token"

    def sign_in(self, now: float) -> Lease:
        token = read_token(None, self._env, self._field)
        try:
            said = Token(self._adapter(token)).lookup_self()["data"]
        except Answered as answered:
            if answered.status != _FORBIDDEN:
                raise  # sealed, say: what is not known now would never be asked again, and the token never be renewed
            # Not allowed to look itself up, or dead: its first use will tell.
            return Lease(token)
        life = float(said.get("ttl") or 0)
        return Lease(token, life, said.get("renewable") is True, now, float(said.get("creation_ttl") or life))

    def say_refused(self) -> str:
        return f"put a living one into the environment variable {self._env} and start anew"


class FromFile:
    """A token in a file that others keep fresh."""

    renews = False

    def __init__(self, config: TokenFileAuth, name: str) -> None:
        self._file, self._field = config.token_file, f"stores.{name}.auth.token"

    def sign_in(self, now: float) -> Lease:  # noqa: ARG002  # the shape of every way
        return Lease(read_token(self._file, None, self._field))

    def say_refused(self) -> str:
        return f"the file {self._file} holds no living one: look after who keeps it fresh, such as the Vault Agent"


class ByAppRole:
    """A role id and a secret id, wrapped or not."""

    renews = True

    def __init__(self, config: AppRoleAuth, adapter: BuildAdapter, name: str) -> None:
        self._config, self._adapter, self._field = config, adapter, f"stores.{name}.auth.secret_id"
        self._unwrapped: tuple[str, str] | None = None
        """the wrapping token that was used up, and what was in it"""

    def sign_in(self, now: float) -> Lease:
        secret_id = read_token(self._config.secret_id_file, None, self._field)
        if self._config.wrapped:
            secret_id = self._unwrap(secret_id)
        said = AppRole(self._adapter(None)).login(self._config.role_id, secret_id, mount_point=self._config.mount)
        return _build_lease(said, now)

    def say_refused(self) -> str:
        return ""

    def _unwrap(self, wrapping: str) -> str:
        if self._unwrapped is None or self._unwrapped[0] != wrapping:
            try:
                said = Wrapping(self._adapter(wrapping)).unwrap()
            except Answered:
                raise Misconfigured(
                    f"{self._field}_file: the wrapping token in {self._config.secret_id_file} is used up or expired. If rotator was not "
                    "started with it before, somebody else has unwrapped it: destroy that secret id. Put a new wrapping token there"
                ) from None
            secret_id = (said.get("data") or {}).get("secret_id")
            if not isinstance(secret_id, str):
                raise Misconfigured(f"{self._field}_file: what is wrapped by the token in {self._config.secret_id_file} is no secret id")
            self._unwrapped = (wrapping, secret_id)
        return self._unwrapped[1]


class BySignedToken:
    """A JSON web token: the pod's own, or anybody's that the server trusts."""

    renews = True

    def __init__(self, config: KubernetesAuth | JwtAuth, adapter: BuildAdapter, name: str) -> None:
        self._config, self._adapter, self._field = config, adapter, f"stores.{name}.auth.jwt"

    def sign_in(self, now: float) -> Lease:
        # Kubernetes lays service account tokens down for everybody in the pod to read.
        jwt = read_token(self._config.jwt_file, None, self._field, private=False)
        if isinstance(self._config, KubernetesAuth):
            said = Kubernetes(self._adapter(None)).login(self._config.role, jwt, mount_point=self._config.mount)
        else:
            said = JWT(self._adapter(None)).jwt_login(self._config.role, jwt, path=self._config.mount)
        return _build_lease(said, now)

    def say_refused(self) -> str:
        return ""


class Session:
    """The token of this second. Safe to share between threads."""

    def __init__(self, name: str, way: Way, how: str, adapter: BuildAdapter, clock: Clock) -> None:
        self._name, self._way, self._how, self._adapter, self._clock = name, way, how, adapter, clock
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._try_at = float("-inf")

    def __repr__(self) -> str:
        return f"<Session of {self._name} by {self._how}>"

    def get_token(self) -> str:
        """A token that the server should take. Raises `Refused`, `Misconfigured`, `Unreachable`, `RateLimited`."""
        with self._lock:
            if self._lease is None or not self._way.renews:
                self._lease = self._sign_in()
            else:
                self._lease = self._look_after(self._lease)
            return self._lease.token

    def find_other(self, refused: str) -> bool:
        """Whether another token than the refused one may be tried: the server does not know that one any more.

        Raises `Refused` where it is dead and nothing that we can do brings another.
        """
        with self._lock:
            if self._lease is not None and self._lease.token != refused and self._way.renews:
                return True  # another thread was faster
            alive = self._is_alive(refused)
            if alive:
                return False
            help_ = self._way.say_refused()
            if not help_:
                self._lease = None
                return True
            if not self._way.renews and self._sign_in().token != refused:
                return True
            if alive is None:
                return False
        raise Refused(f"{self._name} does not know our token (any more): {help_}")

    def _is_alive(self, token: str) -> bool | None:
        """None: the server does not say whether the token is dead or may not be looked up."""
        try:
            Token(self._adapter(token)).lookup_self()
        except Answered as answered:
            return False if answered.says("invalid token", "bad token") else None
        return True

    def _look_after(self, lease: Lease) -> Lease:
        now = self._clock.monotonic()
        age = lease.age(now)
        if age < (_RENEW_AT if lease.renewable else _REPLACE_AT) or (now < self._try_at and age < 1):
            return lease
        self._try_at = now + _TRY_AGAIN
        try:
            renewed = self._renew(lease, now) if lease.renewable and age < 1 else None
            if renewed is not None and (renewed.life >= lease.first_life * _LITTLE or self._way.say_refused()):
                return renewed
            # A token of a person's is used to its very end: signing in would bring the same one.
            return lease if self._way.say_refused() else self._sign_in()
        except RotatorError as problem:
            if age >= 1:
                raise
            if not isinstance(problem, Retry):
                self._try_at = max(self._try_at, now + lease.life / 20)
                log.warning(
                    "the token that is in use ends soon, and there is no new one", action="login", store=self._name, problem=str(problem)
                )
            return lease

    def _renew(self, lease: Lease, now: float) -> Lease | None:
        try:
            said = Token(self._adapter(lease.token)).renew_self(increment=f"{lease.first_life:.0f}s")["auth"]
        except Answered:
            return None
        return Lease(lease.token, float(said["lease_duration"]), said["renewable"] is True, now, lease.first_life)

    def _sign_in(self) -> Lease:
        failure: RotatorError
        try:
            return self._way.sign_in(self._clock.monotonic())
        except Answered as answered:
            failure = explain(answered, self._name, f"signing in by {self._how}", _CHECK, _CHECK)
        raise failure


def build_session(config: AuthConfig, name: str, adapter: BuildAdapter, clock: Clock) -> Session:
    """The session of a store. Asks nothing yet."""
    way: Way
    if isinstance(config, TokenAuth):
        way = FromEnv(config, adapter, name)
    elif isinstance(config, TokenFileAuth):
        way = FromFile(config, name)
    elif isinstance(config, AppRoleAuth):
        way = ByAppRole(config, adapter, name)
    else:
        way = BySignedToken(config, adapter, name)
    return Session(name, way, config.type, adapter, clock)


def _build_lease(said: Mapping[str, Any], now: float) -> Lease:
    auth = said.get("auth")
    if not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
        raise Unreachable("the answer to signing in has no token in it: is there another service in between?")
    life = float(auth.get("lease_duration") or 0)
    return Lease(auth["client_token"], life, auth.get("renewable") is True, now, life)
