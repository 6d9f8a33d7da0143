"""The daemon as a process: it stops in time, takes a new configuration over, and keeps the old one where the new one is wrong."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import running_daemon
from tests.support.sandbox import build_client, start_sandbox_process
from tests.support.scenes import Stage, applied, build_site, held_by, open_stage, wait_until


@pytest.fixture(scope="module")
def module_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(module_stage: Stage) -> Iterator[Stage]:
    yield module_stage
    module_stage.control.faults()
    module_stage.site.write()
    module_stage.daemon.process.send_signal(signal.SIGHUP)


def log_of(stage: Stage) -> str:
    return stage.daemon.log.read_text()


def names(stage: Stage) -> set[str]:
    return {str(status["name"]) for status in stage.daemon.get("/api/v1/credentials")["credentials"]}


def refused_reload(stage: Stage) -> str:
    """Why the configuration is not taken over."""
    with build_client(stage.daemon.url, headers={"Authorization": f"Bearer {stage.daemon.token}"}, timeout=30, trust_env=False) as client:
        answer = client.post("/api/v1/reload").json()
    assert answer["exit_code"] == 3
    return str(answer["message"])


def has_left(stage: Stage, name: str) -> bool:
    """Whether nothing is delivered for it any more."""
    return name not in names(stage) or stage.daemon.status(name)["targets"] == []


@pytest.mark.parametrize("operation", ["mcp", "mint"])
def test_it_stops_within_ten_seconds_with_a_step_in_hand(tmp_path: Path, operation: str) -> None:
    with start_sandbox_process(tmp_path, cache_time=1) as sandbox:
        site = build_site(tmp_path, sandbox)
        file = site.key_file("raw")
        site.credential("only", "raw")
        with running_daemon(site) as daemon:
            daemon.wait_for("only", lambda s: s["generation"] == 1 and s["phase"] == "idle")
            sandbox.control.faults({"operation": operation, "effect": "latency", "seconds": 5})
            daemon.post("/api/v1/credentials/only/rotate", {"emergency": False})
            wait_until(lambda: applied(sandbox.control) >= 1, what="the step in hand")
            started = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - started < 10
            assert "Traceback" not in daemon.log.read_text()
        sandbox.control.faults()
        with running_daemon(site, log_name="second.log") as daemon:
            daemon.wait_for("only", lambda s: s["generation"] == 2 and s["phase"] == "idle" and not s["retirements"])
            assert sandbox.control.living() == {held_by(file)}


@pytest.mark.parametrize("how", ["signal", "file"])
def test_a_credential_comes_and_goes_with_the_configuration(stage: Stage, how: str) -> None:
    def tell() -> None:
        stage.site.write()
        if how == "signal":
            stage.daemon.process.send_signal(signal.SIGHUP)

    file = stage.site.key_file(f"by-{how}")
    name = f"new-{how}"
    stage.site.credential(name, file.stem)
    tell()
    wait_until(lambda: name in names(stage), what="the new credential")
    key_id = stage.daemon.wait_for(name, lambda s: s["generation"] == 1 and s["phase"] == "idle")["key_id"]
    second = stage.site.key_file(f"second-{how}")
    stage.site.config["credentials"][name]["targets"].append({"name": second.stem, "settle": "0s"})
    tell()
    wait_until(lambda: held_by(second) == key_id, what="the added target")
    del stage.site.config["credentials"][name]
    tell()
    # It may stay for a day: keys of its closed attempts may come to life late, and are swept.
    wait_until(lambda: has_left(stage, name), what="the end of the removed credential")
    assert stage.control.key(key_id)["revoked_at"] is None, "a key was revoked because its credential left the configuration"


def test_the_keys_of_a_removed_credential_still_die(stage: Stage) -> None:
    scene = stage.add(overlap={"min": "3s", "max": "60s"})
    old = scene.key_id
    scene.rotate()
    scene.wait(lambda s: s["generation"] == 2 and s["retirements"])
    del stage.site.config["credentials"][scene.name]
    stage.site.write()
    stage.daemon.post("/api/v1/reload")
    wait_until(lambda: [r["outcome"] for r in scene.retirements() if r["key_id"] == old] == ["dead"], what="the proof of death")
    assert stage.control.key(old)["revoked_at"] is not None


def test_a_wrong_configuration_is_reported_and_the_old_one_stays(stage: Stage) -> None:
    scene = stage.add()
    good = stage.site.config_file.read_text()
    stage.site.config_file.write_text(good + "\nnonsense: true\n")
    stage.daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the new configuration is wrong" in log_of(stage), what="the report")
    line = next(line for line in log_of(stage).splitlines() if "the new configuration is wrong" in line)
    assert "nonsense" in line
    assert "rotator.yaml" in line
    assert "Traceback" not in log_of(stage)
    assert "nonsense" in refused_reload(stage)
    scene.rotate()
    scene.wait_settled(2)


def test_a_configuration_that_is_taken_away_does_not_end_the_daemon(stage: Stage) -> None:
    scene = stage.add()
    before = log_of(stage).count("the old one stays")
    aside = stage.site.config_file.with_suffix(".aside")
    stage.site.config_file.rename(aside)
    stage.daemon.process.send_signal(signal.SIGHUP)
    wait_until(lambda: log_of(stage).count("the old one stays") > before, what="the report")
    stage.site.config_file.mkdir()
    stage.daemon.process.send_signal(signal.SIGHUP)
    scene.rotate()
    scene.wait_settled(2)
    stage.site.config_file.rmdir()
    aside.rename(stage.site.config_file)


def test_an_added_credential_that_cannot_be_built_changes_nothing(stage: Stage) -> None:
    """All or nothing: the good half of a bad configuration is not taken over either."""
    stage.site.credential("good-half")
    stage.site.credential("bad-half", "no-such-target")
    stage.site.write()
    assert "no-such-target" in refused_reload(stage)
    assert "good-half" not in names(stage)
    del stage.site.config["credentials"]["good-half"], stage.site.config["credentials"]["bad-half"]
