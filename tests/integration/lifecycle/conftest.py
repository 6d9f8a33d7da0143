"""A sandbox of its own for each test, and a site with one credential."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Site
from tests.support.sandbox import SandboxProcess, start_sandbox_process

CACHE_SECONDS = 1


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with start_sandbox_process(tmp_path, cache_time=CACHE_SECONDS) as process:
        yield process


@pytest.fixture
def site(tmp_path: Path, sandbox: SandboxProcess) -> Site:
    """One credential, `checkout`, with one file, `raw.key`."""
    site = Site(tmp_path / "site", sandbox.url, sandbox.token_file.read_text().strip(), cache_time=f"{CACHE_SECONDS}s")
    site.key_file("raw")
    site.credential("checkout", "raw")
    return site
