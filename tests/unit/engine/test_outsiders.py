"""Keys that somebody else wrote: verified before they are taken; in a store that is only read, taken without a word to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.domain.errors import Refused
from rotator.domain.keys import Kind
from rotator.domain.ports import Abilities
from rotator.domain.reasons import Reason
from rotator.domain.record import Change, Stage
from rotator.engine.runner import Outcome
from rotator.stores.changes import ABSENT
from tests.support.fakes import FakeIssuer, FakeKey
from tests.unit.engine.conftest import QUICK, Rig, settled

NOT_ABLE = Abilities(mint=False, list=False, revoke=False)
EXTRA = "track_event"
"""what a key of kind rk should not list"""


def write(rig: Rig, name: str, key: FakeKey | None = None, *, at: timedelta = timedelta(0)) -> FakeKey:
    """What an outsider does: the key in the place of the current one, beside whatever record there is."""
    key = key or rig.service.mint(Kind.RK, "live", "outsider")
    path = f"keys/{name}"
    held = rig.store.read(path)
    key_id = key.secret.key_id
    secrets = {**held.secrets, key_id: key.secret}
    rig.store._holdings[path] = replace(
        held, revision=f"theirs-{key_id}", current=key_id, current_since=rig.clock.now() + at, secrets=secrets
    )
    return key


def empty(rig: Rig, name: str) -> None:
    rig.store._holdings[f"keys/{name}"] = replace(rig.store.read(f"keys/{name}"), revision="emptied", current=None, secrets={})


def parked(outcome: Outcome) -> set[Reason]:
    return {reason for reason, _ in outcome.view.parked}


def test_a_key_that_was_there_before_is_nobody_s_to_accept(rig: Rig) -> None:
    """The record is made by the adoption itself: this journal is not newer than it (L29), and retires what it replaces."""
    first = write(rig, "one", at=-timedelta(days=3))
    rig.add("one")
    outcome = rig.visit("one")
    (held,) = outcome.view.keys
    assert (held.key_id, held.generation, held.minted_at) == (first.secret.key_id, 1, rig.clock.now() - timedelta(days=3))
    memory = rig.journal.recall("one").memory
    assert memory is not None
    assert (memory.recovered, memory.generation) == (False, 1)
    rig.operations.rotate("one", emergency=False, who="test")
    assert settled(rig.live("one", settled))
    assert first.secret.key_id not in rig.service.list_alive()


def test_a_key_that_lists_more_than_its_kind_is_not_taken(rig: Rig) -> None:
    """L12, for a key that nobody asked for: its tools are known before it is adopted."""
    rig.add("one")
    rig.visit("one")
    broad = write(rig, "one")
    broad.tools = (*broad.tools, EXTRA)
    outcome = rig.visit("one")
    assert parked(outcome) == {Reason.BROADER_THAN_DECLARED}
    assert EXTRA in outcome.view.parked[0][1]
    assert rig.target.deliveries != [broad.secret.key_id]
    assert broad.secret.key_id not in rig.target.deliveries
    rig.add("one", policy=replace(QUICK, allowed_tools=frozenset({EXTRA})))
    rig.live("one", settled)
    assert rig.target.deliveries[-1] == broad.secret.key_id
    entry = rig.store.read("keys/one").record
    assert entry is not None
    assert entry.current is not None
    assert set(entry.current.tools or ()) == set(broad.tools)


def add_read_only(rig: Rig, name: str = "one", **changes: object) -> None:
    def refuse(_path: str, _change: Change) -> None:
        raise AssertionError("something was to be written")

    rig.store.before_commit = refuse
    rig.add(name, issuer=FakeIssuer(rig.service, NOT_ABLE), read_only=True, **changes)


def test_a_store_that_is_only_read_is_distributed_from(rig: Rig) -> None:
    first = write(rig, "one", at=-timedelta(days=3))
    add_read_only(rig)
    (held,) = rig.visit("one").view.keys
    assert (held.key_id, held.stage, held.generation) == (first.secret.key_id, Stage.CURRENT, 1)
    assert held.minted_at == rig.clock.now() - timedelta(days=3)
    second = write(rig, "one")
    assert settled(rig.visit("one"))
    assert rig.target.deliveries == [first.secret.key_id, second.secret.key_id]
    memory = rig.journal.recall("one").memory
    assert memory is not None
    assert memory.generation == 2
    assert rig.store.read("keys/one").record is None
    assert rig.service.list_alive() == [first.secret.key_id, second.secret.key_id]
    for refused in (
        lambda: rig.operations.rotate("one", emergency=True, who="test"),
        lambda: rig.operations.rollback("one", who="test"),
        lambda: rig.operations.leak(secret=None, key_id=second.secret.key_id, who="test"),
    ):
        with pytest.raises(Refused, match="read-only"):
            refused()


def test_a_store_that_is_only_read_and_that_another_installation_rotates(rig: Rig) -> None:
    rig.add("theirs", path="keys/one", policy=replace(QUICK, installation="other"), targets=[])
    rig.add("one", issuer=FakeIssuer(rig.service, NOT_ABLE), read_only=True)
    rig.visit("theirs")
    rig.visit("one")
    for _ in range(2):
        rig.operations.rotate("theirs", emergency=False, who="test")
        rig.live("theirs", settled)
        assert settled(rig.visit("one"))
    assert rig.target.deliveries[-1] == rig.store.read("keys/one").current
    assert len(set(rig.target.deliveries)) == 3


def test_a_lost_journal_never_takes_a_target_back(rig: Rig) -> None:
    for _ in range(3):
        write(rig, "one")
        add_read_only(rig)
        rig.visit("one")
    rig.journal.forget_credential("one")
    rig.visit("one")
    memory = rig.journal.recall("one").memory
    assert memory is not None
    assert memory.generation == 4
    last = write(rig, "one")
    assert settled(rig.visit("one"))
    assert rig.target.held["one"].key_id == last.secret.key_id


def test_a_store_that_is_only_read_and_emptied(rig: Rig) -> None:
    write(rig, "one")
    add_read_only(rig)
    rig.visit("one")
    empty(rig, "one")
    assert parked(rig.visit("one")) == {Reason.STORE_EMPTIED}
    back = write(rig, "one")
    assert settled(rig.visit("one"))
    assert rig.target.held["one"].key_id == back.secret.key_id
    empty(rig, "one")
    assert parked(rig.visit("one")) == {Reason.STORE_EMPTIED}
    rig.operations.adopt("one", "test")
    assert parked(rig.visit("one")) == {Reason.NO_ISSUER}
    last = write(rig, "one")
    assert settled(rig.visit("one"))
    assert rig.target.held["one"].key_id == last.secret.key_id


def test_a_store_that_is_only_read_at_another_place(rig: Rig) -> None:
    """Moved parks until it is accepted; what is found there is verified as any key from outside."""
    write(rig, "one")
    add_read_only(rig)
    rig.visit("one")
    there = write(rig, "elsewhere")
    add_read_only(rig, path="keys/elsewhere")
    assert parked(rig.visit("one")) == {Reason.MOVED}
    rig.operations.adopt("one", "test")
    assert settled(rig.visit("one"))
    assert rig.target.held["one"].key_id == there.secret.key_id
    assert (rig.target.held["one"].generation or 0) > 1
    assert rig.store.read("keys/elsewhere").revision != ABSENT


def test_a_key_of_two_credentials_is_revoked_when_neither_needs_it(rig: Rig) -> None:
    """L19: the second one's overlap holds the first one's revoke back, not the other way round for ever."""
    shared = rig.service.mint(Kind.RK, "live", "outsider")
    for name, overlap in (("one", 1), ("two", 30)):
        write(rig, name, shared)
        rig.add(name, policy=replace(QUICK, overlap_min=timedelta(minutes=overlap)), targets=[])
        rig.visit(name)
    for name in ("one", "two"):
        rig.operations.rotate(name, emergency=False, who="test")
        rig.visit(name)
    rig.clock.advance(timedelta(minutes=29))
    for name in ("one", "two", "one"):
        outcome = rig.visit(name)
        assert shared.secret.key_id in rig.service.list_alive(), f"{name} revoked it within the overlap of two: {outcome.view}"
    rig.clock.advance(timedelta(minutes=2))
    for name in ("two", "one", "two"):
        rig.live(name, settled)
    assert shared.secret.key_id not in rig.service.list_alive()
