"""The must-show: `rotator leak` on a live key, while the service's workers still believe in it."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.consumers import find_key
from tests.support.scenes import Scene, Stage, instant, open_stage

CACHE_TIME = 3.0
CAREFUL = timedelta(seconds=1)
"""How far the watched truth may lag behind, and two pauses between probes: workers of the service forget one after the other."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("stage"), cache_seconds=int(CACHE_TIME)) as stage:
        yield stage


@contextlib.contextmanager
def stealing(scene: Scene) -> Iterator[None]:
    """Somebody else uses the key all the time, so that every worker of the service knows it; each since another time."""
    key = find_key(scene.files[0])
    assert key is not None
    stopping = threading.Event()

    def use() -> None:
        workers = [0]
        while not stopping.wait(CACHE_TIME / 2 if len(workers) == 1 else 0.05):
            for worker in workers:
                scene.stage.control.probe(key, worker=worker)
            workers = [0, 1]

    scene.stage.control.flush()
    scene.stage.control.probe(key, worker=0)
    thread = threading.Thread(target=use, name="thief", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(10.0)


def reveal(file: Path) -> str:
    key = find_key(file)
    assert key is not None
    return key.reveal()


@pytest.mark.parametrize("by", ["full key on stdin", "key id"])
def test_the_timeline_of_a_live_key_with_the_services_cache_at_work(stage: Stage, by: str) -> None:
    scene = stage.add(targets=2)
    old, file = scene.key_id, scene.files[0]
    words, stdin = (("--json", "leak"), f"{reveal(file)}\n") if by != "key id" else (("--json", "leak", old), None)
    with stealing(scene):
        done = stage.site.run(*words, stdin=stdin)
    assert done.returncode == 0, done.stderr
    (story,) = json.loads(done.stdout)["stories"]
    assert story["key_id"] == old
    assert story["outcome"] == "dead"
    assert story["replaced_by"] == scene.key_id != old
    at = {moment["what"]: instant(moment["at"]) for moment in story["timeline"]}
    assert at["reported"] <= at["replaced"] <= at["revoked"] < at["last-alive"], "the service's cache was not at work"
    assert at["last-alive"] < at["first-refused"] < at["dead"]
    died = stage.truth.last_accepted[old]
    assert at["last-alive"] - CAREFUL <= died <= at["first-refused"] + CAREFUL, "the bracket does not hold the true death"
    assert at["dead"] - at["last-alive"] >= timedelta(seconds=CACHE_TIME), "proven before the cache time was over"
    scene.wait_settled(2)
    scene.ensure_deaths_are_true()
    scene.ensure_converged()
