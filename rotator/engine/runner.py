"""One visit to a credential: look, decide, take one step, look again, until there is nothing left to do now.

What is decided on a look, in this order, while nobody else may take a step (`hold`):

    rest             what the look and the steps on it taught is written with the view, in one commit
    a step           written: its lines, and what was unwritten before, in one commit; an effect's intent before it
    no more          the step left the world as it was: what it told is carried on in memory, and the same look decides once more

An effect is only ever decided on a look of its own, taken after everything that justifies it was written (L2, L15, L19).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from rotator.domain.credential import Credential
from rotator.domain.decisions import Action, Decision, Do, DoomOrphan, OpenRetirement, Preflight, RevokeOrphan, Sweep
from rotator.domain.errors import Conflict, Permanent, RateLimited, Retry, RotatorError
from rotator.domain.keys import KeyId
from rotator.domain.ports import EndRetirement, EndRotation, Event, Issuer, Line, SaveView, View
from rotator.domain.reasons import Reason
from rotator.domain.retirement import decide_retirements
from rotator.domain.rotation import decide_rotation
from rotator.domain.timing import backoff
from rotator.engine.look import Look, Observer
from rotator.engine.steps import STEPS, Reach, Step
from rotator.engine.view import Decisions, build_view, lane_of
from rotator.engine.work import Work

MOST_STEPS = 60
"""A visit that takes more steps than this yields, so that one credential never keeps a worker."""
_MOST_CONFLICTS = 25
_ENDING = (EndRotation, EndRetirement)
"""others wait for these: they are written at once"""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Block:
    """An action that failed and is not tried again before `until`."""

    failures: int
    until: datetime
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a visit came to."""

    view: View
    failed: tuple[str, ...] = ()
    """what went wrong, in sentences"""
    again: bool = False
    """the visit yielded before it was through"""


