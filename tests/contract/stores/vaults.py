"""Vault as a kind of the contract suite: one server in memory for each test process, a mount of its own for each place.

What a client needs lies in the place's folder, so that a client in another process finds it too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rotator.daemon import SystemClock
from rotator.stores.surroundings import Surroundings
from rotator.stores.vault import VaultStoreConfig
from rotator.stores.vault.store import VaultStore
from tests.support.vault import VaultServer, start_dev_vault

_servers: list[VaultServer] = []


def get_server() -> VaultServer:
    """The server of this test process; started at its first use."""
    if not _servers:
        _servers.append(start_dev_vault())
    return _servers[0]


def stop_server() -> None:
    """End it, if there is one."""
    while _servers:
        _servers.pop().stop()


def lay_place(place: Path, server: VaultServer, token: str | None = None, **settings: Any) -> Path:
    """Write down what clients of a place need: where the server is, a mount, a token (root's by default), and further settings."""
    place.mkdir(parents=True, exist_ok=True)
    token_file = place / "token"
    token_file.touch(0o600)
    token_file.write_text(token or server.root)
    auth = {"type": "token-file", "token_file": str(token_file)}
    config = {"type": "vault", "address": server.address, "auth": auth, **settings}
    (place / "vault.json").write_text(json.dumps(config))
    return place


def open_vault(place: Path) -> VaultStore:
    """A new client of the place."""
    if not (place / "vault.json").exists():
        server = get_server()
        lay_place(place, server, mount=server.mount())
    return open_store_at(place)


def open_store_at(place: Path, **settings: Any) -> VaultStore:
    """A new client of a place that is laid already, with some settings of its own."""
    config = VaultStoreConfig(**{**json.loads((place / "vault.json").read_text()), **settings})
    return config.build(place, Surroundings("vault", SystemClock()))
