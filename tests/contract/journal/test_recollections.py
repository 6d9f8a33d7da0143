"""What is kept in memory is what a fresh reading would show, whatever was written, refused or begun meanwhile."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rotator.domain.errors import IllegalTransition
from rotator.domain.facts import Memory
from rotator.domain.ports import (
    DropSightings,
    EndRetirement,
    EndRotation,
    Line,
    Recollection,
    SaveMemory,
    SavePlacement,
    SaveRetirement,
    SaveRotation,
    SaveSightings,
    SaveView,
)
from rotator.domain.reasons import Reason
from rotator.journal.recollections import Recollections
from rotator.journal.sql import SqlJournal
from tests.contract.journal import build
from tests.contract.journal.build import START, a_rotation, an_event, at
from tests.contract.journal.test_together import _commit_together

_numbers = itertools.count()
_ids = st.sampled_from(["one", "two", "three"])
_keys = st.sampled_from([build.a_key_id(number) for number in (2, 1, 10)])
_near = st.integers(0, 3).map(at)
_odd_texts = st.sampled_from(["", "plain", "nul \0", "no character \udcff"])


def _with(strategy: st.SearchStrategy[Line], part: str, **fields: st.SearchStrategy[object]) -> st.SearchStrategy[Line]:
    """Lines whose values hit each other's: few ids, few keys, few instants."""

    def build_line(line: Line, values: dict[str, object]) -> Line:
        return replace(line, **{part: replace(getattr(line, part), **values)})  # type: ignore[type-var]

    return st.builds(build_line, strategy, st.fixed_dictionaries(fields))


_processes: st.SearchStrategy[Line] = st.one_of(
    _with(st.builds(SaveRotation, build.rotations), "rotation", id=_ids),
    st.builds(EndRotation, _ids, build.reasons, build.instants, build.maybe_key_ids),
    _with(st.builds(SaveRetirement, build.retirements), "retirement", id=_ids, key_id=_keys, opened_at=_near),
    st.builds(EndRetirement, _ids, build.reasons, build.instants, st.none() | build.proofs),
)
_lines: st.SearchStrategy[Line] = st.one_of(
    _processes,
    st.builds(SaveMemory, build.memories),
    _with(st.builds(SaveSightings, build.sightings), "sightings", key_id=_keys),
    st.builds(DropSightings, _keys),
    _with(st.builds(SavePlacement, build.placements), "placement", target=_ids, text=_odd_texts),
    st.builds(SaveView, build.views),
    build.events,
)
_commits = st.lists(
    st.tuples(st.booleans(), st.lists(_lines, min_size=1, max_size=4) | st.lists(_processes, min_size=1, max_size=1)),
    min_size=1,
    max_size=12,
)


def _renamed(line: Line, name: str) -> Line:
    """Ids are the example's own, as one journal serves them all."""
    if isinstance(line, SaveRotation):
        return SaveRotation(replace(line.rotation, id=f"{name}-{line.rotation.id}"))
    if isinstance(line, SaveRetirement):
        return SaveRetirement(replace(line.retirement, id=f"{name}-{line.retirement.id}"))
    if isinstance(line, EndRotation | EndRetirement):
        return replace(line, id=f"{name}-{line.id}")
    return line


def _read_anew(journal: SqlJournal, name: str) -> Recollection:
    return replace(journal._read_recollection(name), newest_line=journal._newest)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=_commits)
def test_it_is_what_a_fresh_reading_shows_after_every_commit(journal: SqlJournal, commits: Sequence[tuple[bool, Sequence[Line]]]) -> None:
    example = f"c{next(_numbers)}"
    names = f"{example}a", f"{example}b"
    for first, lines in commits:
        name = names[0] if first else names[1]
        with contextlib.suppress(IllegalTransition):
            journal.commit(name, *(_renamed(line, example) for line in lines))
        for one in names:
            assert journal.recall(one) == _read_anew(journal, one)


