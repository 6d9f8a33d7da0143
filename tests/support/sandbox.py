"""Starts a sandbox as a process of its own, and speaks to its admin and control API. For every suite."""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from rotator.domain.keys import KeyId
from rotator.domain.secret import Secret

Document = dict[str, Any]
Documents = list[Document]

TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_START_WITHIN = 60.0
_STOP_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe got: HTTP status, the registry's or JSON-RPC's error code (None where there is none), the tools listed."""

    status: int
    error: str | None
    tools: frozenset[str]

    @property
    def alive(self) -> bool:
        """Whether the tools were listed."""
        return self.status == 200 and self.error is None


class SandboxControl:
    """A client of one sandbox; `http` sends the admin token, `anonymous` sends none.

    Raises `httpx.HTTPStatusError` for an answer that is an error, except from `probe`.
    """

    def __init__(self, url: str, admin_token: str, timeout: float = 10.0) -> None:
        self.url = url
        self.http = build_client(url, headers={"Authorization": f"Bearer {admin_token}"}, timeout=timeout)
        self.anonymous = build_client(url, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self.http.close()
        self.anonymous.close()

    def mint(self, kind: str = "rk", *, label: str = "", project: str = "default", env: str = "live") -> Secret:
        """A new key."""
        body = {"kind": kind, "env": env, "project": project, "label": label}
        return Secret(self._json("POST", "/admin/v1/keys", json=body)["key"])

    def list(self, label_prefix: str = "", *, limit: int = 200) -> Documents:
        """Every key that the admin API lists, page by page."""
        keys: Documents = []
        cursor = ""
        while True:
            page = self._json("GET", "/admin/v1/keys", params={"label_prefix": label_prefix, "limit": limit, "cursor": cursor})
            keys += page["keys"]
            if page["next_cursor"] is None:
                return keys
            cursor = page["next_cursor"]

    def revoke(self, key_id: KeyId | str) -> str:
        """When it was revoked, ISO 8601."""
        return str(self._json("DELETE", f"/admin/v1/keys/{key_id}")["revoked_at"])

    def keys(self, label_prefix: str = "") -> Documents:
        """The whole truth per key, workers' caches included."""
        found: Documents = self._json("GET", "/sandbox/keys", params={"label_prefix": label_prefix})["keys"]
        return found

    def key(self, key_id: KeyId | str) -> Document:
        """The whole truth about one key. Raises `KeyError`."""
        return {key["id"]: key for key in self.keys()}[str(key_id)]

    def living(self, label_prefix: str = "") -> set[str]:
        """Ids of the keys that are not revoked."""
        return {key["id"] for key in self.keys(label_prefix) if key["revoked_at"] is None}

    def faults(self, *rules: Document, seed: int | None = None) -> None:
        """Puts these rules in force instead of the old ones; none: no faults."""
        self._json("PUT", "/sandbox/faults", json={"rules": list(rules), "seed": seed})

    def fault_state(self) -> Document:
        """`{"rules": [{…, "applied": n}], "late_pending": n}`."""
        return self._json("GET", "/sandbox/faults")

    def settings(self, **change: Any) -> Document:
        """Changes live settings; all of them as they are now."""
        return self._json("PUT", "/sandbox/settings", json=change)

    def flush(self) -> None:
        """Empties the workers' key caches."""
        self._json("POST", "/sandbox/flush")

    def advance(self, seconds: float) -> None:
        """Makes caches, sessions, buckets and propagation older."""
        self._json("POST", "/sandbox/advance", json={"seconds": seconds})

    def stats(self) -> Document:
        """Counts per operation and status."""
        return self._json("GET", "/sandbox/stats")

    def probe(self, key: Secret, *, worker: int | None = None, path: str | None = None) -> Probed:
        """tools/list with this key, at the endpoint of its kind unless `path` names another."""
        headers = {"Authorization": f"Bearer {key.reveal()}"}
        if worker is not None:
            headers["X-Sandbox-Worker"] = str(worker)
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
        answer = self.http.post(path or key.key_id.kind.mcp_path, json=message, headers=headers)
        body = answer.json()
        error = body.get("error")
        code = error["message"] if isinstance(error, dict) else error
        return Probed(answer.status_code, code, frozenset(tool["name"] for tool in body.get("result", {}).get("tools", [])))

    def accepted_by(self, key: Secret | KeyId) -> set[int]:
        """The workers that would take the key now, without asking them (so that no cache changes)."""
        key_id = key.key_id if isinstance(key, Secret) else key
        return {worker["worker"] for worker in self.key(key_id)["workers"] if worker["accepts"]}

    def _json(self, method: str, path: str, **options: Any) -> Document:
        answer = self.http.request(method, path, **options)
        answer.raise_for_status()
        body: Document = answer.json()
        return body


@dataclass(frozen=True, slots=True)
class SandboxProcess:
    """A running sandbox."""

    url: str
    token_file: Path
    control: SandboxControl
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def start_sandbox_process(tmp_path: Path, **flags: Any) -> Iterator[SandboxProcess]:
    """A sandbox on a free port; `cache_time=5` becomes `--cache-time 5`, `cache_refusals=True` a bare flag. Its state is in `tmp_path`."""
    token_file, ready_file, log_file = tmp_path / "sandbox-token", tmp_path / "sandbox-ready.json", tmp_path / "sandbox.log"
    ready_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "rotator.sandbox", "--token-file", str(token_file), "--ready-file", str(ready_file)]
    command += build_flags({"port": 0, **flags})
    with log_file.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process:
        try:
            wait_until(lambda: ready_file.exists() or process.poll() is not None, _START_WITHIN)
            if not ready_file.exists():
                raise AssertionError(f"the sandbox did not start: {log_file.read_text(encoding='utf-8')}")
            url = json.loads(ready_file.read_text(encoding="utf-8"))["url"]
            with SandboxControl(url, token_file.read_text(encoding="ascii").strip()) as control:
                yield SandboxProcess(url, token_file, control, process)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()


def build_client(url: str, **options: Any) -> httpx.Client:
    """A client for plain HTTP. It trusts no authority, which saves loading them: 20 to 100 ms per client."""
    return httpx.Client(base_url=url, verify=TRUSTS_NOBODY, **options)


def build_flags(flags: dict[str, Any]) -> list[str]:
    """Command-line flags from keyword arguments; lists repeat the flag, False and None leave it out."""
    words: list[str] = []
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            words.append(flag)
        elif value is not False and value is not None:
            for one in value if isinstance(value, list | tuple) else [value]:
                words += [flag, str(one)]
    return words


def wait_until(condition: Callable[[], bool], within: float = 60.0) -> None:
    """Polls until the condition holds. Raises `AssertionError` after `within` seconds."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"the condition did not come true within {within} s")
        pause.wait(0.01)
