"""Commits that wait for each other are one replace of the file, and each has its own fate all the same."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from rotator.domain.errors import AnswerLost, Conflict, IllegalTransition, Refused, Unreachable
from rotator.domain.ports import Holding
from rotator.domain.record import Change, Promote
from rotator.stores.embedded import EmbeddedStore, MasterKey
from rotator.stores.embedded import store as module
from tests.contract.stores.build import START, a_key, a_note, an_opening, commit_all, noted

MASTER = MasterKey.generate()
_WITHIN = 10.0
Fate = Holding | Exception


@pytest.fixture
def store(tmp_path: Path) -> EmbeddedStore:
    return EmbeddedStore(tmp_path / "store.bin", MASTER)


@pytest.fixture
def replaced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every replace of a file that was tried."""
    inner, tried = module.replace_file, []

    def replace_file(path: Path, chunks: object) -> int:
        tried.append(path)
        return inner(path, chunks)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "replace_file", replace_file)
    return tried


def _commit_together(
    store: EmbeddedStore, orders: list[tuple[str, Holding, Change]], meanwhile: Callable[[], None] | None = None
) -> list[Fate]:
    """All of them wait before the first is written, in this order; what each caller got."""
    fates: dict[int, Fate] = {}

    def commit(number: int) -> None:
        try:
            fates[number] = store.commit(*orders[number])
        except Exception as problem:  # noqa: BLE001  # looked at by the test
            fates[number] = problem

    threads = []
    pause = threading.Event()
    with store._writer:
        for number in range(len(orders)):
            threads.append(threading.Thread(target=commit, args=(number,)))
            threads[-1].start()
            for _ in range(int(_WITHIN / 0.005)):
                if len(store._orders) == number + 1:
                    break
                pause.wait(0.005)
        assert len(store._orders) == len(orders)
        if meanwhile is not None:
            meanwhile()
    for thread in threads:
        thread.join(_WITHIN)
    return [fates[number] for number in range(len(orders))]


def test_all_are_written_in_one_replace(store: EmbeddedStore, replaced: list[Path]) -> None:
    paths = [f"path-{number}" for number in range(6)]
    known = {path: commit_all(store, path, an_opening()) for path in paths[:3]}
    del replaced[:]
    orders = [(path, known.get(path, Holding("absent")), a_note("j", 1) if path in known else an_opening()) for path in paths]
    fates = _commit_together(store, orders)
    assert len(replaced) == 1
    for path, fate in zip(paths, fates, strict=True):
        assert isinstance(fate, Holding)
        assert store.read(path) == EmbeddedStore(store.path, MASTER).read(path) == fate
    assert [noted(store.read(path), "j") for path in paths[:3]] == [1, 1, 1]


def test_of_two_changes_of_one_path_the_first_wins(store: EmbeddedStore) -> None:
    held = commit_all(store, "path", an_opening())
    first, second, other = _commit_together(
        store, [("path", held, a_note("j", 1)), ("path", held, a_note("j", 2)), ("other", Holding("absent"), an_opening())]
    )
    assert isinstance(first, Holding)
    assert isinstance(second, Conflict)
    assert isinstance(other, Holding)
    assert store.read("path") == first
    assert noted(store.read("path"), "j") == 1


def test_one_that_is_illegal_takes_no_other_along(store: EmbeddedStore, replaced: list[Path]) -> None:
    held, other = commit_all(store, "path", an_opening()), commit_all(store, "other", an_opening())
    del replaced[:]
    illegal, legal = _commit_together(store, [("path", held, Promote(a_key().key_id, None, START)), ("other", other, a_note("j", 1))])
    assert isinstance(illegal, IllegalTransition)
    assert isinstance(legal, Holding)
    assert store.read("path") == held
    assert len(replaced) == 1


def test_where_all_are_refused_nothing_is_written(store: EmbeddedStore, replaced: list[Path]) -> None:
    old = commit_all(store, "path", an_opening())
    commit_all(store, "path", a_note("j", 1))
    del replaced[:]
    fates = _commit_together(store, [("path", old, a_note("j", 2)), ("path", old, a_note("j", 3))])
    assert [type(fate) for fate in fates] == [Conflict, Conflict]
    assert replaced == []


@pytest.mark.parametrize("problem", [Refused("no"), AnswerLost("perhaps")], ids=str)
def test_a_disk_that_fails_fails_all(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    held = commit_all(store, "path", an_opening())

    def fail(*_: object) -> int:
        raise problem

    monkeypatch.setattr(module, "replace_file", fail)
    fates = _commit_together(
        store, [("path", held, a_note("j", 1)), ("other", Holding("absent"), an_opening()), ("path", held, a_note("j", 2))]
    )
    assert fates[:2] == [problem, problem]
    assert isinstance(fates[2], Conflict)
    monkeypatch.undo()
    assert store.read("path") == held
    assert store.read("other").record is None


def test_who_waits_too_long_is_not_written_later(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store.bin", MASTER, patience=timedelta(milliseconds=50))
    held = commit_all(store, "path", an_opening())
    with store._writer, pytest.raises(Unreachable, match="another thread"):
        store.commit("path", held, a_note("j", 1))
    assert commit_all(store, "other", an_opening()).record is not None
    assert store.read("path") == held


def test_who_waits_too_long_for_what_is_being_written_does_not_know(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path / "store.bin", MASTER, patience=timedelta(milliseconds=50))
    held = commit_all(store, "path", an_opening())
    taking = threading.Thread(target=lambda: _take_first(store))
    with store._writer:
        taking.start()
        with pytest.raises(AnswerLost, match="may yet be written"):
            store.commit("path", held, a_note("j", 1))
    taking.join(_WITHIN)


def _take_first(store: EmbeddedStore) -> None:
    pause = threading.Event()
    while not store._orders:
        pause.wait(0.001)
    store._orders.popleft()


def test_an_interrupted_writer_leaves_nobody_waiting(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    held = commit_all(store, "path", an_opening())

    def be_interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_write_together", be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.commit("path", held, a_note("j", 1))
    monkeypatch.undo()
    assert noted(store.commit("path", held, a_note("j", 1)), "j") == 1
