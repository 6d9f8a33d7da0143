"""The story that `rotator demo` tells on the embedded store, on the servers: schedule, on demand, a leak, a kill in mid-rotation."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.consumers import consuming, find_key
from tests.support.daemon import start_daemon, wait_until
from tests.support.places import STORE, Place
from tests.support.scenes import Scene, Stage, held_by


def ensure_found(place: Place, path: str, scene: Scene) -> None:
    """Consumers of the store find the current key, and the target has the same."""
    found = place.read(path)
    assert str(found.key_id) == scene.key_id == held_by(scene.files[0])


def test_by_schedule(stage: Stage) -> None:
    scene = stage.add(path="test/scheduled", generation=0, rotation={"every": "5s", "jitter": "0s"})
    wait_until(scene.files[0].exists, what="the first key")
    with consuming(stage.sandbox.url, scene.files[0]) as consumer:
        scene.wait(lambda s: s["generation"] >= 3, what="three generations")
    assert consumer.calls > 20
    assert not consumer.refusals
    scene.ensure_nothing_good_was_given_up()


def test_on_demand(stage: Stage, place: Place) -> None:
    path = "test/asked"
    scene = stage.add(path=path)
    ensure_found(place, path, scene)
    first = scene.key_id
    done = stage.site.run("rotate", scene.name, "--wait")
    assert done.returncode == 0, done.stderr
    scene.wait_settled(2)
    ensure_found(place, path, scene)
    assert scene.key_id != first
    assert stage.control.key(first)["revoked_at"] is not None
    scene.ensure_converged()
    scene.ensure_nothing_good_was_given_up()
    metrics = stage.daemon.metrics()
    assert f'remote="{STORE}"' in metrics, "its calls are counted"


def test_a_leak(stage: Stage, place: Place) -> None:
    path = "test/leaked"
    scene = stage.add(path=path)
    leaked = place.read(path)
    told = stage.site.run("leak", "--json", stdin=leaked.reveal())
    assert told.returncode == 0, told.stderr
    (story,) = json.loads(told.stdout)["stories"]
    assert story["key_id"] == str(leaked.key_id)
    scene.wait_settled(2)
    ensure_found(place, path, scene)
    assert not stage.control.probe(leaked).alive
    scene.ensure_converged()
    scene.ensure_deaths_are_true()


def _is_minted(scene: Scene, first: str) -> bool:
    return len(scene.stage.control.list(f"{scene.stage.site.config['installation']}/")) > 1


def _is_delivered(scene: Scene, first: str) -> bool:
    held = find_key(scene.files[0])
    return held is not None and str(held.key_id) != first


def _is_revoked(scene: Scene, first: str) -> bool:
    return scene.stage.control.key(first)["revoked_at"] is not None


@pytest.mark.parametrize("reached", [_is_minted, _is_delivered, _is_revoked])
def test_killed_in_mid_rotation_and_started_again(stage: Stage, place: Place, reached: Callable[[Scene, str], bool]) -> None:
    path = "test/killed"
    scene = stage.add(path=path)
    first = scene.key_id
    with consuming(stage.sandbox.url, scene.files[0]) as consumer:
        scene.rotate()
        wait_until(lambda: reached(scene, first), every=0.005, what="the point to die at")
        stage.daemon.kill()
        stage.daemon = start_daemon(stage.site)
        try:
            scene.wait_settled(2)
            ensure_found(place, path, scene)
            scene.ensure_converged()
            scene.ensure_nothing_good_was_given_up()
        finally:
            stage.daemon.stop()
    assert not consumer.refusals
