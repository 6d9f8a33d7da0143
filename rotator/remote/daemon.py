"""The command line's client of a running daemon's HTTP API.

Answers are JSON. The API's own refusals, `{"error": reason, "message": text, "exit_code": n}`, come back as the errors they were. The
token goes to the configured URL only; nothing here knows what a command means.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Self
from urllib.parse import quote

from pydantic import JsonValue

from rotator.domain.errors import Misconfigured, RateLimited, RotatorError, Unreachable
from rotator.domain.reasons import Reason
from rotator.remote.fields import parse_base_url
from rotator.remote.http import Observer, Remote, RemoteOptions, Reply, ensure_header_value

__all__ = ["DaemonClient", "DaemonError", "DaemonUnreachable"]

_UNAUTHORIZED = 401
_FORBIDDEN = 403
_LONGEST_MESSAGE = 4000
_LARGEST = 64_000_000
"""bytes; ten thousand credentials in one answer are about 10 MB"""


class DaemonUnreachable(RotatorError):
    """No daemon answers where one was looked for."""

    exit_code = 5
    reason = Reason.UNREACHABLE


class DaemonError(RotatorError):
    """The daemon understood and said no. `status` is HTTP's, `word` the reason as it was sent, known to this version or not."""

    def __init__(self, message: str, status: int, word: str, exit_code: int) -> None:
        super().__init__(message, reason=Reason(word) if word in set(Reason) else Reason.FAILED)
        self.status = status
        self.word = word
        self.exit_code = exit_code


class _SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class DaemonClient:
    """Calls one daemon. `where` says in messages where its address came from, as in `the state folder ~/.local/state/rotator`."""

    def __init__(
        self, url: str, token: str, where: str = "", timeout: timedelta = timedelta(seconds=10), observe: Observer | None = None
    ) -> None:
        """Opens no connection. Raises `Misconfigured` for a URL or token that cannot be one."""
        try:
            parse_base_url(url)
        except ValueError as problem:
            raise Misconfigured(f"the daemon's URL (ROTATOR_URL, or the state folder's) is not usable: {problem}") from None
        self.url = url.rstrip("/")
        self._where = f" (from {where})" if where else ""
        self._authorization = "Bearer " + ensure_header_value(token, "the daemon's token (ROTATOR_TOKEN, or the state folder's)")
        self._remote = Remote("daemon", self.url, _SystemClock(), RemoteOptions(timeout=timeout, largest_body=_LARGEST), observe)

    def __repr__(self) -> str:
        return f"<DaemonClient {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections."""
        self._remote.close()

    def get(self, path: str, query: Mapping[str, str] | None = None) -> JsonValue:
        """What stands at a path, such as `/api/v1/credentials`. Raises `DaemonUnreachable`, `DaemonError`."""
        members = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in (query or {}).items())
        return self._call("GET", path + (f"?{members}" if members else ""), None)

    def post(self, path: str, body: JsonValue = None) -> JsonValue:
        """Do something. Never repeated by itself. Raises `DaemonUnreachable`, `DaemonError`."""
        return self._call("POST", path, body)

    def delete(self, path: str) -> JsonValue:
        """Remove something. Raises `DaemonUnreachable`, `DaemonError`."""
        return self._call("DELETE", path, None)

    def _call(self, method: str, path: str, body: JsonValue) -> JsonValue:
        headers = {"Authorization": self._authorization, "Accept": "application/json", "Content-Type": "application/json"}
        content = None if body is None and method != "POST" else json.dumps(body).encode()
        try:
            reply = self._remote.call(method.lower(), method, path, headers, content)
        except RateLimited as problem:
            raise RotatorError(f"the daemon at {self.url} has too much to do: try again later", reason=problem.reason) from None
        except Unreachable as problem:
            raise DaemonUnreachable(
                f"cannot reach the daemon at {self.url}{self._where}: {problem}. Is `rotator run` running? The address comes from "
                "ROTATOR_URL and ROTATOR_TOKEN, else from the state folder (--state-dir or ROTATOR_STATE_DIR)"
            ) from None
        return self._parse(reply)

    def _parse(self, reply: Reply) -> JsonValue:
        try:
            body = reply.parse_json() if reply.body else None
        except ValueError:
            raise DaemonUnreachable(
                f"what answers at {self.url}{self._where} is not a rotator daemon ({reply.status}, not JSON): check ROTATOR_URL"
            ) from None
        if reply.status // 100 == 2:
            return body  # type: ignore[return-value]  # what json.loads gives is one
        raise self._refusal(reply.status, body if isinstance(body, dict) else {})

    def _refusal(self, status: int, body: Mapping[str, object]) -> DaemonError:
        word, message, code = body.get("error"), body.get("message"), body.get("exit_code")
        word = word if isinstance(word, str) else "failed"
        code = code if isinstance(code, int) and not isinstance(code, bool) and 0 < code < 256 else 1
        text = message[:_LONGEST_MESSAGE] if isinstance(message, str) and message else f"the daemon answered {status} {word}"
        if status == _UNAUTHORIZED:
            text = f"the daemon at {self.url}{self._where} does not accept the token: check ROTATOR_TOKEN, or unset it"
        elif status == _FORBIDDEN and not isinstance(message, str):
            text = f"the token may not do this at the daemon at {self.url}: it needs a token of a higher role"
        return DaemonError(text, status, word, code)
