"""What a decision can say: do one thing, wait for a time, wait for a person, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rotator.domain.keys import KeyId
from rotator.domain.reasons import Reason
from rotator.domain.record import Orphan


@dataclass(frozen=True, slots=True)
class Recognise:
    """Journal: remember uid and generation of a record; `recovered` where the journal is newer than the record's keys (L29)."""

    recovered: bool


@dataclass(frozen=True, slots=True)
class OpenRotation:
    """Journal: open a rotation of the key that is current now."""

    reason: Reason
    replaces: KeyId | None
    candidate: KeyId | None = None


@dataclass(frozen=True, slots=True)
class CloseRotation:
    """Journal: the open rotation ends so."""

    outcome: Reason


@dataclass(frozen=True, slots=True)
class Preflight:
    """Find out whether a new key could be put where it belongs, before one is minted. `targets`: required ones count too."""

    targets: bool


@dataclass(frozen=True, slots=True)
class Sweep:
    """Ask the issuer for keys of closed attempts that stand in no stage."""


@dataclass(frozen=True, slots=True)
class DoomOrphan:
    """Store: condemn a swept key."""

    orphan: Orphan


@dataclass(frozen=True, slots=True)
class RevokeOrphan:
    """Issuer: revoke a condemned orphan, then drop it from the record."""

    orphan: Orphan


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """Store: take the lease on minting."""


@dataclass(frozen=True, slots=True)
class CloseAttempt:
    """Store: close the open attempt; `failed`: it counts as a failure of the rotation; `lost`: its key can never be found (L8)."""

    attempt: str
    failed: bool
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Mint:
    """Issuer, then store: a key with the attempt's label, staged under the attempt that is in hand."""

    attempt: str


@dataclass(frozen=True, slots=True)
class Probe:
    """Ask the service whether a key works; `witness` is asked beside it, so that a refusal can count."""

    key_id: KeyId
    witness: KeyId | None = None


@dataclass(frozen=True, slots=True)
class Promote:
    """Store: the commit point."""

    key_id: KeyId
    replaces: KeyId | None


@dataclass(frozen=True, slots=True)
class Retire:
    """Store: give a pending key up; `failed`: it counts as a failed attempt of the rotation."""

    key_id: KeyId
    failed: bool


@dataclass(frozen=True, slots=True)
class Adopt:
    """Store: accept a key from outside as current."""

    key_id: KeyId


@dataclass(frozen=True, slots=True)
class Distribute:
    """Targets: bring these to the current key."""

    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OpenRetirement:
    """Journal: a key must die."""

    key_id: KeyId
    why: Reason


@dataclass(frozen=True, slots=True)
class Doom:
    """Store: condemn a key."""

    key_id: KeyId


@dataclass(frozen=True, slots=True)
class Revoke:
    """Issuer: end a condemned key."""

    key_id: KeyId


@dataclass(frozen=True, slots=True)
class Forget:
    """Store, then journal: the key is proven dead."""

    key_id: KeyId


@dataclass(frozen=True, slots=True)
class CloseRetirement:
    """Journal: the retirement ends so."""

    key_id: KeyId
    outcome: Reason


Action = (
    Recognise | OpenRotation | CloseRotation | Preflight | Sweep | DoomOrphan | RevokeOrphan | OpenAttempt | CloseAttempt | Mint | Probe
    | Promote | Retire | Adopt | Distribute | OpenRetirement | Doom | Revoke | Forget | CloseRetirement
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Do:
    """Take this one step, then look again."""

    action: Action


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until` (None: until facts change)."""

    reason: Reason
    until: datetime | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Park:
    """A person is needed; it ends when the facts change. `until`: when to look again by oneself."""

    reason: Reason
    needs: str
    """what the person should do, in a sentence"""
    until: datetime | None = None
    names: tuple[str, ...] = ()


Decision = Do | Wait | Park
