"""helm, in both versions that are in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.charts import Helm, get_helm
from tests.support.servers import HELM3, HELM4, Server


@pytest.fixture(params=[HELM3, HELM4], ids=lambda server: server.name)
def helm(request: pytest.FixtureRequest, tmp_path: Path) -> Helm:
    assert isinstance(request.param, Server)
    return get_helm(request.param, tmp_path)


@pytest.fixture
def one_helm(tmp_path: Path) -> Helm:
    """For what does not hang on the version."""
    return get_helm(HELM3, tmp_path)
