"""The lifecycle record that a store keeps beside a credential's keys, and the changes it allows.

`apply(record, change)` is the one place that says which change is legal; every store that keeps the record as a document calls it under
its compare-and-set, so a lost race or a stalled replica can never write what the rules forbid. It holds no secret: those lie in the
store's own fields, and only `StageKey`, `Adopt`, `RetireOrphan`, `RetireSpare` and `AddSpare` bring one along.

    pending ──Promote──▶ current ──(displaced)──▶ retiring ──Doom, then Forget──▶ gone
       └───────────────Retire────────────────────────▲  └──Promote (rollback, never a doomed one)──▶ current
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from rotator.domain.errors import IllegalTransition
from rotator.domain.keys import KeyId
from rotator.domain.secret import Secret

SWEEP_FOR = timedelta(days=1)
"""How long after its closing an attempt's label is swept for keys that came late (L7)."""


class Stage(StrEnum):
    """The label of a stored key."""

    PENDING = "pending"
    CURRENT = "current"
    RETIRING = "retiring"


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """What the record knows of one key. Instants are aware UTC."""

    key_id: KeyId
    stage: Stage
    minted_at: datetime
    attempt: str | None = None
    """the attempt that minted it; None: it came from outside"""
    reference: str | None = None
    """the issuer's own name for it, where that differs from the key id"""
    replaces: KeyId | None = None
    """the key that was current when it was staged; promotion is conditional on it (L13)"""
    generation: int = 0
    """the generation under which it last was current; 0: never"""
    promoted_at: datetime | None = None
    retired_at: datetime | None = None
    """the last instant at which it was current or pending"""
    doomed_at: datetime | None = None
    compromised_at: datetime | None = None
    """when the report of its leak was accepted"""
    tools: tuple[str, ...] | None = None
    """the tools it listed when it was verified; None: they could not be read"""
    issuer: str | None = None
    """the configured name of the issuer that minted it, and so must revoke it (L5)"""
    staged_at: datetime | None = None
    """when it was laid into the store; a key from a pool was minted long before"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to mint. While open it is the lease on minting (L3)."""

    id: str
    at: datetime
    """when it was opened; for a closed attempt, when it was closed"""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A minted key of a closed attempt that stands in no stage; doomed here before it is revoked (L7)."""

    key_id: KeyId
    attempt: str
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Spare:
    """A key that a person brought, for an issuer to give out: in a pool, or handed in for one credential. Instants are aware UTC."""

    key_id: KeyId
    added_at: datetime
    by: str
    """who brought it"""
    project: str | None = None
    """the project that it is said to belong to; None: not said"""
    label: str | None = None
    """the label of the attempt that it is reserved for; it is free again only to that one"""
    reserved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Everything about a credential that must survive the loss of every journal. A pool's record has spares and nothing else."""

    uid: str
    installation: str
    generation: int = 0
    keys: tuple[KeyEntry, ...] = ()
    attempt: Attempt | None = None
    closed: tuple[Attempt, ...] = ()
    orphans: tuple[Orphan, ...] = ()
    lost: tuple[Attempt, ...] = ()
    """mints at an issuer that cannot list, whose answers were lost: possibly orphaned (L8)"""
    audit: tuple[tuple[str, str], ...] = ()
    """(journal id, head of its audit chain)"""
    vacant: bool = False
    """a person accepted that the store lost its keys: the next one is bootstrapped (L6)"""
    spares: tuple[Spare, ...] = ()
    """keys that wait to be given out, oldest first"""

    @property
    def key_ids(self) -> frozenset[KeyId]:
        """Every key whose secret is kept beside the record."""
        return frozenset(k.key_id for k in self.keys) | frozenset(s.key_id for s in self.spares)

    @property
    def current(self) -> KeyEntry | None:
        """The key that consumers should hold."""
        return next((k for k in self.keys if k.stage is Stage.CURRENT), None)

    @property
    def pending(self) -> KeyEntry | None:
        """The key that is staged and not yet promoted."""
        return next((k for k in self.keys if k.stage is Stage.PENDING), None)

    @property
    def retiring(self) -> tuple[KeyEntry, ...]:
        """The keys that are on their way out, oldest first."""
        return tuple(k for k in self.keys if k.stage is Stage.RETIRING)

    def find(self, key_id: KeyId) -> KeyEntry | None:
        """The entry of a key, in whatever stage."""
        return next((k for k in self.keys if k.key_id == key_id), None)

    def find_spare(self, key_id: KeyId) -> Spare | None:
        """A spare by its key."""
        return next((s for s in self.spares if s.key_id == key_id), None)

    def is_doomed(self, key_id: KeyId) -> bool:
        """Whether a key is condemned, in a stage or as an orphan: it is never made current again."""
        entry = self.find(key_id)
        return entry.doomed_at is not None if entry is not None else any(o.key_id == key_id for o in self.orphans)


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """Take the lease on minting; creates the record where there is none."""

    attempt: Attempt
    uid: str
    installation: str


