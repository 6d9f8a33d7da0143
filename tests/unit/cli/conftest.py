"""What every test of the command line starts from: an empty environment, and a way to call commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from rotator.cli.main import cli
from tests.unit.cli.stub import TOKEN, StubDaemon, run_stub

Call = Callable[..., Result]


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in [n for n in os.environ if n.startswith(("ROTATOR_", "XDG_")) or n in ("NO_COLOR", "COLUMNS")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubDaemon]:
    """A running stub that the environment leads to."""
    monkeypatch.setattr("rotator.cli.following.INTERVAL", 0.001)
    with run_stub() as running:
        monkeypatch.setenv("ROTATOR_URL", running.url)
        monkeypatch.setenv("ROTATOR_TOKEN", TOKEN)
        yield running


@pytest.fixture
def call() -> Call:
    """Calls the command line in this process."""

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, list(arguments), input=stdin, prog_name="rotator")

    return invoke


@pytest.fixture
def closed_port() -> int:
    """A port on which nothing listens."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
