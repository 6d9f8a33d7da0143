"""The memory store's hooks: a write that never arrives, and one whose answer is lost."""

from __future__ import annotations

import pytest

from rotator.domain.errors import AnswerLost, Conflict, Unreachable
from rotator.domain.record import Change
from rotator.stores.memory import MemoryStore
from tests.contract.stores.build import a_note, an_opening, commit_all, noted


def _lose_answer(path: str, change: Change) -> None:
    raise AnswerLost(f"{path}: {type(change).__name__}")


def _fail(path: str, change: Change) -> None:
    raise Unreachable(f"{path}: {type(change).__name__}")


def test_a_lost_answer_was_applied() -> None:
    store = MemoryStore()
    seen = commit_all(store, "path", an_opening())
    store.after_commit = _lose_answer
    with pytest.raises(AnswerLost, match="path: NoteAudit"):
        store.commit("path", seen, a_note("mine", 1))
    assert noted(store.read("path"), "mine") == 1
    store.after_commit = None
    with pytest.raises(Conflict):
        store.commit("path", seen, a_note("mine", 1))


def test_a_write_that_never_arrived_was_not_applied() -> None:
    store = MemoryStore(before_commit=_fail)
    with pytest.raises(Unreachable):
        store.commit("path", store.read("path"), an_opening())
    assert store.read("path").record is None


def test_a_hook_may_write_itself() -> None:
    store = MemoryStore()
    seen = commit_all(store, "path", an_opening())

    def interfere(path: str, _change: Change) -> None:
        store.before_commit = None
        commit_all(store, path, a_note("other", 1))

    store.before_commit = interfere
    with pytest.raises(Conflict):
        store.commit("path", seen, a_note("mine", 1))


def test_paths_are_those_that_hold_something() -> None:
    store = MemoryStore()
    commit_all(store, "b", an_opening())
    store.read("a")
    assert store.paths() == ("b",)