@dataclass(frozen=True, slots=True)
class CloseAttempt:
    """Give the lease up, or take it from someone who let it expire. From here on its label is swept."""

    attempt: str
    at: datetime
    lost: bool = False
    """it may have brought a key that no sweep will ever find, since the issuer cannot list (L8): possibly orphaned"""


@dataclass(frozen=True, slots=True)
class StageKey:
    """Lay a minted key beside the current one; closes its attempt."""

    entry: KeyEntry
    secret: Secret = field(compare=False)


@dataclass(frozen=True, slots=True)
class Describe:
    """Keep what a key may do, as it said itself."""

    key_id: KeyId
    tools: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Promote:
    """The commit point: a pending (or, in a rollback, a retiring) key becomes current."""

    key_id: KeyId
    replaces: KeyId | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Retire:
    """Give a pending key up."""

    key_id: KeyId
    at: datetime


@dataclass(frozen=True, slots=True)
class Adopt:
    """Accept a key that someone else made current. `secret` is set where the store does not hold it yet."""

    entry: KeyEntry
    at: datetime
    uid: str
    installation: str
    secret: Secret | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Doom:
    """Condemn a key: from here on it is never made current again, by anyone."""

    key_id: KeyId
    at: datetime


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop a key that is proven dead, and its secret."""

    key_id: KeyId


@dataclass(frozen=True, slots=True)
class MarkCompromised:
    """Accept a leak report (L23)."""

    key_id: KeyId
    at: datetime


@dataclass(frozen=True, slots=True)
class DoomOrphan:
    """Condemn a key that no stage holds."""

    orphan: Orphan


@dataclass(frozen=True, slots=True)
class RetireOrphan:
    """Condemn a key that no stage holds and whose secret is known: it stays readable, doomed, until it is proven dead."""

    entry: KeyEntry
    secret: Secret = field(compare=False)
    at: datetime


@dataclass(frozen=True, slots=True)
class RetireSpare:
    """Condemn a spare that was struck off: this credential sees to its end. `entry.attempt` is what its issuer keeps it by, no attempt."""

    entry: KeyEntry
    secret: Secret = field(compare=False)
    at: datetime


@dataclass(frozen=True, slots=True)
class ForgetOrphan:
    """The orphan is revoked."""

    key_id: KeyId


@dataclass(frozen=True, slots=True)
class Swept:
    """A sweep found nothing more; attempts closed longer than a day ago are dropped."""

    at: datetime


@dataclass(frozen=True, slots=True)
class ClearLost:
    """A person has looked after the possibly orphaned mints."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A person accepts what the store holds, or that it holds nothing, as ours; the generation never goes back."""

    installation: str
    generation: int
    uid: str
    at: datetime | None = None
    """the current key counts as current since then: it must be seen alive anew before anybody gets it"""
    emptied: bool = False
    """consumers find no key any more, whatever the record says: the one it calls current retires"""


