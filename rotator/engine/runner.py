"""One visit to a credential: look, decide, take one step, look again, until there is nothing left to do now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from rotator.domain.credential import Credential
from rotator.domain.decisions import Action, Decision, Do, DoomOrphan, OpenRetirement, RevokeOrphan, Sweep, Wait
from rotator.domain.errors import Conflict, Permanent, RateLimited, Retry, RotatorError
from rotator.domain.keys import KeyId
from rotator.domain.ports import EndRotation, Event, Issuer, Line, SaveMemory, SavePlacement, SaveView, View
from rotator.domain.reasons import Reason
from rotator.domain.retirement import decide_retirements
from rotator.domain.rotation import decide_rotation
from rotator.domain.timing import backoff
from rotator.engine.look import Look, Observer
from rotator.engine.steps import STEPS
from rotator.engine.view import build_view, lane_of
from rotator.engine.work import Work

MOST_STEPS = 60
"""A visit that takes more steps than this yields, so that one credential never keeps a worker."""
_MOST_CONFLICTS = 25

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
class Runner:
    """Takes steps. One credential is visited by one thread at a time; operators share the lock between two steps."""

    observer: Observer
    on_step: Callable[[str, str, float], None]
    """(step, outcome, seconds), for metrics"""
    on_ended: Callable[[Look, Line], None]
    """told of every line that was written"""
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
        failed: list[str] = []
        conflicts = steps = 0
        while True:
            with self.hold(credential.name):
                look = self.look(credential)
                now = self.observer.clock.now()
                decisions = decide(look, now)
                self._remember_urgency(look)
                action = self._choose(credential.name, decisions, now)
                again = action is not None and (stopping.is_set() or steps >= MOST_STEPS)
                if action is None or again:
                    view = build_view(look, decisions, self._blocked(credential.name, now), now, self.observer.timing)
                    view = replace(view, due_at=now) if again else view
                    self.observer.journal.commit(credential.name, *self._passive(look), SaveView(view))
                    return Outcome(view, tuple(failed), again=again)
                steps += 1
                try:
                    failed.extend(self._take(look, action))
                except Conflict as problem:
                    conflicts += 1
                    if conflicts > _MOST_CONFLICTS:
                        failed.append(str(problem))
                        self._block(look, action, problem)
                except RotatorError as problem:
                    failed.append(str(problem))
                    self._block(look, action, problem)

    def look(self, credential: Credential) -> Look:
        """One look, on which a step may be taken while `hold` is held."""
        return self.observer.look(credential)

    def take(self, look: Look, action: Action) -> None:
        """Take one step for an operator, with the same intent and outcome as any other."""
        self._take(look, action)

    def _choose(self, name: str, decisions: tuple[tuple[KeyId | None, Decision], ...], now: datetime) -> Action | None:
        wanted = [decision.action for _, decision in decisions if isinstance(decision, Do)]
        # What must die is on record before the rotation goes on: whoever sees that closed sees what is left to do.
        for action in sorted(wanted, key=lambda action: not isinstance(action, OpenRetirement)):
            block = self._blocks.get((name, repr(action)))
            if block is None or block.until <= now:
                return action
        return None

    def _take(self, look: Look, action: Action) -> tuple[str, ...]:
        step = STEPS[type(action)]
        name, journal, clock = look.credential.name, self.observer.journal, self.observer.clock
        work = Work(look, journal, clock, self.observer.mind, self.observer.timing, self.issuers)
        process, key_id = _subject(look, action)
        if step.has_effect:
            planned = step.plan(work, action) if step.plan else ()
            journal.commit(name, *planned, Event(clock.now(), "intent", step.name, process=process, key_id=key_id))
        started = clock.monotonic()
        try:
            lines = step.run(work, action)
        except RotatorError as problem:
            self.on_step(step.name, str(problem.reason), clock.monotonic() - started)
            log.warning("step failed", action=step.name, credential=name, reason=str(problem.reason), problem=str(problem))
            journal.commit(
                name,
                Event(clock.now(), "outcome", step.name, problem.reason, process=process, key_id=key_id, text=str(problem), ok=False),
            )
            raise
        except Exception as fault:
            # A fault of ours, or a library's: it ends this step, never the visit, and is not tried in a loop.
            log.exception("step broke", action=step.name, credential=name)
            self.on_step(step.name, "fault", clock.monotonic() - started)
            text = f"a fault of rotator ({type(fault).__name__}): the log has the details"
            journal.commit(
                name, Event(clock.now(), "outcome", step.name, Reason.FAILED, process=process, key_id=key_id, text=text, ok=False)
            )
            raise Permanent(text, reason=Reason.FAILED) from fault
        self.on_step(step.name, "ok", clock.monotonic() - started)
        outcome: tuple[Line, ...] = ()
        for problem_text in work.failed:
            log.warning("step failed", action=step.name, credential=name, problem=problem_text)
        if step.has_effect and not any(isinstance(line, Event) and line.phase == "outcome" for line in lines):
            outcome = (Event(clock.now(), "outcome", step.name, process=process, key_id=key_id, ok=not work.failed),)
        if step.has_effect and not work.failed:
            log.info("step done", action=step.name, credential=name, key_id=str(key_id) if key_id else None)
        journal.commit(name, *self._passive(look), *lines, *outcome, *self._closing_view(look, lines))
        self._blocks.pop((name, repr(action)), None)
        for line in lines:
            self.on_ended(look, line)
        return tuple(work.failed)

    def _remember_urgency(self, look: Look) -> None:
        urgent = self.observer.mind.urgent
        if lane_of(look.facts) == "emergency":
            urgent.add(look.credential.name)
        else:
            urgent.discard(look.credential.name)

    def _passive(self, look: Look) -> tuple[Line, ...]:
        """What the look itself taught: where targets stand, and that the generation rose."""
        facts = look.facts
        lines: list[Line] = [SavePlacement(p) for p in look.moved]
        if look.risen and facts.memory is not None:
            lines.append(SaveMemory(facts.memory))
        return tuple(lines)

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
        if isinstance(action, Sweep | DoomOrphan | RevokeOrphan):
            # An issuer that fails with orphans holds nothing else up, least of all an emergency.
            self.observer.mind.orphans_wait[name] = until

    def _blocked(self, name: str, now: datetime) -> tuple[Block, ...]:
        for key in [k for k, b in list(self._blocks.items()) if k[0] == name and b.until + timedelta(hours=1) < now]:
            self._blocks.pop(key, None)
        return tuple(b for k, b in list(self._blocks.items()) if k[0] == name and b.until > now)


def decide(look: Look, now: datetime) -> tuple[tuple[KeyId | None, Decision], ...]:
    """The rotation's decision first (key id None), then one for each key that must die."""
    if look.credential.read_only:
        return ((None, Wait(Reason.NOT_DUE)),)
    return ((None, decide_rotation(look.facts, now)), *decide_retirements(look.facts, now))


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
