"""What one replica may decide next: its journal as small tuples, the facts that follow from it, and the real decisions on them.

Time is a choice: whether a limit (overlap, settling, the pause between probes, `verify_for`, the lease, the sweep's hour) has passed is
tried both ways at every decision, in the order "not yet" before "passed". What follows in the world from the passing of a limit (a consumer
has read the store by then) is handed back with the decision, so that `world` can make it true.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from typing import Any, NamedTuple

from rotator.domain import decisions as do
from rotator.domain import retirement, rotation
from rotator.domain.facts import (
    AttemptView,
    Facts,
    Level,
    Memory,
    Policy,
    Retirement,
    Rotation,
    Sightings,
    TargetFact,
    Verdict,
)
from rotator.domain.reasons import Reason
from rotator.domain.record import Orphan, Record, Stage
from rotator.domain.standing import guard
from tests.model import symbols as sym
from tests.model.actions import as_tuple
from tests.model.journal import ALIVE, DEAD, FEW, FEW_SPREAD, NEVER, NO_REFUSAL, NOT_SEEN, SEEN_BEFORE, UNKNOWN, Journal, Mem, Rot, Sight
from tests.model.symbols import KEYS, NONE, NOW, Docs, attempt_id, attempt_number, key_id, number


class TargetView(NamedTuple):
    """What a look showed of a target."""

    reachable: bool
    key: int
    generation: int
    """NONE where it keeps none"""


class Passed(NamedTuple):
    """Which limits are taken to have passed, at one decision."""

    overlap: tuple[tuple[int, int], ...] = ()
    """(key, 1: overlap.min or the leak deadline, 2: overlap.max)"""
    settled: bool = False
    verify: bool = False
    lease: bool = False
    hour: bool = False
    fresh: bool = True
    """the sighting of current is younger than a minute"""
    asked: frozenset[int] = frozenset()
    """keys that were asked within the pause"""
    outlived: int = NONE
    """a key that answered alive long after its revoke was acknowledged"""
    jumped: bool = False
    """the local clock jumped: limits look passed that have not, and the service's `Date` tells"""


class Choice(NamedTuple):
    """One action that a replica may take, and what must have passed in the world for it."""

    action: tuple[Any, ...]
    passed: Passed
    about: int = NONE
    """the retirement's key; NONE: the rotation's"""


class Choices(NamedTuple):
    """Everything that a replica may do after one look."""

    rotation: tuple[Choice, ...]
    rotation_rests: bool
    """some passing of time leaves the rotation nothing to do now"""
    retirements: tuple[Choice, ...]
    parked: tuple[Reason, ...]
    """reasons for which the rotation is, or comes to be, parked"""
    waits: tuple[Reason, ...]
    ends: tuple[tuple[int, tuple[Reason, ...], tuple[Reason, ...]], ...]
    """per retirement: key, parked, waits"""
    guarded: bool
    """a guard stands over everything"""


class Look(NamedTuple):
    """The input of a decision."""

    doc: int
    journal: int
    targets: tuple[TargetView, ...]
    hand: int
    """the attempt in hand"""
    due: bool
    alive: int
    """mask of the keys that live"""
    barren: int = NONE
    """the attempt whose mint was surely refused"""
    orphans_wait: bool = False
    unstaged: bool = False
    """whether that in hand has brought a key already"""


