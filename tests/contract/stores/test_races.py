"""Two writers who saw the same: exactly one wins, whether they are threads, clients or processes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rotator.domain.errors import Conflict
from rotator.domain.ports import Store
from tests.contract.stores.build import a_note, an_opening, commit_all, noted
from tests.contract.stores.kinds import REACHING_PROCESSES, Kind
from tests.contract.stores.processes import Writer

ROUNDS = 50


def _contend(store: Store, path: str, name: str, number: int, barrier: threading.Barrier) -> bool:
    seen = store.read(path)
    barrier.wait(timeout=60)
    try:
        store.commit(path, seen, a_note(name, number) if seen.record else an_opening(name))
    except Conflict:
        return False
    return True


@pytest.mark.parametrize("clients", ["one client", "two clients"])
def test_of_two_threads_exactly_one_wins(store: Store, sibling: Store, clients: str) -> None:
    barrier = threading.Barrier(2)
    second = store if clients == "one client" else sibling
    with ThreadPoolExecutor(2) as threads:
        for number in range(1, ROUNDS + 1):
            for path in ("the-same", f"new-{number}"):
                futures = [threads.submit(_contend, each, path, name, number, barrier) for each, name in ((store, "a"), (second, "b"))]
                won = [future.result(timeout=90) for future in futures]
                assert sorted(won) == [False, True], f"round {number} at {path}"
    assert max(noted(store.read("the-same"), name) for name in "ab") == ROUNDS


@pytest.mark.parametrize("kind", REACHING_PROCESSES, ids=str)
def test_of_two_processes_exactly_one_wins(kind: Kind, place: Path) -> None:
    store = kind.open(place)
    winners = set()
    with Writer(kind, place) as first, Writer(kind, place) as second:
        for number in range(1, ROUNDS + 1):
            for path in ("the-same", f"new-{number}"):
                answers = _race((first, second) if number % 2 else (second, first), path, number)
                assert sorted(answers) == ["lost", "won"], f"round {number} at {path}"
                winners.add(answers.index("won"))
                assert store.read(path).record is not None
    assert max(noted(store.read("the-same"), name) for name in "ab") == ROUNDS


def _race(writers: tuple[Writer, Writer], path: str, number: int) -> list[str]:
    for writer, name in zip(writers, "ab", strict=True):
        writer.tell(f"contend {path} {name} {number}")
    assert [writer.hear() for writer in writers] == ["seen", "seen"]
    for writer in writers:
        writer.tell("go")
    return [writer.hear() for writer in writers]


def test_many_threads_lose_no_change(store: Store, sibling: Store) -> None:
    """Each retries until it is in; every note arrives, at paths that others are writing beside."""
    each = 20
    for path in ("left", "right"):
        commit_all(store, path, an_opening())

    def write(client: Store, path: str, journal: str) -> None:
        for number in range(1, each + 1):
            while True:
                try:
                    client.commit(path, client.read(path), a_note(journal, number))
                except Conflict:
                    continue
                break

    with ThreadPoolExecutor(6) as threads:
        jobs = [(client, path, f"{name}") for path in ("left", "right") for client, name in ((store, "a"), (store, "b"), (sibling, "c"))]
        for future in [threads.submit(write, *job) for job in jobs]:
            future.result(timeout=200)
    assert {noted(store.read(path), name) for path in ("left", "right") for name in "abc"} == {each}
