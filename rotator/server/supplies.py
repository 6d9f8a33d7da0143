"""From what people brought, and what pools hold, to rows. Pure."""

from __future__ import annotations

from typing import Literal

from rotator.domain.ports import Supplies
from rotator.domain.record import Spare
from rotator.engine.supplying import Received
from rotator.server import schemas


def build_received(one: Received) -> schemas.ReceivedKey:
    """What became of a key that was brought."""
    reason = str(one.reason) if one.reason is not None else None
    return schemas.ReceivedKey(key_id=str(one.key_id), accepted=one.accepted, reason=reason, text=one.text)


def build_pool(name: str, supplies: Supplies) -> schemas.PoolRow:
    """A pool and its spares, oldest first."""
    usable = len(supplies.usable)
    spares = tuple(_build_spare(spare, supplies) for spare in sorted(supplies.spares, key=lambda one: one.added_at))
    return schemas.PoolRow(
        issuer=name, usable=usable, low_water=supplies.low_water, is_low=usable < supplies.low_water, spares=spares, problem=""
    )


def _build_spare(spare: Spare, supplies: Supplies) -> schemas.SpareRow:
    state: Literal["usable", "reserved", "too-old"] = "too-old"
    if spare.label is not None:
        state = "reserved"
    elif spare.key_id in supplies.usable:
        state = "usable"
    return schemas.SpareRow(
        key_id=str(spare.key_id), added_at=spare.added_at, by=spare.by, project=spare.project, state=state, reserved_at=spare.reserved_at
    )
