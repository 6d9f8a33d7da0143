"""Vault is killed in mid-rotation, comes back sealed, and is unsealed: nothing is lost, and everybody is told the truth in between."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.consumers import consuming, find_key
from tests.support.daemon import wait_until
from tests.support.scenes import CALM, Scene, Stage, held_by, open_stage, parked
from tests.support.stores import VaultSite
from tests.support.vault import VaultServer, start_raft_vault


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultServer]:
    with start_raft_vault(tmp_path_factory.mktemp("vault")) as server:
        yield server


@pytest.fixture
def stage(vault: VaultServer, tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path, furnish=VaultSite(vault).furnish) as stage:
        stage.control.settings(**CALM)
        yield stage


def add(stage: Stage, **settings: Any) -> Scene:
    """A credential at a path of its own."""
    return stage.add(path=f"{secrets.token_hex(4)}/checkout", **settings)


def ask_part(stage: Stage, part: str) -> tuple[int, str]:
    answer = httpx.get(f"{stage.daemon.url}/readyz/{part}", trust_env=False, timeout=30)
    return answer.status_code, answer.json()["reason"]


def read_status(scene: Scene) -> str:
    """What a person reads, however wide the terminal is."""
    return " ".join(scene.stage.site.run("status", scene.name).stdout.split())


def count_failures(stage: Stage) -> float:
    found = re.findall(r"^rotator_remote_requests_total\{([^}]*)\} (\S+)$", stage.daemon.metrics(), re.MULTILINE)
    return sum(float(value) for labels, value in found if 'remote="vault"' in labels and 'outcome="ok"' not in labels)


def _is_minted(scene: Scene, first: str) -> bool:
    return len(scene.stage.control.list("test/")) > 1


def _is_delivered(scene: Scene, first: str) -> bool:
    held = find_key(scene.files[0])
    return held is not None and str(held.key_id) != first


def _is_revoked(scene: Scene, first: str) -> bool:
    return scene.stage.control.key(first)["revoked_at"] is not None


@pytest.mark.parametrize(
    ("reached", "settings"),
    [(_is_minted, {}), (_is_delivered, {"overlap": {"min": "4s", "max": "60s"}}), (_is_revoked, {})],
    ids=["minted", "overlapping", "confirming"],
)
def test_killed_in_mid_rotation_then_sealed_then_unsealed(
    stage: Stage, vault: VaultServer, reached: Callable[[Scene, str], bool], settings: dict[str, Any]
) -> None:
    scene = add(stage, **settings)
    first = scene.key_id
    assert ask_part(stage, "store:vault") == (200, "")
    with consuming(stage.sandbox.url, scene.files[0]) as consumer:
        failed = count_failures(stage)
        scene.rotate()
        wait_until(lambda: reached(scene, first), every=0.005, what="the point at which Vault is killed")
        vault.kill()
        wait_until(lambda: "cannot be reached" in ask_part(stage, "store:vault")[1], what="the daemon notices")
        assert ask_part(stage, "store:vault")[0] == 503
        assert httpx.get(f"{stage.daemon.url}/readyz", trust_env=False, timeout=30).status_code == 200, "people may come and see why"
        assert count_failures(stage) > failed
        assert scene.key_id in {first, held_by(scene.files[0])}, "what was seen before is still shown"
        wait_until(lambda: "cannot be reached" in read_status(scene), what="people are told")
        vault.start()
        wait_until(lambda: "is sealed" in ask_part(stage, "store:vault")[1], what="the daemon sees that it is sealed")
        wait_until(lambda: "is sealed" in read_status(scene), what="people are told")
        vault.unseal()
        scene.wait_settled(2)
        assert ask_part(stage, "store:vault") == (200, "")
    assert not consumer.refusals
    scene.ensure_converged()
    scene.ensure_nothing_good_was_given_up()


def test_a_token_that_is_revoked_in_mid_rotation_is_told_of_and_a_new_one_goes_on(stage: Stage, vault: VaultServer, tmp_path: Path) -> None:
    """A plain token is a person's to replace. One that a file holds is read anew, and the daemon need not be started again."""
    token = tmp_path / "vault.token"
    token.touch(0o600)
    token.write_text(stage.site.added_environ["VAULT_TOKEN"])
    stage.site.config["stores"]["vault"]["auth"] = {"type": "token-file", "token_file": str(token)}
    scene = add(stage, overlap={"min": "3s", "max": "60s"})
    first = scene.key_id
    scene.rotate()
    wait_until(lambda: _is_delivered(scene, first), every=0.005, what="the delivery")
    vault.revoke(token.read_text())
    wait_until(lambda: "does not know our token" in ask_part(stage, "store:vault")[1], what="the daemon notices")
    assert str(token) in ask_part(stage, "store:vault")[1], "it says what is to be replaced"
    token.write_text(VaultSite(vault).environ["VAULT_TOKEN"])
    scene.wait_settled(2)
    scene.ensure_converged()


def test_a_login_that_is_refused_in_mid_rotation_is_repeated(stage: Stage, vault: VaultServer, tmp_path: Path) -> None:
    policy = vault.call("GET", "sys/policies/acl?list=true")["data"]["keys"]
    ours = next(name for name in policy if name.startswith("policy-"))
    vault.call("POST", "sys/auth/approle", {"type": "approle"})
    vault.call("POST", "auth/approle/role/rotator", {"token_policies": ours, "token_ttl": "1h"})
    secret_id = tmp_path / "secret-id"
    secret_id.touch(0o600)
    secret_id.write_text(vault.call("POST", "auth/approle/role/rotator/secret-id")["data"]["secret_id"])
    role_id = vault.call("GET", "auth/approle/role/rotator/role-id")["data"]["role_id"]
    stage.site.config["stores"]["vault"]["auth"] = {"type": "approle", "role_id": role_id, "secret_id_file": str(secret_id)}
    scene = add(stage, overlap={"min": "2s", "max": "60s"})
    first = scene.key_id
    scene.rotate()
    wait_until(lambda: _is_delivered(scene, first), every=0.005, what="the delivery")
    vault.call("POST", "sys/leases/revoke-prefix/auth/approle/login")
    scene.wait_settled(2)
    assert not parked(scene.status)
    scene.ensure_converged()
