"""The demo's stage: a temporary folder with a HOME of its own, a sandbox, a daemon, and ways to look at them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import yaml

from rotator.domain.errors import RotatorError
from rotator.domain.secret import Secret
from rotator.remote.http import Remote, RemoteOptions

CACHE_TIME = 2.0
CLIENTS = {
    "claude-code": (".claude", ".claude.json"),
    "cursor": (".cursor", ".cursor/mcp.json"),
    "vscode": (".config/Code/User", ".config/Code/User/mcp.json"),
    "gemini-cli": (".gemini", ".gemini/settings.json"),
    "codex": (".codex", ".codex/config.toml"),
}
"""client → the folder that shows that it is installed, and its file"""
HOLDERS: Mapping[str, Sequence[str]] = {
    "checkout-read": ("claude-code", "cursor"),
    "dashboards-read": ("vscode", "gemini-cli"),
    "events-write": ("codex",),
}
"""credential → the clients that get its key"""
_KEY = re.compile(r"(?:rk|sk)_live_[A-Za-z0-9]{8}_[A-Za-z0-9_-]+")
_STOP_WITHIN = 12.0

Document = dict[str, Any]


class NotAsClaimed(RotatorError):
    """Something that the demo claims did not hold."""


class _Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


@dataclass(slots=True)
class Peer:
    """A JSON API with a bearer token."""

    remote: Remote
    token: str

    @classmethod
    def at(cls, name: str, url: str, token: str) -> Peer:
        """The API at a URL."""
        return cls(Remote(name, url, _Clock(), RemoteOptions(timeout=timedelta(seconds=10))), token)

    def text(self, method: str, path: str, body: object = None) -> str:
        """The answer's body. Raises `NotAsClaimed` for an error status."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        content = json.dumps(body).encode() if body is not None else None
        reply = self.remote.call("demo", method, path, headers, content)
        if reply.status // 100 != 2:
            raise NotAsClaimed(f"{method} {path} answered {reply.status}")
        return reply.body.decode()

    def json(self, method: str, path: str, body: object = None) -> Document:
        """The answer as an object."""
        found: Document = json.loads(self.text(method, path, body))
        return found


@dataclass(slots=True)
class Stage:
    """Everything that runs while the demo does."""

    folder: Path
    sandbox: Peer
    sandbox_url: str
    daemon: Peer
    process: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def key_in(self, client: str) -> Secret | None:
        """The key in a client's file."""
        with contextlib.suppress(OSError):
            found = _KEY.search((self.home / CLIENTS[client][1]).read_text())
            if found:
                return Secret(found.group())
        return None

    def living(self) -> set[str]:
        """Ids of the keys that the service has not revoked."""
        return {key["id"] for key in self.sandbox.json("GET", "/sandbox/keys")["keys"] if key["revoked_at"] is None}

    def accepted_by(self, key_id: str) -> int:
        """How many of the service's workers would take the key now."""
        keys = {key["id"]: key for key in self.sandbox.json("GET", "/sandbox/keys")["keys"]}
        return sum(1 for worker in keys[key_id]["workers"] if worker["accepts"])

    def statuses(self) -> dict[str, Document]:
        """Credential → its status, as the daemon's API tells it."""
        return {c["name"]: c for c in self.daemon.json("GET", "/api/v1/credentials")["credentials"]}

    def rotator(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """One command of the program, as a user would type it."""
        return subprocess.run(  # noqa: S603
            [sys.executable, "-m", "rotator", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=_environ(self.folder),
        )

    def reconfigure(self, every: str) -> None:
        """Write the configuration anew; the daemon sees it by itself."""
        write_config(self.folder, self.sandbox_url, every)


def wait_for(what: str, holds: Callable[[], object], within: float = 30.0) -> None:
    """Until it holds. Raises `NotAsClaimed` when it does not in time."""
    deadline = monotonic() + within
    pause = threading.Event()
    while not holds():
        if monotonic() > deadline:
            raise NotAsClaimed(f"{what}: not within {within:.0f} s")
        pause.wait(0.1)


@contextmanager
def build_stage(every: str) -> Iterator[Stage]:
    """Start everything; stop it and remove the folder, whatever happened."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rotator-demo-")))
        for installed, _ in CLIENTS.values():
            (folder / "home" / installed).mkdir(parents=True, exist_ok=True)
        (folder / "home" / ".cursor" / "mcp.json").write_text(
            '{\n  "mcpServers": {\n    "mine": { "url": "http://localhost:1/mcp" }\n  }\n}\n'
        )
        ready = folder / "sandbox.json"
        token = folder / "sandbox.token"
        options = ["--port", "0", "--cache-time", f"{CACHE_TIME:.0f}s", "--token-file", str(token), "--ready-file", str(ready)]
        stack.enter_context(_running(folder, "sandbox", *options))
        sandbox_url = _address(ready, "the sandbox")
        write_config(folder, sandbox_url, every)
        process = stack.enter_context(_running(folder, "run"))
        url = _address(folder / "state" / "daemon.json", "the daemon")
        daemon = Peer.at("daemon", url, (folder / "state" / "admin.token").read_text().strip())
        yield Stage(folder, Peer.at("sandbox", sandbox_url, token.read_text().strip()), sandbox_url, daemon, process)


def write_config(folder: Path, sandbox_url: str, every: str) -> None:
    """The configuration, whole or not at all."""
    rotation = {"every": every, "jitter": "2s", "max_age": "30d", "overlap": {"min": "1s", "max": "1h"}}
    credentials = {}
    for name, clients in HOLDERS.items():
        credentials[name] = {
            "kind": "sk" if name.endswith("write") else "rk",
            "path": f"demo/{name}",
            "issuer": "sandbox",
            "rotation": rotation,
            "targets": [{"name": client, "settle": "1s"} for client in clients],
        }
    credentials["events-write"]["justification"] = "the demo's batch job emits events"
    config = {
        "installation": "demo",
        "millimetric": {"endpoint": sandbox_url, "trusted_endpoints": [sandbox_url], "cache_time": f"{CACHE_TIME:.0f}s"},
        "issuers": {
            "sandbox": {"type": "http", "base_url": sandbox_url, "auth": {"type": "bearer", "token_file": str(folder / "sandbox.token")}}
        },
        "targets": {client: {"type": "file", "client": client} for client in CLIENTS},
        "credentials": credentials,
        "server": {"port": 0},
        "engine": {"attempt_base": "1s", "catch_up": "1s"},
    }
    temporary = folder / ".rotator.yaml"
    temporary.write_text(yaml.safe_dump(config, sort_keys=False))
    temporary.replace(folder / "rotator.yaml")


def _environ(folder: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROTATOR_", "XDG_", "CLAUDE_", "CODEX_", "GEMINI_"))}
    return {
        **kept,
        "HOME": str(folder / "home"),
        "ROTATOR_CONFIG": str(folder / "rotator.yaml"),
        "ROTATOR_STATE_DIR": str(folder / "state"),
    }


@contextmanager
def _running(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / f"{arguments[0]}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "rotator", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=_environ(folder),
            start_new_session=True,
        )
    try:
        yield process
        if process.poll() is not None:
            raise NotAsClaimed(f"`rotator {arguments[0]}` ended by itself with exit code {process.returncode}:\n{log.read_text()[-1500:]}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(file: Path, who: str) -> str:
    found: list[str] = []

    def look() -> bool:
        with contextlib.suppress(OSError, ValueError, KeyError):
            found.append(json.loads(file.read_text())["url"])
        return bool(found)

    wait_for(f"{who} serves", look, 20.0)
    return found[0]
