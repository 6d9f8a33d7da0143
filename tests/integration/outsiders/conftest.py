"""A sandbox of its own for each test, and sites whose store is one that outsiders know too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Site
from tests.support.places import Place, open_place
from tests.support.sandbox import SandboxProcess, start_sandbox_process

CACHE_SECONDS = 1


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProcess]:
    with start_sandbox_process(tmp_path, cache_time=CACHE_SECONDS) as process:
        yield process


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of store; tests name theirs."""
    return str(request.param)


@pytest.fixture
def place(kind: str) -> Iterator[Place]:
    """The store, with its writes gated."""
    with open_place(kind, gated=True) as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path, sandbox: SandboxProcess, place: Place) -> Site:
    """No credential yet; the store is the place's."""
    site = Site(tmp_path / "site", sandbox.url, sandbox.token_file.read_text().strip(), cache_time=f"{CACHE_SECONDS}s")
    place.furnish(site)
    return site
