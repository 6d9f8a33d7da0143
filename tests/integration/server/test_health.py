"""Health, readiness and metrics."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from rotator.domain.errors import Unreachable
from tests.integration.server.conftest import World, is_settled, wait_for


def series(world: World) -> dict[str, float]:
    text = world.client("viewer").get("/metrics").text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def test_alive_needs_nothing(world: World) -> None:
    answer = world.client(None).get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"alive": True})


def test_not_ready_before_every_store_was_read(world: World) -> None:
    world.configure("checkout-read")
    client = world.client(None)
    before = client.get("/readyz")
    assert (before.status_code, before.json()["parts"]["store:store"]) == (503, {"ready": False, "reason": "it was not read yet"})
    assert client.get("/readyz/store:store").status_code == 503

    world.run()
    wait_for(lambda: client.get("/readyz").status_code, lambda status: status == 200)
    assert client.get("/readyz/store:store").json() == {"ready": True, "reason": ""}
    assert client.get("/readyz/scheduler").status_code == 200


def test_a_store_that_goes_away_later_shows_in_its_own_part_only(running: World) -> None:
    def fail(_path: str) -> Any:
        raise Unreachable("vault is sealed")

    running.store.read = fail  # type: ignore[method-assign, assignment]
    running.engine.wake("checkout-read")
    client = running.client(None)
    wait_for(lambda: client.get("/readyz/store:store").status_code, lambda status: status == 503)
    assert client.get("/readyz").status_code == 200
    assert client.get("/readyz").json()["parts"]["store:store"]["reason"] == "vault is sealed"


def test_a_scheduler_that_stopped_makes_the_whole_unready(running: World) -> None:
    running.wakeups.stop()
    answer = running.client(None).get("/readyz")
    assert (answer.status_code, answer.json()["parts"]["scheduler"]["ready"]) == (503, False)


def test_metrics_tell_the_state(running: World) -> None:
    key_id = running.status("checkout-read")["key_id"]
    seen = series(running)
    assert seen[f'rotator_credential_info{{credential="checkout-read",issuer="issuer",key_id="{key_id}",kind="rk",store="store"}}'] == 1
    assert seen['rotator_credential_phase{credential="checkout-read",phase="idle"}'] == 1
    assert seen['rotator_credential_targets{credential="checkout-read",state="current"}'] == 2
    assert seen['rotator_rotations_total{credential="checkout-read",outcome="distributed",reason="bootstrap"}'] == 1
    assert seen['rotator_rotation_duration_seconds_count{reason="bootstrap"}'] == 1
    assert seen['rotator_engine_queue{lane="emergency"}'] == 0
    assert seen["rotator_oldest_overdue_seconds"] == 0
    assert seen['rotator_credential_expires_timestamp_seconds{credential="checkout-read"}'] > 1.7e9
    assert seen["process_open_fds"] > 0


def test_a_leak_is_timed_to_its_end(running: World) -> None:
    old = running.status("checkout-read")["key_id"]
    running.client().post("/api/v1/leak", json={"key_id": old})
    seen = wait_for(lambda: series(running), lambda s: s["rotator_leak_to_dead_seconds_count"] == 1)
    assert 0 < seen["rotator_leak_to_dead_seconds_sum"] < 60
    running.settle("checkout-read", is_settled)
    assert series(running)['rotator_credential_compromised{credential="checkout-read"}'] == 0


def test_no_series_outlives_its_credential(running: World) -> None:
    assert any("checkout-read" in name for name in series(running))
    running.configure("another")
    assert not [name for name in series(running) if "checkout-read" in name]


def test_a_broken_journal_leaves_the_other_metrics(running: World) -> None:
    running.metrics.watch(lambda: 1 / 0, running.engine.queue.lengths)  # type: ignore[arg-type, return-value]
    seen = series(running)
    assert seen["rotator_state_read_failed"] == 1
    assert 'rotator_engine_queue{lane="routine"}' in seen
    assert any(name.startswith("rotator_steps_total") for name in seen)
    assert not [name for name in seen if name.startswith("rotator_credential_")]


def test_metrics_on_a_port_of_their_own_are_open_and_alone(tmp_path: Path) -> None:
    with World(tmp_path, metrics_port=0) as world:
        url = world.server.metrics_url
        assert url is not None
        assert url != world.url
        with httpx.Client(base_url=url, trust_env=False) as client:
            assert "rotator_build_info" in client.get("/metrics").text
            for path in ("/api/v1/info", "/readyz", "/", "/api/v1/openapi.json"):
                assert (client.get(path).status_code, client.get(path).json()["error"]) == (404, "not-found")
            assert client.post("/metrics").status_code == 405
            assert client.get("/metrics", headers={"Host": "evil.example"}).status_code == 421
        assert world.client(None).get("/metrics").status_code == 401


def test_openmetrics_is_spoken_where_asked(running: World) -> None:
    answer = running.client("viewer").get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_promtool_finds_nothing_wrong(running: World) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        reason = "promtool is not installed (it comes with Prometheus)"
        if os.environ.get("ROTATOR_REQUIRE_REAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    running.client().post("/api/v1/credentials/checkout-read/rotate")
    running.metrics.on_remote("millimetric", "probe", "ok", 0.1)
    text = running.client("viewer").get("/metrics").text
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_no_label_holds_more_than_a_key_id(running: World) -> None:
    text = running.client("viewer").get("/metrics").text
    assert not re.search(r"(rk|sk|ak|pk)_[a-z0-9]+_[A-Za-z0-9]{8}_", text)
