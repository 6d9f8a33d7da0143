"""The contracts that everyone else fulfils: store, issuer, target, probe, journal, clock.

Five verbs at most each, and what a kind can't do it says in its abilities; it never pretends. "Absent" and "unreachable" are different:
absence is data, not being able to look is `Unreachable`. All calls block, are safe to call from several threads, and end by themselves
(every remote call has a time limit of at most 10 s, so that a step in hand ends within 30 s, L25).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from rotator.domain.facts import Level, Memory, Retirement, Rotation, Sightings, Verdict
from rotator.domain.keys import KeyId, Kind
from rotator.domain.reasons import Reason
from rotator.domain.record import Change, Record, Spare
from rotator.domain.secret import Secret


class Clock(Protocol):
    """Time, injected. Tests own it."""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary start."""


@dataclass(frozen=True, slots=True)
class Holding:
    """What a store holds at one path, read at one moment."""

    revision: str
    """opaque; a commit is conditional on it. Differs after every change, and for "absent" """
    record: Record | None = None
    current: KeyId | None = None
    """the key that consumers find at the path; equals the record's unless someone wrote from outside"""
    current_since: datetime | None = None
    """when that key was written, where the store can tell"""
    secrets: Mapping[KeyId, Secret] = field(default_factory=dict, compare=False)
    """of every stage, and of `current`"""


@dataclass(frozen=True, slots=True)
class Access:
    """What a store lets us do at one path, or a target at its places, by its own word."""

    missing: tuple[str, ...] = ()
    """what is needed and not allowed, in a phrase each"""
    policy: str = ""
    """the least that allows everything, in its own form, ready to paste; empty where it has no such thing"""


@runtime_checkable
class Store(Protocol):
    """The durable home of credentials' keys. Compare-and-set everywhere."""

    def read(self, path: str) -> Holding:
        """What the path holds; nothing there is a `Holding` without record and current. Raises `Unreachable`."""

    def commit(self, path: str, seen: Holding, change: Change) -> Holding:
        """Apply one change to what was seen, or nothing.

        Raises `Conflict` (someone else wrote since `seen`), `IllegalTransition` (the record forbids it), `AnswerLost` (it may have been
        applied: read again), `Unreachable`. Not idempotent by itself: the revision makes a second try fail.
        """

    def check(self, path: str) -> None:
        """Preflight: raises what a commit would raise now (`Unreachable`, `Refused`), and writes nothing."""

    def list_marks(self, paths: Sequence[str]) -> Mapping[str, str]:
        """Path → something opaque that differs after every change of what consumers find there; absent paths are left out.

        Cheap enough to be asked every minute: reads no secret. Raises `Unreachable`.
        """

    def find_access(self, path: str, *, writes: bool) -> Access:
        """What is missing to read, and where `writes` to commit, at the path. Changes nothing. Raises `Unreachable`."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What an issuer can do."""

    mint: bool = True
    list: bool = True
    revoke: bool = True


def _nobody(_key_id: KeyId) -> str | None:
    return None


@dataclass(frozen=True, slots=True)
class MintOrder:
    """What a new key should be."""

    label: str
    """`installation/uid/attempt`; the issuer keeps it with the key"""
    kind: Kind
    env: str
    project: str | None = None
    credential: str = ""
    """whose key it will be"""
    find_holder: Callable[[KeyId], str | None] = field(default=_nobody, compare=False)
    """the credential that is known to hold a key already, in whatever stage: no such key is given out again"""


