"""One sandbox for all clients, and a home of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.clients import Workplace
from tests.support.sandbox import SandboxProcess, start_sandbox_process


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """A sandbox in a process of its own, whose workers forget a key after two seconds."""
    with start_sandbox_process(tmp_path_factory.mktemp("sandbox"), cache_time=2) as process:
        yield process


@pytest.fixture
def place(tmp_path: Path, sandbox: SandboxProcess) -> Iterator[Workplace]:
    """A developer's home with the clients in it.

    Afterwards the copies that Claude Code itself makes of its file are removed, and nothing else, so that every other file of the home,
    the clients' logs and caches included, is scanned for keys.
    """
    place = Workplace(tmp_path, sandbox.control)
    yield place
    for backup in place.find_backups():
        backup.unlink()