def test_the_sequences_of_the_case_above_are_taken_and_refused(journal: SqlJournal) -> None:
    """So that neither half of it is empty."""
    taken = refused = 0

    @settings(max_examples=60, deadline=None, database=None, derandomize=True)
    @given(commits=_commits)
    def write(commits: Sequence[tuple[bool, Sequence[Line]]]) -> None:
        nonlocal taken, refused
        example = f"c{next(_numbers)}"
        for _, lines in commits:
            try:
                journal.commit(example, *(_renamed(line, example) for line in lines))
                taken += 1
            except IllegalTransition:
                refused += 1

    write()
    assert taken > 30
    assert refused > 30


def test_commits_that_are_written_together_are_carried_on_each_by_its_own_fate(journal: SqlJournal) -> None:
    names = [f"c{number}" for number in range(6)]
    for name in names:
        journal.recall(name)
    orders: dict[str, tuple[Line, ...]] = {name: (SaveRotation(a_rotation(f"rot-{name}")), an_event()) for name in names}
    orders["c3"] = (SaveMemory(Memory("u", 1, "p")), EndRotation("nobody's", Reason.ABANDONED, START))
    fates = _commit_together(journal, orders)
    assert [name for name, fate in fates.items() if fate is not None] == ["c3"]
    assert [journal.recall(name) for name in names] == [_read_anew(journal, name) for name in names]
    assert journal.recall("c3").memory is None


def test_the_end_of_a_rotation_that_ended_before_ends_no_other(journal: SqlJournal) -> None:
    end = EndRotation("rot-1", Reason.SUPERSEDED, START)
    journal.recall("a")
    journal.commit("a", SaveRotation(a_rotation("rot-1")), end, SaveRotation(a_rotation("rot-2")))
    journal.commit("a", end)
    assert journal.recall("a").rotation == a_rotation("rot-2")


def test_a_reading_that_began_before_a_commit_is_not_kept(journal: SqlJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    read = journal._read_recollection

    def read_slowly(credential: str) -> Recollection:
        known = read(credential)
        monkeypatch.setattr(journal, "_read_recollection", read)
        journal.commit(credential, SaveMemory(Memory("u", 7, "p")))
        return known

    monkeypatch.setattr(journal, "_read_recollection", read_slowly)
    assert journal.recall("a").memory is None
    assert journal.recall("a").memory == Memory("u", 7, "p")


def test_a_reading_during_a_commit_is_not_kept(journal: SqlJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = journal._try_together
    seen: list[Recollection] = []

    def write_slowly(orders: Sequence[object]) -> bool:
        seen.append(journal.recall("a"))
        return inner(orders)  # type: ignore[arg-type]

    monkeypatch.setattr(journal, "_try_together", write_slowly)
    fates = _commit_together(journal, {"a": (SaveMemory(Memory("u", 7, "p")),), "b": (an_event(),)})
    assert fates == {"a": None, "b": None}
    assert seen[0].memory is None
    assert journal.recall("a").memory == Memory("u", 7, "p")


def test_a_commit_that_was_interrupted_leaves_nothing_in_memory(journal: SqlJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can tell whether it was written: the database is asked."""
    journal.commit("a", SaveMemory(Memory("u", 1, "p")))
    journal.recall("a")
    inner = journal._write_alone

    def be_interrupted(order: object) -> None:
        inner(order)  # type: ignore[arg-type]
        order.done = False  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(journal, "_write_alone", be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        journal.commit("a", SaveMemory(Memory("u", 2, "p")))
    assert journal.recall("a").memory == Memory("u", 2, "p")


def test_what_is_forgotten_is_forgotten_in_memory_too(journal: SqlJournal) -> None:
    journal.commit("a", SaveMemory(Memory("u", 1, "p")), an_event(1))
    journal.recall("a")
    journal.forget_credential("a")
    assert journal.recall("a") == Recollection(newest_line=at(1))


def test_no_more_are_kept_than_may_be() -> None:
    kept = Recollections(2)
    for name in ("a", "b", "a", "c"):
        kept.open(name).known = Recollection()
    assert [kept.open(name).known is not None for name in ("a", "c", "b")] == [True, True, False]
    none = Recollections(0)
    none.open("a").known = Recollection()
    none.put("a", Recollection())
    assert none.open("a").known is None
