"""What stands before every endpoint: plain ASGI wrappers, from the outside in.

`HostGuard` (browsers tricked into talking to a loopback port), `Envelope` (headers, HEAD, size of bodies, faults of ours), `Gate` (tokens).
No endpoint, and no parser of bodies, runs for a request without a token that may ask there.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import unquote_plus

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rotator.server.problems import KEY_SHAPED, MAX_BODY, TOO_LARGE, build_problem
from rotator.server.tokens import TokenBook

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_USAGE = 2
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_OPEN = ("/healthz", "/readyz")

log = structlog.get_logger(__name__)


class HostGuard:
    """Answers only requests that name one of these hosts, whatever the port."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _host_of(Headers(scope=scope).get("host", "")) not in self._hosts:
            message = "this port answers to its own name only: ask for localhost, or bind the server to another address"
            await build_problem(HTTPStatus.MISDIRECTED_REQUEST, "wrong-host", message, _USAGE)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class Envelope:
    """What every answer gets and no request may do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head = scope["method"] == "HEAD"
        answered = False

        async def answer(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            elif is_head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        if is_head:
            scope = {**scope, "method": "GET"}
        if _stated_length(scope) > MAX_BODY:
            # never read: the connection cannot be used for another request
            too_large = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            await build_problem(too_large, "too-large", TOO_LARGE, _USAGE, {"Connection": "close"})(scope, receive, answer)
            return
        try:
            await self._app(scope, _limited(receive), answer)
        except asyncio.CancelledError:  # the server stops, and this one took longer than it waits
            if not answered:
                message = "the daemon is stopping: what was asked may or may not have been done; ask again when it is back"
                await build_problem(HTTPStatus.SERVICE_UNAVAILABLE, "stopping", message)(scope, receive, answer)
        except Exception:  # a fault of ours: its traceback is for the log, not for the caller
            fault = secrets.token_hex(4)
            log.exception("request broke", action="request", fault=fault, method=scope["method"], route=_route_of(scope))
            if answered:
                raise
            message = f"this is a fault of rotator's: the daemon's log has its traceback under fault {fault}"
            await build_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "fault", message)(scope, receive, answer)


class Gate:
    """Lets in who shows a token, and puts the `Caller` into the request's state. Health is open; roles are each route's own matter."""

    def __init__(self, app: ASGIApp, tokens: TokenBook) -> None:
        self._app, self._tokens = app, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_open(scope["path"]):
            caller = self._tokens.find(_bearer(Headers(scope=scope)))
            if caller is None:
                message = "send `Authorization: Bearer TOKEN` with a token of this daemon"
                problem = build_problem(HTTPStatus.UNAUTHORIZED, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})
                await problem(scope, receive, send)
                return
            if _names_a_key(scope):
                message = "a full key stands in the URL, where it never belongs: treat it as leaked, and name keys by their key id"
                await build_problem(HTTPStatus.BAD_REQUEST, "malformed-key", message, _USAGE)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith("/readyz/")


def _bearer(headers: Headers) -> str:
    given = headers.getlist("authorization")
    scheme, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return token.strip() if scheme.lower() == "bearer" else ""


def _names_a_key(scope: Scope) -> bool:
    query = scope.get("query_string", b"").decode("latin-1")
    return any(KEY_SHAPED.search(text) for text in (scope["path"], query, unquote_plus(query)))


def _host_of(header: str) -> str:
    host = header.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")


def _stated_length(scope: Scope) -> int:
    stated = Headers(scope=scope).get("content-length", "0")
    return int(stated) if stated.isascii() and stated.isdigit() else 0


def _limited(receive: Receive) -> Receive:
    taken = 0

    async def take() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MAX_BODY:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, headers={"Connection": "close"})
        return message

    return take


def _route_of(scope: Scope) -> str:
    """The route's own template: a path may hold anything."""
    return str(getattr(scope.get("route"), "path", "unknown"))
