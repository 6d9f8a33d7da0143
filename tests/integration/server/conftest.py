"""A whole daemon but its configuration: engine, scheduler, SQLite journal and server, over fakes of the outside, on a free port."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx
import pytest

from rotator.domain.credential import Credential
from rotator.domain.facts import Policy
from rotator.domain.keys import Kind
from rotator.engine.engine import Engine, Hooks
from rotator.engine.look import Timing
from rotator.engine.operations import Operations
from rotator.engine.supplying import Supplying
from rotator.journal.sqlite import SqliteJournal
from rotator.metrics import Metrics
from rotator.scheduling.wakeups import Wakeups
from rotator.server.app import build_app
from rotator.server.dependencies import ServerDependencies
from rotator.server.listening import ApiServer
from rotator.server.readiness import Readiness, WatchedStore
from rotator.server.tokens import TokenBook
from rotator.stores.memory import MemoryStore
from tests.support.fakes import FakeIssuer, FakeService, FakeTarget, build_credential
from tests.support.sandbox import build_client

T = TypeVar("T")
ROLES = ("hook", "viewer", "operator", "admin")
TOKENS = {role: f"token-of-the-{role}-for-these-tests" for role in ROLES}
QUICK = Policy(
    installation="test",
    kind=Kind.RK,
    overlap_min=timedelta(0),
    cache_time=timedelta(milliseconds=200),
    verify_for=timedelta(seconds=2),
)
PATIENT = replace(QUICK, overlap_min=timedelta(hours=1))
TIMING = Timing(recheck=timedelta(milliseconds=200), step_base=timedelta(milliseconds=50), attempt_base=timedelta(milliseconds=50))


class RealClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class World:
    """What a test may touch."""

    folder: Path
    clock: RealClock = field(default_factory=RealClock)
    policy: Policy = QUICK
    reloaded: Callable[[], tuple[bool, str]] = lambda: (False, "nothing changed")
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        self.journal = SqliteJournal(self.folder / "journal.db", self.clock.now())
        self.service = FakeService(self.clock)
        self.issuer = FakeIssuer(self.service)
        self.store = MemoryStore()
        self.readiness = Readiness()
        self.metrics = Metrics()
        self.targets = {"cluster": FakeTarget("cluster", activation="restart"), "laptops": FakeTarget("laptops")}
        self.engine = Engine(
            self.journal,
            self.clock,
            TIMING,
            Hooks(self.metrics.on_step, self.metrics.on_rotation, self.metrics.on_leak_ended, self._wake_at),
            workers=2,
        )
        self.wakeups = Wakeups(self.engine.dispatch, self.clock)
        self.clients: list[httpx.Client] = []
        self.url = ""

    rejected: str = ""
    polls: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        entries = [(role, role, hashlib.sha256(token.encode()).hexdigest()) for role, token in TOKENS.items()]
        deps = ServerDependencies(
            operations=Operations(self.engine),
            supplying=Supplying(self.engine),
            engine=self.engine,
            queries=self.journal,
            metrics=self.metrics,
            readiness=self.readiness,
            tokens=TokenBook.from_config(entries),
            clock=self.clock,
            installation="test",
            started_at=self.clock.now(),
            reload=self._reload,
            find_rejected=lambda: self.rejected,
            ask_poll=self.polls.set,
        )
        self.app = build_app(deps)
        self.server = ApiServer(self.app, port=0, metrics_port=self.metrics_port)
        self.url = self.server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for client in self.clients:
            client.close()
        assert self.server.stop()
        self.wakeups.stop()
        assert self.engine.stop()
        self.journal.close()

    def _wake_at(self, instant: datetime) -> None:
        self.wakeups.wake_at(instant)

    def _reload(self) -> tuple[bool, str]:
        return self.reloaded()

    def configure(self, *names: str, **changes: Any) -> list[Credential]:
        """Drive these credentials from now on."""
        store = WatchedStore(self.store, "store:store", self.readiness)
        credentials = [
            build_credential(
                name,
                store=store,
                service=self.service,
                issuer=self.issuer,
                policy=self.policy,
                **{"targets": list(self.targets.values()), **changes},
            )
            for name in names
        ]
        self.engine.set_credentials({c.name: c for c in credentials}, targets=self.targets)
        return credentials

    def run(self) -> None:
        """Start the engine and its scheduler."""
        self.engine.start()
        self.wakeups.start()
        self.readiness.watch("scheduler", lambda: None if self.wakeups.is_running else "it does not run")

    def client(self, role: str | None = "admin", **options: Any) -> httpx.Client:
        """A client with a role's token, or without any."""
        headers = {"Authorization": f"Bearer {TOKENS[role]}"} if role is not None else {}
        client = build_client(self.url, headers=headers, timeout=30.0, trust_env=False, **options)
        self.clients.append(client)
        return client

    def status(self, name: str) -> dict[str, Any]:
        """A credential's status, as the API tells it."""
        answer = self.client("viewer").get(f"/api/v1/credentials/{name}")
        assert answer.status_code == 200, answer.text
        status: dict[str, Any] = answer.json()
        return status

    def settle(self, name: str, when: Callable[[dict[str, Any]], bool], within: float = 60.0) -> dict[str, Any]:
        """Wait until a credential's status is so."""
        return wait_for(lambda: self.status(name), when, within)


def wait_for(read: Callable[[], T], when: Callable[[T], bool], within: float = 60.0) -> T:
    """Read until it is so."""
    deadline, pause = time.monotonic() + within, threading.Event()
    while not when(value := read()):
        assert time.monotonic() < deadline, f"this never came: {value}"
        pause.wait(0.02)
    return value


def is_settled(status: dict[str, Any]) -> bool:
    """Whether a credential has a key, nothing is open, and every target holds it."""
    return bool(
        status["key_id"]
        and status["rotation"] is None
        and not status["retirements"]
        and all(target["state"] == "current" for target in status["targets"])
    )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A daemon without credentials, whose engine does not run yet."""
    with World(tmp_path) as built:
        yield built


@pytest.fixture
def running(world: World) -> World:
    """A daemon whose one credential `checkout-read` has its key everywhere."""
    world.configure("checkout-read")
    world.run()
    world.settle("checkout-read", is_settled)
    return world
