"""A leaked key: replaced, revoked, proven dead, and the timeline says when; by the command line and by the API, in bad weather too."""

from __future__ import annotations

import secrets
from datetime import timedelta

import httpx

from tests.support.scenes import Scene, Stage, applied, held_by, instant, is_settled, parked, wait_until


def test_the_timeline_for_people(stage: Stage) -> None:
    scene = stage.add()
    old = scene.key_id
    done = stage.site.run("leak", old)
    assert done.returncode == 0, done.stderr
    assert f"{old} last seen alive" in done.stdout
    assert f"{old} first refused" in done.stdout
    assert f"{old} confirmed dead" in done.stdout
    assert "dead: it stopped working between" in done.stdout


def test_a_retiring_key_leaks_and_the_current_one_stays(stage: Stage) -> None:
    scene = stage.add(overlap={"min": "10m", "max": "1h"})
    old = scene.key_id
    scene.rotate()
    status = scene.wait(lambda s: s["generation"] == 2 and s["retirements"] and s["phase"] == "idle")
    assert stage.control.key(old)["revoked_at"] is None, "the overlap was skipped by routine"
    done = stage.site.run("leak", old)
    assert done.returncode == 0, done.stderr
    after = scene.wait_settled(2)
    assert after["key_id"] == status["key_id"]
    assert len(scene.rotations()) == 2
    scene.ensure_deaths_are_true()
    scene.ensure_converged()


def test_the_right_id_with_another_secret_changes_nothing(stage: Stage) -> None:
    scene = stage.add()
    done = stage.site.run("leak", stdin=f"{scene.key_id}_{secrets.token_urlsafe(24)}\n")
    assert done.returncode == 1
    assert "no credential holds" in done.stderr
    assert scene.status["compromised"] is False
    assert stage.control.key(scene.key_id)["revoked_at"] is None


def test_an_unknown_key_is_refused(stage: Stage) -> None:
    stage.add()
    unknown = f"rk_live_{secrets.token_hex(4)}"
    done = stage.site.run("leak", unknown)
    assert done.returncode == 1
    assert f"no credential holds key {unknown}" in done.stderr
    assert "dashboard" in done.stderr


def test_something_that_is_no_key_is_a_mistake_and_is_never_repeated(stage: Stage) -> None:
    words = secrets.token_hex(8)
    done = stage.site.run("leak", stdin=words)
    assert done.returncode == 2
    assert words not in done.stdout + done.stderr


def test_a_leak_upgrades_the_open_rotation_and_uses_its_staged_key(stage: Stage) -> None:
    scene = stage.add()
    old = scene.key_id
    stage.control.faults({"operation": "mcp", "effect": "html_401"})
    scene.rotate()
    wait_until(lambda: applied(stage.control) >= 2, what="the probes of the staged key")
    rotation = scene.status["rotation"]["id"]
    (staged,) = stage.control.living(f"{scene.label}/") - {old}
    scene.leak(old)
    scene.wait(lambda s: s["lane"] == "emergency")
    stage.control.faults()
    status = scene.wait_settled(2)
    assert status["key_id"] == staged
    assert scene.rotations()[0]["id"] == rotation
    assert len(scene.rotations()) == 2, "a second rotation was opened"
    scene.ensure_deaths_are_true()
    scene.ensure_converged()


def test_a_target_that_cannot_be_reached_is_named_and_holds_nothing_back(stage: Stage) -> None:
    folder = stage.site.folder / "elsewhere"
    folder.mkdir()
    stage.site.config["targets"]["far"] = {"type": "file", "path": str(folder / "far.key"), "content": "key"}
    scene = stage.add(leak_deadline="3s")
    stage.site.config["credentials"][scene.name]["targets"].append({"name": "far", "settle": "0s"})
    stage.site.write()
    stage.daemon.post("/api/v1/reload")
    wait_until(lambda: held_by(folder / "far.key") == scene.key_id, what="the far target")
    old = scene.key_id
    folder.rename(folder.with_name("gone"))
    folder.write_text("not a folder any more")
    done = stage.site.run("leak", old)
    assert done.returncode == 0, done.stderr
    assert "far" in done.stdout
    row = next(row for row in scene.retirements() if row["key_id"] == old)
    reported = next(instant(e["at"]) for e in scene.events() if e["action"] == "leak")
    assert timedelta(seconds=2.5) < instant(row["revoked_at"]) - reported < timedelta(seconds=30), "not at the leak deadline"
    assert held_by(scene.files[0]) == scene.key_id != old
    scene.wait(lambda s: {t["name"]: t["state"] for t in s["targets"]}["far"] == "failed")
    folder.unlink()
    folder.with_name("gone").rename(folder)
    scene.wait_settled(2)
    assert held_by(folder / "far.key") == scene.key_id
    scene.ensure_deaths_are_true()


def ensure_replaced_at_last(scene: Scene) -> None:
    scene.stage.control.faults()
    scene.ask("retry")
    scene.wait(lambda s: is_settled(s, 2))
    scene.ensure_deaths_are_true()
    scene.ensure_converged()


def test_the_issuer_is_down_and_the_leaked_key_is_held(stage: Stage) -> None:
    scene = stage.add(leak_deadline="2s")
    old = scene.key_id
    stage.control.faults({"operation": "mint", "effect": "status", "status": 503})
    scene.leak()
    status = scene.wait_parked("leak-held")
    assert "without_replacement: revoke" in next(row["text"] for row in status["parked"] if row["reason"] == "leak-held")
    assert stage.control.key(old)["revoked_at"] is None
    ensure_replaced_at_last(scene)


def test_the_issuer_is_down_and_the_leaked_key_is_revoked_all_the_same(stage: Stage) -> None:
    scene = stage.add(leak_deadline="2s", without_replacement="revoke")
    old = scene.key_id
    stage.control.faults({"operation": "mint", "effect": "status", "status": 503})
    reported = instant(scene.events(after=0)[-1]["at"])
    scene.leak()
    wait_until(lambda: stage.control.key(old)["revoked_at"], what="the revoke at the deadline")
    assert instant(stage.control.key(old)["revoked_at"]) - reported > timedelta(seconds=1.5)
    assert "leak-held" not in parked(scene.status)
    ensure_replaced_at_last(scene)


def test_a_leak_is_accepted_while_another_store_is_away(stage: Stage) -> None:
    scene = stage.add()
    other = stage.site.folder / "other-store"
    other.mkdir()
    stage.site.config["stores"] = {"embedded": {"type": "embedded"}, "other": {"type": "embedded", "path": str(other / "keys.sealed")}}
    away = stage.add(store="other")
    other.rename(other.with_name("other-gone"))
    other.write_text("not a folder any more")
    try:
        old = scene.key_id
        assert scene.leak(old)["accepted"]
        scene.wait_settled(2)
        unknown = httpx.post(
            f"{stage.daemon.url}/api/v1/leak",
            json={"key_id": f"rk_live_{secrets.token_hex(4)}"},
            headers={"Authorization": f"Bearer {stage.daemon.token}"},
            timeout=30,
        )
        assert unknown.status_code == 503, "a key that could not be looked for everywhere was called unknown"
        assert away.name in unknown.json()["message"]
    finally:
        other.unlink()
        other.with_name("other-gone").rename(other)
    scene.ensure_converged()
    away.wait_settled(1)
