"""Runs the real `rotator` program against a sandbox: configuration files, daemon processes, and their API. For every suite."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.support.sandbox import build_client

Document = dict[str, Any]

# Limits that only bound failure: the machine may have other things to do.
WITHIN = 90.0
START_WITHIN = 90.0
STOP_WITHIN = 30.0


def wait_until(look: Callable[[], Any], within: float = WITHIN, every: float = 0.05, what: str = "the condition") -> Any:
    """The first true answer of `look`; fails after `within` seconds."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within} s; last answer: {answer!r}")
        pause.wait(every)


@dataclass(slots=True)
class Site:
    """A folder with a configuration, a state folder and a home, as one installation has them."""

    folder: Path
    sandbox_url: str
    admin_token: str
    cache_time: str = "2s"
    config: Document = field(default_factory=dict)
    added_environ: dict[str, str] = field(default_factory=dict, repr=False)
    """variables that this site's programs run with besides"""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.home.mkdir(exist_ok=True)
        token = self.folder / "issuer.token"
        token.touch(0o600)
        token.write_text(self.admin_token)
        self.config = {
            "installation": "test",
            "millimetric": {
                "endpoint": self.sandbox_url,
                "trusted_endpoints": [self.sandbox_url],
                "cache_time": self.cache_time,
                "rate": None,
            },
            "issuers": {
                "sandbox": {
                    "type": "http",
                    "base_url": self.sandbox_url,
                    "auth": {"type": "bearer", "token_file": str(token)},
                    "rate": None,
                }
            },
            "targets": {},
            "credentials": {},
            "server": {"port": 0},
            "engine": {"catch_up": "1s", "recheck": "1s", "lease": "5s", "attempt_base": "1s", "step_base": "1s"},
            "log": {"format": "json"},
            **self.config,
        }

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def config_file(self) -> Path:
        return self.folder / "rotator.yaml"

    @property
    def environ(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ROTATOR_", "XDG_"))}
        return {**kept, "HOME": str(self.home), "PYTHONWARNINGS": "error", "NO_COLOR": "1", **self.added_environ}

    def client(self, name: str, *folders: str) -> str:
        """Add a target for an MCP client that is installed in this home; its name."""
        for folder in folders:
            (self.home / folder).mkdir(parents=True, exist_ok=True)
        self.config["targets"][name] = {"type": "file", "client": name, "home": str(self.home)}
        return name

    def key_file(self, name: str) -> Path:
        """Add a raw-key target; its path."""
        path = self.folder / f"{name}.key"
        self.config["targets"][name] = {"type": "file", "path": str(path), "content": "key"}
        return path

    def credential(self, name: str, *targets: str, **settings: Any) -> None:
        """Add a credential with short times."""
        overlap = settings.pop("overlap", {"min": "1s", "max": "60s"})
        rotation = {"overlap": overlap, **settings.pop("rotation", {})}
        used = [{"name": t, "settle": "0s"} for t in targets]
        store = next(iter(self.config.get("stores", ())), "embedded")
        self.config["credentials"][name] = {
            "kind": "rk", "store": store, "path": f"test/{name}", "issuer": "sandbox", "rotation": rotation, "targets": used, **settings
        }  # fmt: skip

    def write(self) -> Path:
        """Write the configuration file, in one go."""
        temporary = self.config_file.with_suffix(".tmp")
        temporary.write_text(yaml.safe_dump(self.config, sort_keys=False))
        temporary.replace(self.config_file)
        return self.config_file

    def run(
        self, *arguments: str, stdin: str | None = None, timeout: float = 60.0, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """One command of the program, to its end."""
        return subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, timeout=timeout, check=check, env=self.variables()
        )

    def command(self, *arguments: str, program: Sequence[str] = (sys.executable, "-m", "rotator")) -> list[str]:
        """The command line, with this site's configuration and state folder in the environment's place."""
        return [*program, *arguments]

    def variables(self) -> dict[str, str]:
        return {**self.environ, "ROTATOR_CONFIG": str(self.config_file), "ROTATOR_STATE_DIR": str(self.state)}


@dataclass(slots=True)
class DaemonProcess:
    """A running daemon."""

    site: Site
    process: subprocess.Popen[bytes]
    log: Path
    url: str
    token: str

    def get(self, path: str, **params: Any) -> Document:
        """GET an API path; its JSON."""
        return self._json("GET", path, params=params)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Document:
        """POST to an API path; its JSON."""
        return self._json("POST", path, json=dict(body or {}))

    def status(self, name: str) -> Document:
        return self.get(f"/api/v1/credentials/{name}")

    def events(self, **params: Any) -> list[Document]:
        found: list[Document] = self.get("/api/v1/events", limit=1000, **params)["events"]
        return found

    def wait_for(self, name: str, holds: Callable[[Document], object], within: float = WITHIN, what: str = "") -> Document:
        """The credential's status once `holds` says so."""
        last: Document = {}

        def look() -> bool:
            nonlocal last
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}: {self.log.read_text()[-2000:]}")
            last = self.status(name)
            return bool(holds(last))

        try:
            wait_until(look, within, what=what or f"what {name} is waited for")
        except AssertionError as problem:
            raise AssertionError(f"{problem}; status: {json.dumps(last)[:1500]}; log: {self.log.read_text()[-2000:]}") from None
        return last

    def metrics(self) -> str:
        """Its metrics, as Prometheus reads them."""
        with build_client(self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=30.0, trust_env=False) as client:
            return client.get("/metrics").raise_for_status().text

    def stop(self, within: float = STOP_WITHIN) -> int:
        """SIGTERM, and wait; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait(STOP_WITHIN)

    def _json(self, method: str, path: str, **options: Any) -> Document:
        headers = {"Authorization": f"Bearer {self.token}"}
        with build_client(self.url, headers=headers, timeout=30.0, trust_env=False) as client:
            answer = client.request(method, path, **options)
        if answer.is_error:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text}")
        body: Document = answer.json()
        return body


@contextlib.contextmanager
def running_daemon(
    site: Site, *, program: Sequence[str] = (sys.executable, "-m", "rotator"), log_name: str = "daemon.log"
) -> Iterator[DaemonProcess]:
    """`rotator run`, until the end of the block; killed there if it did not stop."""
    daemon = start_daemon(site, program=program, log_name=log_name)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.send_signal(signal.SIGTERM)
            try:
                daemon.process.wait(STOP_WITHIN)
            except subprocess.TimeoutExpired:
                daemon.process.kill()
                daemon.process.wait(STOP_WITHIN)
                raise


def start_daemon(site: Site, *, program: Sequence[str] = (sys.executable, "-m", "rotator"), log_name: str = "daemon.log") -> DaemonProcess:
    """Start it, and return when it is ready to be asked."""
    site.write()
    address = site.state / "daemon.json"
    address.unlink(missing_ok=True)
    log = site.folder / log_name
    with log.open("ab") as out:
        process = subprocess.Popen(
            site.command("run", program=program), env=site.variables(), stdout=out, stderr=out, stdin=subprocess.DEVNULL
        )

    def find_address() -> Document | None:
        if process.poll() is not None:
            raise AssertionError(f"the daemon ended with {process.returncode}: {log.read_text()[-3000:]}")
        with contextlib.suppress(OSError, ValueError):
            found: Document = json.loads(address.read_text())
            return found
        return None

    found = wait_until(find_address, START_WITHIN, what="the daemon's address")
    assert found is not None
    return DaemonProcess(site, process, log, found["url"], (site.state / "admin.token").read_text().strip())
