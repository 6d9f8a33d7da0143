"""An audit line that was altered, removed, moved or cut off shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rotator.journal.sql import SqlJournal
from tests.contract.journal.build import an_event
from tests.contract.journal.kinds import Kind

_LINES = 12


@pytest.fixture
def head(kind: Kind, place: Path) -> str:
    """The head of a closed journal of twelve lines."""
    journal = kind.open(place)
    for number in range(1, _LINES + 1):
        journal.commit("a", an_event(number, "it's fine"))
    kept = journal.audit_head()
    kind.close(journal)
    return kept


@pytest.fixture
def verify(kind: Kind, place: Path) -> Callable[..., list[str]]:
    def verify(**heads: str) -> list[str]:
        journal = kind.open(place)
        try:
            return journal.verify_audit(heads)
        finally:
            kind.close(journal)

    return verify


def test_a_whole_trail_has_no_problem_and_holds_every_earlier_head(kind: Kind, place: Path) -> None:
    journal = kind.open(place)
    heads = {"at the beginning": journal.audit_head()}
    for number in range(1, _LINES + 1):
        journal.commit("a", an_event(number), an_event(number))
        heads[f"after {number}"] = journal.audit_head()
    kind.close(journal)
    journal = kind.open(place)
    assert len(set(heads.values())) == _LINES + 1
    assert journal.audit_head() == heads[f"after {_LINES}"]
    assert journal.verify_audit(heads) == []
    kind.close(journal)


def test_the_hashes_of_two_journals_differ_from_the_first_line_on(kind: Kind, tmp_path: Path) -> None:
    heads = set()
    for name in "xy":
        journal = kind.open(tmp_path / name)
        journal.commit("a", an_event())
        heads.add(journal.audit_head())
        kind.close(journal)
    assert len(heads) == 2


@pytest.mark.parametrize(
    "change",
    [
        "text = 'all was well'",
        "at = '2026-03-01T12:07:00.000001+00:00'",
        "credential = 'b'",
        "phase = 'outcome'",
        "action = 'action-8'",
        "reason = 'dead'",
        "process = 'p'",
        "key_id = 'rk_live_00000001'",
        "ok = 0",
        "ok = 5",
        "text = x'00'",
    ],
)
def test_an_altered_line_shows(kind: Kind, place: Path, head: str, verify: Callable[..., list[str]], change: str) -> None:
    kind.meddle(place, f"UPDATE events SET {change} WHERE seq = 7")
    assert verify(kept=head) == ["line 7 was altered"]


def test_an_altered_line_with_a_matching_hash_shows_at_the_next(
    kind: Kind, place: Path, head: str, verify: Callable[..., list[str]]
) -> None:
    kind.meddle(place, "UPDATE events SET hash = 'ab' WHERE seq = 7")
    assert verify() == ["line 7 was altered", "line 8 does not follow on line 7: one of the two was altered, or lines changed places"]


def test_a_removed_line_shows(kind: Kind, place: Path, head: str, verify: Callable[..., list[str]]) -> None:
    kind.meddle(place, "DELETE FROM events WHERE seq = 7")
    assert verify() == ["line 7 is missing"]


def test_removed_lines_show_also_at_the_beginning(kind: Kind, place: Path, head: str, verify: Callable[..., list[str]]) -> None:
    kind.meddle(place, "DELETE FROM events WHERE seq < 4")
    assert verify() == ["lines 1 to 3 are missing"]


def test_a_removed_line_whose_number_was_given_to_the_next_shows(
    kind: Kind, place: Path, head: str, verify: Callable[..., list[str]]
) -> None:
    kind.meddle(place, "DELETE FROM events WHERE seq = 7; UPDATE events SET seq = seq - 1 WHERE seq > 7")
    problems = verify(kept=head)
    assert "line 7 does not follow on line 6: one of the two was altered, or lines changed places" in problems
    assert "line 7 was altered" in problems


def test_lines_that_changed_places_show(kind: Kind, place: Path, head: str, verify: Callable[..., list[str]]) -> None:
    kind.meddle(
        place,
        "UPDATE events SET seq = 100 WHERE seq = 7; UPDATE events SET seq = 7 WHERE seq = 8; UPDATE events SET seq = 8 WHERE seq = 100",
    )
    assert {"line 7 was altered", "line 8 was altered"} <= set(verify())


def test_a_line_before_the_first_shows(kind: Kind, place: Path, head: str, verify: Callable[..., list[str]]) -> None:
    kind.meddle(
        place,
        "INSERT INTO events (seq, at, credential, phase, action, text, ok, prev, hash) "
        "SELECT -5, at, credential, phase, action, text, ok, prev, hash FROM events WHERE seq = 1",
    )
    assert verify() != []


def test_a_cut_off_tail_shows_through_a_head_that_was_kept(kind: Kind, place: Path, head: str, verify: Callable[..., list[str]]) -> None:
    kind.meddle(place, "DELETE FROM events WHERE seq > 9")
    assert verify() == []
    assert verify(record=head) == ["the head kept in record is line 12, which the trail does not hold: lines 10 to 12 were cut off"]


def test_a_tail_that_was_cut_off_and_grew_again_shows_through_a_head_that_was_kept(
    kind: Kind, place: Path, head: str, verify: Callable[..., list[str]]
) -> None:
    kind.meddle(place, "DELETE FROM events WHERE seq > 9")
    journal = kind.open(place)
    for number in range(1, 6):
        journal.commit("a", an_event(number, "another story"))
    kind.close(journal)
    expected = "the head kept in record is line 12, which the trail does not hold: line 12 is not the one that was written then"
    assert verify(record=head) == [expected]


def test_a_tail_that_is_cut_off_while_the_daemon_runs_shows(kind: Kind, place: Path, journal: SqlJournal) -> None:
    journal.commit("a", an_event(1), an_event(2))
    kind.meddle(place, "DELETE FROM events WHERE seq = 2")
    expected = "the head kept in this process is line 2, which the trail does not hold: lines 2 to 2 were cut off"
    assert journal.verify_audit() == [expected]


def test_a_head_that_is_none_is_named(verify: Callable[..., list[str]]) -> None:
    assert verify(record="gibberish") == ["the head kept in record is not of the form number:hash"]


def test_a_trail_of_nothing_but_problems_ends_early(kind: Kind, place: Path, journal: SqlJournal) -> None:
    journal.commit("a", *(an_event(number) for number in range(2500)))
    kind.meddle(place, "UPDATE events SET text = 'x'")
    problems = journal.verify_audit()
    assert len(problems) == 101
    assert "was not looked at" in problems[-1]


def test_a_trail_longer_than_a_page_is_whole(journal: SqlJournal) -> None:
    journal.commit("a", *(an_event(number) for number in range(2001)))
    assert journal.verify_audit() == []
    journal.commit("a", *(an_event(number) for number in range(999)))
    assert journal.verify_audit({"now": journal.audit_head()}) == []
