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
from tests.support.aws import get_fake, get_moto, open_store


@dataclass(frozen=True)
class Kind:
    """How the suite gets at one kind of store."""

    name: str
    open: Callable[[Path], Store]
    """a new client of the store at a place (an own, empty folder at first); clients of one place share what it holds"""
    reaches_processes: bool = True
    """whether a client in another process shares it too"""
    walks: int = 60
    """how many random sequences of changes it is taken through: fewer where each change is a dozen requests"""

    def __str__(self) -> str:
        return self.name


@functools.cache
def _open_memory(_place: Path) -> Store:
    return MemoryStore()


def _open_embedded(place: Path) -> Store:
    return EmbeddedStoreConfig().build(place)


def _open_aws_fake(place: Path) -> Store:
    return open_store(_find_url(place, _reset_fake))


def _open_aws_moto(place: Path) -> Store:
    return open_store(_find_url(place, _reset_moto))


def _reset_fake() -> str:
    get_fake().fake.reset()
    return get_fake().url


def _reset_moto() -> str:
    get_moto().reset()
    return get_moto().url


def _find_url(place: Path, start: Callable[[], str]) -> str:
    """The address of the server at a place, written there for other processes; a new place gets an empty one."""
    file = place / "url"
    if not file.exists():
        place.mkdir(parents=True, exist_ok=True)
        file.write_text(start())
    return file.read_text()


KINDS = {
    kind.name: kind
    for kind in (
        Kind("memory", _open_memory, reaches_processes=False),
        Kind("embedded", _open_embedded),
        Kind("vault", open_vault),
        Kind("aws-fake", _open_aws_fake, walks=45),
        Kind("aws-moto", _open_aws_moto, walks=45),
    )
}
ALL = list(KINDS.values())
REACHING_PROCESSES = [kind for kind in ALL if kind.reaches_processes]
