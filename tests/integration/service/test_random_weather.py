"""Random schedules of faults and of operators' wishes, over real sockets, a real store, journal and file; only time is ours to move.

Whatever happened: nobody is locked out on the way (I1), no generation falls (I5), and when the weather is over everything ends as one
living key that store and target hold, all others dead (I2, I6).
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from rotator.domain.credential import BoundTarget, Credential
from rotator.domain.errors import RotatorError
from rotator.domain.facts import Policy
from rotator.domain.keys import Kind
from rotator.domain.timing import Schedule
from rotator.engine.engine import Engine, Hooks
from rotator.engine.look import Timing
from rotator.engine.operations import Operations
from rotator.engine.runner import Outcome
from rotator.issuers import http
from rotator.journal.sqlite import SqliteJournal
from rotator.remote.millimetric import MillimetricConfig, MillimetricProber
from rotator.sandbox.clock import ServiceClock
from rotator.sandbox.faults import FaultRule, parse_rules
from rotator.sandbox.server import SandboxServer
from rotator.sandbox.settings import SandboxSettings
from rotator.stores.embedded import EmbeddedStoreConfig
from rotator.targets.file.building import build_file_target
from rotator.targets.file.config import FileTargetConfig
from tests.support.daemon import wait_until
from tests.support.fakes import FakeClock
from tests.support.scenes import held_by

NAME = "one"
CACHE_TIME = timedelta(seconds=10)
POLICY = Policy(
    installation="test",
    kind=Kind.RK,
    overlap_min=timedelta(seconds=30),
    overlap_max=timedelta(hours=2),
    cache_time=CACHE_TIME,
    verify_for=4 * CACHE_TIME,
    leak_deadline=timedelta(minutes=2),
    sweep_every=timedelta(minutes=10),
)
TIMING = Timing(attempt_cap=timedelta(minutes=5))
LATE = 0.03
MOST_LOOKS = 2000


@dataclass
class World:
    """One installation with one credential, whose engine is visited by the test alone."""

    sandbox: SandboxServer
    clock: FakeClock
    folder: Path
    leaked: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    generations: list[int] = field(default_factory=list)
    before_delivery: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self.file = self.folder / "place" / "one.key"
        self.file.parent.mkdir()
        prober = MillimetricConfig(endpoint=self.sandbox.url, trusted_endpoints=(self.sandbox.url,), rate=None)
        self.prober = MillimetricProber(prober, self.clock)
        token = self.folder / "token"
        token.touch(0o600)
        token.write_text(self.sandbox.admin_token)
        config = {"base_url": self.sandbox.url, "rate": None, "auth": {"type": "bearer", "token_file": str(token)}}
        self.issuer = http.build("sandbox", http.HttpIssuerConfig.model_validate(config), self.clock, wait=lambda _seconds: None)
        self.store = EmbeddedStoreConfig().build(self.folder)
        target = build_file_target(
            "raw", FileTargetConfig(path=self.file, content="key"), self.folder, self.clock, {}, self.folder, "linux"
        )
        self.credential = Credential(
            NAME, replace(POLICY), "embedded", "keys/one", self.store, "sandbox", self.issuer, self.prober,
            Schedule(every=timedelta(hours=6), jitter=timedelta(0)), targets=(BoundTarget("raw", target, settle=timedelta(seconds=5)),),
        )  # fmt: skip
        self.start()

    def start(self) -> None:
        """A new process, as far as memory goes."""
        self.journal = SqliteJournal(self.folder / "journal.db", self.clock.now())
        self.engine = Engine(self.journal, self.clock, TIMING, Hooks(on_step=lambda step, *_: self.follow(step)))
        self.engine.set_credentials({NAME: self.credential}, {"sandbox": self.issuer})
        self.operations = Operations(self.engine)

    def restart(self) -> None:
        self.journal.close()
        self.start()

    def close(self) -> None:
        self.journal.close()
        self.prober.close()
        self.issuer.close()

    def follow(self, step: str) -> None:
        """After every step."""
        if step == "promote" and self.before_delivery is not None:
            self.before_delivery()
        self.look()

    def look(self) -> None:
        """A consumer's look. Who cannot be reached works on with what it holds."""
        file = self.file if self.file.parent.is_dir() else self.folder / "aside" / self.file.name
        held = held_by(file)
        if held is None:
            return
        with self.sandbox.service.lock:
            key = self.sandbox.service.keys.find(held)
            dead = key is None or key.revoked_at is not None
        if dead and held not in self.leaked:
            self.wrong.append(f"{held} was revoked while the consumer still held it")

    def visit(self) -> Outcome:
        outcome = self.engine.visit(NAME)
        assert outcome is not None
        record = self.store.read("keys/one").record
        if record is not None:
            if self.generations and record.generation < self.generations[-1]:
                self.wrong.append("the generation fell")
            self.generations.append(record.generation)
        self.look()
        return outcome

    def live(self, span: timedelta) -> None:
        """Let that much time pass, visiting whenever the engine wants to."""
        end = self.clock.now() + span
        for _ in range(MOST_LOOKS):
            due = self.visit().view.due_at or end
            now = self.clock.now()
            if due > end:
                self.clock.advance(max(end - now, timedelta(0)))
                return
            self.clock.advance(max(due - now, timedelta(milliseconds=5)))
        raise AssertionError("it is never at rest")

    def ask(self, wish: str) -> None:
        """What an operator asks for; a refusal is an answer too."""
        with contextlib.suppress(RotatorError):
            if wish == "leak":
                current = self.store.read("keys/one").current
                if current is not None:
                    self.leaked.add(str(current))
                    self.operations.leak(secret=None, key_id=current, who="test")
            elif wish == "leak a retiring key":
                record = self.store.read("keys/one").record
                if record is not None and record.retiring:
                    self.leaked.add(str(record.retiring[0].key_id))
                    self.operations.leak(secret=None, key_id=record.retiring[0].key_id, who="test")
            elif wish in ("rotate", "rotate at once"):
                self.operations.rotate(NAME, emergency=wish != "rotate", who="test")
            else:
                getattr(self.operations, wish)(NAME, "test")

    def fault(self, rules: list[FaultRule]) -> None:
        with self.sandbox.service.lock:
            self.sandbox.service.faults.replace(rules)

    def move_target(self, *, away: bool) -> None:
        there, aside = self.file.parent, self.folder / "aside"
        if away and there.is_dir():
            there.rename(aside)
            there.write_text("no folder")
        elif not away and aside.is_dir():
            there.unlink()
            aside.rename(there)

    def late(self) -> int:
        with self.sandbox.service.lock:
            return self.sandbox.service.faults.late_pending

    def find_unsettled(self) -> str:
        """What is not at rest; empty when everything is."""
        known, holding = self.journal.recall(NAME), self.store.read("keys/one")
        record = holding.record
        assert known.memory is not None
        assert record is not None
        assert self.credential.policy.installation == record.installation
        living = {str(k.key_id) for k in self.sandbox.service.keys.listed(f"test/{record.uid}/") if k.revoked_at is None}
        checks = {
            "open rotation": known.rotation is None,
            "open retirement": not known.retirements,
            "open attempt": record.attempt is None,
            "orphans": not record.orphans and not known.memory.orphans,
            f"keys in the store {[str(k.key_id) for k in record.keys]}": len(record.keys) == 1 and holding.current is not None,
            f"living keys {living}": living == {str(holding.current)},
            f"the target holds {held_by(self.file)}": held_by(self.file) == str(holding.current),
        }
        return "; ".join(what for what, holds in checks.items() if not holds)

    def converge(self) -> None:
        """Fair weather from now on, and one `retry` of a person."""
        self.fault([])
        self.move_target(away=False)
        wait_until(lambda: self.late() == 0, every=0.005)
        self.live(timedelta(minutes=1))
        self.ask("retry")
        for _ in range(40):
            self.live(timedelta(minutes=2))
            unsettled = self.find_unsettled()
            if not unsettled:
                return
        raise AssertionError(f"not at rest after 80 minutes of fair weather: {unsettled}; {self.visit().view}")


