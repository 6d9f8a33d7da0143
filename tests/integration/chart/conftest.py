"""A sandbox, and helm in both versions as an admin of the cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.charts import Helm, get_helm
from tests.support.kubernetes import Cluster
from tests.support.sandbox import SandboxProcess, start_sandbox_process
from tests.support.servers import HELM3, HELM4, Server


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with start_sandbox_process(tmp_path, cache_time=1) as process:
        yield process


@pytest.fixture(params=[HELM3, HELM4], ids=lambda server: server.name)
def helm(request: pytest.FixtureRequest, cluster: Cluster, tmp_path: Path) -> Helm:
    """helm, as an admin of the cluster."""
    assert isinstance(request.param, Server)
    return get_helm(request.param, tmp_path, cluster.kubeconfig(tmp_path / "admin.kubeconfig", cluster.admin))


@pytest.fixture
def one_helm(cluster: Cluster, tmp_path: Path) -> Helm:
    """For what does not hang on the version."""
    return get_helm(HELM3, tmp_path, cluster.kubeconfig(tmp_path / "admin.kubeconfig", cluster.admin))
