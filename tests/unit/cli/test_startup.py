"""What starting costs, and how the process behaves as one: codes, signals, pipes, completion."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import click
import pytest

from rotator.cli.completion import find_names
from rotator.cli.connection import find_state_dir
from rotator.cli.failures import render_failure
from rotator.cli.output import _Live
from rotator.domain.errors import RotatorError
from tests.unit.cli.build import NOW, a_rotation, a_status
from tests.unit.cli.stub import TOKEN, StubDaemon
from tests.unit.cli.test_following import ACCEPTED

MOST_MODULES = 150
"""Loaded by `rotator --help`, the interpreter's own and click's among them; it was 124 when this was written."""
HEAVY = ("pydantic", "httpx", "rich", "sqlalchemy", "fastapi", "structlog", "yaml", "cryptography", "starlette", "asyncio", "zoneinfo")

_HELP = """
import sys
from rotator.cli.main import cli
try:
    cli.main([{arguments}], prog_name="rotator")
except SystemExit as end:
    assert end.code == 0, end.code
print("MODULES", *sorted(sys.modules), file=sys.stderr)
"""


def gather_modules(*arguments: str) -> set[str]:
    """The modules that a call loads."""
    code = _HELP.format(arguments=", ".join(map(repr, arguments)))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stderr.split("MODULES", 1)[1].split())


def test_help_loads_few_modules_and_none_of_the_heavy_ones() -> None:
    modules = gather_modules("--help")
    assert not {m for m in modules if m.split(".")[0] in HEAVY}
    assert not {m for m in modules if m.startswith("rotator.") and not m.startswith(("rotator.cli", "rotator.domain"))}
    assert len(modules) < MOST_MODULES, len(modules)


@pytest.mark.parametrize("command", ["status", "rotate", "leak", "check", "run", "demo", "config", "sandbox"])
def test_a_command_s_help_loads_nothing_heavy_either(command: str) -> None:
    assert not {m for m in gather_modules(command, "--help") if m.split(".")[0] in HEAVY}


def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """The real process."""
    environ = {**os.environ, "PYTHONUNBUFFERED": "1", **variables}
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-m", "rotator", *arguments], stdout=pipe, stderr=pipe, stdin=pipe, text=True, env=environ)


def test_ctrl_c_is_exit_code_130_and_says_that_the_daemon_goes_on(stub: StubDaemon) -> None:
    stub.routes["POST /api/v1/credentials/checkout-read/rotate"] = ACCEPTED
    stub.routes["GET /api/v1/rotations/rot1"] = a_rotation()
    stub.routes["GET /api/v1/credentials/checkout-read"] = a_status(phase="opened")
    with start("rotate", "checkout-read", "--wait") as process:
        assert process.stdout is not None
        assert "it is opened" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the daemon goes on" in out
    assert "FAILED" not in out
    assert err.strip() == "rotator: interrupted"  # the line break before it ends the terminal's ^C


def test_a_closed_pipe_is_quiet(stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status(f"c{n}") for n in range(400)]}
    with start("status", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        err = process.stderr.read()
        process.wait(30)
    assert err == ""
    assert process.returncode == 141


def test_a_fault_of_ours_shows_no_traceback_unless_asked_for(stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [{"nameless": True}]}
    with start("status") as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "Traceback" not in err
    assert "--debug" in err
    for arguments, variables in ((["status", "--debug"], {}), (["status"], {"ROTATOR_DEBUG": "1"})):
        with start(*arguments, **variables) as process:
            assert "Traceback" in process.communicate(timeout=30)[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_there(shell: str) -> None:
    with start(_ROTATOR_COMPLETE=f"{shell}_source") as process:
        out, _ = process.communicate(timeout=30)
    assert "_ROTATOR_COMPLETE" in out


def complete(words: str, **variables: str) -> list[str]:
    """What bash would offer for the last word."""
    count = str(len(words.split(" ")) - 1)
    with start(_ROTATOR_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=count, **variables) as process:
        out, err = process.communicate(timeout=30)
    assert err == ""
    return [line.split(",", 1)[1] for line in out.splitlines() if line]


def test_credential_names_are_completed_from_the_daemon(stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status("checkout-read"), a_status("checkout-write"), a_status("billing")]}
    assert complete("rotator rotate check") == ["checkout-read", "checkout-write"]
    assert complete("rotator rotate checkout-read check") == ["checkout-write"]
    assert complete("rotator ro") == ["rotate", "rollback"]


def test_without_a_daemon_completion_is_quiet(closed_port: int, tmp_path: Path) -> None:
    assert complete("rotator status ", ROTATOR_STATE_DIR=str(tmp_path / "none")) == []
    assert complete("rotator status ", ROTATOR_URL=f"http://127.0.0.1:{closed_port}", ROTATOR_TOKEN=TOKEN) == []


def test_a_daemon_that_answers_drop_by_drop_holds_completion_up_for_half_a_second_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()
        dripping = threading.Thread(target=_drip, args=(server, done))
        dripping.start()
        monkeypatch.setenv("ROTATOR_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("ROTATOR_TOKEN", TOKEN)
        started = time.monotonic()
        found = find_names(click.Context(click.Command("x")))
        took = time.monotonic() - started
        done.set()
        dripping.join()
    assert found == []
    assert took < 2.0


def _drip(server: socket.socket, done: threading.Event) -> None:
    talk, _ = server.accept()
    with talk:
        talk.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(60):
            if done.wait(0.1):
                return
            talk.sendall(b" ")


@pytest.mark.parametrize(
    ("option", "environ"),
    [
        (Path("~/x"), {}),
        (Path("rel"), {"ROTATOR_STATE_DIR": "/other"}),
        (None, {"ROTATOR_STATE_DIR": "~/y"}),
        (None, {"ROTATOR_STATE_DIR": "", "XDG_STATE_HOME": "/xdg"}),
        (None, {"XDG_STATE_HOME": "relative", "HOME": "/home/u"}),
        (None, {"HOME": "/home/u"}),
    ],
)
def test_the_state_folder_is_where_the_settings_say(option: Path | None, environ: dict[str, str]) -> None:
    from rotator.settings.state import find_state_dir as settings_say

    assert find_state_dir(option, environ) == settings_say(option, environ)


def test_a_cause_is_not_told_twice() -> None:
    problem = RotatorError("cannot listen on 127.0.0.1:1: Address already in use")
    problem.__cause__ = OSError(98, "Address already in use")
    assert list(render_failure(problem)) == ["rotator: cannot listen on 127.0.0.1:1: Address already in use"]
    problem.__cause__ = OSError(13, "Permission denied")
    assert list(render_failure(problem))[1:] == ["  because: Permission denied"]


def test_times_of_progress_are_utc_on_a_terminal_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    stream = io.StringIO()
    try:
        _Live(stream).say(NOW, "promoted")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert stream.getvalue() == "18:00:00   ok promoted\n"
