"""How requests to a cluster are signed: by a token that is fixed, in a file that others replace, or printed by a program (`exec`).

A program runs again before its token ends. Where a token is refused and another one can be had, the request is repeated with that, once.
Tokens and what programs print never get into a message, nor into an exception that hangs on one.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from rotator.domain.errors import Misconfigured, RotatorError, Unreachable
from rotator.remote.http import ensure_header_value
from rotator.remote.tokens import read_token

__all__ = ["FindToken", "PrintedToken", "TokenAuth", "find_in_file"]

FindToken = Callable[[str | None], str]
"""Brings a token; is told of the one that was refused, if any"""

_LIMIT = 10.0
"""seconds that a program may take"""
_MOST_BYTES = 1024 * 1024
"""that it may print"""
_PAUSE = 5.0
"""seconds after a failure, or after a token that is no use, in which nobody waits for the program again: a look at many namespaces asks
many times"""
_EARLY = timedelta(seconds=60)
"""A token that ends within a minute is not used any more."""


class TokenAuth(httpx2.Auth):
    """Sends the token; where it is refused, another one, once."""

    def __init__(self, find: FindToken) -> None:
        self._find = find

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        used = self._find(None)
        request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code == httpx2.codes.UNAUTHORIZED and (another := self._find(used)) != used:
            request.headers["Authorization"] = f"Bearer {another}"
            yield request


def find_in_file(file: Path, where: str) -> FindToken:
    """Read at each use: the kubelet replaces the token of a service account every hour. `where`: what names the file."""

    def find(_refused: str | None) -> str:
        return read_token(file, None, f"{where}: token", private=False)

    return find


class PrintedToken:
    """The token that a program prints as an `ExecCredential`. Safe to be used from several threads: one of them runs it."""

    def __init__(self, version: str, command: Sequence[str], environ: Mapping[str, str], server: str) -> None:
        info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"cluster": {"server": server}, "interactive": False}}
        self._command = tuple(command)
        self._program = f"{Path(self._command[0]).name}, which the kubeconfig names to sign in,"
        self._environ = {**environ, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        self._token: str | None = None
        self._until: datetime | None = None
        self._settled = 0.0
        """monotonic seconds until which the token is used in any case"""
        self._failure: tuple[float, RotatorError] | None = None
        self._lock = threading.Lock()

    def __call__(self, refused: str | None) -> str:
        with self._lock:
            if self._token is not None and (time.monotonic() < self._settled or (self._token != refused and not self._ends())):
                return self._token
            if self._failure is not None and time.monotonic() < self._failure[0] + _PAUSE:
                raise type(self._failure[1])(str(self._failure[1]))
            try:
                self._token, self._until = self._parse(self._run())
            except RotatorError as problem:
                self._failure = (time.monotonic(), problem)
                raise
            if self._token == refused or self._ends():
                self._settled = time.monotonic() + _PAUSE  # it has no better one
            return self._token

    def _ends(self) -> bool:
        return self._until is not None and self._until - _EARLY <= datetime.now(UTC)

    def _run(self) -> bytes:
        try:
            # A session of its own: it can be ended with all that it started, and finds no terminal to ask at.
            process = subprocess.Popen(  # noqa: S603  # the user's own program, no shell
                self._command,
                env={**os.environ, **self._environ},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as problem:
            raise Misconfigured(f"{self._program} cannot be started ({problem.strerror}): install it, or correct `command`") from None
        with process:
            printed = _read_to_end(process)
        if printed is None:
            raise Unreachable(f"{self._program} took more than {_LIMIT:.0f} s: run it by hand")
        if len(printed) > _MOST_BYTES:
            raise Misconfigured(f"{self._program} printed more than {_MOST_BYTES // 1024} KiB: run it by hand")
        if process.returncode:
            raise Unreachable(f"{self._program} ended with exit code {process.returncode}: run it by hand")
        return printed

    def _parse(self, printed: bytes) -> tuple[str, datetime | None]:
        status = _find_status(printed)
        token, ends = status.get("token"), status.get("expirationTimestamp")
        until = _parse_end(ends)
        if not token and status.get("clientCertificateData"):
            raise Misconfigured(f"{self._program} printed a client certificate: only tokens are understood")
        if not isinstance(token, str) or (until is None and ends is not None):
            raise Misconfigured(f"{self._program} printed no ExecCredential with a token in it: run it by hand")
        return ensure_header_value(token, f"the token that {self._program[:-1]} printed"), until


def _read_to_end(process: subprocess.Popen[bytes]) -> bytes | None:
    """What it printed, cut off beyond what a token may take; None: it took too long. In both cases it was ended."""
    assert process.stdout is not None
    printed, ends = bytearray(), time.monotonic() + _LIMIT
    with selectors.DefaultSelector() as selector, contextlib.suppress(subprocess.TimeoutExpired):
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(printed) <= _MOST_BYTES and (left := ends - time.monotonic()) > 0:
            if selector.select(left):
                data = os.read(process.stdout.fileno(), _MOST_BYTES)
                if not data:
                    process.wait(left)
                    return bytes(printed)
                printed += data
    # Nobody has taken note of its end yet, so its number is no other's.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return bytes(printed) if len(printed) > _MOST_BYTES else None


def _find_status(printed: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, KeyError, TypeError):
        status = json.loads(printed)["status"]
        if isinstance(status, dict):
            return status
    return {}


def _parse_end(value: object) -> datetime | None:
    with contextlib.suppress(ValueError):
        until = datetime.fromisoformat(value) if isinstance(value, str) else None
        return until if until is not None and until.tzinfo is not None else None
    return None