@dataclass(frozen=True, slots=True)
class NoteAudit:
    """Keep the head of a journal's audit chain where the journal's owner cannot rewrite it unseen."""

    journal: str
    head: str


@dataclass(frozen=True, slots=True)
class AddSpare:
    """Lay down a key to be given out later; creates the record where there is none."""

    spare: Spare
    secret: Secret = field(compare=False)
    uid: str
    installation: str


@dataclass(frozen=True, slots=True)
class ReserveSpare:
    """Take a free spare for one attempt to mint, for good."""

    key_id: KeyId
    label: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DropSpare:
    """Drop a spare and its secret: its key stands in its credential's record, or a person struck it off."""

    key_id: KeyId


Change = (
    OpenAttempt | CloseAttempt | StageKey | Describe | Promote | Retire | Adopt | Doom | Forget | MarkCompromised | DoomOrphan
    | RetireOrphan | RetireSpare | ForgetOrphan | Swept | ClearLost | Claim | NoteAudit | AddSpare | ReserveSpare | DropSpare
)  # fmt: skip


def apply(record: Record | None, change: Change) -> Record:
    """The record after `change`. Pure. Raises `IllegalTransition` where the rules forbid it."""
    if isinstance(change, OpenAttempt):
        return _open_attempt(record, change)
    if isinstance(change, Adopt):
        return _adopt(record, change)
    if isinstance(change, Claim):
        return _claim(record, change)
    if isinstance(change, AddSpare):
        return _add_spare(record, change)
    if record is None:
        raise IllegalTransition(f"{type(change).__name__}: the store holds no record of this credential")
    return _CHANGES[type(change)](record, change)


def _open_attempt(record: Record | None, change: OpenAttempt) -> Record:
    if record is None:
        return Record(uid=change.uid, installation=change.installation, attempt=change.attempt)
    if record.attempt is not None:
        raise IllegalTransition(f"attempt {record.attempt.id} is open: only one at a time may mint")
    if record.pending is not None:
        raise IllegalTransition(f"key {record.pending.key_id} is pending: nothing more is minted beside it")
    return replace(record, attempt=change.attempt)


def _close_attempt(record: Record, change: CloseAttempt) -> Record:
    if record.attempt is None or record.attempt.id != change.attempt:
        raise IllegalTransition(f"attempt {change.attempt} is not open")
    closed = Attempt(change.attempt, change.at)
    # In one commit with the closing: a crash between the two would forget the key for good.
    lost = (*(a for a in record.lost if a.id != closed.id), closed) if change.lost else record.lost
    return replace(record, attempt=None, closed=(*record.closed, closed), lost=lost)


def _stage(record: Record, change: StageKey) -> Record:
    entry = change.entry
    if record.attempt is None or record.attempt.id != entry.attempt:
        raise IllegalTransition(f"attempt {entry.attempt} is not open: key {entry.key_id} may not be staged")
    if record.pending is not None or record.find(entry.key_id) is not None:
        raise IllegalTransition(f"key {entry.key_id} may not be staged beside or over another")
    closed = (*record.closed, Attempt(record.attempt.id, entry.staged_at or entry.minted_at))
    return replace(record, attempt=None, closed=closed, keys=(*record.keys, replace(entry, stage=Stage.PENDING)))


def _describe(record: Record, change: Describe) -> Record:
    return _with(record, _get(record, change.key_id), tools=change.tools)


def _promote(record: Record, change: Promote) -> Record:
    entry = _get(record, change.key_id)
    if entry.stage is Stage.CURRENT:
        raise IllegalTransition(f"key {entry.key_id} is current already")
    if entry.doomed_at is not None:
        raise IllegalTransition(f"key {entry.key_id} is doomed: it never becomes current again")
    current = record.current
    if (current.key_id if current else None) != change.replaces:
        raise IllegalTransition(f"key {change.replaces} is not the current key any more: {entry.key_id} may not replace another")
    return _make_current(record, entry, change.at)


