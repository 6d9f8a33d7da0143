"""Two credentials that hold the same key, the usual state of things before rotator came: it dies when neither needs it (L19)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from rotator.domain.errors import Unreachable
from rotator.domain.keys import KeyId, Kind
from rotator.domain.ports import Holding
from rotator.domain.record import Adopt, KeyEntry, Stage
from rotator.stores.memory import MemoryStore
from tests.support.fakes import NOON
from tests.unit.engine.conftest import Rig, settled


class OtherStore(MemoryStore):
    """A store of its own, which can go away."""

    away = False

    def read(self, path: str) -> Holding:
        if self.away:
            raise Unreachable("sealed")
        return super().read(path)


@pytest.fixture
def other() -> OtherStore:
    return OtherStore()


@pytest.fixture
def shared(rig: Rig, other: OtherStore) -> KeyId:
    """The key that `one` and `two` hold."""
    key = rig.service.mint(Kind.RK, "live", "by hand").secret
    rig.add("one", targets=[])
    rig.add("two", store=other, targets=[])
    for name in rig.credentials:
        store, path, now = rig.credentials[name].store, rig.credentials[name].path, rig.clock.now()
        store.commit(path, store.read(path), Adopt(KeyEntry(key.key_id, Stage.CURRENT, now), now, f"uid-{name}", "test", key))
        rig.visit(name)
        rig.operations.adopt(name, "test")
        rig.live(name, settled)
    return key.key_id


def test_it_lives_while_the_other_credential_holds_it(rig: Rig, shared: KeyId) -> None:
    rig.operations.rotate("one", emergency=False, who="test")
    for _ in range(50):
        rig.clock.advance(timedelta(minutes=2))
        rig.visit("one")
        rig.visit("two")
    assert shared in rig.service.list_alive()
    rig.operations.rotate("two", emergency=False, who="test")
    while {settled(rig.visit("one")), settled(rig.visit("two"))} != {True}:
        rig.clock.advance(timedelta(seconds=5))
        assert rig.clock.now() < NOON + timedelta(hours=3), "each waits for the other"
    assert shared not in rig.service.list_alive()


def test_it_lives_while_the_other_credential_s_store_is_away(rig: Rig, other: OtherStore, shared: KeyId) -> None:
    """Not to be able to look is not to have seen that it is gone."""
    other.away = True
    rig.visit("two")
    rig.operations.rotate("one", emergency=False, who="test")
    for _ in range(50):
        rig.clock.advance(timedelta(minutes=2))
        rig.visit("two")
        rig.visit("one")
    assert shared in rig.service.list_alive()
    assert rig.journal.find_holders(shared) == ["two"]
