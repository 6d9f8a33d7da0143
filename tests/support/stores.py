"""Stores as a daemon's configuration names them, with the outsider at their side: for every suite that runs whole daemons over each kind.

The servers are real ones on loopback: Vault, moto, and the strict fake of AWS. Each is started once a process of tests, and every place in
it is used by one test.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rotator.daemon import SystemClock
from rotator.domain.ports import Store
from rotator.domain.secret import Secret
from rotator.stores.embedded import EmbeddedStoreConfig
from rotator.stores.surroundings import Surroundings
from rotator.stores.vault import VaultStoreConfig
from rotator.stores.vault.policies import OWN_TOKEN, gather_needs, render_policy
from tests.support import aws
from tests.support.aws_fake import REGION
from tests.support.daemon import Site
from tests.support.vault import VaultServer, start_dev_vault

MOUNT = "secret"


class StoreSite(ABC):
    """One store, and those who read and write it without rotator."""

    name: str
    """in `stores` of the configuration"""
    section: Mapping[str, Any]
    """what stands there"""
    environ: Mapping[str, str]
    """what a process needs to sign in"""

    def furnish(self, site: Site) -> None:
        """Let the credentials that are added from now on have their keys here."""
        site.config["stores"] = {self.name: dict(self.section)}
        site.added_environ.update(self.environ)

    @abstractmethod
    def open(self, state: Path) -> Store:
        """A client of the test's own."""

    @abstractmethod
    def put(self, path: str, key: Secret, **fields: str) -> None:
        """An outsider writes a key with the store's own program."""

    @abstractmethod
    def get(self, path: str) -> Secret | None:
        """A consumer reads the key with the store's own program."""


class EmbeddedSite(StoreSite):
    """The file in the state folder. It has no outsiders."""

    name, section, environ = "embedded", {"type": "embedded"}, {}

    def open(self, state: Path) -> Store:
        return EmbeddedStoreConfig().build(state)

    def put(self, path: str, key: Secret, **fields: str) -> None:
        raise AssertionError(f"nobody else writes {key.key_id} {sorted(fields)} to {path} of the embedded store")

    def get(self, path: str) -> Secret | None:
        raise AssertionError(f"nobody else reads {path} of the embedded store")


@dataclass
class VaultSite(StoreSite):
    """The mount `secret` of a real Vault. Daemons sign in with no more rights below `folder` than docs/vault.md asks for."""

    server: VaultServer
    folder: str = "*"
    name: str = "vault"
    environ: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        needs = {**gather_needs(MOUNT, self.folder, f"rotator/{self.folder}", writes=True), **OWN_TOKEN}
        self.environ = {"VAULT_TOKEN": self.server.token(render_policy(needs))}

    @property
    def section(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"type": "vault", "address": self.server.address, "mount": MOUNT, "auth": {"type": "token", "token_env": "VAULT_TOKEN"}}

    def open(self, state: Path) -> Store:
        token = state.with_name("vault.token")
        token.touch(0o600)
        token.write_text(self.server.root)
        auth = {"type": "token-file", "token_file": str(token)}
        return VaultStoreConfig(**{**self.section, "auth": auth}).build(state, Surroundings(self.name, SystemClock()))

    def put(self, path: str, key: Secret, **fields: str) -> None:
        self.run("kv", "put", f"-mount={MOUNT}", path, "-", stdin=json.dumps({**fields, "api_key": key.reveal()}))

    def get(self, path: str) -> Secret | None:
        done = self.run("kv", "get", f"-mount={MOUNT}", "-field=api_key", path, check=False)
        return Secret(done.stdout.strip()) if done.returncode == 0 else None

    def run(self, *words: str, stdin: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        """The `vault` program. Key material goes in by `stdin`, never by a word."""
        address, root = self.server.address, self.server.root
        environ = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent",
            "VAULT_ADDR": address, "VAULT_TOKEN": root, "BAO_ADDR": address, "BAO_TOKEN": root,
        }  # fmt: skip
        command = [self.server.command[0], *words]
        done = subprocess.run(command, env=environ, input=stdin, capture_output=True, text=True, timeout=60, check=False)
        assert not check or done.returncode == 0, f"{words}: {done.stderr}"
        return done


@dataclass
class AwsSite(StoreSite):
    """An endpoint that speaks as AWS Secrets Manager does."""

    url: str
    name: str = "aws"
    environ: Mapping[str, str] = field(default_factory=lambda: dict(aws.ENVIRON))

    @property
    def section(self) -> Mapping[str, Any]:  # type: ignore[override]
        return {"type": "aws", "region": REGION, "endpoint_url": self.url, "create": True}

    def open(self, state: Path) -> Store:  # noqa: ARG002  # nothing of it lies there
        return aws.open_store(self.url)

    def put(self, path: str, key: Secret, **fields: str) -> None:
        text = json.dumps({**fields, "api_key": key.reveal()})
        aws.run_cli(
            self.url, "secretsmanager", "put-secret-value", "--secret-id", path, "--secret-string", "file:///dev/stdin", stdin=text
        )  # fmt: skip

    def get(self, path: str) -> Secret | None:
        # moto gives the newest version where no stage is named; AWS gives the current one either way.
        words = ("--secret-id", path, "--version-stage", "AWSCURRENT", "--query", "SecretString", "--output", "text")
        try:
            said = aws.run_cli(self.url, "secretsmanager", "get-secret-value", *words)
        except subprocess.CalledProcessError:
            return None
        return Secret(json.loads(said)["api_key"])


_vaults: list[VaultServer] = []


def get_vault_server() -> VaultServer:
    """A Vault in memory, one a process of tests."""
    if not _vaults:
        _vaults.append(start_dev_vault())
        atexit.register(_vaults[0].stop)
    return _vaults[0]


def open_vault_site() -> StoreSite:
    return VaultSite(get_vault_server())


def open_moto_site() -> StoreSite:
    return AwsSite(aws.get_moto().url)


def open_fake_site() -> StoreSite:
    return AwsSite(aws.get_fake().url)


SITES: Mapping[str, Callable[[], StoreSite]] = {
    "embedded": EmbeddedSite,
    "vault": open_vault_site,
    "aws-fake": open_fake_site,
    "aws-moto": open_moto_site,
}
"""Every kind. A new one joins by a class and a line."""
