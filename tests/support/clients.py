"""Runs the real MCP clients (npm packages, pinned in tests/clients) on the files that rotator wrote. For every suite.

Each client gets a home of its own and an environment built from nothing, which keeps it off the network: updates and telemetry are off,
and what speaks to anything but loopback ends at a closed port. Some clients print the header they read: a key never leaves this module as
text, only as a `Secret`, with its key id in the text's place.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import pytest

from rotator.domain.keys import KeyId
from rotator.domain.ports import Delivery
from rotator.domain.secret import Secret
from rotator.targets.file.building import build_file_target
from rotator.targets.file.config import FileTargetConfig
from rotator.targets.file.target import FileTarget
from tests.support.sandbox import SandboxControl

PROGRAMS = Path(__file__).parents[1] / "clients" / "node_modules" / ".bin"
SERVER = "millimetric"
CREDENTIAL = "checkout"
FOLDERS = (".claude", ".cursor", ".gemini", ".codex", ".config/Code/User")

_ENDS_WITHIN = 60.0
_KEY = re.compile(r"\b(?:rk|sk|ak|pk)_[a-z][a-z0-9]*_[A-Za-z0-9]{8}_[A-Za-z0-9_-]+")
_PROXIES = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9"),
    **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
}
_TAKES_NO_PROXY = frozenset({"mcp-inspector"})
"""On Node 20 the Inspector's part for proxies cannot be loaded. It has no telemetry and no updater."""
_BACKUPS = ".claude/backups/.claude.json.backup.*"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ran:
    """How a client's command ended: its output with key ids instead of keys, and the keys that stood in it."""

    exit_code: int
    text: str
    keys: tuple[Secret, ...]

    def shows(self, secret: Secret) -> bool:
        """Whether this very key was printed."""
        return any(one.same_as(secret) for one in self.keys)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client says of one server in its file."""

    url: str
    state: str
    """the client's own word, for messages"""
    connected: bool


