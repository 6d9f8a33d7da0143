"""What every case starts from: a kind of target, and a place of its own. The cluster is started when the first case asks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.targets.kinds import KINDS, Kind, Place, SecretPlace
from tests.support.kubernetes import Cluster


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
