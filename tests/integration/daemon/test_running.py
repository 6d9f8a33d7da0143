"""`rotator run` and its neighbours from outside: exit codes, a second daemon, mistakes in the configuration, no network, the schedule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.daemon import Site, running_daemon, wait_until
from tests.support.sandbox import SandboxProcess, start_sandbox_process
from tests.support.scenes import Scene, Stage, build_site, ensure_stays, held_by, instant, parked, waiting, watching


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with start_sandbox_process(tmp_path, cache_time=1) as process:
        yield process


@pytest.fixture
def site(tmp_path: Path, sandbox: SandboxProcess) -> Site:
    """One credential with one file, written down."""
    site = build_site(tmp_path, sandbox)
    site.key_file("raw")
    site.credential("only", "raw")
    site.write()
    return site


def test_once_does_what_can_be_done_now_and_serves_nothing(site: Site, sandbox: SandboxProcess) -> None:
    site.config["server"]["port"] = 1  # a port that could not be listened on, if it tried
    site.write()
    done = site.run("run", "--once")
    assert done.returncode == 0, done.stderr
    assert sandbox.control.living() == {held_by(site.folder / "raw.key")}
    assert not (site.state / "daemon.json").exists()
    again = site.run("run", "--once")
    assert again.returncode == 0
    assert len(sandbox.control.keys()) == 1


def test_once_says_that_a_step_failed(site: Site, sandbox: SandboxProcess) -> None:
    sandbox.control.faults({"operation": "any", "effect": "status", "status": 503})
    done = site.run("run", "--once")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_once_says_that_a_person_is_needed(site: Site, sandbox: SandboxProcess) -> None:
    assert site.run("run", "--once").returncode == 0
    site.config["installation"] = "another"
    site.write()
    done = site.run("run", "--once")
    assert done.returncode == 4
    assert "owned-by-another" in done.stderr


def test_once_makes_up_for_a_rotation_that_was_missed(site: Site, sandbox: SandboxProcess) -> None:
    site.config["credentials"]["only"]["rotation"] |= {"every": "2s", "jitter": "0s"}
    site.config["credentials"]["only"]["rotation"]["overlap"]["min"] = "1s"
    site.write()
    assert site.run("run", "--once").returncode == 0
    (first,) = sandbox.control.living()
    minted = instant(sandbox.control.key(first)["created_at"])
    wait_until(lambda: datetime.now(UTC) > minted + timedelta(seconds=2.2), what="the schedule")
    assert site.run("run", "--once").returncode == 0
    assert held_by(site.folder / "raw.key") != first
    assert len(sandbox.control.keys()) == 2


def test_a_second_daemon_on_the_same_journal_ends_and_says_why(site: Site) -> None:
    with running_daemon(site) as daemon:
        second = site.run("run")
        assert second.returncode == 1
        assert "journal" in second.stderr
        assert str(daemon.process.pid) in second.stderr
        assert "Traceback" not in second.stderr
        assert site.run("run", "--once").returncode == 1
        assert daemon.get("/api/v1/info")["installation"] == "test"


@pytest.mark.parametrize("command", [("run",), ("run", "--once"), ("check",)], ids=" ".join)
def test_a_mistake_in_the_configuration_is_named_with_its_line(site: Site, command: tuple[str, ...]) -> None:
    text = site.config_file.read_text()
    site.config_file.write_text(text.replace("issuer: sandbox", "issuer: sandbocks"))
    number = next(n for n, line in enumerate(site.config_file.read_text().splitlines(), 1) if "sandbocks" in line)
    done = site.run(*command)
    assert done.returncode == 3
    assert f"rotator.yaml:{number}" in done.stdout + done.stderr
    assert "sandbocks" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_without_a_network_the_daemon_stays_up_and_recovers(site: Site, sandbox: SandboxProcess, tmp_path: Path) -> None:
    port = int(sandbox.url.rpartition(":")[2])
    with running_daemon(site) as daemon:
        first = daemon.wait_for("only", lambda s: s["generation"] == 1 and s["phase"] == "idle")["key_id"]
        sandbox.process.terminate()
        sandbox.process.wait(60)
        daemon.post("/api/v1/credentials/only/rotate", {"emergency": False})
        daemon.wait_for("only", lambda s: "preflight-failed" in parked(s) or s["waiting"])
        ensure_stays(lambda: daemon.process.poll() is None and daemon.status("only")["key_id"] == first, 1.5, "the daemon")
        again = tmp_path / "again"
        again.mkdir()
        # Another sandbox at the same address, which knows the admin token but none of the keys.
        (again / "sandbox-token").touch(0o600)
        (again / "sandbox-token").write_text(sandbox.token_file.read_text())
        with start_sandbox_process(again, cache_time=1, port=port) as reborn:
            status = daemon.wait_for("only", lambda s: s["generation"] == 2 and s["phase"] == "idle")
            assert reborn.control.living() == {status["key_id"]}
            assert "Traceback" not in daemon.log.read_text()


def test_a_daemon_that_starts_without_a_network_waits(site: Site, sandbox: SandboxProcess) -> None:
    sandbox.control.faults({"operation": "any", "effect": "drop_before"})
    with running_daemon(site) as daemon:
        daemon.wait_for("only", lambda s: s["rotation"] is not None)
        sandbox.control.faults()
        daemon.wait_for("only", lambda s: s["generation"] == 1 and s["phase"] == "idle")


def test_the_schedule_rotates_by_itself(site: Site, sandbox: SandboxProcess) -> None:
    site.config["credentials"]["only"]["rotation"] |= {"every": "4s", "jitter": "1s", "max_age": "60s"}
    with running_daemon(site) as daemon:
        status = daemon.wait_for("only", lambda s: s["generation"] == 1 and s["phase"] == "idle" and s["next_rotation_at"])
        minted, due = instant(status["minted_at"]), instant(status["next_rotation_at"])
        promoted = next(instant(e["at"]) for e in daemon.events(credential="only") if e["action"] == "promote" and e["phase"] == "outcome")
        assert minted + timedelta(seconds=4) <= due <= promoted + timedelta(seconds=5)
        assert instant(status["expires_at"]) - minted == timedelta(seconds=60)
        daemon.wait_for("only", lambda s: s["generation"] >= 2)
        rotation = daemon.get("/api/v1/rotations", credential="only")["rotations"][0]
        assert rotation["reason"] == "scheduled"
        assert instant(rotation["opened_at"]) >= due


def test_our_own_rate_limit_only_makes_it_slower(site: Site, sandbox: SandboxProcess) -> None:
    site.config["millimetric"] |= {"rate": 4, "burst": 1}
    site.config["issuers"]["sandbox"] |= {"rate": 4, "burst": 1}
    for number in range(4):
        site.credential(f"other{number}")
    with running_daemon(site) as daemon:
        for name in ("only", "other0", "other1", "other2", "other3"):
            daemon.wait_for(name, lambda s: s["generation"] == 1 and s["phase"] == "idle")
        opened = min(instant(r["opened_at"]) for r in daemon.get("/api/v1/rotations", limit=100)["rotations"])
        closed = max(instant(r["closed_at"]) for r in daemon.get("/api/v1/rotations", limit=100)["rotations"])
        assert closed - opened >= timedelta(seconds=1), "five probes at four a second came at once"
        assert daemon.get("/api/v1/retirements")["retirements"] == []


def test_check_live_names_what_is_missing(site: Site, sandbox: SandboxProcess) -> None:
    good = site.run("check", "--live")
    assert good.returncode == 0, good.stdout + good.stderr
    assert len(sandbox.control.keys()) == 0, "a check minted a key"
    (site.folder / "issuer.token").write_text("not-the-token")
    folder = site.folder / "no-such-folder"
    site.config["targets"]["raw"]["path"] = str(folder / "raw.key")
    site.write()
    folder.write_text("a file where a folder should be")
    bad = site.run("--json", "check", "--live")
    assert bad.returncode == 1
    lines = {line["part"]: line for line in json.loads(bad.stdout)["lines"]}
    assert not lines["issuer sandbox"]["ok"]
    assert "token" in lines["issuer sandbox"]["text"]
    assert not lines["target raw (only)"]["ok"]
    assert str(folder) in lines["target raw (only)"]["text"]


def test_a_clock_that_is_wrong_stops_routine_revocation_only(site: Site, sandbox: SandboxProcess) -> None:
    sandbox.control.settings(clock_skew=90)
    with watching(sandbox) as truth, running_daemon(site) as daemon:
        scene = Scene(Stage(sandbox, site, daemon, truth), "only", [site.folder / "raw.key"])
        first = str(scene.wait_settled(1)["key_id"])
        scene.rotate()
        scene.wait_parked("clock-untrusted")
        ensure_stays(lambda: sandbox.control.key(first)["revoked_at"] is None, 2.0, "the old key")
        assert held_by(scene.files[0]) == scene.key_id != first
        scene.leak(scene.key_id)
        scene.wait(lambda s: s["generation"] == 3 and s["phase"] != "opened")
        wait_until(lambda: [r["key_id"] for r in scene.status["retirements"]] == [first], what="the end of the leaked key, and of it alone")
        sandbox.control.settings(clock_skew=0)
        scene.rotate()  # its probes show that the clocks agree again
        scene.wait_settled(4)
        scene.ensure_deaths_are_true()
        scene.ensure_converged()


def test_the_operators_verbs(site: Site, sandbox: SandboxProcess) -> None:
    site.config["credentials"]["only"]["rotation"]["overlap"] = {"min": "10m", "max": "1h"}
    with watching(sandbox) as truth, running_daemon(site) as daemon:
        scene = Scene(Stage(sandbox, site, daemon, truth), "only", [site.folder / "raw.key"])
        first = str(scene.wait_settled(1)["key_id"])
        assert site.run("abandon", "only").returncode == 1, "there was nothing to abandon"
        assert site.run("rollback", "only").returncode == 1, "there was nothing to roll back to"

        before = (scene.events()[-1]["seq"], (site.state / "keys.sealed").exists() and (site.state / "keys.sealed").read_bytes())
        planned = site.run("--json", "plan", "only")
        assert planned.returncode == 0, planned.stderr
        assert (scene.events()[-1]["seq"], (site.state / "keys.sealed").exists() and (site.state / "keys.sealed").read_bytes()) == before

        sandbox.control.faults({"operation": "mcp", "effect": "html_401"})
        assert site.run("rotate", "only").returncode == 0
        scene.wait(lambda s: "verifying" in waiting(s))
        abandoned = site.run("abandon", "only")
        assert abandoned.returncode == 0, abandoned.stderr
        sandbox.control.faults()
        assert scene.wait_settled(1)["key_id"] == first
        assert scene.rotations()[0]["outcome"] == "abandoned"

        assert site.run("rotate", "only", "--wait").returncode == 0
        second = scene.key_id
        late = site.run("abandon", "only")
        assert late.returncode == 1
        rolled = site.run("rollback", "only")
        assert rolled.returncode == 0, rolled.stderr
        scene.wait(lambda s: s["generation"] == 3 and s["phase"] == "idle" and s["key_id"] == first)
        wait_until(lambda: held_by(scene.files[0]) == first, what="the former key in the target")
        assert sandbox.control.key(second)["revoked_at"] is None
        nothing = site.run("adopt", "only")
        assert nothing.returncode == 0
        assert "nothing to accept" in nothing.stdout


def test_a_moved_path_is_adopted_by_a_person(site: Site) -> None:
    with running_daemon(site) as daemon:
        first = daemon.wait_for("only", lambda s: s["generation"] == 1 and s["phase"] == "idle")["key_id"]
    site.config["credentials"]["only"]["path"] = "test/moved"
    with running_daemon(site, log_name="second.log") as daemon:
        status = daemon.wait_for("only", lambda s: "moved" in parked(s))
        assert "rotator adopt" in next(row["text"] for row in status["parked"])
        site.config["credentials"]["only"]["path"] = "test/only"
        site.write()
        daemon.wait_for("only", lambda s: not s["parked"] and s["key_id"] == first)
        site.config["credentials"]["only"]["path"] = "test/moved"
        site.write()
        daemon.wait_for("only", lambda s: "moved" in parked(s))
        adopted = site.run("adopt", "only")
        assert adopted.returncode == 0, adopted.stderr
        status = daemon.wait_for("only", lambda s: s["phase"] == "idle" and s["key_id"] not in (None, first))
        assert held_by(site.folder / "raw.key") == status["key_id"]
