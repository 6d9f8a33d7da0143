"""Everything that a service, or what stands before it, may answer in place of the truth: nothing is concluded from it, and it passes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.scenes import Stage, applied, ensure_stays, wait_until, waiting

WEATHER: dict[str, dict[str, Any]] = {
    "a proxy's 401 in HTML": {"effect": "html_401"},
    "503": {"effect": "status", "status": 503},
    "502": {"effect": "status", "status": 502},
    "429 with Retry-After": {"effect": "rate_limited", "seconds": 1},
    "connections dropped before": {"effect": "drop_before"},
    "connections dropped after": {"effect": "drop_after"},
    "no JSON": {"effect": "garbage"},
    "a redirect": {"effect": "redirect"},
}
SLOW = {"operation": "mcp", "effect": "latency", "seconds": 0.3}
"""Gives the weather time to come: ten refusals, and so the proof of a death, take some seconds."""
every_weather = pytest.mark.parametrize("weather", WEATHER.values(), ids=WEATHER)


@every_weather
def test_no_probe_gets_through_while_a_new_key_is_verified(stage: Stage, weather: dict[str, Any]) -> None:
    scene = stage.add(verify_for="1s")
    stage.control.faults({"operation": "mcp", **weather})
    scene.rotate()
    wait_until(lambda: applied(stage.control) >= 2, what="two faulty answers")
    ensure_stays(lambda: scene.status["generation"] == 1, 1.2, "the old key")
    assert not scene.status["retirements"]
    assert scene.rotations()[0]["failures"] == 0
    stage.control.faults()
    status = scene.wait_settled(2)
    said = [e["text"] for e in scene.events(key_id=status["key_id"]) if e["action"] == "probe"]
    assert not [text for text in said if text.startswith("dead")], "taken for the service's word on the key"
    scene.ensure_nothing_good_was_given_up()
    scene.ensure_converged()
    assert stage.control.stats()["elsewhere"] == {"requests": 0, "with_authorization": 0}


@every_weather
def test_no_probe_gets_through_while_a_death_is_proven(stage: Stage, weather: dict[str, Any]) -> None:
    scene = stage.add()
    old = scene.key_id
    stage.control.faults(SLOW)
    scene.rotate()
    scene.wait(lambda s: s["generation"] == 2)
    wait_until(lambda: stage.control.key(old)["revoked_at"], every=0.01, what="the revoke")
    stage.control.faults({"operation": "mcp", **weather})
    wait_until(lambda: applied(stage.control) >= 2, what="two faulty answers")
    ensure_stays(lambda: [r["key_id"] for r in scene.status["retirements"]] == [old], 1.5, "the unproven death")
    stage.control.faults()
    scene.wait_settled(2)
    scene.ensure_nothing_good_was_given_up()
    scene.ensure_converged()


def test_an_outage_of_authentication_proves_no_death(stage: Stage) -> None:
    """Every key answers 401 invalid_api_key: the witness too, so the refusals of the old key count for nothing."""
    scene = stage.add(overlap={"min": "2s", "max": "60s"})
    old = scene.key_id
    scene.rotate()
    scene.wait(lambda s: s["generation"] == 2 and s["phase"] == "idle")
    stage.control.faults(SLOW)
    wait_until(lambda: stage.control.key(old)["revoked_at"], every=0.01, what="the revoke")
    stage.control.faults({"operation": "mcp", "effect": "auth_outage"})
    scene.wait(lambda s: "no-witness" in waiting(s), what="a refusal without a witness")
    before = len(scene.retirements())
    ensure_stays(lambda: [r["key_id"] for r in scene.status["retirements"]] == [old], 2.5, "the unproven death")
    assert len(scene.retirements()) == before
    stage.control.faults()
    scene.wait_settled(2)
    scene.ensure_nothing_good_was_given_up()


@pytest.mark.parametrize(
    ("operation", "weather"),
    [
        ("mint", "503"),
        ("mint", "429 with Retry-After"),
        ("mint", "connections dropped after"),
        ("mint", "a proxy's 401 in HTML"),
        ("list", "503"),
        ("revoke", "502"),
        ("revoke", "connections dropped after"),
        ("revoke", "a proxy's 401 in HTML"),
    ],
)
def test_the_issuer_fails_a_few_times(stage: Stage, operation: str, weather: str) -> None:
    scene = stage.add()
    stage.control.faults({"operation": operation, "times": 2, **WEATHER[weather]})
    scene.rotate()
    scene.wait_settled(2)
    wait_until(lambda: stage.control.living(f"{scene.label}/") == {scene.key_id}, what="one living key")
    scene.ensure_nothing_good_was_given_up()
    scene.ensure_converged()


def test_a_flaky_service_in_every_way_at_once(stage: Stage) -> None:
    scene = stage.add(targets=2)
    rules = [{"operation": "any", "probability": 0.08, **weather} for weather in WEATHER.values() if weather["effect"] != "rate_limited"]
    late = {"operation": "revoke", "effect": "late", "seconds": 0.5, "probability": 0.3}
    stage.control.faults({"operation": "any", "effect": "latency", "seconds": 0.1, "probability": 0.3}, late, *rules)
    for _ in range(2):
        generation = scene.status["generation"]
        scene.rotate()
        scene.wait(lambda s, more=generation: s["generation"] > more or s["parked"])
    stage.control.faults()
    scene.ask("retry")
    generation = scene.wait(lambda s: s["phase"] == "idle" and not s["retirements"])["generation"]
    assert generation >= 2
    scene.ensure_nothing_good_was_given_up()
    wait_until(lambda: stage.control.living(f"{scene.label}/") == {scene.key_id}, what="one living key")
    scene.ensure_converged()


def test_slow_answers_only_make_it_slower(stage: Stage) -> None:
    scene = stage.add()
    stage.control.faults({"operation": "any", "effect": "latency", "seconds": 0.4})
    scene.rotate()
    scene.wait(lambda s: s["generation"] == 2)
    stage.control.faults()
    scene.wait_settled(2)
    scene.ensure_nothing_good_was_given_up()
    scene.ensure_converged()
