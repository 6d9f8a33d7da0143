"""One look at a credential: journal first, then the targets, the store last (L2). Reads only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from rotator.domain.credential import BoundTarget, Credential
from rotator.domain.errors import RotatorError
from rotator.domain.facts import AttemptView, Facts, Memory, Sightings, TargetFact
from rotator.domain.keys import KeyId, Kind
from rotator.domain.ports import (
    Clock,
    Holding,
    Issued,
    Issuer,
    Journal,
    Line,
    Observation,
    Placement,
    Recollection,
    SaveMemory,
    SavePlacement,
)
from rotator.domain.reasons import Reason
from rotator.domain.recalling import carry_on
from rotator.domain.record import KeyEntry, Record, Stage
from rotator.domain.retirement import ending_keys, is_outlived
from rotator.domain.secret import Secret
from rotator.domain.standing import is_clock_trusted
from rotator.domain.timing import catch_up

_OFFSET_BELIEVED = timedelta(seconds=90)
"""Longer than the minute that the probe before a routine revoke may be old (L19): no revoke gets by without a measurement."""
UNREADABLE = Holding(revision="unreadable")
PATIENCE = timedelta(minutes=5)
"""How long something that does not answer is waited for before a person is asked."""


@dataclass(frozen=True, slots=True)
class FailedPreflight:
    """Why nothing is minted for a credential."""

    at: datetime
    since: datetime
    text: str
    lasting: bool
    """a person must change something; else the world may be different in a moment"""
    reason: Reason = Reason.PREFLIGHT_FAILED
    until: datetime | None = None
    """when it is tried again: what it found holds until then, or a credential would be parked for a part of the time only"""


@dataclass(slots=True)
class Mind:
    """What one engine keeps in memory and may lose at any time: leases in hand, first sightings, witnesses, problems."""

    started_at: datetime
    lock: threading.Lock = field(default_factory=threading.Lock)
    in_hand: dict[str, str] = field(default_factory=dict)
    """credential → the attempt it opened, while its key is not in the store"""
    unstaged: dict[str, tuple[str, Issued]] = field(default_factory=dict, repr=False)
    """credential → that attempt, and the key it brought, which the store has yet to take"""
    barren: dict[str, str] = field(default_factory=dict)
    """credential → the attempt whose mint the issuer surely refused: it brought no key"""
    orphans_wait: dict[str, datetime] = field(default_factory=dict)
    """credential → not before then is the issuer bothered with its orphans again"""
    first_seen: dict[str, float] = field(default_factory=dict)
    """attempt → monotonic second in which it was first seen open"""
    witnesses: dict[Kind, tuple[str, KeyId, Secret]] = field(default_factory=dict)
    """kind → a key of some credential that answered alive"""
    clock_offset: timedelta | None = None
    """the service's clock minus ours, as last measured"""
    clock_measured: float = 0.0
    """the monotonic second of that measurement"""
    urgent: set[str] = field(default_factory=set)
    """credentials whose last look showed an emergency"""
    preflight: dict[str, FailedPreflight] = field(default_factory=dict)

    def measure_clock(self, offset: timedelta, monotonic: float) -> None:
        """Remember what a probe told of the clocks."""
        with self.lock:
            self.clock_offset, self.clock_measured = offset, monotonic

    def find_offset(self, monotonic: float) -> timedelta | None:
        """The last measurement while it is believed; after that the probe that precedes every revoke compares the clocks again."""
        with self.lock:
            return self.clock_offset if monotonic - self.clock_measured <= _OFFSET_BELIEVED.total_seconds() else None

    def attempt_age(self, attempt: str, monotonic: float) -> float:
        """Seconds since this process first saw the attempt open (L26)."""
        with self.lock:
            return monotonic - self.first_seen.setdefault(attempt, monotonic)

    def forget_attempt(self, credential: str, closed: str | None = None) -> None:
        """The lease in hand is used or given back, or an attempt is closed."""
        with self.lock:
            self.first_seen.pop(closed or self.in_hand.get(credential, ""), None)
            self.in_hand.pop(credential, None)
            self.unstaged.pop(credential, None)
            if closed is not None:
                self.barren.pop(credential, None)

    def keep_unstaged(self, credential: str, attempt: str, issued: Issued) -> None:
        """The attempt brought a key that is nowhere else yet."""
        with self.lock:
            self.unstaged[credential] = (attempt, issued)

    def find_unstaged(self, credential: str, attempt: str) -> Issued | None:
        """The key that an attempt brought, while it is in memory alone."""
        with self.lock:
            of, issued = self.unstaged.get(credential, ("", None))
            return issued if of == attempt else None

    def give_back(self, credential: str, attempt: str) -> None:
        """The issuer refused: the lease in hand is of no use, and no key came of it."""
        with self.lock:
            self.in_hand.pop(credential, None)
            self.barren[credential] = attempt


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
class Sight:
    """What was read outside of the journal: the targets, then the store."""

    targets: Mapping[str, tuple[Observation | None, str]]
    """target → what it holds (None: it could not be asked), and what is wrong with it"""
    holding: Holding
    error: str = ""
    """why the store could not be read"""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look showed: facts for the decision, and what only a step may touch."""

    credential: Credential
    facts: Facts
    known: Recollection
    """what the journal told"""
    sight: Sight
    placements: tuple[Placement, ...]
    """as they should stand in the journal"""
    unwritten: tuple[Line, ...]
    """what the journal is yet to be told: what the look itself taught, and what steps brought since"""

    @property
    def holding(self) -> Holding:
        """What the store holds."""
        return self.sight.holding

    @property
    def error(self) -> str:
        """Why the store could not be read; empty: it could."""
        return self.sight.error

    @property
    def observations(self) -> Mapping[str, Observation]:
        """Target → what it holds, of those that could be asked."""
        return {name: observation for name, (observation, _) in self.sight.targets.items() if observation is not None}

    @property
    def is_remembered(self) -> bool:
        """Whether a target answered from memory."""
        return any(observation.remembered for observation in self.observations.values())

    @property
    def problems(self) -> Mapping[str, str]:
        """Target → what is wrong with it, in words."""
        return {name: text for name, (_, text) in self.sight.targets.items() if text}

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
    find_issuer: Callable[[str], Issuer | None] = lambda _name: None

    def look(self, credential: Credential, *, fresh: bool = False) -> Look:
        """Gather the facts about one credential. `fresh`: from the targets themselves, whatever they remember."""
        known = self.journal.recall(credential.name)
        sight = self._see(credential, known, fresh=fresh)
        look = self._build(credential, known, sight)
        look = replace(look, facts=replace(look.facts, held_elsewhere=self._held_elsewhere(credential, look.facts)))
        return replace(look, unwritten=_taught(look))

    def carry_on(self, look: Look, lines: Iterable[Line]) -> Look:
        """The same look, with what a step brought for the journal since. Nobody is asked again: fit to decide on rest, not on an effect."""
        unwritten = (*look.unwritten, *lines)
        again = self._build(look.credential, carry_on(look.known, unwritten), look.sight)
        facts = replace(again.facts, held_elsewhere=look.facts.held_elsewhere)
        return replace(again, facts=facts, known=look.known, unwritten=unwritten)

    def _see(self, credential: Credential, known: Recollection, *, fresh: bool) -> Sight:
        seen = {bound.name: self._observe(credential, bound, fresh=fresh) for bound in credential.targets}
        try:
            holding = credential.store.read(credential.path)
        except RotatorError as problem:
            return Sight(seen, UNREADABLE, str(problem))
        if credential.read_only:
            # Whoever writes there may keep a record of his own.
            holding = replace(holding, record=_build_unwritten(known.memory, credential.policy.installation))
        return Sight({name: _recognised(*one, holding.record) for name, one in seen.items()}, holding)

    def _build(self, credential: Credential, known: Recollection, sight: Sight) -> Look:
        now, seen, record = self.clock.now(), sight.targets, sight.holding.record
        placements = tuple(_place(bound, seen[bound.name], known, now, record) for bound in credential.targets)
        failed = self._failed_preflight(credential, now)
        facts = Facts(
            policy=credential.policy,
            place=credential.place,
            readable=sight.holding is not UNREADABLE,
            record=record,
            current=sight.holding.current,
            memory=_risen(known.memory, record),
            rotation=known.rotation,
            retirements=known.retirements,
            sightings=known.sightings,
            targets=tuple(_target_fact(b, seen[b.name][0], p) for b, p in zip(credential.targets, placements, strict=True)),
            attempt=self._attempt(credential, known, record),
            due_at=self._due_at(credential, known, record),
            clock_trusted=is_clock_trusted(self.mind.find_offset(self.clock.monotonic()), known.newest_line, now),
            preflight_problem=failed.text if failed is not None else None,
            preflight_lasts=failed is not None and (failed.lasting or failed.since + PATIENCE < now),
            preflight_reason=failed.reason if failed is not None else Reason.PREFLIGHT_FAILED,
            orphans_wait=self.mind.orphans_wait.get(credential.name, now) > now,
            witness=self._witness(credential),
        )
        revocable = frozenset(entry.key_id for entry in ending_keys(facts) if self._can_revoke(credential, entry))
        return Look(credential, replace(facts, revocable=revocable), known, sight, placements, ())

    def _observe(self, credential: Credential, bound: BoundTarget, *, fresh: bool) -> tuple[Observation | None, str]:
        try:
            observation = bound.target.observe(credential.name, fresh=fresh)
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
            barren=self.mind.barren.get(credential.name) == attempt,
            unstaged=self.mind.find_unstaged(credential.name, attempt) is not None,
        )

    def _due_at(self, credential: Credential, known: Recollection, record: Record | None) -> datetime | None:
        current = record.current if record else None
        if current is None or record is None or credential.read_only:
            return None
        since = max(current.minted_at, current.promoted_at or current.minted_at)
        due, expiry = credential.next_rotation(since, record.uid), credential.expiry(current.minted_at)
        if due is not None and expiry is not None and due > expiry:
            # It was promoted long after it was minted (a rollback, a key from outside): half of its remaining life.
            due = since + max(expiry - since, timedelta(0)) / 2
        if due is None or due >= self.mind.started_at:
            return due
        # Missed while nobody ran: made up for now, but not by all credentials in the same second. A choice once made is kept.
        started, over = self.mind.started_at, self.timing.catch_up
        if known.next_rotation_at is not None and due < known.next_rotation_at <= started + over:
            return known.next_rotation_at
        return catch_up(credential.schedule, current.minted_at, record.uid, started, over)

    def _failed_preflight(self, credential: Credential, now: datetime) -> FailedPreflight | None:
        failed = self.mind.preflight.get(credential.name)
        if failed is None:
            return None
        if credential.name in self.mind.urgent:
            stands = failed.at + min(self.timing.recheck, self.timing.urgent_cap)
        else:
            stands = max(failed.at + self.timing.recheck, failed.until or failed.at)
        return failed if stands > now else None

    def _held_elsewhere(self, credential: Credential, facts: Facts) -> frozenset[KeyId]:
        """L19, from fresh reads of every credential that the journal's index names."""
        held = set()
        for entry in ending_keys(facts):
            row = facts.retirement(entry.key_id)
            if row is not None and row.revoked_at is not None and not is_outlived(facts, row):
                continue  # it is asked before a revoke; afterwards only the proof of death is left
            for name in self.journal.find_holders(entry.key_id, any_stage=entry.doomed_at is not None):
                other = self.find_credential(name) if name != credential.name else None
                if other is not None and _needs(other, entry):
                    held.add(entry.key_id)
        return frozenset(held)

    def _can_revoke(self, credential: Credential, entry: KeyEntry) -> bool:
        """L5, L21: by who minted it, which need not be today's issuer; one that left the configuration revokes nothing."""
        own = entry.issuer is None or entry.issuer == credential.issuer_name
        issuer = credential.issuer if own or entry.issuer is None else self.find_issuer(entry.issuer)
        return issuer is not None and issuer.abilities.revoke

    def _witness(self, credential: Credential) -> KeyId | None:
        known = self.mind.witnesses.get(credential.policy.kind)
        return known[1] if known is not None and known[0] != credential.name else None