@dataclass(slots=True)
class Decider:
    """Runs the real decisions, once for every look."""

    docs: Docs
    policy: Policy
    required: tuple[bool, ...]
    clock_jumps: bool = False
    journals: list[Journal] = field(default_factory=list)
    numbers: dict[Journal, int] = field(default_factory=dict)
    known: dict[Look, Choices] = field(default_factory=dict)
    records: dict[tuple[Any, ...], Record] = field(default_factory=dict)
    hourly: Policy = field(init=False)
    """the policy under which the hour of a sweep has passed"""

    def __post_init__(self) -> None:
        self.hourly = replace(self.policy, sweep_every=timedelta(0))

    def intern(self, journal: Journal) -> int:
        """The number of a journal."""
        found = self.numbers.get(journal)
        if found is None:
            found = self.numbers[journal] = len(self.journals)
            self.journals.append(journal)
        return found

    def choices(self, look: Look) -> Choices:
        """What may be done."""
        found = self.known.get(look)
        if found is None:
            found = self.known[look] = self._choices(look)
        return found

    def _choices(self, look: Look) -> Choices:
        taken: dict[tuple[Any, ...], Choice] = {}
        parked: list[Reason] = []
        waits: list[Reason] = []
        for passed in self._rotation_times(look):
            for decision, at in self._chain(look, passed, lambda f: rotation.decide_rotation(f, NOW)):
                if isinstance(decision, do.Do):
                    action = as_tuple(decision.action)
                    taken.setdefault(action, Choice(action, at))
                elif decision is not None:
                    (parked if isinstance(decision, do.Park) else waits).append(decision.reason)
        ends = []
        taken_ends: dict[tuple[Any, ...], Choice] = {}
        facts = self.facts(look, Passed())
        for key in sorted({number(k) for k, _ in retirement.decide_retirements(facts, NOW)}):
            key_parked: list[Reason] = []
            key_waits: list[Reason] = []
            for passed in self._retirement_times(look, key):
                for decision, at in self._chain(look, passed, lambda f, k=key: _decision_on(f, k)):
                    if isinstance(decision, do.Do):
                        action = as_tuple(decision.action)
                        taken_ends.setdefault((action, at.jumped), Choice(action, at, key))
                    elif isinstance(decision, do.Park):
                        key_parked.append(decision.reason)
                    elif decision is not None:
                        key_waits.append(decision.reason)
            ends.append((key, _unique(key_parked), _unique(key_waits)))
        return Choices(
            tuple(taken.values()),
            bool(parked or waits),
            tuple(taken_ends.values()),
            _unique(parked),
            _unique(waits),
            tuple(ends),
            guard(facts, NOW) is not None,
        )

    def _chain(self, look: Look, passed: Passed, decide: Any) -> Iterator[tuple[do.Decision | None, Passed]]:
        """The decision, and, where it is a probe, also the one while the pause since the last probe of that key is not over."""
        while True:
            decision = decide(self.facts(look, passed))
            yield decision, passed
            if not isinstance(decision, do.Do) or not isinstance(decision.action, do.Probe):
                return
            key = number(decision.action.key_id)
            sight = self.journals[look.journal].sight(key)
            if key in passed.asked or (sight.answer == NEVER and not self._is_retiring(look.doc, key)):
                return
            if sight.answer == ALIVE and not look.alive >> key & 1:
                return  # it answered alive and is revoked by now: only a race within the pause between two probes would not know
            passed = passed._replace(asked=passed.asked | {key})

    def _is_retiring(self, doc: int, key: int) -> bool:
        """Alive answers of such keys are not kept: an unseen one may have been asked."""
        record = self.docs.docs[doc][0]
        entry = record.find(KEYS[key]) if record is not None else None
        return entry is not None and entry.stage is Stage.RETIRING

    def _rotation_times(self, look: Look) -> Iterator[Passed]:
        record = self.docs.docs[look.doc][0]
        journal = self.journals[look.journal]
        verify = (False, True) if record is not None and record.pending is not None else (False,)
        lease: tuple[bool, ...] = (False,)
        if record is not None and record.attempt is not None:
            own = journal.rotation is not None and attempt_number(record.attempt.id) == journal.rotation.attempt
            lease = (False,) if own and not look.unstaged else (False, True)
        swept = journal.memory is not None and record is not None and bool(record.closed)
        for v, le, h in itertools.product(verify, lease, (False, True) if swept else (False,)):
            yield Passed(verify=v, lease=le, hour=h)

    def _retirement_times(self, look: Look, key: int) -> Iterator[Passed]:
        record = self.docs.docs[look.doc][0]
        current = number(record.current.key_id) if record is not None and record.current is not None else NONE
        fresh = (True, False) if current != NONE and look.alive >> current & 1 else (False,)
        settled = (False, True) if look.targets else (False,)
        revoked = self.journals[look.journal].revoked(key) and look.alive >> key & 1
        for level, s, f, o in itertools.product(range(3), settled, fresh, (NONE, key) if revoked else (NONE,)):
            yield Passed(overlap=((key, level),) if level else (), settled=s, fresh=f, outlived=o)
        if self.clock_jumps:
            yield Passed(overlap=((key, 2),), settled=True, jumped=True)

    def facts(self, look: Look, passed: Passed) -> Facts:
        """The facts of a look, under a passing of time."""
        record, current = self.docs.docs[look.doc]
        journal = self.journals[look.journal]
        memory, open_rotation = journal.memory, journal.rotation
        view = None
        if record is not None and record.attempt is not None:
            attempt = attempt_number(record.attempt.id)
            own = open_rotation is not None and attempt == open_rotation.attempt
            view = AttemptView(look.hand == attempt, own, passed.lease, look.barren == attempt, look.unstaged)
        promoted = number(record.current.key_id) if record is not None and record.current is not None else NONE
        sights = _with_asked(journal.sights, passed)
        return Facts(
            policy=self.hourly if passed.hour else self.policy,
            place=sym.PLACE,
            record=None if record is None else self._record(look.doc, passed, None if memory is None else memory.swept),
            current=current,
            memory=_memory(memory),
            rotation=_rotation(open_rotation),
            retirements=tuple(self._row(journal, k, revoked, passed) for k, revoked in journal.rows),
            sightings=tuple(self._seen(s, _asked(s, passed, s.key == promoted), passed) for s in sights),
            targets=tuple(self._target(n, t, passed) for n, t in enumerate(look.targets)),
            attempt=view,
            due_at=NOW if look.due else None,
            clock_trusted=not passed.jumped,
            orphans_wait=look.orphans_wait,
        )

    def _seen(self, sight: Sight, asked: datetime, passed: Passed) -> Sightings:
        if sight.key == passed.outlived:
            return Sightings(KEYS[sight.key], asked_at=sym.PAUSED, answer=Verdict.ALIVE, last_alive=sym.PAUSED)
        seen = _sightings(sight, asked)
        return replace(seen, first_refused=NOW - self.policy.verify_for) if passed.verify and seen.first_refused else seen

    def _record(self, doc: int, passed: Passed, swept: tuple[int, ...] | None) -> Record:
        """The document's record with the instants of this passing of time."""
        key = (doc, passed.overlap, swept)
        found = self.records.get(key)
        if found is None:
            record = self.docs.docs[doc][0]
            assert record is not None
            levels = dict(passed.overlap)
            record = replace(record, keys=tuple(self._aged(k, levels.get(number(k.key_id), 0)) for k in record.keys))
            found = record if swept is None or not record.closed else sym.with_swept(record, swept)
            self.records[key] = found
        return found

    def _aged(self, entry: Any, level: int) -> Any:
        changes: dict[str, datetime] = {}
        if level and entry.retired_at is not None:
            changes["retired_at"] = NOW - (self.policy.overlap_min if level == 1 else self.policy.overlap_max)
        if level and entry.compromised_at is not None:
            changes["compromised_at"] = NOW - self.policy.leak_deadline
        return replace(entry, **changes) if changes else entry

    def _row(self, journal: Journal, key: int, revoked: bool, passed: Passed) -> Retirement:
        opened = NOW - (timedelta(0), self.policy.overlap_min, self.policy.overlap_max)[dict(passed.overlap).get(key, 0)]
        sight = journal.sight(key)
        asked = _asked(sight, passed, False)
        acknowledged = sym.AGED if key == passed.outlived else asked if sight.answer == ALIVE else _start(sight, asked)
        return Retirement("row", KEYS[key], Reason.REPLACED, opened, revoked_at=acknowledged if revoked else None)

    def _target(self, n: int, view: TargetView, passed: Passed) -> TargetFact:
        return TargetFact(
            name=f"t{n}",
            required=self.required[n],
            reachable=view.reachable,
            key_id=key_id(view.key),
            generation=None if view.generation == NONE else view.generation,
            level=Level.PLACED,
            since=NOW - self.policy.overlap_min if passed.settled else NOW,
        )


