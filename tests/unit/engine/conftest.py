"""An engine on fakes, with a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path

import pytest
import structlog.testing

from rotator.domain.credential import Credential
from rotator.domain.facts import Policy
from rotator.domain.keys import Kind
from rotator.engine.engine import Engine, Hooks
from rotator.engine.look import Timing
from rotator.engine.operations import Operations
from rotator.engine.runner import Outcome
from rotator.journal.sqlite import SqliteJournal
from rotator.stores.memory import MemoryStore
from tests.support.fakes import FakeClock, FakeIssuer, FakeService, FakeTarget, build_credential

QUICK = Policy(
    installation="test",
    kind=Kind.RK,
    overlap_min=timedelta(minutes=1),
    cache_time=timedelta(seconds=10),
    verify_for=timedelta(seconds=40),
)


@dataclass
class Rig:
    """One engine; nothing of it runs by itself unless the test starts it."""

    journal: SqliteJournal
    clock: FakeClock
    service: FakeService
    store: MemoryStore
    issuer: FakeIssuer
    target: FakeTarget
    engine: Engine
    steps: list[tuple[str, str]] = field(default_factory=list)
    credentials: dict[str, Credential] = field(default_factory=dict)

    @property
    def operations(self) -> Operations:
        return Operations(self.engine)

    def add(self, name: str, **changes: object) -> Credential:
        given = {"store": self.store, "policy": QUICK, "issuer": self.issuer, "targets": [self.target], **changes}
        credential = build_credential(name, service=self.service, **given)  # type: ignore[arg-type]
        self.credentials[name] = credential
        self.engine.set_credentials(self.credentials)
        return credential

    def visit(self, name: str) -> Outcome:
        """Visit until nothing is left to do at this instant."""
        outcome = self.engine.visit(name)
        while outcome is not None and outcome.again:
            outcome = self.engine.visit(name)
        assert outcome is not None
        return outcome

    def live(self, name: str, until: Callable[[Outcome], bool], at_most: timedelta = timedelta(hours=1)) -> Outcome:
        """Visit, let time pass to when the engine wants to look again, and so on."""
        end = self.clock.now() + at_most
        while not until(outcome := self.visit(name)):
            due = outcome.view.due_at
            assert due is not None
            assert due <= end, f"it did not come to that: {outcome.view}"
            self.clock.advance(max(due - self.clock.now(), timedelta(milliseconds=1)))
        return outcome


def settled(outcome: Outcome) -> bool:
    """Nothing is open."""
    return outcome.view.phase is None and len(outcome.view.keys) == 1 and not outcome.view.parked


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    clock = FakeClock()
    service = FakeService(clock, cached_for=QUICK.cache_time)
    journal = SqliteJournal(tmp_path / "journal.db", clock.now())
    steps: list[tuple[str, str]] = []
    hooks = replace(Hooks(), on_step=lambda step, outcome, _: steps.append((step, outcome)))
    timing = Timing(step_base=timedelta(seconds=1), step_cap=timedelta(minutes=5))
    engine = Engine(journal, clock, timing, hooks, workers=2)
    return Rig(journal, clock, service, MemoryStore(), FakeIssuer(service), FakeTarget("cluster"), engine, steps)


@pytest.fixture(autouse=True)
def closing(rig: Rig) -> Iterator[None]:
    """Quiet: without a set-up, structlog prints the local variables of a traceback."""
    with structlog.testing.capture_logs():
        yield
        rig.engine.stop(5.0)
        rig.journal.close()
