"""A key is minted and the answer never comes: it is found by its attempt's label, revoked, and minted again; the journal tells it."""

from __future__ import annotations

import pytest

from tests.support.consumers import consuming, find_key
from tests.support.daemon import DaemonProcess, Site, running_daemon, wait_until
from tests.support.sandbox import SandboxProcess
from tests.support.scenes import is_settled

NAME = "checkout"
LATER = 6.0
"""seconds: longer than a rotation takes"""


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False], ids=["the first key", "a later key"])
def test_an_answer_lost_after_the_mint(site: Site, sandbox: SandboxProcess, first: bool) -> None:
    if first:
        sandbox.control.faults({"operation": "mint", "effect": "drop_after", "times": 1})
    with running_daemon(site) as daemon, consuming(sandbox.url, site.folder / "raw.key") as consumer:
        if not first:
            daemon.wait_for(NAME, lambda status: is_settled(status, 1))
            sandbox.control.faults({"operation": "mint", "effect": "drop_after", "times": 1})
            daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        generation = 1 if first else 2
        status = daemon.wait_for(NAME, lambda status: is_settled(status, generation))
        minted = sandbox.control.list("test/")
        assert len(minted) == generation + 1, "the lost one, and one for each generation"
        assert sandbox.control.living("test/") == {status["key_id"]}
        ensure_told(daemon, find_lost(daemon, sandbox))
    assert not consumer.refusals


@pytest.mark.slow
def test_a_mint_that_takes_effect_after_the_time_out(site: Site, sandbox: SandboxProcess) -> None:
    """Within the attempt's pause: the sweep before the next mint finds it, so that it never lives beside another."""
    site.config["engine"]["attempt_base"] = "3s"
    sandbox.control.faults({"operation": "mint", "effect": "late", "seconds": 1, "times": 1})
    with running_daemon(site) as daemon:
        status = daemon.wait_for(NAME, lambda status: is_settled(status, 1))
        assert len(sandbox.control.list("test/")) == 2
        assert sandbox.control.living("test/") == {status["key_id"]}
        ensure_told(daemon, find_lost(daemon, sandbox))


@pytest.mark.slow
def test_a_mint_that_takes_effect_after_the_rotation(site: Site, sandbox: SandboxProcess) -> None:
    """The key comes to life when its rotation is long over: the closed attempt is not forgotten, and the next sweep ends it."""
    with running_daemon(site) as daemon:
        daemon.wait_for(NAME, lambda status: is_settled(status, 1))
        sandbox.control.faults({"operation": "mint", "effect": "late", "seconds": LATER, "times": 1})
        daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        daemon.wait_for(NAME, lambda status: status["generation"] == 2)
        wait_until(lambda: len(sandbox.control.list("test/")) == 3, what="the late key")
        daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        status = daemon.wait_for(NAME, lambda status: is_settled(status, 3))
        wait_until(lambda: sandbox.control.living("test/") == {status["key_id"]}, 20, what="the late key's end")
        assert len(sandbox.control.list("test/")) == 4
        ensure_told(daemon, find_lost(daemon, sandbox))


@pytest.mark.slow
def test_killed_between_the_mint_and_its_answer(site: Site, sandbox: SandboxProcess) -> None:
    """The daemon dies while the key is under way: the journal's intent is all that is left of it, and enough."""
    with running_daemon(site) as daemon:
        daemon.wait_for(NAME, lambda status: is_settled(status, 1))
        sandbox.control.faults({"operation": "mint", "effect": "latency", "seconds": 2, "times": 1})
        daemon.post(f"/api/v1/credentials/{NAME}/rotate")
        wait_until(lambda: any(rule["applied"] for rule in sandbox.control.fault_state()["rules"]), what="the mint's request")
        daemon.kill()
    wait_until(lambda: len(sandbox.control.list("test/")) == 2, what="the key that nobody waits for")
    with running_daemon(site) as daemon:
        status = daemon.wait_for(NAME, lambda status: is_settled(status, 2))
        assert sandbox.control.living("test/") == {status["key_id"]}
        held = find_key(site.folder / "raw.key")
        assert held is not None
        assert str(held.key_id) == status["key_id"]


def find_lost(daemon: DaemonProcess, sandbox: SandboxProcess) -> str:
    """The id of the one key whose label's attempt lost its answer."""
    lost = [event for event in daemon.events(credential=NAME) if event["action"] == "mint" and event["reason"] == "answer-lost"]
    assert len(lost) == 1
    found = [key for key in sandbox.control.list("test/") if str(key["label"]).rpartition("/")[2] in lost[0]["text"]]
    assert len(found) == 1
    assert found[0]["revoked_at"] is not None
    return str(found[0]["id"])


def ensure_told(daemon: DaemonProcess, lost: str) -> None:
    """The journal tells that the key was found, condemned and revoked, in this order."""
    told = [(event["phase"], event["action"]) for event in daemon.events(credential=NAME) if event["key_id"] == lost]
    wanted = [
        ("note", "orphan"), ("intent", "doom-orphan"), ("outcome", "doom-orphan"), ("intent", "revoke-orphan"), ("outcome", "revoke-orphan")
    ]  # fmt: skip
    assert told == wanted
    assert daemon.get("/api/v1/audit")["problems"] == []
