"""Leaks that need a daemon of their own: one that is busy, and one that loses its journal."""

from __future__ import annotations

import time
from pathlib import Path

from tests.support.daemon import Document, running_daemon, start_daemon
from tests.support.sandbox import start_sandbox_process
from tests.support.scenes import Scene, Stage, build_site, open_stage, wait_until, watching

OTHERS = 50


def test_an_emergency_goes_before_the_routine_work_of_fifty_others(tmp_path: Path) -> None:
    engine: Document = {"workers": 2, "catch_up": "1s", "recheck": "1s", "lease": "30s"}
    with open_stage(tmp_path, config={"engine": engine}) as stage:
        scene = stage.add()
        old = scene.key_id
        stage.control.faults({"operation": "mcp", "effect": "latency", "seconds": 0.3})
        for number in range(OTHERS):
            stage.site.credential(f"other{number}")
        stage.site.write()
        stage.daemon.post("/api/v1/reload")
        wait_until(lambda: len(stage.control.living()) > 3, what="the routine work")
        started = time.monotonic()
        scene.leak(old)
        wait_until(lambda: stage.control.key(old)["revoked_at"], every=0.02, what="the revoke")
        took = time.monotonic() - started
        empty = [s["name"] for s in stage.daemon.get("/api/v1/credentials")["credentials"] if s["key_id"] is None]
        assert len(empty) > OTHERS / 2, f"the emergency waited for routine work: it took {took:.1f} s, {len(empty)} were left"
        assert took < 30
        stage.control.faults()


def test_the_mark_of_a_leaked_key_survives_the_journal(tmp_path: Path) -> None:
    with start_sandbox_process(tmp_path, cache_time=1) as sandbox, watching(sandbox) as truth:
        site = build_site(tmp_path, sandbox)
        file = site.key_file("raw")
        site.credential("only", "raw")
        first = start_daemon(site)
        stage = Stage(sandbox, site, first, truth)
        scene = Scene(stage, "only", [file])
        try:
            old = str(scene.wait_settled(1)["key_id"])
            sandbox.control.faults({"operation": "mint", "effect": "status", "status": 503})
            scene.leak(old)
        finally:
            first.kill()
        for part in site.state.glob("journal.db*"):
            part.unlink()
        with running_daemon(site, log_name="second.log") as second:
            stage.daemon = second
            status = scene.wait(lambda s: s["key_id"] == old)
            assert status["compromised"] is True
            assert status["recovered"] is True
            assert status["lane"] == "emergency"
            sandbox.control.faults()
            scene.ask("retry")
            scene.wait_settled(2)
            assert sandbox.control.key(old)["revoked_at"] is not None
            assert [row["outcome"] for row in scene.retirements() if row["key_id"] == old] == ["dead"]
            scene.ensure_deaths_are_true()
            scene.ensure_converged()