WISHES = ("rotate", "rotate", "rotate at once", "leak", "leak a retiring key", "abandon", "rollback", "retry", "sync", "adopt")
EFFECTS = ("status", "drop_before", "drop_after", "late", "html_401", "auth_outage", "garbage", "redirect", "rate_limited")


RULES = st.fixed_dictionaries(
    {
        "operation": st.sampled_from(("mint", "list", "revoke", "mcp", "mcp", "any")),
        "effect": st.sampled_from(EFFECTS),
        "times": st.integers(1, 12),
        "seconds": st.just(LATE),
        "status": st.sampled_from((500, 502, 503)),
    }
)
LOST_MINT = st.builds(
    lambda effect, times: [{"operation": "mint", "effect": effect, "times": times, "seconds": LATE}],
    st.sampled_from(("drop_after", "late")),
    st.integers(1, 2),
)
SPANS = st.sampled_from((1, 5, 20, 45, 120, 900))
EVENTS: st.SearchStrategy[tuple[str, Any]] = st.one_of(
    st.tuples(st.just("ask"), st.sampled_from(WISHES)),
    st.tuples(st.just("fault"), st.lists(RULES, min_size=1, max_size=3)),
    st.tuples(st.just("live"), SPANS),
    st.tuples(st.sampled_from(("visit", "calm", "restart", "away", "back")), st.none()),
    st.tuples(st.just("rotate under"), st.tuples(LOST_MINT | st.lists(RULES, min_size=1, max_size=2), SPANS)),
    st.tuples(st.just("rotate without the target"), SPANS),
)


