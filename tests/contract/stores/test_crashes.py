"""A writer that dies at any moment, and a reader beside one that writes: no state is torn, none that was acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from rotator.domain.ports import Store
from rotator.domain.secret import Secret
from tests.contract.stores.build import a_key, commit_all, find_key_material, hold_current, noted
from tests.contract.stores.kinds import REACHING_PROCESSES, Kind
from tests.contract.stores.processes import Writer
from tests.contract.stores.writer import churned

PATHS = 5
KILLS = 30


def _prepare(store: Store) -> dict[str, Secret]:
    keys = {churned(number): a_key() for number in range(PATHS)}
    for path, key in keys.items():
        hold_current(store, path, key)
    return keys


def _find_temporaries(place: Path) -> list[str]:
    return [file.name for file in place.iterdir() if file.name.endswith(".tmp")]


@pytest.mark.parametrize("kind", REACHING_PROCESSES, ids=str)
def test_a_killed_writer_leaves_what_was_acknowledged_or_in_flight(kind: Kind, place: Path) -> None:
    keys = _prepare(kind.open(place))
    acknowledged = dict.fromkeys(keys, 0)
    moments = random.Random(20260301)
    with Writer(kind, place) as writer:
        for kill in range(KILLS):
            writer.tell(f"churn {PATHS} loud")
            in_flight = _kill_at_random(writer, acknowledged, moments)
            assert find_key_material(place, *keys.values()) == []
            store = kind.open(place)
            assert _find_temporaries(place) == []
            for path, key in keys.items():
                holding = store.read(path)
                assert noted(holding, "churn") in {acknowledged[path], in_flight.get(path)}, f"kill {kill} at {path}"
                assert holding.secrets[key.key_id].same_as(key)
                acknowledged[path] = noted(holding, "churn")
    assert min(acknowledged.values()) > 0


def _kill_at_random(writer: Writer, acknowledged: dict[str, int], moments: random.Random) -> dict[str, int]:
    """Kill the churning process some milliseconds after its first commit; gives what was in flight, notes what was acknowledged."""
    pid = int(writer.hear().removeprefix("pid "))
    lines = [writer.hear(), writer.hear()]
    threading.Event().wait(moments.uniform(0, 0.015))
    os.kill(pid, signal.SIGKILL)
    lines += writer.hear_until("gone")
    in_flight: dict[str, int] = {}
    for verb, path, number in (line.split() for line in lines):
        if verb == "try":
            in_flight = {path: int(number)}
        else:
            acknowledged[path] = int(number)
            in_flight = {}
    return in_flight


@pytest.mark.parametrize("kind", REACHING_PROCESSES, ids=str)
def test_a_reader_beside_a_writing_process_sees_no_torn_state(kind: Kind, place: Path) -> None:
    store = kind.open(place)
    keys = _prepare(store)
    still = a_key()
    quiet = hold_current(store, "still", still)
    last, reads = dict.fromkeys(keys, 0), 0
    with Writer(kind, place) as writer:
        writer.tell(f"churn {PATHS} quiet")
        pid = int(writer.hear().removeprefix("pid "))
        begun = time.monotonic()
        while (took := time.monotonic() - begun) < 2 or (took < 60 and not (reads > PATHS and min(last.values()) > 0)):
            for path, key in keys.items():
                holding = store.read(path)
                assert holding.secrets[key.key_id].same_as(key)
                assert noted(holding, "churn") >= last[path]
                last[path] = noted(holding, "churn")
                reads += 1
            assert store.read("still") == quiet
        os.kill(pid, signal.SIGKILL)
        writer.hear_until("gone")
    assert min(last.values()) > 0
    assert reads > PATHS


@pytest.mark.parametrize("kind", REACHING_PROCESSES, ids=str)
def test_a_writer_that_died_holds_nobody_up(kind: Kind, place: Path) -> None:
    store = kind.open(place)
    _prepare(store)
    with Writer(kind, place) as writer:
        for _ in range(3):
            writer.tell(f"churn {PATHS} quiet")
            pid = int(writer.hear().removeprefix("pid "))
            os.kill(pid, signal.SIGKILL)
            writer.hear_until("gone")
            started = time.monotonic()
            hold_current(store, churned(0), a_key())
            assert time.monotonic() - started < 30
            assert commit_all(store, churned(0)).current is not None
