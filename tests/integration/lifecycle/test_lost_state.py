"""State that was lost, restored or moved while the daemon was away: it parks, revokes nothing, and a person lets it go on."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

from tests.support.consumers import consuming, find_key
from tests.support.daemon import Document, Site, running_daemon
from tests.support.sandbox import SandboxProcess
from tests.support.scenes import is_settled, parked, waiting

NAME = "checkout"
LONG = {"min": "60s", "max": "120s"}


def drop_journal(site: Site) -> None:
    for file in site.state.glob("journal.db*"):
        file.unlink()


@pytest.mark.slow
def test_a_lost_journal(site: Site, sandbox: SandboxProcess) -> None:
    """L29: everything runs but routine revocation, until a person accepts."""
    with running_daemon(site) as daemon:
        former = daemon.wait_for(NAME, lambda status: is_settled(status, 1))["key_id"]
    drop_journal(site)
    with running_daemon(site) as daemon, consuming(sandbox.url, site.folder / "raw.key") as consumer:
        daemon.wait_for(NAME, lambda status: status["generation"] == 1)
        daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        daemon.wait_for(NAME, lambda status: status["generation"] == 2 and "recovered" in parked(status))
        assert former in sandbox.control.living("test/")
        daemon.post(f"/api/v1/credentials/{NAME}/adopt")
        status = daemon.wait_for(NAME, lambda status: is_settled(status, 2))
        assert sandbox.control.living("test/") == {status["key_id"]}
        assert daemon.get("/api/v1/audit")["problems"] == []
    assert not consumer.refusals


@pytest.mark.slow
def test_a_journal_lost_within_a_rotation(site: Site, sandbox: SandboxProcess) -> None:
    """The store tells a new journal of the pending key and of the one that is retiring."""
    site.config["credentials"][NAME]["rotation"]["overlap"] = LONG
    with running_daemon(site) as daemon:
        daemon.wait_for(NAME, lambda status: is_settled(status, 1))
        daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        daemon.wait_for(NAME, lambda status: status["generation"] == 2 and status["phase"] == "idle")
        sandbox.control.faults({"operation": "mcp", "effect": "status", "status": 503})
        daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        daemon.wait_for(NAME, lambda status: status["phase"] == "staged")
        daemon.kill()
    sandbox.control.faults()
    drop_journal(site)
    site.config["credentials"][NAME]["rotation"]["overlap"] = {"min": "1s", "max": "60s"}
    with running_daemon(site) as daemon, consuming(sandbox.url, site.folder / "raw.key") as consumer:
        daemon.wait_for(NAME, lambda status: status["generation"] == 3 and "recovered" in parked(status))
        assert len(sandbox.control.living("test/")) == 3
        daemon.post(f"/api/v1/credentials/{NAME}/adopt")
        status = daemon.wait_for(NAME, lambda status: is_settled(status, 3))
        assert sandbox.control.living("test/") == {status["key_id"]}
    assert not consumer.refusals


@pytest.mark.slow
def test_a_store_that_went_back(site: Site, sandbox: SandboxProcess) -> None:
    """L2: a copy of an earlier day. What it holds is only taken for true when a person says so."""
    site.config["credentials"][NAME]["rotation"]["overlap"] = LONG
    store, copy = site.state / "store.bin", site.folder / "store.copy"
    with running_daemon(site) as daemon:
        earlier = daemon.wait_for(NAME, lambda status: is_settled(status, 1))["key_id"]
    shutil.copy2(store, copy)
    with running_daemon(site) as daemon:
        daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        daemon.wait_for(NAME, lambda status: status["generation"] == 2 and status["phase"] == "idle")
    shutil.copy2(copy, store)
    stays_parked(site, sandbox, "store-went-back")
    with running_daemon(site) as daemon, consuming(sandbox.url, site.folder / "raw.key") as consumer:
        daemon.post(f"/api/v1/credentials/{NAME}/adopt")
        status = daemon.wait_for(NAME, lambda status: status["generation"] == 3 and status["phase"] == "idle" and all_current(status))
        assert status["key_id"] == earlier
        assert holds(site, earlier)
    assert not consumer.refusals


@pytest.mark.slow
def test_a_store_that_was_emptied(site: Site, sandbox: SandboxProcess) -> None:
    """L6: deleted is not empty. Accepted as empty, it gets a new key; the old one lives on, and a person was told so."""
    with running_daemon(site) as daemon:
        former = daemon.wait_for(NAME, lambda status: is_settled(status, 1))["key_id"]
    (site.state / "store.bin").unlink()
    stays_parked(site, sandbox, "store-emptied")
    with running_daemon(site) as daemon, consuming(sandbox.url, site.folder / "raw.key") as consumer:
        accepted = daemon.post(f"/api/v1/credentials/{NAME}/adopt")
        assert "live on until you revoke them" in accepted["text"]
        status = daemon.wait_for(NAME, lambda status: status["key_id"] not in (None, former) and all_current(status))
        assert status["generation"] > 1
        assert sandbox.control.living("test/") == {former, status["key_id"]}
    assert not consumer.refusals


@pytest.mark.slow
def test_another_installation(site: Site, sandbox: SandboxProcess) -> None:
    """L1: a copy of production under another name, with the journal and without it."""
    with running_daemon(site) as daemon:
        daemon.wait_for(NAME, lambda status: is_settled(status, 1))
    site.config["installation"] = "copy"
    stays_parked(site, sandbox, "owned-by-another")
    drop_journal(site)
    stays_parked(site, sandbox, "owned-by-another")


@pytest.mark.slow
def test_a_path_that_moved(site: Site, sandbox: SandboxProcess) -> None:
    """L1: parked at the new path; configured as before, it goes on as if nothing had been."""
    with running_daemon(site) as daemon:
        daemon.wait_for(NAME, lambda status: is_settled(status, 1))
    site.config["credentials"][NAME]["path"] = "test/elsewhere"
    stays_parked(site, sandbox, "moved")
    site.config["credentials"][NAME]["path"] = f"test/{NAME}"
    with running_daemon(site) as daemon:
        daemon.wait_for(NAME, lambda status: not status["parked"] and is_settled(status, 1))
        daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        daemon.wait_for(NAME, lambda status: is_settled(status, 2))


@pytest.mark.slow
def test_a_store_that_cannot_be_read(site: Site, sandbox: SandboxProcess) -> None:
    """Nothing is decided about it, in the middle of an overlap too; when it can be read again everything goes on."""
    store = site.state / "store.bin"
    with running_daemon(site) as daemon, consuming(sandbox.url, site.folder / "raw.key") as consumer:
        former = daemon.wait_for(NAME, lambda status: is_settled(status, 1))["key_id"]
        daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        daemon.wait_for(NAME, lambda status: status["generation"] == 2)
        kept = store.read_bytes()
        damaged = store.with_suffix(".damaged")
        damaged.write_bytes(kept[: len(kept) // 2])
        damaged.replace(store)
        daemon.wait_for(NAME, lambda status: "store-unreachable" in waiting(status))
        assert sandbox.control.living("test/") >= {daemon.status(NAME)["key_id"] or former}
        damaged.write_bytes(kept)
        damaged.replace(store)
        status = daemon.wait_for(NAME, lambda status: is_settled(status, 2))
        assert sandbox.control.living("test/") == {status["key_id"]}
    assert not consumer.refusals


def stays_parked(site: Site, sandbox: SandboxProcess, reason: str) -> None:
    """Started so, it parks for that reason and minted, revoked and wrote nothing, asked to or not."""
    before, held = sandbox.control.keys("test/"), find_key(site.folder / "raw.key")
    with running_daemon(site) as daemon, consuming(sandbox.url, site.folder / "raw.key") as consumer:
        daemon.wait_for(NAME, lambda status: reason in parked(status))
        for verb in ("retry", "sync"):
            daemon.post(f"/api/v1/credentials/{NAME}/{verb}")
        with pytest.raises(AssertionError, match=reason):
            daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        daemon.wait_for(NAME, lambda status: reason in parked(status))
    lives: Callable[[Document], tuple[object, object]] = lambda key: (key["id"], key["revoked_at"])  # noqa: E731
    assert list(map(lives, sandbox.control.keys("test/"))) == list(map(lives, before))
    after = find_key(site.folder / "raw.key")
    assert held is not None
    assert after is not None
    assert after.same_as(held)
    assert not consumer.refusals


def all_current(status: Document) -> bool:
    return all(target["state"] == "current" for target in status["targets"])


def holds(site: Site, key_id: str) -> bool:
    held = find_key(site.folder / "raw.key")
    return held is not None and str(held.key_id) == key_id
