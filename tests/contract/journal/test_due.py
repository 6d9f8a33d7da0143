"""What is due comes in the order of work, and the index knows who holds a key."""

from __future__ import annotations

from rotator.domain.ports import HeldKey, SaveView
from rotator.journal.sql import SqlJournal
from tests.contract.journal.build import START, a_key_id, a_view, at


def test_emergencies_come_first_then_the_never_synced_then_routine_oldest_first(journal: SqlJournal) -> None:
    looks = [
        ("r-new", "routine", 3),
        ("r-old", "routine", 1),
        ("r-older", "routine", -600),
        ("e-new", "emergency", 4),
        ("e-old", "emergency", 2),
        ("n", "never-synced", 0),
        ("later", "emergency", 6),
    ]
    for name, lane, minutes in looks:
        journal.commit(name, SaveView(a_view(at(minutes), lane=lane)))
    journal.commit("never", SaveView(a_view(None)))

    expected = [("e-old", "emergency"), ("e-new", "emergency"), ("n", "never-synced")]
    expected += [("r-older", "routine"), ("r-old", "routine"), ("r-new", "routine")]
    assert journal.find_due(at(5), 10) == expected
    assert journal.find_due(at(5), 4) == expected[:4]
    assert journal.find_due(at(-700), 10) == []
    assert journal.next_due() == at(-600)


def test_due_to_the_microsecond(journal: SqlJournal) -> None:
    due = START.replace(microsecond=1)
    journal.commit("a", SaveView(a_view(due)))
    assert journal.find_due(START, 1) == []
    assert journal.find_due(due, 1) == [("a", "routine")]


def test_nothing_is_due_in_an_empty_journal(journal: SqlJournal) -> None:
    assert journal.find_due(START, 10) == []
    assert journal.next_due() is None


def test_a_lane_that_is_not_known_is_routine(journal: SqlJournal) -> None:
    journal.commit("a", SaveView(a_view(at(0), lane="odd")))
    journal.commit("b", SaveView(a_view(at(1), lane="emergency")))
    assert journal.find_due(at(2), 5) == [("b", "emergency"), ("a", "odd")]


def test_holders_are_those_whose_last_look_showed_the_key_as_current_or_pending(journal: SqlJournal) -> None:
    for name, stage in (("a", "current"), ("b", "pending"), ("c", "retiring")):
        journal.commit(name, SaveView(a_view(keys=(HeldKey(a_key_id(7), stage, START),))))
    assert journal.find_holders(a_key_id(7)) == ["a", "b"]
    assert journal.find_holders(a_key_id(7), any_stage=True) == ["a", "b", "c"]
    journal.commit("a", SaveView(a_view(keys=(HeldKey(a_key_id(8), "current", START),))))
    assert journal.find_holders(a_key_id(7)) == ["b"]
    assert journal.find_holders(a_key_id(8)) == ["a"]
