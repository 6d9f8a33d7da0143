"""What is known of a credential after lines were written to the journal, without asking the journal again. Pure.

    carry_on(journal.recall(name), lines) == journal.recall(name), once `journal.commit(name, *lines)` has returned

for lines that the journal took: what it refuses (the end of what it does not know, a second open rotation) is not told from here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rotator.domain.facts import Memory, Retirement, Rotation, Sightings
from rotator.domain.keys import KeyId
from rotator.domain.ports import (
    DropSightings,
    EndRetirement,
    EndRotation,
    Event,
    Line,
    Placement,
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
    notes = _Notes(known)
    for line in lines:
        notes.take(line)
    return notes.build()


class _Notes:
    """A recollection taken apart, so that many lines cost little more than one: it is built anew once."""

    def __init__(self, known: Recollection) -> None:
        self.memory: Memory | None = known.memory
        self.rotation: Rotation | None = known.rotation
        self.retirements: dict[str, Retirement] = {row.id: row for row in known.retirements}
        self.sightings: dict[KeyId, Sightings] = {row.key_id: row for row in known.sightings}
        self.placements: dict[str, Placement] = {row.target: row for row in known.placements}
        self.newest_line: datetime | None = known.newest_line
        self.next_rotation_at: datetime | None = known.next_rotation_at

    def take(self, line: Line) -> None:  # one line a kind of line
        match line:
            case Event():
                self._meet(line.at)
            case SaveSightings():
                self.sightings[line.sightings.key_id] = line.sightings
            case DropSightings():
                self.sightings.pop(line.key_id, None)
            case SaveView():
                if not line.view.blind:
                    self.next_rotation_at = line.view.next_rotation_at
                self._meet(line.view.seen_at)
            case SavePlacement():
                self.placements[line.placement.target] = line.placement
            case SaveMemory():
                self.memory = line.memory
            case SaveRotation():
                self.rotation = line.rotation
            case EndRotation():
                if self.rotation is not None and self.rotation.id == line.id:
                    self.rotation = None
            case SaveRetirement():
                self.retirements[line.retirement.id] = line.retirement
            case EndRetirement():
                self.retirements.pop(line.id, None)

    def build(self) -> Recollection:
        return Recollection(
            memory=self.memory,
            rotation=self.rotation,
            retirements=tuple(sorted(self.retirements.values(), key=lambda row: (row.opened_at, row.id))),
            sightings=tuple(sorted(self.sightings.values(), key=lambda row: str(row.key_id))),
            placements=tuple(sorted(self.placements.values(), key=lambda row: row.target)),
            newest_line=self.newest_line,
            next_rotation_at=self.next_rotation_at,
        )

    def _meet(self, at: datetime) -> None:
        self.newest_line = at if self.newest_line is None else max(self.newest_line, at)
