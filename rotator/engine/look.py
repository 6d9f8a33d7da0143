"""One look at a credential: journal first, then the targets, the store last (L2). Reads only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from rotator.domain.credential import BoundTarget, Credential
from rotator.domain.errors import RotatorError
from rotator.domain.facts import AttemptView, Facts, Sightings, TargetFact
from rotator.domain.keys import KeyId, Kind
from rotator.domain.ports import Clock, Holding, Journal, Observation, Placement, Recollection
from rotator.domain.reasons import Reason
from rotator.domain.record import Record, Stage
from rotator.domain.retirement import ending_keys
from rotator.domain.secret import Secret
from rotator.domain.standing import is_clock_trusted
from rotator.domain.timing import spread

UNREADABLE = Holding(revision="unreadable")


@dataclass(slots=True)
class Mind:
    """What one engine keeps in memory and may lose at any time: leases in hand, first sightings, witnesses, problems."""

    started_at: datetime
    lock: threading.Lock = field(default_factory=threading.Lock)
    in_hand: dict[str, str] = field(default_factory=dict)
    """credential → the attempt it opened and has not yet used"""
    first_seen: dict[str, float] = field(default_factory=dict)
    """attempt → monotonic second in which it was first seen open"""
    witnesses: dict[Kind, tuple[str, KeyId, Secret]] = field(default_factory=dict)
    """kind → a key of some credential that answered alive"""
    clock_offset: timedelta | None = None
    preflight: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    """credential → when its preflight failed, and why"""

    def attempt_age(self, attempt: str, monotonic: float) -> float:
        """Seconds since this process first saw the attempt open (L26)."""
        with self.lock:
            return monotonic - self.first_seen.setdefault(attempt, monotonic)

    def forget_attempt(self, credential: str) -> None:
        """The lease in hand is used or given back."""
        with self.lock:
            attempt = self.in_hand.pop(credential, None)
            if attempt is not None:
                self.first_seen.pop(attempt, None)


@dataclass(frozen=True, slots=True)
class Timing:
    """How patient an engine is."""

    lease: timedelta = timedelta(seconds=60)
    """an attempt that stays open for longer is taken over"""
    catch_up: timedelta = timedelta(minutes=10)
    """rotations missed while the daemon was down are spread over this long"""
    recheck: timedelta = timedelta(seconds=30)
    """how often something outside that holds a credential up is looked at again"""
    resync: timedelta = timedelta(hours=1)
    """how often an idle credential's targets and store are looked at"""
    attempt_base: timedelta = timedelta(seconds=5)
    """the pause after a rotation's first failed attempt; doubled after each further one"""
    attempt_cap: timedelta = timedelta(hours=1)
    step_base: timedelta = timedelta(seconds=1)
    """the pause after a step that failed for the world's sake; doubled after each further failure"""
    step_cap: timedelta = timedelta(minutes=5)
    urgent_cap: timedelta = timedelta(seconds=5)
    """the longest pause between two tries in an emergency"""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look showed: facts for the decision, and what only a step may touch."""

    credential: Credential
    facts: Facts
    holding: Holding
    observations: Mapping[str, Observation]
    placements: tuple[Placement, ...]
    """as they should stand in the journal"""
    moved: tuple[Placement, ...]
    """those of them that differ from what stands there"""
    problems: Mapping[str, str]
    """target → what is wrong with it, in words"""
    error: str = ""
    """why the store could not be read"""

    def secret(self, key_id: KeyId) -> Secret | None:
        """The secret of a key that the store holds."""
        return self.holding.secrets.get(key_id)


@dataclass(frozen=True, slots=True)
class Observer:
    """Looks at credentials. Everything it needs is given; it keeps nothing but `mind`."""

    journal: Journal
    clock: Clock
    mind: Mind
    timing: Timing
    find_credential: Callable[[str], Credential | None]

    def look(self, credential: Credential) -> Look:
        """Gather the facts about one credential."""
        known = self.journal.recall(credential.name)
        seen = {bound.name: self._observe(credential, bound) for bound in credential.targets}
        error = ""
        readable = True
        try:
            holding = credential.store.read(credential.path)
        except RotatorError as problem:
            holding, readable, error = UNREADABLE, False, str(problem)
        now = self.clock.now()
        placements = tuple(_place(bound, seen[bound.name], known, now, holding.record) for bound in credential.targets)
        facts = Facts(
            policy=credential.policy,
            place=credential.place,
            readable=readable,
            record=holding.record,
            current=holding.current,
            memory=known.memory,
            rotation=known.rotation,
            retirements=known.retirements,
            sightings=known.sightings,
            targets=tuple(_target_fact(b, seen[b.name][0], p, holding.record) for b, p in zip(credential.targets, placements, strict=True)),
            attempt=self._attempt(credential, known, holding.record),
            due_at=self._due_at(credential, known, holding.record),
            clock_trusted=is_clock_trusted(self.mind.clock_offset, known.newest_line, now),
            preflight_problem=self._preflight_problem(credential, now),
        )
        facts = replace(facts, held_elsewhere=self._held_elsewhere(credential, facts), witness=self._witness(credential))
        before = {p.target: p for p in known.placements}
        moved = tuple(p for p in placements if before.get(p.target) != p)
        problems = {name: text for name, (_, text) in seen.items() if text}
        observations = {name: o for name, (o, _) in seen.items() if o is not None}
        return Look(credential, facts, holding, observations, placements, moved, problems, error)

    def _observe(self, credential: Credential, bound: BoundTarget) -> tuple[Observation | None, str]:
        try:
            observation = bound.target.observe(credential.name)
        except RotatorError as problem:
            return None, str(problem)
        return observation, observation.text

    def _attempt(self, credential: Credential, known: Recollection, record: Record | None) -> AttemptView | None:
        if record is None or record.attempt is None:
            return None
        attempt = record.attempt.id
        age = self.mind.attempt_age(attempt, self.clock.monotonic())
        return AttemptView(
            in_hand=self.mind.in_hand.get(credential.name) == attempt,
            ours=known.rotation is not None and known.rotation.attempt == attempt,
            expired=age >= self.timing.lease.total_seconds(),
        )

    def _due_at(self, credential: Credential, known: Recollection, record: Record | None) -> datetime | None:
        current = record.current if record else None
        if current is None or record is None or known.rotation is not None or credential.read_only:
            return None
        due = credential.next_rotation(max(current.minted_at, current.promoted_at or current.minted_at), record.uid)
        if due is not None and due < self.mind.started_at:
            # Missed while nobody ran: made up for now, but not by all credentials in the same second.
            return spread(record.uid, self.mind.started_at, self.timing.catch_up)
        return due

    def _preflight_problem(self, credential: Credential, now: datetime) -> str | None:
        failed = self.mind.preflight.get(credential.name)
        return failed[1] if failed is not None and failed[0] + self.timing.recheck > now else None

    def _held_elsewhere(self, credential: Credential, facts: Facts) -> frozenset[KeyId]:
        """L19, from fresh reads of every credential that the journal's index names."""
        held = set()
        for entry in ending_keys(facts):
            row = facts.retirement(entry.key_id)
            if row is not None and row.revoked_at is not None:
                continue  # it is asked before a revoke; afterwards only the proof of death is left
            for name in self.journal.find_holders(entry.key_id):
                other = self.find_credential(name) if name != credential.name else None
                if other is not None and _holds(other, entry.key_id):
                    held.add(entry.key_id)
        return frozenset(held)

    def _witness(self, credential: Credential) -> KeyId | None:
        known = self.mind.witnesses.get(credential.policy.kind)
        return known[1] if known is not None and known[0] != credential.name else None