@dataclass(frozen=True, slots=True)
class Issued:
    """A key that was just born. Its secret is shown once."""

    secret: Secret
    reference: str | None
    minted_at: datetime


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key as the issuer lists it."""

    key_id: KeyId
    label: str
    reference: str | None
    revoked: bool
    secret: Secret | None = None
    """where the issuer still has it: a lost key can then be watched until it is dead, whoever ends it"""


@runtime_checkable
class Issuer(Protocol):
    """What brings keys to life and ends them."""

    @property
    def abilities(self) -> Abilities:
        """What this issuer can do; asking for more raises `Refused`."""

    def mint(self, order: MintOrder) -> Issued:
        """A new key with the order's label. Never repeated by itself. Raises `AnswerLost` where it may have been minted, `Unreachable`
        where it surely was not, `RateLimited`, `Refused`, `NeedsHuman` (parks), `KeyWanted` (nothing was done, a person must bring one)."""

    def list_labelled(self, prefix: str, credential: str = "") -> Sequence[ListedKey]:
        """Every key whose label starts so, revoked ones too. Reads only; repeated where an answer is lost.

        `credential`: whose they are, where that is known; who keeps each credential's keys apart need look nowhere else.
        """

    def revoke(self, key_id: KeyId, reference: str | None) -> None:
        """End a key. Idempotent: revoking a revoked or unknown key is success. Raises `AnswerLost`, `Unreachable`, `RateLimited`."""

    def settle(self, label: str, credential: str = "") -> None:
        """The key minted under that label stands in its credential's record: what was kept to find it again may go.

        Idempotent; an unknown label is success. `credential` as of `list_labelled`. Raises `AnswerLost`, `Unreachable`, `Conflict`.
        """

    def check(self, order: MintOrder) -> None:
        """Preflight: raises what this mint would raise now, and mints nothing."""


@dataclass(frozen=True, slots=True)
class Supplies:
    """What people brought for an issuer that makes no keys itself."""

    spares: tuple[Spare, ...]
    usable: tuple[KeyId, ...]
    """those that may still be given out: neither reserved nor too old"""
    low_water: int = 0
    """people are told when fewer than this are usable"""


@runtime_checkable
class Supplied(Protocol):
    """Beside `Issuer`, of one that gives out keys that people bring. Each key is verified before it is added."""

    @property
    def is_shared(self) -> bool:
        """Whether all its credentials draw from one lot; else each has its own, and a key is brought for one of them by name."""

    def add(self, credential: str, secret: Secret, by: str, project: str | None) -> None:
        """Lay a key down (of a shared lot: whatever the credential). Raises `Refused` for one that is there already, `Unreachable`."""

    def find_secret(self, credential: str, key_id: KeyId) -> Secret | None:
        """The secret of a key that was brought and has not left yet. Raises `Unreachable`, `NeedsHuman`."""

    def strike(self, credential: str, key_id: KeyId, label: str) -> Secret:
        """Take one key out of what may be given out, for good; it stays, under that label, until it is settled. Idempotent.

        Raises `Refused` where it is not there or was taken for an attempt, `AnswerLost`, `Unreachable`.
        """

    def read_supplies(self, credential: str) -> Supplies:
        """What there is now. Raises `Unreachable`, `NeedsHuman`."""

    def find_usable(self) -> int | None:
        """How many keys could be given out when it was last looked; None: not looked yet, or it is not one lot. Never blocks."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a target is brought to."""

    credential: str
    secret: Secret
    generation: int
    endpoint: str
    """the MCP URL that takes this kind of key"""
    ours: frozenset[KeyId] = frozenset()
    """every key of this credential that the store knows: found in a target, it may be replaced"""
    rotation: str | None = None
    """the id of the open rotation; None: the target is brought up to date outside of one"""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a target holds, read at one moment."""

    revision: str
    """opaque; a delivery is conditional on it where the target can do that"""
    key_id: KeyId | None = None
    generation: int | None = None
    """by the target's own record, where it keeps one"""
    level: Level = Level.PLACED
    problem: Reason | None = None
    """why nothing can be delivered here, although it can be read"""
    text: str = ""
    """the problem in a sentence, with what to do"""
    stuck: bool = False
    """the key is placed, and its consumers will not come to use it without a person; `text` says why"""
    remembered: bool = False
    """from memory that the target keeps up to date, not asked for now: too little to end a key on"""


@runtime_checkable
class Target(Protocol):
    """A place where consumers read."""

    @property
    def best_level(self) -> Level:
        """The highest level of receipt that this kind of target can know (L16)."""

    @property
    def activation(self) -> str:
        """When consumers work with a delivered key: `now`, `reconnect` or `restart` (R19)."""

    def observe(self, credential: str, *, fresh: bool = False) -> Observation:
        """What is there. Reads only; `fresh`: from the place itself, whatever the target remembers. Raises `Unreachable`."""

    def deliver(self, delivery: Delivery, seen: Observation) -> Observation:
        """Bring the target to the delivery's key; leaves it untouched where it already holds it.

        Raises `Conflict` (it changed since `seen`, or it holds a newer generation, L2), `Refused`, `Unreachable`, `AnswerLost`.
        """

    def check(self, credential: str) -> None:
        """Preflight, a dry run: raises what a delivery would raise now."""

    def follow(self, changed: Callable[[], None]) -> None:
        """From now on call `changed`, from any thread, when somebody else may have changed what is here; until `close`."""

    def close(self) -> None:
        """End what `follow` began; harmless otherwise. A thread that waits for an answer may end a little later."""

    def find_access(self, credential: str) -> Access:
        """What the target's own permissions lack for deliveries. Changes nothing. Raises `Unreachable`."""

    def preview(self, delivery: Delivery) -> str:
        """What a delivery would change now, as a unified diff with every key masked; empty where nothing would (R20). Writes nothing.

        Raises what `deliver` would raise for the content: `Refused`, `Unreachable`.
        """

    def withdraw(self, credential: str) -> bool:
        """Take our part out again; the original bytes where nobody touched what was inserted. False: there was none of ours.

        Raises `Refused` where what stands there is not what we wrote, `Conflict`, `Unreachable`.
        """


@dataclass(frozen=True, slots=True)
class Answer:
    """What a probe learned."""

    verdict: Verdict
    at: datetime
    tools: tuple[str, ...] | None = None
    """what the key may do, as it lists itself; None: unread (plan limit)"""
    clock_offset: timedelta | None = None
    """the service's `Date` minus our clock"""
    detail: str = ""
    """a code of the service's registry or a transport's word; never a foreign body"""
    retry_after: timedelta | None = None


