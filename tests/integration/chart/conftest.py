"""One cluster for the chart's tests, in the worker that has the other Kubernetes tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.charts import Helm, get_helm
from tests.support.kubernetes import Cluster, running_cluster
from tests.support.sandbox import SandboxProcess, start_sandbox_process
from tests.support.servers import HELM3, HELM4, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A cluster is large: one worker has it."""
    for item in items:
        if "integration/chart" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("kubernetes"))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


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
