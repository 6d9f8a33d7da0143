"""The kinds of store that the contract suite runs over. A new kind joins by one line in `KINDS`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rotator.domain.ports import Store
from rotator.stores.embedded import EmbeddedStoreConfig
from rotator.stores.memory import MemoryStore
from tests.contract.stores.vaults import open_vault


@dataclass(frozen=True)
class Kind:
    """How the suite gets at one kind of store."""

    name: str
    open: Callable[[Path], Store]
    """a new client of the store at a place (an own, empty folder at first); clients of one place share what it holds"""
    reaches_processes: bool = True
    """whether a client in another process shares it too"""

    def __str__(self) -> str:
        return self.name


@functools.cache
def _open_memory(_place: Path) -> Store:
    return MemoryStore()


def _open_embedded(place: Path) -> Store:
    return EmbeddedStoreConfig().build(place)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("memory", _open_memory, reaches_processes=False),
        Kind("embedded", _open_embedded),
        Kind("vault", open_vault),
    )
}
ALL = list(KINDS.values())
REACHING_PROCESSES = [kind for kind in ALL if kind.reaches_processes]
