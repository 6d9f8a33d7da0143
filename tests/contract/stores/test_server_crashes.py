"""A writer that is killed around each of the writes that a promotion takes on a server: whoever comes next settles it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rotator.domain.ports import Store
from rotator.domain.record import Doom, Promote, Retire, StageKey
from rotator.domain.secret import Secret
from tests.contract.stores.build import a_key, a_note, an_entry, an_opening, at, commit_all, hold_current, noted
from tests.contract.stores.kinds import KINDS, Kind
from tests.contract.stores.processes import Writer

SERVED = [KINDS["vault"]]
COMMIT_POINT = ("after", 2)
MOMENTS = [(when, nth) for nth in (1, 2, 3) for when in ("before", "after")]


def _stage(store: Store, path: str) -> tuple[Secret, Secret]:
    old, new, opening = a_key(), a_key(), an_opening()
    hold_current(store, path, old)
    commit_all(store, path, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    return old, new


@pytest.mark.parametrize("kind", SERVED, ids=str)
def test_whoever_comes_next_settles_what_a_killed_writer_left(kind: Kind, place: Path) -> None:
    store = kind.open(place)
    with Writer(kind, place) as writer:
        for number, (when, nth) in enumerate(MOMENTS):
            made = MOMENTS.index((when, nth)) >= MOMENTS.index(COMMIT_POINT)
            for settled_by in ("the same", "a note", "giving up"):
                path = f"{settled_by.replace(' ', '-')}-{number}"
                old, new = _stage(store, path)
                writer.tell(f"promote {when} {nth} {path}")
                assert "survived" not in writer.hear_until("gone")
                _check_settled(kind.open(place), path, old, new, made=made, by=settled_by)


def _check_settled(store: Store, path: str, old: Secret, new: Secret, *, made: bool, by: str) -> None:
    holding = store.read(path)
    assert holding.current == (new if made else old).key_id
    assert holding.record is not None
    assert (holding.record.pending is None, holding.record.generation) == (made, 2 if made else 1)
    assert all(holding.secrets[key.key_id].same_as(key) for key in (old, new))
    if by == "a note":
        assert noted(store.commit(path, holding, a_note("next", 7)), "next") == 7
    elif not made:
        change = Promote(new.key_id, old.key_id, at(61)) if by == "the same" else Retire(new.key_id, at(61))
        holding = store.commit(path, holding, change)
        assert holding.current == (new if by == "the same" else old).key_id
        if by == "giving up":
            holding = store.commit(path, holding, Doom(new.key_id, at(62)))
        assert store.read(path) == holding
    if made or by != "a note":
        assert hold_current(store, path, a_key()) == store.read(path)
