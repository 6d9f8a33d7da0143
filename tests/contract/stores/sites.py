"""Stores on servers that others write to as well: what the cases of `test_weather` and `test_outsiders` need of each such kind.

A kind joins by a `Site` of its own and a line in `SITES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rotator.domain.ports import Store
from tests.contract.stores import vaults
from tests.support.cutting import CuttingProxy


class Site(Protocol):
    """A place in a store, and the outsider at its side."""

    name: str
    writes: int
    """the most writes that one commit takes"""

    def open(self, **settings: Any) -> Store:
        """A new client."""

    def open_through(self, proxy: CuttingProxy) -> Store:
        """A new client that reaches the server by the proxy."""

    def proxy(self) -> CuttingProxy:
        """A proxy before the server."""

    def put(self, path: str, fields: Mapping[str, Any]) -> None:
        """An outsider replaces the whole document at the path."""

    def fields(self, path: str) -> Mapping[str, Any]:
        """What a consumer reads at the path."""

    def delete(self, path: str) -> None:
        """An outsider deletes it, in a way that can be taken back."""

    def undelete(self, path: str) -> None:
        """And takes it back."""


class VaultSite:
    """A mount of its own in the server of this test process."""

    name = "vault"
    writes = 3

    def __init__(self, place: Path, *, field: str = "api_key", **settings: Any) -> None:
        self.server = vaults.get_server()
        self.mount = self.server.mount()
        self.place = vaults.lay_place(place, self.server, mount=self.mount, key_field=field, **settings)

    def open(self, **settings: Any) -> Store:
        return vaults.open_store_at(self.place, **settings)

    def open_through(self, proxy: CuttingProxy) -> Store:
        return self.open(address=proxy.address, timeout="2s")

    def proxy(self) -> CuttingProxy:
        return CuttingProxy(self.server.address)

    def put(self, path: str, fields: Mapping[str, Any]) -> None:
        self.server.put(self.mount, path, fields)

    def fields(self, path: str) -> Mapping[str, Any]:
        return dict(self.server.get(self.mount, path))

    def delete(self, path: str) -> None:
        self.server.call("DELETE", f"{self.mount}/data/{path}")

    def undelete(self, path: str) -> None:
        self.server.call("POST", f"{self.mount}/undelete/{path}", {"versions": [self.server.version(self.mount, path)]})


SITES = {"vault": VaultSite}
