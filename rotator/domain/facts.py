"""What was observed of one credential, frozen: the input of every decision. Holds no secret and no clock.

Facts come from three places, read in this order so that a stale read of the store never "corrects" a newer target (L2): the journal
(what we did and saw before), the targets (what consumers hold now), the store (what is true about keys).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from rotator.domain.keys import KeyId, Kind
from rotator.domain.reasons import Reason
from rotator.domain.record import Orphan, Record


class Verdict(StrEnum):
    """What a probe found out (L10). Never a boolean."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class Level(StrEnum):
    """What a receipt states (L16)."""

    PLACED = "placed"
    """the bytes are there"""
    IN_USE = "in-use"
    """the consumer works with it"""


class AtDeadline(StrEnum):
    """What happens at `overlap.max` while a required target is behind (L18)."""

    PARK = "park"
    REVOKE = "revoke"


class WithoutReplacement(StrEnum):
    """What happens to a leaked key at the leak deadline while no replacement is promoted (L23)."""

    HOLD = "hold"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the user wants for a credential, and what its issuer can do."""

    installation: str
    kind: Kind
    overlap_min: timedelta = timedelta(hours=1)
    overlap_max: timedelta = timedelta(days=7)
    cache_time: timedelta = timedelta(minutes=5)
    """how long the service may go on accepting (or refusing) a key that it has cached"""
    verify_for: timedelta = timedelta(minutes=20)
    leak_deadline: timedelta = timedelta(minutes=10)
    without_replacement: WithoutReplacement = WithoutReplacement.HOLD
    at_deadline: AtDeadline = AtDeadline.PARK
    allowed_tools: frozenset[str] = frozenset()
    can_mint: bool = True
    can_list: bool = True
    can_revoke: bool = True
    fresh: timedelta = timedelta(seconds=60)
    """how old a sighting of the current key may be when another is revoked (L19)"""
    max_failures: int = 3
    sweep_every: timedelta = timedelta(hours=1)

    @property
    def probe_pause(self) -> timedelta:
        """The time between two probes of one key: ten fit into the cache time."""
        return self.cache_time / 10


_REFUSALS_KEPT = 40


@dataclass(frozen=True, slots=True)
class Sightings:
    """What probes have told of one key so far."""

    key_id: KeyId
    asked_at: datetime | None = None
    answer: Verdict | None = None
    last_alive: datetime | None = None
    alive_since: datetime | None = None
    """start of the unbroken run of *alive* that `last_alive` ends; None after a refusal"""
    first_refused: datetime | None = None
    """the first refusal since it was last alive"""
    refusals: tuple[datetime, ...] = ()
    """refusals since it was last alive that a witness stood beside (L20); the first and the latest ones"""
    ever_refused: bool = False
    unknowns: int = 0
    """unknown answers in a row"""
    tools: tuple[str, ...] | None = None
    """the tools it listed when it last said so (L12); None: it never did"""

    def after(self, answer: Verdict, at: datetime, *, witnessed: bool, tools: tuple[str, ...] | None = None) -> Sightings:
        """These sightings with one more answer. Pure."""
        if answer is Verdict.ALIVE:
            return replace(
                self,
                asked_at=at,
                answer=answer,
                last_alive=at,
                alive_since=self.alive_since or at,
                first_refused=None,
                refusals=(),
                unknowns=0,
                tools=self.tools if tools is None else tools,
            )
        if answer is Verdict.UNKNOWN:
            return replace(self, asked_at=at, answer=answer, unknowns=self.unknowns + 1)
        refusals = (*self.refusals, at) if witnessed else self.refusals
        if len(refusals) > _REFUSALS_KEPT:
            refusals = (refusals[0], *refusals[-_REFUSALS_KEPT + 1 :])
        first = self.first_refused or at
        return replace(
            self,
            asked_at=at,
            answer=answer,
            alive_since=None,
            first_refused=first,
            refusals=refusals,
            ever_refused=True,
            unknowns=0,
        )


@dataclass(frozen=True, slots=True)
class TargetFact:
    """What one target holds, and since when."""

    name: str
    required: bool = True
    reachable: bool = True
    key_id: KeyId | None = None
    """the key that it holds now; None: none of ours, or unknown because it is unreachable"""
    generation: int | None = None
    """the generation that its own record names, where it keeps one"""
    level: Level = Level.PLACED
    best_level: Level = Level.PLACED
    """the highest level that this target can know"""
    since: datetime | None = None
    """since when it was seen to hold `key_id` without a break"""
    settle: timedelta | None = None
    """how long after *placed* its consumer may still work with the old key; None: `overlap.min`"""
    problem: Reason | None = None
    retry_at: datetime | None = None
    """not before then, after a failed delivery"""
    stuck: str = ""
    """why its consumers will not come to use the key without a person; empty: they do, or are on the way"""


@dataclass(frozen=True, slots=True)
class Rotation:
    """An open rotation, as the journal knows it. Its phase is derived (`rotation.phase_of`)."""

    id: str
    reason: Reason
    opened_at: datetime
    replaces: KeyId | None
    """the current key when it was opened: another current key means that it is fulfilled or overtaken"""
    candidate: KeyId | None = None
    """a rollback's key"""
    emergency: bool = False
    attempt: str | None = None
    """the attempt that this journal opened last"""
    failures: int = 0
    """attempts in a row that brought no usable key"""
    lost_mints: int = 0
    retry_at: datetime | None = None
    preflight_at: datetime | None = None
    abandon: bool = False
    """a person gave it up"""


