"""A daemon over a real Vault, with no more rights than `check --live` prints."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.consumers import find_key
from tests.support.daemon import Site, running_daemon, wait_until
from tests.support.sandbox import SandboxControl, SandboxProcess
from tests.support.vault import VaultServer, start_dev_vault

PATH = "test/checkout"
FOREIGN = {"owner": "größe team", "nested": {"list": [1, None]}}


def _is_settled(server: VaultServer) -> bool:
    record = json.loads(server.get("secret", f"rotator/{PATH}")["record"])
    return [key["stage"] for key in record["keys"]] == ["current"]


def _sign_in(site: Site, server: VaultServer, policy: str) -> None:
    (site.folder / "vault.token").write_text(server.token(policy))


def test_keys_are_rotated_in_vault_and_an_outsider_s_is_distributed(site: Site, sandbox: SandboxProcess, tmp_path: Path) -> None:
    raw = site.folder / "raw.key"
    token = site.folder / "vault.token"
    token.touch(0o600)
    with start_dev_vault() as server, SandboxControl(sandbox.url, sandbox.token_file.read_text().strip()) as control:
        server.put("secret", PATH, FOREIGN)
        auth = {"type": "token-file", "token_file": str(token)}
        site.config["stores"] = {"vault": {"type": "vault", "address": server.address, "auth": auth}}
        site.credential("checkout", "raw", store="vault")
        site.write()
        _sign_in(site, server, 'path "sys/capabilities-self" { capabilities = ["update"] }')
        checked = site.run("check", "--live", "--json")
        assert checked.returncode == 1
        lines = json.loads(checked.stdout)["lines"]
        _sign_in(site, server, next(line["policy"] for line in lines if "policy" in line))
        assert site.run("check", "--live").returncode == 0
        with running_daemon(site) as daemon:
            wait_until(raw.exists, what="the first key")
            for version in (3, 4):
                assert site.run("rotate", "checkout", "--wait").returncode == 0
                assert (server.version("secret", PATH), find_key(raw) is not None) == (version, True)
                held = server.get("secret", PATH)
                assert held == {**FOREIGN, "api_key": held["api_key"]}
                assert raw.read_text().strip() == held["api_key"]
            wait_until(lambda: _is_settled(server), what="the death of the former keys")
            theirs = control.mint()
            server.put("secret", PATH, {"api_key": theirs.reveal()})
            site.run("sync", "checkout", check=True)
            wait_until(lambda: raw.read_text().strip() == theirs.reveal(), what="the outsider's key in the target")
            wait_until(lambda: _is_settled(server), what="the death of the key that it displaced")
            assert server.get("secret", PATH) == {"api_key": theirs.reveal()}
            assert daemon.status("checkout")["key_id"] == str(theirs.key_id)
