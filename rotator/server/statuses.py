"""From what the journal knows of a credential to its status. Pure: reads what was gathered, asks nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from rotator.domain.credential import BoundTarget, Credential
from rotator.domain.facts import Memory, Retirement, Sightings
from rotator.domain.keys import KeyId
from rotator.domain.ports import HeldKey, Placement, View
from rotator.domain.reasons import Reason
from rotator.domain.record import Stage
from rotator.server import ports, schemas

Phase = Literal["idle", "opened", "staged", "verified", "promoted", "parked", "unreadable"]
TargetState = Literal["current", "behind", "failed"]
_PHASES: dict[str, Phase] = {"opened": "opened", "staged": "staged", "verified": "verified", "promoted": "promoted"}


@dataclass(frozen=True, slots=True)
class Known:
    """What was gathered about one credential."""

    credential: Credential
    view: View | None
    memory: Memory | None
    rotation: ports.RotationRow | None
    """the open one"""
    retirements: Sequence[Retirement] = ()
    """the open ones"""
    placements: Sequence[Placement] = ()
    sightings: Sequence[Sightings] = ()
    holders: Mapping[KeyId, Sequence[str]] = field(default_factory=dict)
    """key of this credential → all credentials whose last look showed it"""

    @property
    def current(self) -> HeldKey | None:
        """The current key at the last look."""
        return next((k for k in self.keys if k.stage == Stage.CURRENT), None)

    @property
    def keys(self) -> tuple[HeldKey, ...]:
        """Every key at the last look."""
        return self.view.keys if self.view is not None else ()

    def find_sharing(self, key_id: KeyId) -> tuple[str, ...]:
        """The other credentials that hold a key too (L19)."""
        return tuple(name for name in self.holders.get(key_id, ()) if name != self.credential.name)

    @property
    def compromised(self) -> bool:
        """Whether a leaked key is not confirmed dead yet."""
        return any(k.compromised_at is not None for k in self.keys)


def build_status(known: Known, now: datetime) -> schemas.Status:
    """The status of one credential."""
    credential, view, memory, current = known.credential, known.view, known.memory, known.current
    return schemas.Status(
        name=credential.name,
        kind=str(credential.policy.kind),
        store=credential.store_name,
        path=credential.path,
        issuer=credential.issuer_name,
        key_id=str(current.key_id) if current else None,
        shared_with=known.find_sharing(current.key_id) if current else (),
        generation=current.generation if current else memory.generation if memory else 0,
        minted_at=current.minted_at if current else None,
        age_seconds=max(0.0, (now - current.minted_at).total_seconds()) if current else None,
        expires_at=view.expires_at if view else None,
        next_rotation_at=view.next_rotation_at if view else None,
        phase=phase_of(view, known.rotation),
        lane=view.lane if view else "never-synced",
        compromised=known.compromised,
        recovered=memory.recovered if memory else False,
        parked=tuple(schemas.Parked(reason=str(reason), text=text) for reason, text in view.parked) if view else (),
        waiting=tuple(build_waiting(*waiting) for waiting in view.waiting) if view else (),
        targets=tuple(_build_target(bound, known) for bound in credential.targets),
        retirements=tuple(_build_retirement(row, known) for row in known.retirements),
        orphans=view.orphans if view else 0,
        rotation=build_rotation(known.rotation) if known.rotation else None,
        seen_at=view.seen_at if view else None,
    )


def phase_of(view: View | None, rotation: ports.RotationRow | None) -> Phase:
    """Where a credential stands: unreadable before parked before its open rotation's phase.

    The view is as old as the last visit's end; what the journal says of the rotation is not.
    """
    if view is None:
        return "opened" if rotation is not None else "idle"
    if any(reason is Reason.STORE_UNREACHABLE for reason, _, _ in view.waiting):
        return "unreadable"
    if view.parked:
        return "parked"
    return "idle" if rotation is None else _PHASES.get(view.phase or "", "opened")


def target_states(known: Known) -> dict[str, TargetState]:
    """Target → where it stands."""
    current = known.current
    by_name = {p.target: p for p in known.placements}
    return {bound.name: state_of(by_name.get(bound.name), current.key_id if current else None) for bound in known.credential.targets}


def state_of(placement: Placement | None, current: KeyId | None) -> TargetState:
    """Where a target stands; what cannot be seen has failed, whatever it held last."""
    if placement is None:
        return "behind"
    if placement.problem is Reason.UNREACHABLE:
        return "failed"
    if current is not None and placement.key_id == current:
        return "current"
    return "failed" if placement.problem is not None or placement.failures else "behind"


def retirement_phase(row: Retirement, keys: Sequence[HeldKey]) -> Literal["waiting", "doomed", "revoked"]:
    """Where the end of a key stands."""
    if row.revoked_at is not None:
        return "revoked"
    return "doomed" if any(k.key_id == row.key_id and k.doomed_at is not None for k in keys) else "waiting"


def build_waiting(reason: Reason, until: datetime | None, names: Sequence[str]) -> schemas.Waiting:
    """Something that ends by itself."""
    return schemas.Waiting(reason=str(reason), until=until, names=tuple(names))


def build_rotation(row: ports.RotationRow) -> schemas.RotationRow:
    """A rotation."""
    rotation = row.rotation
    return schemas.RotationRow(
        id=rotation.id,
        credential=row.credential,
        reason=str(rotation.reason),
        opened_at=rotation.opened_at,
        closed_at=row.closed_at,
        outcome=_text(row.outcome),
        key_id=_text(row.key_id),
        replaces=_text(rotation.replaces),
        emergency=rotation.emergency,
        failures=rotation.failures,
    )


def build_retirement(row: ports.RetirementRow, sightings: Sequence[Sightings] = ()) -> schemas.RetirementRow:
    """A retirement: closed with its proof, open with what probes have told so far."""
    retirement, proof = row.retirement, row.proof
    seen = proof or next((s for s in sightings if s.key_id == retirement.key_id), None)
    return schemas.RetirementRow(
        id=retirement.id,
        credential=row.credential,
        key_id=str(retirement.key_id),
        why=str(retirement.why),
        opened_at=retirement.opened_at,
        revoked_at=retirement.revoked_at,
        closed_at=row.closed_at,
        outcome=_text(row.outcome),
        last_alive=seen.last_alive if seen else None,
        first_refused=seen.first_refused if seen else None,
        confirmed_at=proof.confirmed_at if proof else None,
    )


def build_event(row: ports.EventRow) -> schemas.EventRow:
    """A line of the audit trail."""
    event = row.event
    return schemas.EventRow(
        seq=row.seq,
        at=event.at,
        credential=row.credential,
        phase=event.phase,
        action=event.action,
        reason=_text(event.reason),
        process=event.process,
        key_id=_text(event.key_id),
        text=event.text,
        ok=event.ok,
        hash=row.hash,
    )


def _build_target(bound: BoundTarget, known: Known) -> schemas.TargetStatus:
    placement = next((p for p in known.placements if p.target == bound.name), None)
    return schemas.TargetStatus(
        name=bound.name,
        required=bound.required,
        key_id=_text(placement.key_id) if placement else None,
        state=state_of(placement, known.current.key_id if known.current else None),
        since=placement.since if placement else None,
        activation=bound.target.activation,
        text=placement.text if placement else "not looked at yet",
    )


def _build_retirement(row: Retirement, known: Known) -> schemas.RetirementStatus:
    seen = next((s for s in known.sightings if s.key_id == row.key_id), Sightings(row.key_id))
    return schemas.RetirementStatus(
        id=row.id,
        key_id=str(row.key_id),
        phase=retirement_phase(row, known.keys),
        why=str(row.why),
        revoked_at=row.revoked_at,
        last_alive=seen.last_alive,
        first_refused=seen.first_refused,
        held_by=known.find_sharing(row.key_id),
    )


def _text(value: KeyId | Reason | None) -> str | None:
    return None if value is None else str(value)