def _make_current(record: Record, entry: KeyEntry, at: datetime) -> Record:
    generation = record.generation + 1
    keys = []
    for key in record.keys:
        if key.key_id == entry.key_id:
            continue
        keys.append(replace(key, stage=Stage.RETIRING, retired_at=at) if key.stage is Stage.CURRENT else key)
    keys.append(replace(entry, stage=Stage.CURRENT, generation=generation, promoted_at=at, retired_at=None))
    return replace(record, generation=generation, keys=tuple(keys), vacant=False)


def _retire(record: Record, change: Retire) -> Record:
    entry = _get(record, change.key_id)
    if entry.stage is not Stage.PENDING:
        raise IllegalTransition(f"key {entry.key_id} is {entry.stage}, not pending")
    return _with(record, entry, stage=Stage.RETIRING, retired_at=change.at)


def _adopt(record: Record | None, change: Adopt) -> Record:
    if record is None:
        record = Record(uid=change.uid, installation=change.installation)
    known = record.find(change.entry.key_id)
    if record.is_doomed(change.entry.key_id):
        raise IllegalTransition(f"key {change.entry.key_id} is doomed: it cannot be adopted")
    if known is not None and known.stage is Stage.CURRENT:
        raise IllegalTransition(f"key {known.key_id} is current already: it cannot be adopted")
    if record.pending is not None and record.pending.key_id != change.entry.key_id:
        record = _retire(record, Retire(record.pending.key_id, change.at))
    entry = known or change.entry
    return _make_current(replace(record, keys=record.keys if known else (*record.keys, entry)), entry, change.at)


def _doom(record: Record, change: Doom) -> Record:
    entry = _get(record, change.key_id)
    if entry.stage is Stage.PENDING:
        raise IllegalTransition(f"key {entry.key_id} is pending: give it up before it is doomed")
    if entry.stage is Stage.CURRENT and entry.compromised_at is None:
        raise IllegalTransition(f"key {entry.key_id} is the current key: only a leak dooms it without a replacement")
    return _with(record, entry, doomed_at=entry.doomed_at or change.at)


def _forget(record: Record, change: Forget) -> Record:
    entry = _get(record, change.key_id)
    if entry.stage is not Stage.RETIRING or entry.doomed_at is None:
        raise IllegalTransition(f"key {entry.key_id} is not a doomed, retiring key: it stays readable")
    return replace(record, keys=tuple(k for k in record.keys if k.key_id != entry.key_id))


def _mark_compromised(record: Record, change: MarkCompromised) -> Record:
    entry = _get(record, change.key_id)
    return _with(record, entry, compromised_at=entry.compromised_at or change.at)


def _doom_orphan(record: Record, change: DoomOrphan) -> Record:
    orphan = change.orphan
    if orphan.attempt not in {a.id for a in record.closed}:
        raise IllegalTransition(f"attempt {orphan.attempt} is not closed: its key {orphan.key_id} may yet be staged")
    if record.find(orphan.key_id) is not None:
        raise IllegalTransition(f"key {orphan.key_id} stands in the store: it is no orphan")
    return replace(record, orphans=(*(o for o in record.orphans if o.key_id != orphan.key_id), orphan))


def _retire_orphan(record: Record, change: RetireOrphan) -> Record:
    entry = change.entry
    condemned = _doom_orphan(record, DoomOrphan(Orphan(entry.key_id, entry.attempt or "")))
    return _condemn(_forget_orphan(condemned, ForgetOrphan(entry.key_id)), entry, change.at)


def _retire_spare(record: Record, change: RetireSpare) -> Record:
    entry = change.entry
    if record.find(entry.key_id) is not None:
        raise IllegalTransition(f"key {entry.key_id} stands in the store: it is no spare any more")
    return _condemn(record, entry, change.at)