@dataclass(slots=True)
class Tally:
    """What a visit has come to so far."""

    stopping: threading.Event
    steps: int = 0
    conflicts: int = 0
    failed: list[str] = field(default_factory=list)

    def is_full(self) -> bool:
        """Whether the visit ends between two steps, although more could be taken."""
        return self.stopping.is_set() or self.steps >= MOST_STEPS


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step that went well came to."""

    carried: Look | None
    """the look with what it brought, where nothing else changed; None: everything is written, look again"""
    failed: tuple[str, ...] = ()
    """what went wrong without ending the step, in sentences"""


@dataclass(slots=True)
class Runner:
    """Takes steps. One credential is visited by one thread at a time; operators share the lock between two steps."""

    observer: Observer
    on_step: Callable[[str, str, float], None]
    """(step, outcome, seconds), for metrics"""
    on_ended: Callable[[Look, Line], None]
    """told of every line that ends a rotation or a retirement, once it is written"""
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    """every configured one, by name: a key is revoked by who minted it"""
    _locks: dict[str, threading.RLock] = field(default_factory=dict)
    _blocks: dict[tuple[str, str], Block] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Nobody else takes a step on this credential meanwhile."""
        with self._guard:
            lock = self._locks.setdefault(name, threading.RLock())
        with lock:
            yield

    def unblock(self, name: str) -> None:
        """Try at once what failed before."""
        for key in [k for k in list(self._blocks) if k[0] == name]:
            self._blocks.pop(key, None)
        self.observer.mind.orphans_wait.pop(name, None)

    def visit(self, credential: Credential, stopping: threading.Event) -> Outcome:
        """Take every step that can be taken now."""
        tally = Tally(stopping)
        while True:
            with self.hold(credential.name):
                outcome = self._advance(self.look(credential), tally)
            if outcome is not None:
                return outcome

    def _advance(self, look: Look, tally: Tally) -> Outcome | None:
        """What one look allows: rest, or a step. None: look again. When this returns, everything is written."""
        asked = carried = False
        while True:
            now = self.observer.clock.now()
            decisions = decide(look, now)
            self._remember_urgency(look)
            action = self._choose(look.credential.name, decisions, now)
            if action is None or tally.is_full():
                return self._rest(look, decisions, now, tally, again=action is not None)
            step = STEPS[type(action)]
            if step.fresh and look.is_remembered:
                self._write(look)
                look, carried = self.observer.look(look.credential, fresh=True), False
                continue
            if carried and (asked or step.reach is Reach.EFFECT):
                # One question a hold, so that operators never wait for two; and an effect is decided on a look of its own.
                self._write(look)
                return None
            tally.steps += 1
            after = self._try(look, action, tally)
            if after is None:
                return None
            look, carried, asked = after, True, step.reach is Reach.QUESTION

    def _rest(self, look: Look, decisions: Decisions, now: datetime, tally: Tally, *, again: bool) -> Outcome:
        view = build_view(look, decisions, self._blocked(look.credential.name, now), now, self.observer.timing)
        view = replace(view, due_at=now) if again else view
        self._write(look, SaveView(view))
        return Outcome(view, tuple(tally.failed), again=again)

    def _try(self, look: Look, action: Action, tally: Tally) -> Look | None:
        """Take a step. The look on which it may go on; None: a fresh one is needed."""
        try:
            taken = self._take(look, action)
        except Conflict as problem:
            tally.conflicts += 1
            if tally.conflicts > _MOST_CONFLICTS:
                tally.failed.append(str(problem))
                self._block(look, action, problem)
            return None
        except RotatorError as problem:
            tally.failed.append(str(problem))
            self._block(look, action, problem)
            return None
        tally.failed.extend(taken.failed)
        return taken.carried

    def look(self, credential: Credential) -> Look:
        """One look, on which a step may be taken while `hold` is held."""
        return self.observer.look(credential)

    def take(self, look: Look, action: Action) -> None:
        """Take one effect for an operator, with the same intent and outcome as any other."""
        self._take(look, action)

    def _choose(self, name: str, decisions: tuple[tuple[KeyId | None, Decision], ...], now: datetime) -> Action | None:
        wanted = [decision.action for _, decision in decisions if isinstance(decision, Do)]
        # What must die is on record before the rotation goes on: whoever sees that closed sees what is left to do.
        for action in sorted(wanted, key=lambda action: not isinstance(action, OpenRetirement)):
            block = self._blocks.get((name, repr(action)))
            if block is None or block.until <= now:
                return action
        return None

    def _take(self, look: Look, action: Action) -> Taken:
        step = STEPS[type(action)]
        clock, (process, key_id) = self.observer.clock, _subject(look, action)
        work = Work(look, self.observer.journal, clock, self.observer.mind, self.observer.timing, self.issuers)
        if step.reach is Reach.EFFECT:
            planned = step.plan(work, action) if step.plan else ()
            self._write(look, *planned, Event(clock.now(), "intent", step.name, process=process, key_id=key_id))
            look = replace(look, unwritten=())
        lines = self._run(look, step, work, action)
        self._blocks.pop((look.credential.name, repr(action)), None)
        for problem in work.failed:
            log.warning("step failed", action=step.name, credential=look.credential.name, problem=problem)
        if step.reach is not Reach.EFFECT and not work.changes and not any(isinstance(line, _ENDING) for line in lines):
            return Taken(self.observer.carry_on(look, lines))
        outcome: tuple[Line, ...] = ()
        if step.reach is Reach.EFFECT and not any(isinstance(line, Event) and line.phase == "outcome" for line in lines):
            outcome = (Event(clock.now(), "outcome", step.name, process=process, key_id=key_id, ok=not work.failed),)
        if step.reach is Reach.EFFECT and not work.failed:
            log.info("step done", action=step.name, credential=look.credential.name, key_id=str(key_id) if key_id else None)
        self._write(look, *lines, *outcome, *self._closing_view(look, lines))
        return Taken(None, tuple(work.failed))

    def _run(self, look: Look, step: Step, work: Work, action: Action) -> tuple[Line, ...]:
        """The step itself, with its failure written down."""
        clock, name = self.observer.clock, look.credential.name
        started = clock.monotonic()

        def fail(reason: Reason, outcome: str, text: str) -> None:
            self.on_step(step.name, outcome, clock.monotonic() - started)
            process, key_id = _subject(look, action)
            self._write(look, Event(clock.now(), "outcome", step.name, reason, process=process, key_id=key_id, text=text, ok=False))

        try:
            lines = step.run(work, action)
        except RotatorError as problem:
            log.warning("step failed", action=step.name, credential=name, reason=str(problem.reason), problem=str(problem))
            fail(problem.reason, str(problem.reason), str(problem))
            raise
        except Exception as fault:
            # A fault of ours, or a library's: it ends this step, never the visit, and is not tried in a loop.
            log.exception("step broke", action=step.name, credential=name)
            text = f"a fault of rotator ({type(fault).__name__}): the log has the details"
            fail(Reason.FAILED, "fault", text)
            raise Permanent(text, reason=Reason.FAILED) from fault
        self.on_step(step.name, "ok", clock.monotonic() - started)
        return lines

    def _write(self, look: Look, *lines: Line) -> None:
        """One commit: what the look has not told the journal yet, then these lines."""
        self.observer.journal.commit(look.credential.name, *look.unwritten, *lines)
        for line in lines:
            if isinstance(line, _ENDING):
                self.on_ended(look, line)

    def _remember_urgency(self, look: Look) -> None:
        urgent = self.observer.mind.urgent
        if lane_of(look.facts) == "emergency":
            urgent.add(look.credential.name)
        else:
            urgent.discard(look.credential.name)

    def _closing_view(self, look: Look, lines: Iterable[Line]) -> tuple[Line, ...]:
        """Whoever sees the rotation closed sees the key that it brought: both are written in one commit."""
        if not any(isinstance(line, EndRotation) for line in lines):
            return ()
        now, timing = self.observer.clock.now(), self.observer.timing
        view = build_view(replace(look, facts=replace(look.facts, rotation=None)), (), (), now, timing)
        return (SaveView(replace(view, due_at=now + timing.recheck)),)

    def _block(self, look: Look, action: Action, problem: RotatorError) -> None:
        timing, name = self.observer.timing, look.credential.name
        key = (name, repr(action))
        failures = self._blocks[key].failures + 1 if key in self._blocks else 1
        cap = timing.urgent_cap if lane_of(look.facts) == "emergency" else timing.step_cap
        pause = backoff(failures, name, min(timing.step_base, cap), cap)
        if not isinstance(problem, Retry):
            pause = max(pause, min(timing.recheck, cap))
        if isinstance(problem, RateLimited) and problem.after is not None:
            pause = max(pause, problem.after)
        until = self.observer.clock.now() + pause
        self._blocks[key] = Block(failures, until, problem.reason, str(problem))
        failed = self.observer.mind.preflight.get(name)
        if isinstance(action, Preflight) and failed is not None:
            self.observer.mind.preflight[name] = replace(failed, until=until)
        if isinstance(action, Sweep | DoomOrphan | RevokeOrphan):
            # An issuer that fails with orphans holds nothing else up, least of all an emergency.
            self.observer.mind.orphans_wait[name] = until

    def _blocked(self, name: str, now: datetime) -> tuple[Block, ...]:
        for key in [k for k, b in list(self._blocks.items()) if k[0] == name and b.until + timedelta(hours=1) < now]:
            self._blocks.pop(key, None)
        return tuple(b for k, b in list(self._blocks.items()) if k[0] == name and b.until > now)


def decide(look: Look, now: datetime) -> tuple[tuple[KeyId | None, Decision], ...]:
    """The rotation's decision first (key id None), then one for each key that must die."""
    rotation = (None, decide_rotation(look.facts, now))
    if look.credential.read_only:  # L30: an end that was begun when it could be written to is written down there (L19)
        return (rotation,)
    return (rotation, *decide_retirements(look.facts, now))


def _subject(look: Look, action: Action) -> tuple[str | None, KeyId | None]:
    """The process and the key that a journal line is about."""
    key_id = getattr(action, "key_id", None)
    orphan = getattr(action, "orphan", None)
    if orphan is not None:
        return None, orphan.key_id
    row = look.facts.retirement(key_id) if key_id is not None else None
    if row is not None:
        return row.id, key_id
    rotation = look.facts.rotation
    return (rotation.id if rotation else None), key_id
