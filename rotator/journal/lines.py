"""How each line of a commit becomes rows, within the caller's transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from rotator.domain.errors import IllegalTransition
from rotator.domain.ports import (
    DropSightings,
    EndRetirement,
    EndRotation,
    Event,
    Line,
    SaveMemory,
    SavePlacement,
    SaveRetirement,
    SaveRotation,
    SaveSightings,
    SaveView,
)
from rotator.journal import audit, rows
from rotator.journal import statements as sql
from rotator.journal.rows import ensure_fit
from rotator.journal.statements import Prepared, Statements


@dataclass(frozen=True, slots=True)
class Tip:
    """The end of the audit trail, and the newest instant of any line."""

    seq: int
    digest: str
    newest: datetime | None


def latest(*instants: datetime | None) -> datetime | None:
    """The latest of those that there are."""
    return max((at for at in instants if at is not None), default=None)


def write_lines(connection: Connection, statements: Statements, credential: str, lines: Sequence[Line], tip: Tip) -> Tip:
    """Write all lines of one credential behind `tip`; the new end of the trail. Raises what `commit` does; nothing is committed here."""
    trail = []
    for line in lines:
        if isinstance(line, Event):
            params = rows.event_params(credential, line, tip.seq + 1)
            ensure_fit("events", params)
            digest = audit.chain(tip.digest, params)
            trail.append({**params, "prev": tip.digest, "hash": digest})
            tip = Tip(tip.seq + 1, digest, latest(tip.newest, line.at))
        else:
            _WRITERS[type(line)](connection, statements, credential, line)
            if isinstance(line, SaveView):
                tip = Tip(tip.seq, tip.digest, latest(tip.newest, line.view.seen_at))
    if trail:
        statements.add_event.run(connection, *trail)
    return tip


def _save_memory(connection: Connection, statements: Statements, credential: str, line: SaveMemory) -> None:
    _save(connection, statements.save_memory, "credentials", rows.memory_params(credential, line.memory))


def _save_view(connection: Connection, statements: Statements, credential: str, line: SaveView) -> None:
    if line.view.blind:
        _save(connection, statements.save_blind_view, "credentials", rows.view_params(credential, line.view))
        return
    _save(connection, statements.save_view, "credentials", rows.view_params(credential, line.view))
    statements.drop_held.run(connection, {"name": credential})
    keys = rows.held_params(credential, line.view.keys)
    for params in keys:
        ensure_fit("held", params)
    if keys:
        statements.add_held.run(connection, *keys)


def _save_rotation(connection: Connection, statements: Statements, credential: str, line: SaveRotation) -> None:
    if not _save(connection, statements.save_rotation, "rotations", rows.rotation_params(credential, line.rotation)):
        raise IllegalTransition(f"rotation {line.rotation.id} is closed, or not one of credential {credential}: open another")


def _save_retirement(connection: Connection, statements: Statements, credential: str, line: SaveRetirement) -> None:
    if not _save(connection, statements.save_retirement, "retirements", rows.retirement_params(credential, line.retirement)):
        raise IllegalTransition(f"retirement {line.retirement.id} is closed, or not one of credential {credential}: open another")


def _end_rotation(connection: Connection, statements: Statements, credential: str, line: EndRotation) -> None:
    which = {"its_id": line.id, "name": credential}
    current = None if line.key_id is None else str(line.key_id)
    params = {"at": line.at, "ended_as": str(line.outcome), "current": current}
    if _save(connection, statements.end_rotation, "rotations", {**which, **params}):
        return
    # closed already is fine: whoever resumes after a crash may say it again
    if connection.scalar(sql.has_rotation, which) is None:
        raise IllegalTransition(f"rotation {line.id} of credential {credential} is not in the journal: it can't be ended")


def _end_retirement(connection: Connection, statements: Statements, credential: str, line: EndRetirement) -> None:
    which = {"its_id": line.id, "name": credential}
    proof = line.proof
    params = {
        "at": line.at,
        "ended_as": str(line.outcome),
        "alive": None if proof is None else proof.last_alive,
        "refused": None if proof is None else proof.first_refused,
        "confirmed": None if proof is None else proof.confirmed_at,
    }
    if _save(connection, statements.end_retirement, "retirements", {**which, **params}):
        return
    if connection.scalar(sql.has_retirement, which) is None:
        raise IllegalTransition(f"retirement {line.id} of credential {credential} is not in the journal: it can't be ended")


def _save_sightings(connection: Connection, statements: Statements, credential: str, line: SaveSightings) -> None:
    _save(connection, statements.save_sightings, "sightings", rows.sightings_params(credential, line.sightings))


def _drop_sightings(connection: Connection, statements: Statements, credential: str, line: DropSightings) -> None:
    statements.drop_sightings.run(connection, {"name": credential, "key": str(line.key_id)})


def _save_placement(connection: Connection, statements: Statements, credential: str, line: SavePlacement) -> None:
    _save(connection, statements.save_placement, "placements", rows.placement_params(credential, line.placement))


def _save(connection: Connection, statement: Prepared, table: str, params: rows.Params) -> int:
    """Run a statement with a checked row; how many rows it changed."""
    ensure_fit(table, params)
    return statement.run(connection, params)


_WRITERS: Mapping[type, Callable[[Connection, Statements, str, Any], None]] = {
    SaveMemory: _save_memory,
    SaveView: _save_view,
    SaveRotation: _save_rotation,
    EndRotation: _end_rotation,
    SaveRetirement: _save_retirement,
    EndRetirement: _end_retirement,
    SaveSightings: _save_sightings,
    DropSightings: _drop_sightings,
    SavePlacement: _save_placement,
}