def _unique(reasons: list[Reason]) -> tuple[Reason, ...]:
    return tuple(dict.fromkeys(reasons))


def _decision_on(facts: Facts, key: int) -> do.Decision | None:
    return next((d for k, d in retirement.decide_retirements(facts, NOW) if number(k) == key), None)


@cache
def _memory(memory: Mem | None) -> Memory | None:
    if memory is None:
        return None
    swept = None if memory.swept is None else sym.SWEPT
    orphans = tuple(Orphan(KEYS[k], attempt_id(k)) for k in memory.orphans)
    return Memory(sym.UID, memory.generation, sym.PLACE, memory.recovered, swept, orphans)


@cache
def _rotation(rot: Rot | None) -> Rotation | None:
    if rot is None:
        return None
    return Rotation(
        id="rotation",
        reason=Reason.SCHEDULED,
        opened_at=sym.PROMOTED,
        replaces=key_id(rot.replaces),
        candidate=key_id(rot.candidate),
        emergency=rot.emergency,
        attempt=None if rot.attempt == NONE else attempt_id(rot.attempt),
        failures=rot.failures,
        preflight_at=NOW,
        abandon=rot.abandon,
    )


def _with_asked(sights: tuple[Sight, ...], passed: Passed) -> tuple[Sight, ...]:
    wanted = passed.asked if passed.outlived == NONE else passed.asked | {passed.outlived}
    if not wanted:
        return sights
    unseen = wanted - {s.key for s in sights}
    return (*sights, *(Sight(key, ALIVE, SEEN_BEFORE) for key in sorted(unseen)))


