"""What every case of the contract suite starts from: a kind, a place of its own, and clients of the store there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rotator.domain.ports import Store
from tests.contract.stores.kinds import ALL, Kind
from tests.contract.stores.vaults import stop_server


@pytest.fixture(scope="session", autouse=True)
def stop_servers() -> Iterator[None]:
    yield
    stop_server()


@pytest.fixture(params=ALL, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


@pytest.fixture
def store(kind: Kind, place: Path) -> Store:
    return kind.open(place)


@pytest.fixture
def sibling(kind: Kind, place: Path) -> Store:
    """Another client of the same store: a second daemon's."""
    return kind.open(place)