def _taught(look: Look) -> tuple[Line, ...]:
    """What the look itself taught the journal: where targets stand, and that the generation rose."""
    before = {p.target: p for p in look.known.placements}
    lines: list[Line] = [SavePlacement(p) for p in look.placements if before.get(p.target) != p]
    if look.facts.memory is not None and look.facts.memory is not look.known.memory:
        lines.append(SaveMemory(look.facts.memory))
    return tuple(lines)


def _risen(memory: Memory | None, record: Record | None) -> Memory | None:
    """What the journal remembers, with the generation that a sibling may have raised."""
    if memory is None or record is None or record.uid != memory.uid or record.generation <= memory.generation:
        return memory
    return replace(memory, generation=record.generation)


def _needs(other: Credential, ending: KeyEntry) -> bool:
    """L19: whether another credential needs a key that must die in this one.

    Where it is to be doomed: while it is current or pending there. Where it is to be revoked: until it is doomed there too, since its
    consumers there have an overlap and receipts of their own. Each dooms by itself, so neither waits for the other for ever.
    """
    try:
        holding = other.store.read(other.path)
    except RotatorError:
        return True  # it cannot be ruled out, so the key lives
    if holding.current == ending.key_id:
        return True
    entry = holding.record.find(ending.key_id) if holding.record and not other.read_only else None
    if entry is None:
        return False
    return entry.stage in (Stage.CURRENT, Stage.PENDING) or (ending.doomed_at is not None and entry.doomed_at is None)