def _holds(credential: Credential, key_id: KeyId) -> bool:
    try:
        holding = credential.store.read(credential.path)
    except RotatorError:
        return True  # it cannot be ruled out, so the key lives
    entry = holding.record.find(key_id) if holding.record else None
    return holding.current == key_id or (entry is not None and entry.stage in (Stage.CURRENT, Stage.PENDING))


def _place(
    bound: BoundTarget, seen: tuple[Observation | None, str], known: Recollection, now: datetime, record: Record | None
) -> Placement:
    before = next((p for p in known.placements if p.target == bound.name), None)
    observation, text = seen
    if observation is None:
        # Unreachable: what it held is not known to have changed, and not known to be there.
        return (
            replace(before, problem=Reason.UNREACHABLE, text=text)
            if before
            else Placement(bound.name, None, now, problem=Reason.UNREACHABLE)
        )
    generation = observation.generation
    if generation is None and record is not None and observation.key_id is not None:
        entry = record.find(observation.key_id)
        generation = entry.generation if entry else None
    same = before is not None and before.key_id == observation.key_id
    return Placement(
        target=bound.name,
        key_id=observation.key_id,
        since=before.since if before is not None and same else now,
        generation=generation,
        failures=before.failures if before else 0,
        retry_at=before.retry_at if before else None,
        problem=observation.problem,
        text=text,
    )


def _target_fact(bound: BoundTarget, observation: Observation | None, placement: Placement, record: Record | None) -> TargetFact:
    problem = observation.problem if observation is not None else None
    if problem is Reason.FOREIGN_ENTRY and record is not None and placement.key_id is not None and record.find(placement.key_id):
        problem = None  # a sibling daemon wrote it: the key is this credential's
    return TargetFact(
        name=bound.name,
        required=bound.required,
        reachable=observation is not None,
        key_id=placement.key_id if observation is not None else None,
        generation=placement.generation,
        level=observation.level if observation is not None else bound.target.best_level,
        best_level=bound.target.best_level,
        since=placement.since,
        settle=bound.settle,
        problem=problem,
        retry_at=placement.retry_at,
    )


def find_sightings(sightings: Iterable[Sightings], key_id: KeyId) -> Sightings:
    """What probes have told of a key; empty if it was never probed."""
    return next((s for s in sightings if s.key_id == key_id), Sightings(key_id))
