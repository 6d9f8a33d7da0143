"""The workers: a fault ends neither them nor the credential, emergencies find a worker, and what is due is visited."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.domain.errors import Refused, Unreachable
from rotator.domain.ports import Answer, Holding
from rotator.domain.secret import Secret
from rotator.engine.steps import STEPS
from rotator.engine.steps import do as actions
from rotator.stores.memory import MemoryStore
from tests.support.daemon import wait_until
from tests.support.fakes import FakeProber
from tests.unit.engine.conftest import Rig, settled

WITHIN = 10.0


def generation(rig: Rig, name: str) -> int:
    record = rig.store.read(f"keys/{name}").record
    return record.generation if record is not None else 0


def test_a_fault_of_ours_ends_neither_the_worker_nor_the_credential(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = threading.Event()
    step = STEPS[actions.Mint]

    def break_once(work, action):  # type: ignore[no-untyped-def]
        if work.credential.name == "broken" and not broken.is_set():
            broken.set()
            raise TypeError("a fault of ours")
        return step.run(work, action)

    monkeypatch.setitem(STEPS, actions.Mint, replace(step, run=break_once))  # type: ignore[arg-type]
    rig.add("broken", targets=())
    rig.add("sound", targets=())
    rig.engine.start()
    wait_until(lambda: generation(rig, "sound") == 1, WITHIN)
    assert broken.wait(WITHIN)
    wait_until(lambda: ("mint", "fault") in rig.steps, WITHIN)
    wait_until(lambda: not rig.engine.queue.busy(), WITHIN)
    rig.clock.advance(timedelta(minutes=2))
    wait_until(lambda: rig.engine.dispatch() and generation(rig, "broken") == 1, WITHIN, what="another visit after the fault")
    assert all(thread.is_alive() for thread in rig.engine._threads)


@pytest.mark.parametrize("problem", [Unreachable("the disk is full"), TypeError("a fault of ours")], ids=["world", "fault"])
def test_a_first_visit_that_broke_is_followed_by_another(rig: Rig, monkeypatch: pytest.MonkeyPatch, problem: Exception) -> None:
    recall = rig.journal.recall
    refused = threading.Event()

    def refuse(name: str):  # type: ignore[no-untyped-def]
        if not refused.is_set():
            refused.set()
            raise problem
        return recall(name)

    monkeypatch.setattr(rig.journal, "recall", refuse)
    rig.add("one")
    rig.engine.start()
    assert refused.wait(WITHIN)
    wait_until(lambda: not rig.engine.queue.busy(), WITHIN)
    rig.clock.advance(timedelta(minutes=2))
    wait_until(lambda: rig.engine.dispatch() and generation(rig, "one") == 1, WITHIN, what="another visit")


class SlowProber(FakeProber):
    """Answers for the keys of some credentials only when it is let go."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.service)
        self.let_go = threading.Event()
        self.asked = threading.Semaphore(0)

    def probe(self, secret: Secret) -> Answer:
        self.asked.release()
        assert self.let_go.wait(30)
        return super().probe(secret)


def test_an_emergency_finds_a_worker_while_all_others_are_busy(rig: Rig) -> None:
    rig.add("leaked")
    assert settled(rig.visit("leaked"))
    (key_id,) = rig.service.list_alive()
    slow = SlowProber(rig)
    for number in range(6):
        rig.add(f"slow{number}", prober=slow, targets=())
    rig.engine.start()
    try:
        for _ in range(2):
            assert slow.asked.acquire(timeout=WITHIN)
        assert rig.engine.queue.lengths()["routine"] >= 4
        rig.operations.leak(secret=None, key_id=key_id, who="test")
        wait_until(lambda: key_id not in rig.service.list_alive(), WITHIN, what="the revoke while every other worker was busy")
    finally:
        slow.let_go.set()


def test_what_is_due_is_visited_and_what_left_the_configuration_is_not(rig: Rig) -> None:
    rig.add("stays")
    rig.add("leaves", targets=())
    rig.visit("stays")
    rig.visit("leaves")
    rig.engine.queue.queued.clear()
    rig.engine.queue.heap.clear()
    rig.clock.advance(timedelta(hours=2))
    del rig.credentials["leaves"]
    rig.engine._credentials = dict(rig.credentials)
    rig.engine.dispatch()
    assert set(rig.engine.queue.queued) == {"stays"}
    assert rig.journal.find_due(rig.clock.now(), 10) == []


def test_every_emergency_is_found_due_first(rig: Rig) -> None:
    for number in range(5):
        rig.add(f"routine{number}", targets=())
        rig.visit(f"routine{number}")
    rig.add("leaked", targets=())
    rig.visit("leaked")
    leaked = rig.store.read("keys/leaked").current
    rig.issuer.before = lambda _operation: (_ for _ in ()).throw(Unreachable("away"))
    rig.operations.leak(secret=None, key_id=leaked, who="test")
    rig.visit("leaked")
    rig.engine.queue.queued.clear()
    rig.engine.queue.heap.clear()
    rig.clock.advance(timedelta(hours=2))
    rig.engine.dispatch()
    assert rig.engine.queue.take(threading.Event(), only_emergencies=True) == "leaked"


class AwayStore(MemoryStore):
    """A store that does not answer."""

    def read(self, path: str) -> Holding:
        raise Unreachable(f"{path} is away")


def test_a_leak_is_accepted_while_another_credentials_store_is_away(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    (key_id,) = rig.service.list_alive()
    rig.add("away", store=AwayStore(), targets=())
    (accepted,) = rig.operations.leak(secret=None, key_id=key_id, who="test")
    assert accepted.credential == "one"
    unknown = replace(key_id, prefix="Unknown1")
    with pytest.raises(Unreachable, match="away"):
        rig.operations.leak(secret=None, key_id=unknown, who="test")
    del rig.credentials["away"]
    rig.engine.set_credentials(rig.credentials)
    with pytest.raises(Refused, match="no credential holds"):
        rig.operations.leak(secret=None, key_id=unknown, who="test")
