"""All lines of a commit are written, or none; threads never lose or mix each other's."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter, process_time

import pytest

from rotator.domain.errors import IllegalTransition, Unreachable
from rotator.domain.facts import Memory, Sightings, Verdict
from rotator.domain.ports import (
    DropSightings,
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
from tests.contract.journal.kinds import Kind

_THREADS = 2
_COMMITS = 200

_EVERY_LINE: tuple[Line, ...] = (
    SaveMemory(Memory("u", 2, "p")),
    SaveRotation(replace(a_rotation(), failures=9)),
    SaveRotation(a_rotation("rot-2")),
    EndRotation("rot-1", Reason.ABANDONED, at(1)),
    SaveRetirement(a_retirement("ret-9", 9)),
    EndRetirement("ret-1", Reason.DEAD, at(1)),
    SaveSightings(Sightings(a_key_id(1)).after(Verdict.ALIVE, at(1), witnessed=True)),
    DropSightings(a_key_id(1)),
    SavePlacement(Placement("t", a_key_id(2), at(1))),
    SaveView(a_view(at(1), keys=(HeldKey(a_key_id(3), "current", START),))),
    an_event(99),
)


@pytest.mark.parametrize("line", _EVERY_LINE, ids=lambda line: type(line).__name__)
def test_a_line_before_one_that_fails_is_not_written(kind: Kind, place: Path, journal: SqlJournal, line: Line) -> None:
    journal.commit(
        "a",
        SaveMemory(Memory("u", 1, "p")),
        SaveRotation(a_rotation()),
        SaveRetirement(a_retirement()),
        SaveSightings(Sightings(a_key_id(1))),
        SavePlacement(Placement("t", a_key_id(1), START)),
        SaveView(a_view(START, keys=(HeldKey(a_key_id(1), "current", START),))),
        an_event(1),
    )
    if isinstance(line, SaveRotation) and line.rotation.id == "rot-2":
        journal.commit("a", EndRotation("rot-1", Reason.ABANDONED, at(1)))
    before = _everything(journal)
    with pytest.raises(IllegalTransition):
        journal.commit("a", line, EndRotation("unknown", Reason.ABANDONED, START))
    assert _everything(journal) == before
    kind.close(journal)
    journal = kind.open(place)
    assert _everything(journal) == before
    journal.commit("a", an_event(2))
    assert journal.verify_audit() == []
    kind.close(journal)


def _everything(journal: SqlJournal) -> tuple[object, ...]:
    return (
        journal.recall("a"),
        journal.list_credentials(),
        journal.find_rotations(),
        journal.find_retirements(),
        journal.find_events(),
        journal.audit_head(),
    )


def test_a_commit_of_nothing_writes_nothing(journal: SqlJournal) -> None:
    journal.commit("a")
    assert _everything(journal)[1:5] == ([], [], [], [])


def test_threads_write_and_read_at_once(journal: SqlJournal) -> None:
    wrong: list[BaseException] = []
    done = threading.Event()

    def write(name: str) -> None:
        for number in range(1, _COMMITS + 1):
            memory = SaveMemory(Memory("u", number, "p"))
            journal.commit(name, memory, SavePlacement(Placement("t", None, START, generation=number)), an_event(number))

    def read() -> None:
        while not done.is_set():
            for name in names:
                known = journal.recall(name)
                assert (known.memory is None) == (known.placements == ()), "a commit is seen whole, or not at all"
                assert known.memory is None or known.memory.generation == known.placements[0].generation
            journal.find_due(START, 10)

    def watch(work: Callable[..., None], *args: str) -> None:
        try:
            work(*args)
        except BaseException as error:  # noqa: BLE001  # of any kind: the test's own thread raises it again
            wrong.append(error)

    names = [f"c{number}" for number in range(_THREADS)]
    writers = [threading.Thread(target=watch, args=(write, name)) for name in names]
    readers = [threading.Thread(target=watch, args=(read,)) for _ in range(2)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()

    assert wrong == []
    for name in names:
        assert [row.event.action for row in journal.find_events(name, limit=1000)] == [f"action-{n}" for n in range(1, _COMMITS + 1)]
    assert journal.audit_head().startswith(f"{_THREADS * _COMMITS}:")
    assert journal.verify_audit() == []


def test_a_closed_journal_says_so(kind: Kind, journal: SqlJournal) -> None:
    kind.close(journal)
    with pytest.raises(Unreachable, match="is closed"):
        journal.recall("a")
    with pytest.raises(Unreachable, match="is closed"):
        journal.commit("a", an_event())


def test_how_long_a_commit_and_a_recall_take(journal: SqlJournal, capsys: pytest.CaptureFixture[str]) -> None:
    """Prints figures and asserts none: machines differ."""
    rounds = 100

    def rotate(name: str, number: int) -> None:
        process = f"{name}-{number}"
        note = Event(START, "outcome", "step", Reason.SCHEDULED, process, a_key_id(number))
        journal.commit(name, SaveMemory(Memory("u", number, "p")), SaveRotation(a_rotation(process)), note)
        journal.commit(name, SavePlacement(Placement("t", a_key_id(number), START)), note)
        journal.commit(name, SaveSightings(Sightings(a_key_id(1)).after(Verdict.ALIVE, START, witnessed=True)), note)
        keys = (HeldKey(a_key_id(number), "current", START), HeldKey(a_key_id(number + 1), "retiring", START))
        journal.commit(name, SaveView(a_view(START, keys=keys)), EndRotation(process, Reason.DISTRIBUTED, START), note)

    def measure(what: str, calls: int, work: Callable[[str], object]) -> None:
        wall, cpu = perf_counter(), process_time()
        for name in names:
            work(name)
        figures = [f"{(now - then) / calls * 1e3:.2f} ms" for now, then in ((process_time(), cpu), (perf_counter(), wall))]
        with capsys.disabled():
            sys.stdout.write(f"\n  {what}: {figures[0]} of CPU, {figures[1]} in all")

    rotate("warm", 1)
    names = [f"c{number}" for number in range(rounds)]
    measure("a commit of 2 or 3 lines", 4 * rounds, lambda name: rotate(name, 1))
    measure("a recall", rounds, journal.recall)
    measure("what is due", rounds, lambda _name: journal.find_due(START, 10))
    assert journal.recall("c1") != Recollection()
