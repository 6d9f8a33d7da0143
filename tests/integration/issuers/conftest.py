"""One sandbox and one daemon whose credentials get their keys from people and from a program."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rotator.domain.secret import Secret
from tests.conftest import find_files, holds_key
from tests.support.daemon import running_daemon
from tests.support.sandbox import start_sandbox_process
from tests.support.scenes import CALM, Stage, build_site, watching

PROGRAM = Path(__file__).parents[3] / "docs" / "examples" / "mint_key.py"


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with start_sandbox_process(tmp_path, cache_time=1) as sandbox:
        monkeypatch.setenv("SANDBOX_URL", sandbox.url)
        monkeypatch.setenv("SANDBOX_TOKEN_FILE", str(sandbox.token_file))
        site = build_site(tmp_path, sandbox)
        site.config["issuers"] |= {
            "spares": {"type": "pool", "path": "pool"},
            "by-hand": {"type": "manual", "instructions": "ask Ada"},
            "program": {
                "type": "command",
                "command": [sys.executable, str(PROGRAM)],
                "list": True,
                "revoke": True,
                "environment": ["SANDBOX_URL", "SANDBOX_TOKEN_FILE"],
            },
        }
        site.config["engine"]["poll"] = "1s"
        sandbox.control.settings(**CALM)
        with watching(sandbox) as truth, running_daemon(site) as daemon:
            yield Stage(sandbox, site, daemon, truth)
    leaked = [str(path) for path in find_files(tmp_path) if holds_key(path)]
    assert not leaked, f"key material outside of targets: {leaked}"


def write_keys(*keys: Secret) -> str:
    """As a person pipes them in, one a line."""
    return "".join(f"{key.reveal()}\n" for key in keys)
