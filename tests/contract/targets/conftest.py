"""What every case starts from: a kind of target, and a place of its own. The cluster is started when the first case asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.targets.kinds import KINDS, Kind, Place, SecretPlace
from tests.support.kubernetes import Cluster, running_cluster


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One worker starts the cluster, and runs everything that needs it."""
    for item in items:
        if "contract/targets" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("kubernetes"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture(params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture
def place(kind: Kind, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
    return kind.make(tmp_path, lambda: request.getfixturevalue("cluster"))


@pytest.fixture
def spot(cluster: Cluster, tmp_path: Path) -> SecretPlace:
    """A Secret's place, for what only Kubernetes has."""
    return SecretPlace(cluster, tmp_path)