@runtime_checkable
class Prober(Protocol):
    """Finds out whether a key works, at its own endpoint only."""

    def probe(self, secret: Secret) -> Answer:
        """Ask the endpoint of the key's kind. Never raises for what the service or the network does: that is *unknown*."""

    def endpoint(self, kind: Kind) -> str:
        """The URL a key of this kind is sent to."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What the journal keeps of a target's state for one credential."""

    target: str
    key_id: KeyId | None
    since: datetime
    """since when it was seen to hold `key_id` without a break"""
    generation: int | None = None
    failures: int = 0
    retry_at: datetime | None = None
    problem: Reason | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the audit trail. Never holds key material: key ids only."""

    at: datetime
    phase: str
    """`intent`, `outcome` or `note`"""
    action: str
    reason: Reason | None = None
    process: str | None = None
    """the id of the rotation or retirement"""
    key_id: KeyId | None = None
    text: str = ""
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Proof:
    """The bracket in which a key died (L20)."""

    last_alive: datetime | None
    first_refused: datetime | None
    confirmed_at: datetime


@dataclass(frozen=True, slots=True)
class SaveMemory:
    memory: Memory


@dataclass(frozen=True, slots=True)
class SaveRotation:
    """Open a rotation, or update the open one of the same id."""

    rotation: Rotation


@dataclass(frozen=True, slots=True)
class EndRotation:
    id: str
    outcome: Reason
    at: datetime
    key_id: KeyId | None = None
    """the key that is current at the end"""


@dataclass(frozen=True, slots=True)
class SaveRetirement:
    """Open a retirement, or update the open one of the same id."""

    retirement: Retirement


@dataclass(frozen=True, slots=True)
class EndRetirement:
    id: str
    outcome: Reason
    at: datetime
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class SaveSightings:
    sightings: Sightings


@dataclass(frozen=True, slots=True)
class DropSightings:
    key_id: KeyId


@dataclass(frozen=True, slots=True)
class SavePlacement:
    placement: Placement


@dataclass(frozen=True, slots=True)
class SaveView:
    """What the last look at a credential showed, for status, metrics, `held_elsewhere` and the index of what is due."""

    view: View


@dataclass(frozen=True, slots=True)
class HeldKey:
    """One key of a credential, for the journal's index: no secret."""

    key_id: KeyId
    stage: str
    minted_at: datetime
    generation: int = 0
    promoted_at: datetime | None = None
    retired_at: datetime | None = None
    doomed_at: datetime | None = None
    compromised_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The summary of one look at a credential."""

    seen_at: datetime
    due_at: datetime | None
    """when the engine looks at it next; None: only when asked"""
    next_rotation_at: datetime | None = None
    expires_at: datetime | None = None
    keys: tuple[HeldKey, ...] = ()
    phase: str | None = None
    parked: tuple[tuple[Reason, str], ...] = ()
    """(reason, what to do) of everything that needs a person"""
    waiting: tuple[tuple[Reason, datetime | None, tuple[str, ...]], ...] = ()
    """(reason, until, names) of everything that ends by itself"""
    orphans: int = 0
    lane: str = "routine"
    blind: bool = False
    """the store could not be read: the journal keeps what it has of `keys`, the times of rotation and expiry, `phase`, `orphans`, `lane`"""


Line = (
    SaveMemory | SaveRotation | EndRotation | SaveRetirement | EndRetirement | SaveSightings | DropSightings | SavePlacement | SaveView
    | Event
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recollection:
    """All that the journal knows of one credential, for gathering facts."""

    memory: Memory | None = None
    rotation: Rotation | None = None
    retirements: tuple[Retirement, ...] = ()
    sightings: tuple[Sightings, ...] = ()
    placements: tuple[Placement, ...] = ()
    newest_line: datetime | None = None
    """of the whole journal"""
    next_rotation_at: datetime | None = None
    """as the last look saw it: a rotation that was missed keeps the time at which it is made up for"""


@runtime_checkable
class Journal(Protocol):
    """The truth about rotations, retirements, receipts and the audit trail. No key material."""

    @property
    def id(self) -> str:
        """A random id of this journal, made when it was created."""

    def recall(self, credential: str) -> Recollection:
        """What is known of a credential; empty for one never seen."""

    def commit(self, credential: str, *lines: Line) -> None:
        """Write all lines in one transaction, or none. Durable when it returns. Raises `Unreachable` when the disk refuses."""

    def find_due(self, now: datetime, limit: int) -> Sequence[tuple[str, str]]:
        """(credential, lane) of what is due, emergencies first, then never-synced, then routine, oldest first."""

    def defer(self, credentials: Sequence[str], until: datetime | None) -> None:
        """Change nothing but when these are due next (None: not by themselves)."""

    def next_due(self) -> datetime | None:
        """When the next credential is due."""

    def audit_head(self) -> str:
        """The hash of the newest line of the audit trail."""

    def find_holders(self, key_id: KeyId, *, any_stage: bool = False) -> Sequence[str]:
        """The credentials whose last look showed this key as current or pending, or (`any_stage`) at all."""
