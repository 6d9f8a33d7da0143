"""The embedded store, killed before and after every call that touches the disk in a commit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.stores.build import a_key, find_key_material, hold_current, noted
from tests.contract.stores.kinds import KINDS
from tests.contract.stores.processes import Writer
from tests.contract.stores.writer import CALLS

KIND = KINDS["embedded"]
_IN_PLACE = {"replace after", "sync-folder before", "sync-folder after"}
"""the moments from which on the new state stands"""
_NO_LEFTOVER = {"create before", *_IN_PLACE}


def test_every_moment_of_a_commit_is_survived(place: Path) -> None:
    store = KIND.open(place)
    keys = {path: a_key() for path in ("first", "second", "third")}
    for path, key in keys.items():
        hold_current(store, path, key)
    expected = 0
    with Writer(KIND, place) as writer:
        for number, moment in enumerate((f"{call} {when}" for call in CALLS for when in ("before", "after")), 1):
            call, when = moment.split()
            writer.tell(f"die {when} {call} second {number}")
            assert len(writer.hear_until("gone")) == 1, f"killed {when} {call}: the commit came back"
            left = [file.name for file in place.iterdir() if file.name.endswith(".tmp")]
            assert (left == []) == (moment in _NO_LEFTOVER), f"killed {moment}: {left}"
            assert find_key_material(place, *keys.values()) == []
            store = KIND.open(place)
            assert sorted(file.name for file in place.iterdir()) == ["master.key", "store.bin", "store.bin.lock"]
            expected = number if moment in _IN_PLACE else expected
            assert noted(store.read("second"), "churn") == expected, f"killed {moment}"
            assert all(store.read(path).secrets[key.key_id].same_as(key) for path, key in keys.items())


@pytest.mark.parametrize("moment", ["create", "sync-file"])
def test_a_leftover_does_not_hold_up_who_is_running(place: Path, moment: str) -> None:
    store = KIND.open(place)
    hold_current(store, "second", a_key())
    with Writer(KIND, place) as writer:
        writer.tell(f"die after {moment} second 1")
        writer.hear_until("gone")
    key = a_key()
    hold_current(store, "second", key)
    assert store.read("second").current == key.key_id