@dataclass(frozen=True, slots=True)
class Retirement:
    """The open end of one key, as the journal knows it."""

    id: str
    key_id: KeyId
    why: Reason
    opened_at: datetime
    revoked_at: datetime | None = None
    """when the revoke was acknowledged, or a person said that it is done"""
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Adopted:
    """The current key of a credential whose store is only read (L30): what a record would say of it."""

    key_id: KeyId
    minted_at: datetime
    at: datetime
    """since when it counts as current"""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the journal remembers of a credential beyond its open processes."""

    uid: str
    generation: int
    """the highest ever seen (L2)"""
    place: str
    """store and path"""
    recovered: bool = False
    """the journal began over an existing record and no person has accepted it yet (L29)"""
    swept_at: datetime | None = None
    orphans: tuple[Orphan, ...] = ()
    """found by the last sweep, not yet doomed"""
    adopted: Adopted | None = None
    """of a credential whose store is only read"""


@dataclass(frozen=True, slots=True)
class AttemptView:
    """How this replica sees the open attempt."""

    in_hand: bool
    """this process opened it and is yet to ask the issuer, or to lay what it answered into the store"""
    ours: bool
    """this journal opened it"""
    expired: bool
    """this process has seen it open for longer than the lease, on its own monotonic clock (L26)"""
    barren: bool = False
    """the issuer surely refused its mint: no key came of it"""
    unstaged: bool = False
    """its key is in this process' memory and nowhere else"""


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a decision about one credential may depend on."""

    policy: Policy
    place: str
    readable: bool = True
    """False: the store did not answer"""
    record: Record | None = None
    current: KeyId | None = None
    """the key that consumers find at the store's place; differs from the record's where someone wrote from outside"""
    memory: Memory | None = None
    rotation: Rotation | None = None
    retirements: tuple[Retirement, ...] = ()
    sightings: tuple[Sightings, ...] = ()
    targets: tuple[TargetFact, ...] = ()
    attempt: AttemptView | None = None
    due_at: datetime | None = None
    clock_trusted: bool = True
    held_elsewhere: frozenset[KeyId] = frozenset()
    """keys of ours that another credential holds as current or pending (L19)"""
    witness: KeyId | None = None
    """a known-alive key of another credential at the same endpoint, for when there is no current key (L20)"""
    preflight_problem: str | None = None
    preflight_lasts: bool = False
    """it does not go away by itself, or has not for minutes"""
    preflight_reason: Reason = Reason.PREFLIGHT_FAILED
    """what to park for: an issuer that waits for a person has its own word"""
    revocable: frozenset[KeyId] | None = None
    """of the keys that must die those whose own issuer can revoke; None: as the policy says"""
    orphans_wait: bool = False
    """the issuer failed to list or to end orphans a moment ago: everything else goes on meanwhile"""

    def can_revoke(self, key_id: KeyId) -> bool:
        """Whether the issuer that minted a key, which need not be today's, can revoke it (L5, L21)."""
        return self.policy.can_revoke if self.revocable is None else key_id in self.revocable

    def seen(self, key_id: KeyId) -> Sightings:
        """What probes have told of a key; empty if it was never probed."""
        return next((s for s in self.sightings if s.key_id == key_id), Sightings(key_id))

    def retirement(self, key_id: KeyId) -> Retirement | None:
        """The open retirement of a key."""
        return next((r for r in self.retirements if r.key_id == key_id), None)