@dataclass(slots=True)
class Workplace:
    """A developer's home: the clients are installed there, and rotator's file targets write into it."""

    folder: Path
    control: SandboxControl
    targets: dict[str, FileTarget] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*FOLDERS, "tmp", "work"):
            (self.home / name).mkdir(parents=True, exist_ok=True)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def endpoint(self) -> str:
        return f"{self.control.url}/mcp"

    def target(self, client: str) -> FileTarget:
        """The file target of a client."""
        if client not in self.targets:
            config = FileTargetConfig(client=client, home=self.home)
            self.targets[client] = build_file_target(client, config, self.folder / "state", WallClock(), {}, self.home, "linux")
        return self.targets[client]

    def file(self, client: str) -> Path:
        """The client's file."""
        return self.target(client).path

    def deliver(self, client: str, label: str = "") -> Secret:
        """Mint a key, and let the target write it as the next generation."""
        secret = self.control.mint(label=label or client)
        self.generations[client] = self.generations.get(client, 0) + 1
        target = self.target(client)
        delivery = Delivery(CREDENTIAL, secret, self.generations[client], self.endpoint)
        after = target.deliver(delivery, target.observe(CREDENTIAL))
        assert after.key_id == secret.key_id, f"{client}: {after.problem} {after.text}"
        return secret

    def revoke(self, secret: Secret) -> None:
        """Revoke it, in every worker at once."""
        self.control.revoke(secret.key_id)
        self.control.flush()

    def uses(self, secret: Secret) -> int:
        """How many requests came with this very key and were let in."""
        return int(self.control.key(secret.key_id)["uses"])

    def refusals(self) -> int:
        """How many MCP requests were answered 401."""
        return int(self.control.stats()["operations"].get("mcp", {}).get("401", 0))

    def find_backups(self) -> list[Path]:
        """The copies of its file, keys and all, that Claude Code makes before it first changes the file in a session."""
        return sorted(self.home.glob(_BACKUPS))

    def run(self, program: str, *arguments: str) -> Ran:
        """One command of a client, to its end."""
        with self.start(program, *arguments) as process:
            out, _ = process.communicate(timeout=_ENDS_WITHIN)
        return build_ran(process.returncode, out)

    @contextlib.contextmanager
    def start(self, program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A client's process in a group of its own, of which nothing is left after the block."""
        process = subprocess.Popen(
            [str(find_program(program)), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=build_environ(self.home, program),
            cwd=self.home / "work",
            start_new_session=True,
        )
        try:
            with process:
                try:
                    yield process
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
        except subprocess.TimeoutExpired as problem:
            # Its own text would hold the output so far, and with it perhaps a key.
            raise AssertionError(f"{program} {arguments[0]} did not end within {problem.timeout} s") from None


class WallClock:
    """The wall clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


class RealClient(Protocol):
    """A client as these tests need it: `look` is what it says of the servers in its file, by name, having tried to connect to each."""

    @property
    def program(self) -> str: ...
    @property
    def reads(self) -> str: ...
    def look(self, place: Workplace) -> dict[str, Seen]: ...


@dataclass(frozen=True, slots=True)
class ClaudeCode:
    """`claude mcp list` checks the health of every server: it sends `initialize`."""

    program: str = "claude"
    reads: str = "claude-code"

    def look(self, place: Workplace) -> dict[str, Seen]:
        ran = place.run(self.program, "mcp", "list")
        lines = re.findall(r"^(\S+): (\S*) (?:\(\w+\) )?- . (.+)$", ran.text, re.MULTILINE)
        return {name: Seen(url, state, state == "Connected") for name, url, state in lines}


@dataclass(frozen=True, slots=True)
class GeminiCli:
    """`gemini mcp list` connects to every server and sends `ping`."""

    program: str = "gemini"
    reads: str = "gemini-cli"

    def look(self, place: Workplace) -> dict[str, Seen]:
        ran = place.run(self.program, "mcp", "list")
        lines = re.findall(r"^\S+ (\S+): (\S+) \(\w+\) - (\w+)$", ran.text, re.MULTILINE)
        return {name: Seen(url, state, state == "Connected") for name, url, state in lines}


@dataclass(frozen=True, slots=True)
class Codex:
    """`codex mcp list` only reads. The app server, which editors talk to, connects without an account: `mcpServerStatus/list`."""

    program: str = "codex"
    reads: str = "codex"

    def look(self, place: Workplace) -> dict[str, Seen]:
        ran = place.run(self.program, "mcp", "list", "--json")
        urls = {one["name"]: one["transport"]["url"] for one in parse_json(ran.text, "[")}
        states = {one["name"]: one for one in self.ask(place, "mcpServerStatus/list")["data"]}
        return {
            name: Seen(url, str(states[name].get("toolsError") or "started"), bool(states[name]["serverInfo"] and states[name]["tools"]))
            for name, url in urls.items()
        }

    def ask(self, place: Workplace, method: str) -> Document:
        """One request to the app server; its result, keys as key ids."""
        hello = {"clientInfo": {"name": "rotator-tests", "version": "1"}}
        with place.start(self.program, "app-server") as process:
            timer = threading.Timer(_ENDS_WITHIN, process.kill)
            timer.start()
            try:
                _converse(process, 1, "initialize", hello)
                result = _converse(process, 2, method, {})
            finally:
                timer.cancel()
        return result


@dataclass(frozen=True, slots=True)
class Inspector:
    """`mcp-inspector --cli --config FILE` opens any client's file, strictly to read. 2.x asks for Node 22; its `--cli` runs on Node 20.

    Earlier ones read servers of type stdio from a file only, or drop the headers that stand there.
    """

    reads: str
    program: str = "mcp-inspector"

    def look(self, place: Workplace) -> dict[str, Seen]:
        ran = self._run(place, "--method", "servers/list")
        servers = parse_json(ran.text, "{")["servers"]
        return {one["name"]: self._try(place, one["name"], one["detail"]) for one in servers}

    def _try(self, place: Workplace, name: str, url: str) -> Seen:
        ran = self._run(place, "--server", name, "--method", "tools/list")
        tools = parse_json(ran.text, "{").get("tools")
        return Seen(url, "tools listed" if tools else f"exit code {ran.exit_code}", ran.exit_code == 0 and bool(tools))

    def _run(self, place: Workplace, *arguments: str) -> Ran:
        return place.run(self.program, "--cli", "--config", str(place.file(self.reads)), *arguments)


def find_program(name: str) -> Path:
    """The client's program. Without it the test is skipped, or fails where ROTATOR_REQUIRE_REAL=1."""
    program = PROGRAMS / name
    if not program.exists():
        missing = f"{name} is not installed: run `npm ci` in tests/clients"
        if os.environ.get("ROTATOR_REQUIRE_REAL") == "1":
            pytest.fail(missing)
        pytest.skip(missing)
    return program


def build_environ(home: Path, program: str) -> dict[str, str]:
    """All that a client gets to see of this machine."""
    return {
        **({} if program in _TAKES_NO_PROXY else _PROXIES),
        "HOME": str(home),
        "PATH": os.environ["PATH"],
        "TMPDIR": str(home / "tmp"),
        "LANG": "C.UTF-8",
        "NO_COLOR": "1",
        "CI": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_TELEMETRY": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        # Without a trusted folder Gemini CLI does not even list what stands in the user's own file.
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_CLI_SYSTEM_SETTINGS_PATH": str(home / "no-settings.json"),
        "GEMINI_CLI_SYSTEM_DEFAULTS_PATH": str(home / "no-defaults.json"),
        "GEMINI_CLI_NO_RELAUNCH": "true",
        "GEMINI_TELEMETRY_ENABLED": "false",
        "MCP_INSPECTOR_SECRET_STORE": "memory",
        "MCP_AUTO_OPEN_ENABLED": "false",
    }


def build_ran(exit_code: int, out: str) -> Ran:
    """The output without its keys, and the keys."""
    return Ran(exit_code, redact(out), tuple(Secret(found) for found in _KEY.findall(out)))


def redact(text: str) -> str:
    """The text with key ids instead of keys."""
    return _KEY.sub(lambda found: str(Secret(found.group()).key_id), text)


def find_key_ids(text: str) -> set[KeyId]:
    """Of the keys that stand in a text."""
    return {Secret(found).key_id for found in _KEY.findall(text)}


def parse_json(text: str, opening: str) -> Any:
    """The JSON document that a client printed between its warnings."""
    begin = re.search(rf"^{re.escape(opening)}", text, re.MULTILINE)
    assert begin, f"no JSON in the client's output: {text[:500]}"
    document, _ = json.JSONDecoder().raw_decode(text, begin.start())
    return document


def describe(seen: dict[str, Seen], names: Sequence[str] = (SERVER,)) -> str:
    """For assertion messages."""
    return "; ".join(f"{name}: {seen[name].state}" if name in seen else f"{name} is not listed" for name in names)


def _converse(process: subprocess.Popen[str], number: int, method: str, params: Document) -> Document:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"id": number, "method": method, "params": params}) + "\n")
    process.stdin.flush()
    for line in process.stdout:
        with contextlib.suppress(ValueError):
            answer = json.loads(redact(line))
            if isinstance(answer, dict) and answer.get("id") == number:
                assert "result" in answer, f"{method}: {answer.get('error')}"
                result: Document = answer["result"]
                return result
    raise AssertionError(f"the app server ended, or was ended, without an answer to {method}")