def _condemn(record: Record, entry: KeyEntry, at: datetime) -> Record:
    """With a key that was never current here and never will be: it stays readable until it is proven dead."""
    entry = replace(entry, stage=Stage.RETIRING, generation=0, promoted_at=None, retired_at=at, doomed_at=at)
    return replace(record, keys=(*record.keys, entry))


def _forget_orphan(record: Record, change: ForgetOrphan) -> Record:
    return replace(record, orphans=tuple(o for o in record.orphans if o.key_id != change.key_id))


def _swept(record: Record, change: Swept) -> Record:
    return replace(record, closed=tuple(a for a in record.closed if a.at + SWEEP_FOR > change.at))


def _clear_lost(record: Record, _change: ClearLost) -> Record:
    return replace(record, lost=())


def _claim(record: Record | None, change: Claim) -> Record:
    if record is None:
        return Record(uid=change.uid, installation=change.installation, generation=change.generation, vacant=True)
    generation = max(record.generation, change.generation)
    if change.emptied and record.current is not None:
        record = _with(record, record.current, stage=Stage.RETIRING, retired_at=change.at)
    keys = tuple(
        replace(k, generation=generation, promoted_at=change.at or k.promoted_at) if k.stage is Stage.CURRENT else k for k in record.keys
    )
    return replace(record, installation=change.installation, generation=generation, keys=keys, vacant=record.current is None)


def _note_audit(record: Record, change: NoteAudit) -> Record:
    return replace(record, audit=(*((j, h) for j, h in record.audit if j != change.journal), (change.journal, change.head)))


def _add_spare(record: Record | None, change: AddSpare) -> Record:
    spare = change.spare
    if record is None:
        record = Record(uid=change.uid, installation=change.installation, vacant=True)
    if record.installation != change.installation:
        raise IllegalTransition(f"the store's record belongs to installation {record.installation!r}: its spares are not ours")
    if spare.key_id in record.key_ids or record.is_doomed(spare.key_id):
        raise IllegalTransition(f"key {spare.key_id} stands in the store already: it is no new spare")
    return replace(record, spares=(*record.spares, replace(spare, label=None, reserved_at=None)))


def _reserve_spare(record: Record, change: ReserveSpare) -> Record:
    spare = _get_spare(record, change.key_id)
    if spare.label is not None:
        raise IllegalTransition(f"spare {spare.key_id} is reserved: it is free again only to the attempt that has it")
    taken = replace(spare, label=change.label, reserved_at=change.at)
    return replace(record, spares=tuple(taken if s.key_id == spare.key_id else s for s in record.spares))


def _drop_spare(record: Record, change: DropSpare) -> Record:
    spare = _get_spare(record, change.key_id)
    return replace(record, spares=tuple(s for s in record.spares if s.key_id != spare.key_id))


def _get_spare(record: Record, key_id: KeyId) -> Spare:
    spare = record.find_spare(key_id)
    if spare is None:
        raise IllegalTransition(f"the store holds no spare {key_id}")
    return spare


def _get(record: Record, key_id: KeyId) -> KeyEntry:
    entry = record.find(key_id)
    if entry is None:
        raise IllegalTransition(f"the store does not hold key {key_id}")
    return entry


def _with(record: Record, entry: KeyEntry, **changes: Any) -> Record:
    return replace(record, keys=tuple(replace(k, **changes) if k.key_id == entry.key_id else k for k in record.keys))


_CHANGES: Mapping[type, Callable[[Record, Any], Record]] = {
    CloseAttempt: _close_attempt,
    StageKey: _stage,
    Describe: _describe,
    Promote: _promote,
    Retire: _retire,
    Doom: _doom,
    Forget: _forget,
    MarkCompromised: _mark_compromised,
    DoomOrphan: _doom_orphan,
    RetireOrphan: _retire_orphan,
    RetireSpare: _retire_spare,
    ForgetOrphan: _forget_orphan,
    Swept: _swept,
    ClearLost: _clear_lost,
    NoteAudit: _note_audit,
    ReserveSpare: _reserve_spare,
    DropSpare: _drop_spare,
}
