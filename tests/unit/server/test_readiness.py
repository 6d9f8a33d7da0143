"""Parts, and the whole that they make."""

from __future__ import annotations

import pytest

from rotator.domain.errors import Unreachable
from rotator.domain.record import Claim
from rotator.server.readiness import PartStatus, Readiness, WatchedStore
from rotator.stores.memory import MemoryStore


def test_nothing_expected_is_ready() -> None:
    assert Readiness().report() == (True, {})


def test_the_whole_waits_for_every_part_once() -> None:
    readiness = Readiness()
    readiness.expect("store:a", "not read")
    readiness.expect("store:b", "not read")
    readiness.mark_ready("store:a")
    assert readiness.report() == (False, {"store:a": PartStatus(ready=True), "store:b": PartStatus(ready=False, reason="not read")})
    readiness.mark_ready("store:b")
    assert readiness.report()[0]


def test_a_part_that_fails_later_is_its_own_matter() -> None:
    readiness = Readiness()
    readiness.expect("store:a")
    readiness.mark_ready("store:a")
    readiness.mark_failed("store:a", "sealed")
    assert readiness.report() == (True, {"store:a": PartStatus(ready=False, reason="sealed")})
    readiness.mark_ready("store:a")
    assert readiness.find("store:a") == PartStatus(ready=True)


def test_a_part_that_never_was_ready_holds_the_whole_up() -> None:
    readiness = Readiness()
    readiness.expect("store:a")
    readiness.mark_failed("store:a", "sealed")
    assert not readiness.report()[0]


def test_a_part_that_refuses_one_thing_is_not_away() -> None:
    readiness = Readiness()
    readiness.expect("store:a")
    assert readiness.find_away("store:a") is None, "it was not looked at yet"
    readiness.mark_failed("store:a", "sealed", away=True)
    assert readiness.find_away("store:a") == "sealed"
    readiness.mark_failed("store:a", "this path is forbidden")
    assert readiness.find_away("store:a") is None
    readiness.mark_failed("store:a", "sealed", away=True)
    readiness.mark_ready("store:a")
    assert (readiness.find_away("store:a"), readiness.find_away("store:b")) == (None, None)


def test_a_vital_part_that_fails_takes_the_whole_along() -> None:
    readiness = Readiness()
    readiness.expect("lock", vital=True)
    readiness.mark_ready("lock")
    readiness.mark_failed("lock", "lost")
    assert not readiness.report()[0]


def test_a_watched_part_is_asked_each_time() -> None:
    readiness, answers = Readiness(), iter([None, "stopped"])
    readiness.watch("scheduler", lambda: next(answers))
    assert readiness.report()[0]
    assert readiness.find("scheduler") == PartStatus(ready=False, reason="stopped")


def test_a_check_that_cannot_look_says_why() -> None:
    def fail() -> None:
        raise Unreachable("the disk is full")

    readiness = Readiness()
    readiness.watch("journal", fail)
    assert readiness.report() == (False, {"journal": PartStatus(ready=False, reason="the disk is full")})


def test_expecting_again_forgets_nothing_and_forgetting_does() -> None:
    readiness = Readiness()
    readiness.expect("store:a")
    readiness.mark_ready("store:a")
    readiness.expect("store:a")
    assert readiness.report()[0]
    readiness.forget("store:a")
    readiness.forget("store:a")
    readiness.mark_ready("store:a")
    readiness.mark_failed("store:a", "x")
    assert readiness.find("store:a") is None


def test_a_watched_store_is_the_store_and_tells() -> None:
    readiness, inner = Readiness(), MemoryStore()
    store = WatchedStore(inner, "store:a", readiness)
    assert readiness.find("store:a") == PartStatus(ready=False, reason="it was not read yet")

    seen = store.read("path")
    assert readiness.find("store:a") == PartStatus(ready=True)
    store.check("path")
    store.commit("path", seen, Claim("test", 1, "uid"))
    assert inner.paths() == ("path",)

    def fail(_path: str) -> None:
        raise Unreachable("sealed")

    inner.read = fail  # type: ignore[method-assign, assignment]
    with pytest.raises(Unreachable):
        store.read("path")
    assert readiness.find("store:a") == PartStatus(ready=False, reason="sealed")
