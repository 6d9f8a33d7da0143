"""What is known of a credential after lines were written to the journal, without asking the journal again. Pure.

    carry_on(journal.recall(name), lines) == journal.recall(name), once `journal.commit(name, *lines)` has returned

for lines that the journal took: what it refuses (the end of what it does not know, a second open rotation) is not told from here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from rotator.domain.ports import (
    DropSightings,
    EndRetirement,
    EndRotation,
    Event,
    Line,
    Recollection,
    SaveMemory,
    SavePlacement,
    SaveRetirement,
    SaveRotation,
    SaveSightings,
    SaveView,
)


def carry_on(known: Recollection, lines: Iterable[Line]) -> Recollection:
    """What is known after `lines` of one commit, in their order. Rows stand in the order in which a journal gives them."""
    for line in lines:
        known = _CARRIERS[type(line)](known, line)
    return known


def _save_memory(known: Recollection, line: SaveMemory) -> Recollection:
    return replace(known, memory=line.memory)


def _save_view(known: Recollection, line: SaveView) -> Recollection:
    return replace(known, next_rotation_at=line.view.next_rotation_at, newest_line=_newest(known, line.view.seen_at))


def _save_rotation(known: Recollection, line: SaveRotation) -> Recollection:
    return replace(known, rotation=line.rotation)


def _end_rotation(known: Recollection, line: EndRotation) -> Recollection:
    ended = known.rotation is not None and known.rotation.id == line.id
    return replace(known, rotation=None) if ended else known


def _save_retirement(known: Recollection, line: SaveRetirement) -> Recollection:
    rows = [*(row for row in known.retirements if row.id != line.retirement.id), line.retirement]
    return replace(known, retirements=tuple(sorted(rows, key=lambda row: (row.opened_at, row.id))))


def _end_retirement(known: Recollection, line: EndRetirement) -> Recollection:
    return replace(known, retirements=tuple(row for row in known.retirements if row.id != line.id))


def _save_sightings(known: Recollection, line: SaveSightings) -> Recollection:
    rows = [*(row for row in known.sightings if row.key_id != line.sightings.key_id), line.sightings]
    return replace(known, sightings=tuple(sorted(rows, key=lambda row: str(row.key_id))))


def _drop_sightings(known: Recollection, line: DropSightings) -> Recollection:
    return replace(known, sightings=tuple(row for row in known.sightings if row.key_id != line.key_id))


def _save_placement(known: Recollection, line: SavePlacement) -> Recollection:
    rows = [*(row for row in known.placements if row.target != line.placement.target), line.placement]
    return replace(known, placements=tuple(sorted(rows, key=lambda row: row.target)))


def _note(known: Recollection, line: Event) -> Recollection:
    return replace(known, newest_line=_newest(known, line.at))


def _newest(known: Recollection, at: datetime) -> datetime:
    return at if known.newest_line is None else max(known.newest_line, at)


_CARRIERS: Mapping[type, Callable[[Recollection, Any], Recollection]] = {
    SaveMemory: _save_memory,
    SaveView: _save_view,
    SaveRotation: _save_rotation,
    EndRotation: _end_rotation,
    SaveRetirement: _save_retirement,
    EndRetirement: _end_retirement,
    SaveSightings: _save_sightings,
    DropSightings: _drop_sightings,
    SavePlacement: _save_placement,
    Event: _note,
}
