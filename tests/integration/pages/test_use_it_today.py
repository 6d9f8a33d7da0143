"""docs/use-it-today.md, walked through as it stands: its files, its commands, a real Vault, a service that mints nothing by itself."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rotator.domain.secret import Secret
from tests.support.daemon import wait_until
from tests.support.sandbox import SandboxProcess, start_sandbox_process
from tests.support.scenes import CALM
from tests.support.vault import VaultServer, start_dev_vault

PAGE = Path(__file__).parents[3] / "docs" / "use-it-today.md"


@dataclass
class Walk:
    """A person in a folder of their own, with the page open."""

    folder: Path
    vault: VaultServer
    sandbox: SandboxProcess
    environ: dict[str, str]

    def find(self, language: str) -> list[str]:
        return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)

    def lay(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def run(self, commands: str, code: int = 0) -> str:
        shell = ["bash", "-euo", "pipefail", "-c", commands]
        done = subprocess.run(shell, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == code, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def daemon(self, command: str) -> Iterator[None]:
        assert command == "rotator run &\n"
        with (self.folder / "daemon.log").open("wb") as log:
            process = subprocess.Popen(["rotator", "run"], cwd=self.folder, env=self.environ, stdout=log, stderr=log)
        try:
            wait_until((self.folder / "state" / "daemon.json").exists, what="the daemon")
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, (self.folder / "daemon.log").read_text()

    def status(self) -> dict[str, object]:
        (row,) = json.loads(self.run("rotator status checkout-read --json"))["credentials"]
        return dict(row)


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    programs = tmp_path / "bin"
    programs.mkdir()
    with start_dev_vault() as vault, start_sandbox_process(tmp_path, cache_time=1) as sandbox:
        sandbox.control.settings(**CALM)
        (programs / "vault").symlink_to(vault.command[0])
        (programs / "rotator").symlink_to(Path(sys.executable).with_name("rotator"))
        folder = tmp_path / "rotator-setup"
        folder.mkdir()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("ROTATOR_", "XDG_", "VAULT_", "BAO_"))}
        environ = {
            **kept,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "COLUMNS": "300",
            "VAULT_ADDR": vault.address,
            "VAULT_TOKEN": vault.root,
            "ROTATOR_STATE_DIR": str(folder / "state"),
            # What the test has in the place of the service, and of months.
            "ROTATOR_MILLIMETRIC__ENDPOINT": sandbox.url,
            "ROTATOR_MILLIMETRIC__TRUSTED_ENDPOINTS": json.dumps([sandbox.url]),
            "ROTATOR_MILLIMETRIC__CACHE_TIME": "1s",
            "ROTATOR_SERVER__PORT": "0",
            "ROTATOR_CREDENTIALS__checkout-read__ROTATION__OVERLAP__MIN": "1s",
        }
        yield Walk(folder, vault, sandbox, environ)


def _set_up(walk: Walk) -> list[str]:
    """Sections 2 and 3; the commands of the rest."""
    (policy,), (config,) = walk.find("hcl"), walk.find("yaml")
    sign_in, check, *rest = walk.find("sh")
    walk.lay("rotator.hcl", policy)
    walk.run(sign_in)
    role = (walk.folder / "role-id").read_text()
    walk.lay("rotator.yaml", config.replace("https://vault.example:8200", walk.vault.address).replace("ROLE-ID", role))
    assert "pool add spares" in walk.run(check)
    return rest


def _lay_keys(walk: Walk) -> list[Secret]:
    keys = [walk.sandbox.control.mint() for _ in range(3)]
    walk.lay("keys.txt", "".join(f"{key.reveal()}\n" for key in keys))
    return keys


def test_from_nothing_to_the_first_unattended_rotation(walk: Walk) -> None:
    run, add, look = _set_up(walk)
    keys = _lay_keys(walk)
    with walk.daemon(run):
        wait_until(lambda: walk.status()["parked"], what="the credential waits for a key")
        assert walk.run(add).splitlines() == [f"{key.key_id}: accepted" for key in keys]
        assert not (walk.folder / "keys.txt").exists()
        wait_until(lambda: walk.status()["generation"] == 1 and walk.status()["phase"] == "idle", what="the first rotation")
        shown = walk.run(look)
        assert str(keys[0].key_id) in shown
        assert keys[0].same_as(Secret(shown.splitlines()[-1]))
        walk.run("rotator rotate checkout-read --wait")
        assert walk.vault.get("secret", "millimetric/checkout-read") == {"api_key": keys[1].reveal()}
        wait_until(lambda: "revoke-by-hand" in str(walk.status()["parked"]), what="a person is asked to revoke")
        walk.sandbox.control.revoke(keys[0].key_id)
        wait_until(lambda: not walk.status()["parked"] and not walk.status()["retirements"], what="the old key's proven death")


def test_with_the_key_that_is_used_today(walk: Walk) -> None:
    """It is taken over as it is, with its age, and replaced from the pool without anybody's doing when its time comes."""
    old = walk.sandbox.control.mint()
    walk.vault.put("secret", "millimetric/checkout-read", {"api_key": old.reveal(), "owner": "checkout"})
    run, add, _ = _set_up(walk)
    keys = _lay_keys(walk)
    with walk.daemon(run):
        wait_until(lambda: walk.status()["generation"] == 1, what="the adoption")
        assert walk.status()["key_id"] == str(old.key_id)
        assert walk.vault.version("secret", "millimetric/checkout-read") == 1, "it was not touched"
        walk.run(add)
    walk.environ["ROTATOR_CREDENTIALS__checkout-read__ROTATION__EVERY"] = "2s"
    walk.environ["ROTATOR_CREDENTIALS__checkout-read__ROTATION__JITTER"] = "0s"
    walk.environ["ROTATOR_ENGINE__CATCH_UP"] = "1s"
    (walk.folder / "state" / "daemon.json").unlink(missing_ok=True)
    with walk.daemon(run):
        wait_until(lambda: walk.status()["generation"] == 4, what="every spare in its turn")
        assert walk.vault.get("secret", "millimetric/checkout-read") == {"api_key": keys[2].reveal(), "owner": "checkout"}
        wait_until(lambda: "pool-empty" in str(walk.status()["parked"]), what="the pool is used up")
