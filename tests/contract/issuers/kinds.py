"""The kinds of issuer that the contract suite runs over. A new kind joins by one line in `KINDS`."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

from rotator.domain import keys as domain
from rotator.domain.errors import AnswerLost, RateLimited, Unreachable
from rotator.domain.keys import KeyId
from rotator.domain.ports import Holding, Issuer, Supplied
from rotator.domain.record import Change
from rotator.domain.secret import Secret
from rotator.issuers.command import CommandIssuerConfig
from rotator.issuers.http import HttpIssuerConfig
from rotator.issuers.manual import ManualIssuerConfig
from rotator.issuers.pool import PoolIssuerConfig
from rotator.issuers.surroundings import Surroundings
from rotator.sandbox import SandboxServer, SandboxSettings
from rotator.stores.memory import MemoryStore
from tests.support.fakes import build_secret
from tests.support.sandbox import SandboxControl

ROOT = Path(__file__).parents[3]
PROGRAM = ROOT / "docs" / "examples" / "mint_key.py"
CREDENTIAL = "checkout"
_Function = TypeVar("_Function", bound=Callable[..., object])


class Bench(Protocol):
    """An issuer, and the truth behind it."""

    issuer: Issuer

    def living(self) -> set[str]:
        """Key ids of all keys that were given out and are not revoked."""

    def works(self, key: Secret) -> bool:
        """Whether the service accepts the key, its caches aside."""

    def lose(self, operation: str, *, applied: bool) -> None:
        """The answer to the next `mint`, `list` or `revoke` is lost, after or without its effect."""

    def slow_down(self, operation: str, seconds: int) -> None:
        """The next call is told to come back after that time."""


@dataclass(frozen=True)
class Kind:
    """How the suite gets at one kind of issuer."""

    name: str
    open: Callable[[Path], AbstractContextManager[Bench]]
    traits: frozenset[str] = frozenset()
    """`revokes`: it can. `mints`: keys are born when it is asked, else they were brought before. `repeats`: each mint under one label
    gives a key of its own, else at most the first. `retries`: a list whose answer is lost is asked for again"""

    def __str__(self) -> str:
        return self.name


def needs(*traits: str) -> Callable[[_Function], _Function]:
    """The case is for kinds with these traits, or (`no-…`) without them."""

    def mark(function: _Function) -> _Function:
        function.traits = traits  # type: ignore[attr-defined]
        return function

    return mark


def find_kinds(function: object) -> list[Kind]:
    """The kinds that a case is for."""
    wanted = getattr(function, "traits", ())
    return [kind for kind in ALL if all((trait.removeprefix("no-") in kind.traits) is not trait.startswith("no-") for trait in wanted)]


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def build_surroundings(store: MemoryStore | None = None, environ: Mapping[str, str] | None = None) -> Surroundings:
    """For an issuer that keeps things in a store called `embedded`."""
    stores = {"embedded": store if store is not None else MemoryStore()}
    return Surroundings(RealClock(), lambda *_: None, "prod", stores, environ or {}, (CREDENTIAL,))


@dataclass(slots=True)
class SandboxBench:
    """An issuer that mints at the sandbox."""

    issuer: Issuer
    control: SandboxControl

    def living(self) -> set[str]:
        return self.control.living()

    def works(self, key: Secret) -> bool:
        self.control.flush()
        return self.control.probe(key).alive

    def lose(self, operation: str, *, applied: bool) -> None:
        self.control.faults({"operation": operation, "effect": "drop_after" if applied else "drop_before", "times": 1})

    def slow_down(self, operation: str, seconds: int) -> None:
        self.control.faults({"operation": operation, "effect": "rate_limited", "seconds": seconds, "times": 1})


class WeatherStore(MemoryStore):
    """Its next reads may fail."""

    def __init__(self) -> None:
        super().__init__()
        self.next_reads: list[Exception] = []

    def read(self, path: str) -> Holding:
        if self.next_reads:
            raise self.next_reads.pop()
        return super().read(path)

    def lose_next_commit(self, *, applied: bool) -> None:
        """Its answer never comes, and neither does that of the look after it."""

        def lose(_path: str, _change: Change) -> None:
            self.before_commit = self.after_commit = None
            self.next_reads.append(Unreachable("the store is away"))
            raise AnswerLost("the answer was lost")

        if applied:
            self.after_commit = lose
        else:
            self.before_commit = lose


@dataclass(slots=True)
class SuppliedBench:
    """An issuer that gives out what was brought: plenty of each kind."""

    issuer: Issuer
    store: WeatherStore
    path: str
    stock: list[Secret] = field(default_factory=list)

    def fill(self) -> SuppliedBench:
        assert isinstance(self.issuer, Supplied)
        for kind, count in ((domain.Kind.RK, 26), (domain.Kind.SK, 2), (domain.Kind.AK, 2)):
            for key in [build_secret(kind) for _ in range(count)]:
                self.issuer.add(CREDENTIAL, key, "somebody", None)
                self.stock.append(key)
        return self

    def living(self) -> set[str]:
        record = MemoryStore.read(self.store, self.path).record
        return {str(spare.key_id) for spare in (record.spares if record else ()) if spare.label is not None}

    def works(self, key: Secret) -> bool:
        return any(one.same_as(key) for one in self.stock)

    def lose(self, operation: str, *, applied: bool) -> None:
        assert operation == "mint"
        self.store.lose_next_commit(applied=applied)

    def slow_down(self, operation: str, seconds: int) -> None:
        self.store.next_reads.append(RateLimited(f"{operation} comes too soon", after=timedelta(seconds=seconds)))


@contextlib.contextmanager
def _open_http(place: Path) -> Iterator[Bench]:
    with _sandbox(place) as (url, token_file, control):
        config = HttpIssuerConfig.model_validate({"base_url": url, "auth": {"type": "bearer", "token_file": str(token_file)}})
        issuer = config.build("admin", build_surroundings())
        yield SandboxBench(issuer, control)
        issuer.close()


@contextlib.contextmanager
def _open_command(place: Path) -> Iterator[Bench]:
    with _sandbox(place) as (url, token_file, control):
        config = CommandIssuerConfig.model_validate(
            {
                "command": [sys.executable, str(PROGRAM)],
                "list": True,
                "revoke": True,
                "environment": ["SANDBOX_URL", "SANDBOX_TOKEN_FILE"],
            }
        )
        environ = {**os.environ, "SANDBOX_URL": url, "SANDBOX_TOKEN_FILE": str(token_file)}
        yield SandboxBench(config.build("program", build_surroundings(environ=environ)), control)


@contextlib.contextmanager
def _sandbox(place: Path) -> Iterator[tuple[str, Path, SandboxControl]]:
    token_file = place / "token"
    with SandboxServer(SandboxSettings(workers=1)) as server, SandboxControl(server.url, server.admin_token) as control:
        token_file.write_text(server.admin_token + "\n")
        token_file.chmod(0o600)
        yield server.url, token_file, control


@contextlib.contextmanager
def _open_pool(_place: Path) -> Iterator[Bench]:
    store = WeatherStore()
    issuer = PoolIssuerConfig(path="pool").build("spares", build_surroundings(store))
    yield SuppliedBench(issuer, store, "pool").fill()


@contextlib.contextmanager
def _open_manual(_place: Path) -> Iterator[Bench]:
    store = WeatherStore()
    issuer = ManualIssuerConfig(inbox="inbox/{credential}").build("by-hand", build_surroundings(store))
    yield SuppliedBench(issuer, store, f"inbox/{CREDENTIAL}").fill()


KINDS = {
    kind.name: kind
    for kind in (
        Kind("http", _open_http, frozenset({"revokes", "mints", "repeats", "retries"})),
        Kind("command", _open_command, frozenset({"revokes", "mints", "retries"})),
        Kind("pool", _open_pool),
        Kind("manual", _open_manual),
    )
}
ALL: Sequence[Kind] = list(KINDS.values())
UNKNOWN_KEY = "rk_live_00000000"
"""A key id that no issuer ever gave out."""


def key_ids(keys: object) -> set[str]:
    """Of listed keys, as text."""
    assert isinstance(keys, list)
    ids = {key.key_id for key in keys}
    assert all(isinstance(one, KeyId) for one in ids)
    return {str(one) for one in ids}
