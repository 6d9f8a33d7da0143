"""Stores as a daemon's configuration names them, and clients of the test's own: for suites that run the same over every kind.

The servers are Vault and the strict fake of AWS, on loopback. Each is started once a process of tests, and every path in it is used by one
test. Those who read and write them without rotator stand in `places`.
"""

from __future__ import annotations

import atexit
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rotator.daemon import SystemClock
from rotator.domain.ports import Store
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
    """One store."""

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


class EmbeddedSite(StoreSite):
    """The file in the state folder."""

    name, section, environ = "embedded", {"type": "embedded"}, {}

    def open(self, state: Path) -> Store:
        return EmbeddedStoreConfig().build(state)


@dataclass
class VaultSite(StoreSite):
    """The mount `secret` of a real Vault. Daemons sign in with no other rights than docs/vault.md asks for."""

    server: VaultServer
    name: str = "vault"
    environ: Mapping[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        needs = {**gather_needs(MOUNT, "*", "rotator/*", writes=True), **OWN_TOKEN}
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


_vaults: list[VaultServer] = []


def get_vault_server() -> VaultServer:
    """A Vault in memory, one a process of tests."""
    if not _vaults:
        _vaults.append(start_dev_vault())
        atexit.register(_vaults[0].stop)
    return _vaults[0]


def open_vault_site() -> StoreSite:
    return VaultSite(get_vault_server())


def open_fake_site() -> StoreSite:
    return AwsSite(aws.get_fake().url)


SITES: Mapping[str, Callable[[], StoreSite]] = {
    "embedded": EmbeddedSite,
    "vault": open_vault_site,
    "aws-fake": open_fake_site,
}
"""Every kind. A new one joins by a class and a line."""