def _build_unwritten(memory: Memory | None, installation: str) -> Record | None:
    """L30: the record of a credential whose store is only read, as the journal remembers it. *Vacant* where the next key is to be taken."""
    if memory is None or memory.generation == 0:
        return None
    adopted = memory.adopted
    if adopted is None:
        return Record(uid=memory.uid, installation=installation, generation=memory.generation, vacant=True)
    entry = KeyEntry(adopted.key_id, Stage.CURRENT, adopted.minted_at, generation=memory.generation, promoted_at=adopted.at)
    return Record(uid=memory.uid, installation=installation, generation=memory.generation, keys=(entry,))


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
    failing = same and before is not None and before.failures > 0 and observation.problem is None
    return Placement(
        target=bound.name,
        key_id=observation.key_id,
        since=before.since if before is not None and same else now,
        generation=generation,
        failures=before.failures if before else 0,
        retry_at=before.retry_at if before else None,
        problem=before.problem if failing and before is not None else observation.problem,
        text=before.text if failing and before is not None else text,
    )


def _recognised(observation: Observation | None, text: str, record: Record | None) -> tuple[Observation | None, str]:
    """A key of this credential that the target has no note of is no stranger: a sibling wrote it, or we did and died before the note."""
    if observation is None or observation.problem is not Reason.FOREIGN_ENTRY or record is None:
        return observation, text
    if observation.key_id is None or record.find(observation.key_id) is None:
        return observation, text
    return replace(observation, problem=None, text=""), ""


def _target_fact(bound: BoundTarget, observation: Observation | None, placement: Placement) -> TargetFact:
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
        problem=observation.problem if observation is not None else None,
        retry_at=placement.retry_at,
        stuck=observation.text if observation is not None and observation.stuck else "",
    )


def find_sightings(sightings: Iterable[Sightings], key_id: KeyId) -> Sightings:
    """What probes have told of a key; empty if it was never probed."""
    return next((s for s in sightings if s.key_id == key_id), Sightings(key_id))
