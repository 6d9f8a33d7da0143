"""A new key that the service does not take at once: no good one is given up, a bad one is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from tests.support.sandbox import SandboxControl
from tests.support.scenes import Scene, Stage, applied, ensure_stays, instant, parked, wait_until

SEEN_ONCE = {"operation": "mcp", "effect": "auth_outage", "times": 1}
"""The first probe of a new key meets a worker that does not know it; which one comes first is not for the test to say."""


def promoted_at(scene: Scene, key_id: str) -> str:
    return next(str(e["at"]) for e in scene.events(key_id=key_id) if e["action"] == "promote" and e["phase"] == "outcome")


@pytest.mark.parametrize("cached", [False, True], ids=["propagation", "cached refusals"])
def test_a_key_that_some_workers_refuse_at_first_is_promoted_once_all_take_it(stage: Stage, cached: bool) -> None:
    scene = stage.add()
    stage.control.settings(propagation=0.8, cache_refusals=cached)
    stage.control.faults(SEEN_ONCE)
    scene.rotate()
    status = scene.wait_settled(2)
    scene.ensure_nothing_good_was_given_up()
    minted = instant(stage.control.key(status["key_id"])["created_at"])
    assert instant(promoted_at(scene, status["key_id"])) >= minted + timedelta(seconds=0.8), "promoted while a worker refused it"
    refused = [e for e in scene.events(key_id=status["key_id"]) if e["action"] == "probe" and not e["ok"]]
    assert refused, "the test's weather did not reach the key"
    scene.ensure_converged()


def test_an_outage_of_authentication_outlasts_the_patience_for_a_new_key(stage: Stage) -> None:
    scene = stage.add(verify_for="1s")
    stage.control.faults({"operation": "mcp", "effect": "auth_outage"})
    scene.rotate()
    status = scene.wait_parked("unverifiable")
    assert status["generation"] == 1
    assert scene.rotations()[0]["failures"] == 0
    stage.control.faults()
    scene.wait_settled(2)
    scene.ensure_nothing_good_was_given_up()
    scene.ensure_converged()


def test_the_first_key_ever_meets_an_outage_and_there_is_no_witness(stage: Stage) -> None:
    stage.control.faults({"operation": "mcp_account", "effect": "auth_outage"})
    scene = stage.add(generation=0, kind="ak", justification="the only key of its kind: no other can bear witness", verify_for="1s")
    scene.wait_parked("unverifiable")
    minted = len(stage.control.keys())
    ensure_stays(lambda: parked(scene.status) == {"unverifiable"}, 1.5, "parked as unverifiable")
    assert len(stage.control.keys()) == minted, "another key was minted meanwhile"
    stage.control.faults()
    scene.wait_settled(1)
    scene.ensure_nothing_good_was_given_up()
    scene.ensure_converged()


@contextmanager
def spoiling(control: SandboxControl, kept: set[str]) -> Iterator[None]:
    """Revokes every key that is not kept, as soon as it is born: such a key is truly bad."""
    stopping = threading.Event()

    def spoil() -> None:
        while not stopping.wait(0.01):
            for key_id in control.living() - kept:
                control.revoke(key_id)

    thread = threading.Thread(target=spoil, name="spoiler", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(10.0)


def test_a_truly_bad_key_is_given_up_and_three_in_a_row_park(stage: Stage) -> None:
    scene = stage.add(verify_for="1s")
    # Slow probes, so that no key is seen alive before it is spoiled.
    stage.control.faults({"operation": "mcp", "effect": "latency", "seconds": 0.3})
    with spoiling(stage.control, stage.control.living()):
        scene.rotate()
        status = scene.wait_parked("attempts-failed")
    stage.control.faults()
    assert "retry" in next(row["text"] for row in status["parked"])
    assert status["rotation"]["failures"] == 3
    assert status["generation"] == 1
    bad = {row["key_id"] for row in scene.retirements() if row["why"] == "attempt-abandoned"}
    assert len(bad) == 3
    wait_until(lambda: not scene.status["retirements"], what="the proof of death of the bad keys")
    retried = stage.site.run("retry", scene.name)
    assert retried.returncode == 0, retried.stderr
    scene.wait_settled(2)
    scene.ensure_deaths_are_true()
    scene.ensure_converged()


def test_one_bad_key_is_followed_by_a_good_one_without_anybody(stage: Stage) -> None:
    scene = stage.add(verify_for="1s")
    stage.control.faults({"operation": "mcp", "effect": "latency", "seconds": 0.3})
    before = stage.control.living()
    with spoiling(stage.control, before):
        scene.rotate()
        wait_until(lambda: scene.status["rotation"]["failures"] >= 1, what="the bad key given up")
    stage.control.faults()
    scene.wait_settled(2)
    scene.ensure_deaths_are_true()
    scene.ensure_converged()


def test_faults_do_strike(stage: Stage) -> None:
    """The weather of this module is real: a rule that is in force is counted."""
    scene = stage.add()
    stage.control.faults({"operation": "mcp", "effect": "html_401", "times": 2})
    scene.rotate()
    scene.wait_settled(2)
    assert applied(stage.control) == 2