def _asked(sight: Sight, passed: Passed, is_current: bool) -> datetime:
    if sight.key in passed.asked:
        return sym.SOON
    return sym.PAUSED if is_current and passed.fresh and sight.answer == ALIVE else sym.LONG_AGO


def _start(sight: Sight, asked: datetime) -> datetime:
    """When the run of refusals began: at the acknowledged revoke, or right after the last alive answer."""
    return asked - timedelta(minutes=1 if sight.refusals == FEW else 10)


@cache
def _sightings(sight: Sight, asked: datetime) -> Sightings:
    """Instants of which every comparison that a decision makes comes out as the sight says."""
    if sight.alive == NOT_SEEN:
        alive = None
    elif sight.alive == SEEN_BEFORE:
        alive = sym.BEFORE
    else:
        alive = _start(sight, asked) if sight.answer == DEAD else asked
    since = None
    if alive is not None and sight.answer != DEAD:
        since = alive - timedelta(hours=1) if sight.spread else alive
    return Sightings(
        KEYS[sight.key],
        asked_at=asked,
        answer=(None, Verdict.ALIVE, Verdict.DEAD, Verdict.UNKNOWN)[sight.answer],
        last_alive=alive,
        alive_since=since,
        first_refused=asked if sight.answer == DEAD else None,
        refusals=_refusals(sight, asked),
        ever_refused=sight.ever,
        unknowns=1 if sight.answer == UNKNOWN else 0,
    )


def _refusals(sight: Sight, asked: datetime) -> tuple[datetime, ...]:
    if sight.refusals == NO_REFUSAL:
        return ()
    start = _start(sight, asked)
    last = asked if sight.beside else asked - timedelta(seconds=1)
    if sight.refusals == FEW:
        return (last,)
    between = 0 if sight.refusals == FEW_SPREAD else 8
    return (start, *(start + n * timedelta(minutes=1) for n in range(1, between + 1)), last)
