"""A sandbox, a site, and a place in the real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Site
from tests.support.kubernetes import Cluster
from tests.support.sandbox import SandboxProcess, start_sandbox_process
from tests.support.secrets import SecretSite


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with start_sandbox_process(tmp_path, cache_time=1) as process:
        yield process


@pytest.fixture
def site(tmp_path: Path, sandbox: SandboxProcess, cluster: Cluster) -> SecretSite:
    """One credential, `checkout`, whose key goes into the Secret `millimetric` of a namespace of its own."""
    site = Site(tmp_path / "site", sandbox.url, sandbox.token_file.read_text().strip(), cache_time="1s")
    return SecretSite(site, cluster, cluster.namespace())
