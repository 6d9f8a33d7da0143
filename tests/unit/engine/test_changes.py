"""Changes from outside are noticed by marks that differ, and nobody is looked at without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from rotator.domain.errors import Refused, Unreachable
from rotator.domain.ports import Holding
from rotator.domain.record import NoteAudit
from rotator.engine.changes import ChangeWatch
from rotator.stores.memory import MemoryStore
from tests.unit.engine.conftest import Rig, settled


class CountingStore(MemoryStore):
    """Counts reads and rounds of marks; `away` answers no marks."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[str] = []
        self.rounds: list[Sequence[str]] = []
        self.away = False
        self.refuses = False

    def read(self, path: str) -> Holding:
        self.reads.append(path)
        return super().read(path)

    def list_marks(self, paths: Sequence[str]) -> Mapping[str, str]:
        self.rounds.append(paths)
        if self.away:
            raise Unreachable("the store is away")
        if self.refuses:
            raise Refused("the token is dead")
        return super().list_marks(paths)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
def watch(rig: Rig, store: CountingStore) -> ChangeWatch:
    for name in ("one", "two"):
        rig.add(name, store=store)
        rig.live(name, settled)
    while rig.engine.queue.busy():
        rig.engine.queue.done(str(rig.engine.queue.take(rig.engine.stopping, only_emergencies=False)))
    return ChangeWatch(rig.engine)


def change(rig: Rig, store: CountingStore, name: str) -> None:
    path = rig.credentials[name].path
    holding = store.read(path)
    assert holding.record is not None
    store.commit(path, holding, NoteAudit("somebody", "1:else"))


def test_only_whose_mark_changed_is_looked_at(rig: Rig, store: CountingStore, watch: ChangeWatch) -> None:
    store.reads.clear()
    assert watch.poll() == 0
    assert watch.poll() == 0
    assert store.reads == []
    assert [sorted(paths) for paths in store.rounds] == [sorted(c.path for c in rig.credentials.values())] * 2, "one question for all"
    change(rig, store, "two")
    assert watch.poll() == 1
    assert rig.engine.queue.take(rig.engine.stopping, only_emergencies=False) == "two"
    assert watch.poll() == 0


def test_a_store_that_does_not_answer_is_asked_again_and_what_changed_meanwhile_is_seen(
    rig: Rig, store: CountingStore, watch: ChangeWatch
) -> None:
    watch.poll()
    store.away = True
    change(rig, store, "one")
    assert watch.poll() == 0
    store.away = False
    assert watch.poll() == 1


def test_a_store_that_refuses_is_looked_at_once_by_all(rig: Rig, store: CountingStore, watch: ChangeWatch) -> None:
    """Nobody's status would tell of a token that is dead until an idle credential's hour is over."""
    watch.poll()
    store.refuses = True
    assert [watch.poll(), watch.poll()] == [2, 0]
    store.refuses = False
    assert watch.poll() == 0


def test_a_credential_that_is_added_later_is_looked_at_once_its_mark_is_known(rig: Rig, store: CountingStore, watch: ChangeWatch) -> None:
    """What was written between its first look and its first mark would not be noticed for an hour."""
    watch.poll()
    rig.add("three", store=store)
    rig.live("three", settled)
    change(rig, store, "three")
    assert watch.poll() == 1
    assert watch.poll() == 0


def test_a_path_that_appears_or_vanishes_is_a_change(rig: Rig, store: CountingStore, watch: ChangeWatch) -> None:
    rig.add("three", store=store)
    assert watch.poll() == 0
    rig.visit("three")
    assert watch.poll() == 1
