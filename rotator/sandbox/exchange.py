"""One request and its answer, in the form that every part of the sandbox speaks, and the registry's refusals.

No HTTP machinery here (see `endpoint`), so that the parts can be tested without a socket.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

JSON_TYPE = (b"content-type", b"application/json")

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


def render_json(value: object) -> bytes:
    """Compact JSON."""
    return _encode(value).encode()


class Denied(Exception):
    """An answer of the service's error registry: HTTP status and stable code."""

    def __init__(self, status: int, code: str, details: Mapping[str, Any] | None = None, *, retry_after: int | None = None) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.details = details
        self.retry_after = retry_after


@dataclass(slots=True)
class Call:
    """A request, read to its end. Header names are lower-case."""

    method: str
    headers: dict[bytes, bytes]
    body: bytes = b""
    query: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    worker: int = 0

    def bearer(self) -> str | None:
        """The bearer token, None without an Authorization header. Hash it at once; keep it nowhere."""
        value = self.headers.get(b"authorization")
        if value is None:
            return None
        scheme, _, token = value.decode("latin-1").partition(" ")
        return token if scheme.lower() == "bearer" else ""

    def arguments(self) -> dict[str, str]:
        """The query string's parameters; the last of equal names counts."""
        return dict(parse_qsl(self.query.decode("latin-1"), keep_blank_values=True))

    def payload(self) -> dict[str, Any]:
        """The body's JSON object. Raises `Denied` 400 invalid_payload."""
        value = parse_json(self.body)
        if not isinstance(value, dict):
            raise Denied(400, "invalid_payload", {"body": "must be a JSON object"})
        return value


@dataclass(slots=True)
class Reply:
    """An answer."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = (JSON_TYPE,)


def parse_json(body: bytes) -> Any:
    """Any JSON value. Raises `Denied` 400 invalid_payload; the body is never repeated."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Denied(400, "invalid_payload", {"body": "must be JSON"}) from None


def build_reply(value: object, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status, render_json(value))


def build_refusal(denied: Denied) -> Reply:
    """`{"error": code, "details": {…}}`; a 429 carries Retry-After and `retry_after_s`."""
    body: dict[str, Any] = {"error": denied.code}
    headers: tuple[tuple[bytes, bytes], ...] = (JSON_TYPE,)
    if denied.details:
        body["details"] = dict(denied.details)
    if denied.retry_after is not None:
        body["retry_after_s"] = denied.retry_after
        headers = (JSON_TYPE, (b"retry-after", str(denied.retry_after).encode()))
    if denied.status == 405:
        headers = (*headers, (b"allow", str((denied.details or {}).get("allow", "")).encode()))
    return Reply(denied.status, render_json(body), headers)
