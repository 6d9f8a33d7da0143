"""Each line comes back as it was written, after the journal was closed and opened again too."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotator.domain.errors import IllegalTransition
from rotator.domain.facts import Memory, Retirement, Rotation, Sightings, Verdict
from rotator.domain.keys import KeyId
from rotator.domain.ports import (
    DropSightings,
    EndRetirement,
    EndRotation,
    Event,
    Journal,
    Placement,
    Proof,
    Recollection,
    SaveMemory,
    SavePlacement,
    SaveRetirement,
    SaveRotation,
    SaveSightings,
    SaveView,
    View,
)
from rotator.domain.reasons import Reason
from rotator.journal.rows import CredentialRow, EventRow, RetirementRow, RotationRow
from rotator.journal.sql import SqlJournal
from tests.contract.journal import build
from tests.contract.journal.build import START, a_full_key, a_key_id, a_retirement, a_rotation, a_view, an_event, at

# one journal serves all examples of a case; each example has a credential of its own
every_value = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
_numbers = itertools.count()


def _fresh() -> str:
    return f"c{next(_numbers)}"


def test_the_port_is_fulfilled(journal: SqlJournal) -> None:
    port: Journal = journal
    assert isinstance(port, Journal)


def test_nothing_is_known_of_a_credential_never_seen(journal: SqlJournal) -> None:
    assert journal.recall("unseen") == Recollection()
    assert journal.find_credential("unseen") is None


@every_value
@given(memory=build.memories, later=build.memories)
def test_a_memory_comes_back_and_the_later_one_wins(journal: SqlJournal, memory: Memory, later: Memory) -> None:
    name = _fresh()
    journal.commit(name, SaveMemory(memory))
    assert journal.recall(name).memory == memory
    journal.commit(name, SaveMemory(later))
    assert journal.recall(name).memory == later


@every_value
@given(rotation=build.rotations, update=build.rotations, outcome=build.reasons, when=build.instants, key=build.maybe_key_ids)
def test_a_rotation_comes_back_until_it_ends_and_stays_as_history(
    journal: SqlJournal, rotation: Rotation, update: Rotation, outcome: Reason, when: datetime, key: KeyId | None
) -> None:
    name = _fresh()
    rotation, update = replace(rotation, id=name), replace(update, id=name)
    journal.commit(name, SaveRotation(rotation))
    assert journal.recall(name).rotation == rotation
    journal.commit(name, SaveRotation(update))
    assert journal.recall(name).rotation == update
    assert journal.find_rotations(name) == journal.find_rotations(name, open_only=True) == [RotationRow(name, update)]
    journal.commit(name, EndRotation(name, outcome, when, key))
    assert journal.recall(name).rotation is None
    assert journal.find_rotations(name, open_only=True) == []
    assert journal.find_rotations(name) == [RotationRow(name, update, when, outcome, key)]


@every_value
@given(retirement=build.retirements, update=build.retirements, when=build.instants, proof=st.none() | build.proofs)
def test_a_retirement_comes_back_until_it_ends_and_stays_as_history(
    journal: SqlJournal, retirement: Retirement, update: Retirement, when: datetime, proof: Proof | None
) -> None:
    name = _fresh()
    retirement, update = replace(retirement, id=name), replace(update, id=name)
    journal.commit(name, SaveRetirement(retirement))
    assert journal.recall(name).retirements == (retirement,)
    journal.commit(name, SaveRetirement(update))
    assert journal.recall(name).retirements == (update,)
    journal.commit(name, EndRetirement(name, Reason.DEAD, when, proof))
    assert journal.recall(name).retirements == ()
    assert journal.find_retirements(name) == [RetirementRow(name, update, when, Reason.DEAD, proof)]


@every_value
@given(first=build.sightings, later=build.sightings)
def test_sightings_come_back_until_they_are_dropped(journal: SqlJournal, first: Sightings, later: Sightings) -> None:
    name = _fresh()
    later = replace(later, key_id=first.key_id)
    journal.commit(name, SaveSightings(first))
    assert journal.recall(name).sightings == (first,)
    journal.commit(name, SaveSightings(later))
    assert journal.recall(name).sightings == (later,)
    journal.commit(name, DropSightings(first.key_id))
    assert journal.recall(name).sightings == ()


@every_value
@given(first=build.placements, later=build.placements)
def test_placements_come_back_one_for_each_target(journal: SqlJournal, first: Placement, later: Placement) -> None:
    name = _fresh()
    other = replace(first, target=f"{first.target} too")
    journal.commit(name, SavePlacement(other), SavePlacement(first))
    assert journal.recall(name).placements == (first, other)
    later = replace(later, target=first.target)
    journal.commit(name, SavePlacement(later))
    assert journal.recall(name).placements == (later, other)


@every_value
@given(view=build.views, later=build.views, memory=build.memories)
def test_a_view_comes_back_beside_the_memory(journal: SqlJournal, view: View, later: View, memory: Memory) -> None:
    name = _fresh()
    journal.commit(name, SaveView(view))
    assert journal.find_credential(name) == CredentialRow(name, view, None)
    journal.commit(name, SaveMemory(memory), SaveView(later))
    assert journal.find_credential(name) == CredentialRow(name, later, memory)
    assert CredentialRow(name, later, memory) in journal.list_credentials()


@every_value
@given(event=build.events)
def test_an_event_comes_back_with_its_number(journal: SqlJournal, event: Event) -> None:
    name = _fresh()
    journal.commit(name, event)
    (row,) = journal.find_events(name)
    assert row == EventRow(row.seq, name, event, row.hash)
    assert journal.audit_head() == f"{row.seq}:{row.hash}"


def test_instants_of_any_zone_come_back_as_utc(journal: SqlJournal) -> None:
    away = datetime.fromisoformat("2026-07-01T08:00:00.000001+05:30")
    journal.commit("a", SaveView(a_view(away)))
    row = journal.find_credential("a")
    assert row is not None
    assert row.view is not None
    assert row.view.due_at is not None
    assert row.view.due_at.isoformat() == "2026-07-01T02:30:00.000001+00:00"


def test_a_naive_instant_is_refused(journal: SqlJournal) -> None:
    naive = datetime(2026, 7, 1)  # noqa: DTZ001
    with pytest.raises(ValueError, match="due_at"):
        journal.commit("a", SaveView(a_view(naive)))
    with pytest.raises(ValueError, match="aware"):
        journal.commit("a", Event(naive, "note", "x"))
    assert journal.list_credentials() == []


def test_text_that_no_database_takes_is_written_as_escapes(journal: SqlJournal) -> None:
    journal.commit("a", an_event(text="file \udcff\0.json"))
    assert journal.find_events("a")[0].event.text == "file \\udcff\\x00.json"
    assert journal.verify_audit() == []


def test_the_newest_line_is_of_the_whole_journal_and_never_goes_back(journal: SqlJournal) -> None:
    journal.commit("a", an_event(5))
    journal.commit("b", SaveView(replace(a_view(), seen_at=at(9))))
    journal.commit("c", an_event(3))
    assert journal.recall("c").newest_line == at(9)
    assert journal.recall("unseen").newest_line == at(9)


def test_a_closed_rotation_cannot_be_updated_and_ending_it_again_changes_nothing(journal: SqlJournal) -> None:
    end = EndRotation("rot-1", Reason.DISTRIBUTED, at(1), a_key_id(2))
    journal.commit("a", SaveRotation(a_rotation()), end)
    with pytest.raises(IllegalTransition, match="rot-1 is closed"):
        journal.commit("a", SaveRotation(a_rotation()))
    journal.commit("a", replace(end, outcome=Reason.ABANDONED, at=at(2)), an_event())
    assert journal.find_rotations("a") == [RotationRow("a", a_rotation(), at(1), Reason.DISTRIBUTED, a_key_id(2))]


def test_a_closed_retirement_cannot_be_updated_and_ending_it_again_changes_nothing(journal: SqlJournal) -> None:
    end = EndRetirement("ret-1", Reason.DEAD, at(1), Proof(START, at(0.5), at(1)))
    journal.commit("a", SaveRetirement(a_retirement()), end)
    with pytest.raises(IllegalTransition, match="ret-1 is closed"):
        journal.commit("a", SaveRetirement(a_retirement()))
    journal.commit("a", EndRetirement("ret-1", Reason.CONFIRMED_ELSEWHERE, at(2)))
    assert journal.find_retirements("a") == [RetirementRow("a", a_retirement(), at(1), Reason.DEAD, Proof(START, at(0.5), at(1)))]


@pytest.mark.parametrize("line", [EndRotation("none", Reason.ABANDONED, START), EndRetirement("none", Reason.DEAD, START)])
def test_ending_what_is_not_known_is_illegal(journal: SqlJournal, line: EndRotation | EndRetirement) -> None:
    with pytest.raises(IllegalTransition, match="none of credential a is not in the journal"):
        journal.commit("a", line)


def test_another_credentials_rotation_is_not_touched(journal: SqlJournal) -> None:
    journal.commit("a", SaveRotation(a_rotation()))
    with pytest.raises(IllegalTransition):
        journal.commit("b", SaveRotation(replace(a_rotation(), failures=2)))
    with pytest.raises(IllegalTransition):
        journal.commit("b", EndRotation("rot-1", Reason.ABANDONED, START))
    assert journal.recall("a").rotation == a_rotation()


def test_a_credential_has_at_most_one_open_rotation(journal: SqlJournal) -> None:
    journal.commit("a", SaveRotation(a_rotation("rot-1")))
    with pytest.raises(IllegalTransition, match="an open rotation already"):
        journal.commit("a", SaveRotation(a_rotation("rot-2")))
    journal.commit("a", EndRotation("rot-1", Reason.SUPERSEDED, at(1)), SaveRotation(a_rotation("rot-2")))
    journal.commit("b", SaveRotation(a_rotation("rot-3")))
    assert {row.rotation.id for row in journal.find_rotations(open_only=True)} == {"rot-2", "rot-3"}


def test_a_key_of_a_credential_has_at_most_one_open_retirement(journal: SqlJournal) -> None:
    journal.commit("a", SaveRetirement(a_retirement("ret-1", 1)), SaveRetirement(a_retirement("ret-2", 2)))
    with pytest.raises(IllegalTransition, match="an open retirement already"):
        journal.commit("a", SaveRetirement(a_retirement("ret-3", 1)))
    journal.commit("b", SaveRetirement(a_retirement("ret-4", 1)))
    journal.commit("a", EndRetirement("ret-1", Reason.ROLLED_BACK, at(1)), SaveRetirement(a_retirement("ret-5", 1)))
    assert [r.id for r in journal.recall("a").retirements] == ["ret-2", "ret-5"]


_LEAKS = [
    (lambda key: an_event(text=f"it was {key}, said the log"), "events.text"),
    (lambda key: SaveMemory(Memory(key, 0, "p")), "credentials.uid"),
    (lambda key: SaveRotation(replace(a_rotation(), attempt=key)), "rotations.attempt"),
    (lambda key: SaveRetirement(a_retirement(f"x{key}")), "retirements.id"),
    (lambda key: SavePlacement(Placement("t", None, START, text=key)), "placements.text"),
    (lambda key: SaveView(replace(a_view(), parked=((Reason.CURRENT_DEAD, key),))), "credentials.parked"),
    (lambda key: SaveView(replace(a_view(), waiting=((Reason.OVERLAP, None, (key,)),))), "credentials.waiting"),
    (lambda key: EndRotation(key, Reason.DISTRIBUTED, START), "rotations.its_id"),
    (lambda key: SaveSightings(Sightings(KeyId(*key.split("_", 2)), answer=Verdict.ALIVE)), "sightings.key_id"),
]


@pytest.mark.parametrize(("leak", "column"), _LEAKS, ids=[column for _, column in _LEAKS])
def test_a_line_with_a_full_key_is_refused_without_repeating_it(journal: SqlJournal, leak: object, column: str) -> None:
    key = a_full_key()
    assert callable(leak)
    with pytest.raises(ValueError, match=column) as refused:
        journal.commit("a", an_event(), leak(key))
    assert key not in str(refused.value)
    assert journal.find_events() == []
    assert journal.list_credentials() == []


def test_a_credential_named_like_a_full_key_is_refused(journal: SqlJournal) -> None:
    with pytest.raises(ValueError, match="credential"):
        journal.commit(a_full_key(), an_event())
