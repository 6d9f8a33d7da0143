"""What the API, the CLI and the metrics read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rotator.domain.errors import IllegalTransition
from rotator.domain.facts import Memory, Sightings
from rotator.domain.ports import (
    EndRetirement,
    EndRotation,
    Event,
    HeldKey,
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
from rotator.domain.reasons import Reason
from rotator.journal.sql import SqlJournal
from tests.contract.journal.build import START, a_key_id, a_retirement, a_rotation, a_view, an_event, at


def _rotate(journal: SqlJournal, credential: str, name: str, minute: int, outcome: Reason) -> None:
    opened = replace(a_rotation(name), opened_at=at(minute))
    journal.commit(credential, SaveRotation(opened), EndRotation(name, outcome, at(minute + 1)))


def test_rotations_are_counted_by_credential_reason_and_outcome(journal: SqlJournal) -> None:
    _rotate(journal, "a", "1", 1, Reason.DISTRIBUTED)
    _rotate(journal, "a", "2", 2, Reason.DISTRIBUTED)
    _rotate(journal, "a", "3", 3, Reason.ABANDONED)
    _rotate(journal, "b", "4", 4, Reason.ABANDONED)
    journal.commit("b", SaveRotation(a_rotation("open")))
    assert journal.count_rotations() == {
        ("a", Reason.SCHEDULED, Reason.DISTRIBUTED): 2,
        ("a", Reason.SCHEDULED, Reason.ABANDONED): 1,
        ("b", Reason.SCHEDULED, Reason.ABANDONED): 1,
    }
    assert journal.last_successes() == {"a": at(3)}


def test_rotations_are_found_newest_first(journal: SqlJournal) -> None:
    for minute in range(5):
        _rotate(journal, "ab"[minute % 2], str(minute), minute, Reason.DISTRIBUTED)
    assert [row.rotation.id for row in journal.find_rotations(limit=3)] == ["4", "3", "2"]
    assert [row.rotation.id for row in journal.find_rotations("b")] == ["3", "1"]


def test_open_retirements_are_counted_by_how_far_they_are(journal: SqlJournal) -> None:
    keys = (HeldKey(a_key_id(1), "retiring", START), HeldKey(a_key_id(2), "retiring", START, doomed_at=at(1)))
    journal.commit("a", SaveView(a_view(keys=keys)))
    for number in (1, 2, 3, 4):
        journal.commit("a", SaveRetirement(a_retirement(f"ret-{number}", number)))
    journal.commit("a", SaveRetirement(replace(a_retirement("ret-3", 3), revoked_at=at(2))))
    journal.commit("a", EndRetirement("ret-4", Reason.DEAD, at(3)))
    assert journal.count_open_retirements() == {("a", False, False): 1, ("a", True, False): 1, ("a", False, True): 1}


def test_events_are_found_by_credential_process_and_number(journal: SqlJournal) -> None:
    for number in range(1, 7):
        journal.commit("ab"[number % 2], replace(an_event(number), process="p" if number > 3 else None))
    assert [row.seq for row in journal.find_events()] == [1, 2, 3, 4, 5, 6]
    assert [row.seq for row in journal.find_events("b", after_seq=1)] == [3, 5]
    assert [row.seq for row in journal.find_events(process="p", limit=2)] == [4, 5]
    assert [row.seq for row in journal.find_events("a", newest_first=True, limit=2)] == [6, 4]


def test_forgetting_drops_what_is_known_and_keeps_the_history(journal: SqlJournal) -> None:
    everything: list[Line] = [
        SaveMemory(Memory("u", 1, "p")),
        SaveView(a_view(at(1), keys=(HeldKey(a_key_id(1), "current", START),))),
        SaveSightings(Sightings(a_key_id(1))),
        SavePlacement(Placement("t", a_key_id(1), START)),
    ]
    journal.commit("a", *everything, SaveRotation(a_rotation()), Event(START, "note", "x"))
    journal.commit("b", *everything)
    with pytest.raises(IllegalTransition, match="open rotation or retirement"):
        journal.forget_credential("a")
    journal.commit("a", EndRotation("rot-1", Reason.ABANDONED, at(1)), SaveRetirement(a_retirement()))
    with pytest.raises(IllegalTransition, match="open rotation or retirement"):
        journal.forget_credential("a")
    journal.commit("a", EndRetirement("ret-1", Reason.DEAD, at(1)))
    journal.forget_credential("a")
    journal.forget_credential("a")

    assert journal.recall("a") == Recollection(newest_line=START)
    assert [row.name for row in journal.list_credentials()] == ["b"]
    assert journal.find_holders(a_key_id(1)) == ["b"]
    assert journal.recall("b").sightings == (Sightings(a_key_id(1)),)
    assert len(journal.find_rotations("a")) == len(journal.find_retirements("a")) == len(journal.find_events("a")) == 1
    assert journal.verify_audit() == []
