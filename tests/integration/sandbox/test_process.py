"""The sandbox as a process of its own, and as a thread: start, stop, token file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest

from rotator.domain.errors import Misconfigured
from rotator.sandbox import SandboxServer
from tests.support.sandbox import SandboxControl, start_sandbox_process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_with_exit_code_0(tmp_path: Path, number: signal.Signals) -> None:
    with start_sandbox_process(tmp_path, cache_time=5, workers=3, project=["a", "b"]) as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
        key = sandbox.control.mint()
        assert sandbox.control.probe(key).alive
        assert sandbox.control.http.get("/sandbox/settings").json()["cache_time"] == 5
        assert len(sandbox.control.key(key.key_id)["workers"]) == 3
        sandbox.process.send_signal(number)
        assert sandbox.process.wait(60) == 0
    assert key.reveal() not in (tmp_path / "sandbox.log").read_text(encoding="utf-8")


def test_the_token_file_is_made_for_its_owner_only_and_used_again(tmp_path: Path) -> None:
    with start_sandbox_process(tmp_path) as sandbox:
        assert stat.S_IMODE(sandbox.token_file.stat().st_mode) == 0o600
        token = sandbox.token_file.read_text(encoding="ascii")
        assert token.strip() not in (tmp_path / "sandbox.log").read_text(encoding="utf-8")
    with start_sandbox_process(tmp_path) as sandbox:
        assert sandbox.token_file.read_text(encoding="ascii") == token
        sandbox.control.mint()


def test_the_token_file_can_be_named_by_the_environment(tmp_path: Path) -> None:
    token_file = tmp_path / "shared-token"
    token_file.write_text("x" * 8, encoding="ascii")
    token_file.chmod(0o600)
    environment = {**os.environ, "ROTATOR_SANDBOX_TOKEN_FILE": str(token_file)}
    command = [sys.executable, "-m", "rotator.sandbox", "--port", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert str(token_file) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with SandboxServer() as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(Misconfigured, match=f"port {port}"):
            SandboxServer(port=port).start()
        with pytest.raises(AssertionError, match=f"cannot listen on 127.0.0.1 port {port}"), start_sandbox_process(tmp_path, port=port):
            pass


def test_a_thread_is_left_behind_by_no_server() -> None:
    before = set(threading.enumerate())
    with SandboxServer() as first, SandboxServer() as second:
        assert first.url != second.url
        with SandboxControl(first.url, first.admin_token) as control:
            key = control.mint()
            assert control.probe(key).alive
        with SandboxControl(second.url, second.admin_token) as control:
            assert control.probe(key).error == "invalid_api_key"
    assert not set(threading.enumerate()) - before
    with pytest.raises(httpx.ConnectError):
        httpx.get(first.url + "/v1/stats")