def play(world: World, event: tuple[str, Any]) -> None:
    kind, what = event
    if kind == "ask":
        world.ask(what)
    elif kind == "fault":
        world.fault(parse_rules(what))
    elif kind == "live":
        world.live(timedelta(seconds=what))
    elif kind == "visit":
        world.visit()
    elif kind == "calm":
        world.fault([])
    elif kind == "restart":
        world.restart()
    elif kind == "rotate under":
        world.fault(parse_rules(what[0]))
        world.ask("rotate")
        world.live(timedelta(seconds=what[1]))
    elif kind == "rotate without the target":
        world.move_target(away=False)
        world.ask("rotate")
        # Away between the preflight, which would see it, and the delivery.
        world.before_delivery = lambda: world.move_target(away=True)
        world.live(timedelta(seconds=what))
        world.before_delivery = None
        world.look()
    else:
        world.move_target(away=kind == "away")


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[SandboxServer, FakeClock]]:
    """A sandbox that lives by the test's clock."""
    clock = FakeClock()
    service = ServiceClock(clock.monotonic, lambda: clock.now().timestamp())
    with SandboxServer(SandboxSettings(cache_time=CACHE_TIME.total_seconds(), cache_refusals=True), clock=service) as sandbox:
        yield sandbox, clock


@settings(
    max_examples=int(os.environ.get("WEATHER_EXAMPLES", "25")),
    deadline=None,
    database=None,
    # Shrinking takes minutes here; WEATHER_SHRINK=1 is for who looks into a failure.
    phases=[Phase.generate, *([Phase.shrink] if os.environ.get("WEATHER_SHRINK") else [])],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(events=st.lists(EVENTS, min_size=4, max_size=14))
def test_everything_ends_well(place: tuple[SandboxServer, FakeClock], events: list[tuple[str, Any]]) -> None:
    sandbox, clock = place
    with tempfile.TemporaryDirectory() as folder:
        world = World(sandbox, clock, Path(folder))
        try:
            world.live(timedelta(minutes=1))
            for event in events:
                play(world, event)
                assert not world.wrong, world.wrong
            world.converge()
            assert not world.wrong, world.wrong
        finally:
            for row in world.journal.find_events(NAME, limit=400):
                e = row.event
                note(f"{e.at:%H:%M:%S} {e.phase} {e.action} {e.reason or ''} {e.key_id or ''} {e.text} {'' if e.ok else 'FAILED'}")
            world.close()
            world.fault([])
