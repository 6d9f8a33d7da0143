"""Commits that wait for each other are written together, and each has its own fate all the same."""

from __future__ import annotations

import threading

from rotator.domain.errors import IllegalTransition
from rotator.domain.ports import EndRotation, Line, SaveRotation
from rotator.domain.reasons import Reason
from rotator.journal.sql import SqlJournal
from tests.contract.journal.build import a_rotation, an_event, at

_WITHIN = 10.0


def _commit_together(journal: SqlJournal, orders: dict[str, tuple[Line, ...]]) -> dict[str, BaseException | None]:
    """All of them wait before the first is written; what each caller got."""
    fates: dict[str, BaseException | None] = {}

    def commit(name: str) -> None:
        try:
            journal.commit(name, *orders[name])
            fates[name] = None
        except Exception as problem:  # noqa: BLE001  # looked at by the test
            fates[name] = problem

    threads = [threading.Thread(target=commit, args=(name,)) for name in orders]
    pause = threading.Event()
    with journal._writers:
        for thread in threads:
            thread.start()
        for _ in range(int(_WITHIN / 0.01)):
            if len(journal._orders) == len(orders):
                break
            pause.wait(0.01)
        assert len(journal._orders) == len(orders)
    for thread in threads:
        thread.join(_WITHIN)
    return fates


def test_all_are_written_and_the_trail_is_whole(journal: SqlJournal) -> None:
    names = [f"c{number}" for number in range(8)]
    fates = _commit_together(journal, {name: (SaveRotation(a_rotation(f"rot-{name}")), an_event()) for name in names})
    assert fates == dict.fromkeys(names)
    assert [journal.recall(name).rotation for name in names] == [a_rotation(f"rot-{name}") for name in names]
    assert sorted(row.credential for row in journal.find_events()) == names
    assert journal.verify_audit() == []


def test_one_that_is_refused_takes_no_other_along(journal: SqlJournal) -> None:
    orders: dict[str, tuple[Line, ...]] = {f"c{number}": (an_event(), SaveRotation(a_rotation(f"rot-{number}"))) for number in range(4)}
    orders["c2"] = (an_event(), EndRotation("nobody's", Reason.ABANDONED, at(1)))
    fates = _commit_together(journal, orders)
    assert isinstance(fates.pop("c2"), IllegalTransition)
    assert fates == dict.fromkeys(["c0", "c1", "c3"])
    assert sorted(row.credential for row in journal.find_events()) == ["c0", "c1", "c3"]
    assert journal.verify_audit() == []
