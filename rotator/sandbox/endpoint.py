"""From ASGI to `Call` and back, and the place where faults are carried out.

A dropped connection is a closed TCP connection, not an error answer: `DroppableProtocol` hands the transport to the endpoint.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rotator.domain.errors import MalformedKey
from rotator.domain.keys import parse_key
from rotator.sandbox.exchange import JSON_TYPE, Call, Denied, Reply, build_refusal
from rotator.sandbox.faults import CALM, Effect, FaultRule
from rotator.sandbox.service import Service

_TRANSPORT = "rotator.sandbox.transport"
_LARGEST_BODY = 4 * 1024 * 1024
_HTML_401 = b"<!doctype html><html><head><title>401</title></head><body><h1>Authorization Required</h1></body></html>"
_ADMIN = frozenset({"mint", "list", "revoke", "session"})

Answer = Callable[[Service, Call], Reply]


class DroppableProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with the connection's transport in the scope of each request."""

    def on_headers_complete(self) -> None:
        """Called by the parser when a request's headers are in."""
        self.scope["extensions"] = {_TRANSPORT: {"transport": self.transport}}
        super().on_headers_complete()


@dataclass(frozen=True, slots=True)
class Action:
    """One operation: its name in counts and fault rules, and what answers it."""

    operation: str
    answer: Answer


@dataclass(slots=True, eq=False)
class Aftermath:
    """What outlives a request: effects that come late, and the wish to stop."""

    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Endpoint:
    """An ASGI application for one path; the actions by HTTP method."""

    def __init__(self, service: Service, aftermath: Aftermath, actions: Mapping[str, Action]) -> None:
        self._service = service
        self._aftermath = aftermath
        self._actions = actions
        allowed = {"allow": ", ".join(actions)}
        self._not_allowed = build_refusal(Denied(405, "method_not_allowed", allowed))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        action = self._actions.get(scope["method"])
        if action is None:
            await self._send(send, self._not_allowed)
            return
        call = await _read_call(scope, receive)
        if call is None:
            await self._send(send, build_refusal(Denied(413, "invalid_payload", {"body": "is too large"})))
            return
        service = self._service
        with service.lock:
            strike = service.faults.strike(action.operation, lambda: _find_key_id(call))
            reply = self._answer(action, call) if strike is CALM else None
        if strike is not CALM:
            reply = await self._suffer(action, call, strike.wait, strike.rule)
        if reply is None:
            await _drop(scope, receive)
            return
        await self._send(send, reply)

    async def _suffer(self, action: Action, call: Call, wait: float, rule: FaultRule | None) -> Reply | None:
        """The faulty answer; None when the connection is to be dropped."""
        if wait and await self._stopped_within(wait):
            return None
        service = self._service
        with service.lock:
            if rule is None:
                return self._answer(action, call)
            if rule.effect is Effect.DROP_AFTER:
                self._answer(action, call)
            elif rule.effect is Effect.LATE:
                service.faults.late_pending += 1
                self._start_late(action, call, rule.seconds)
            reply = _build_faulty_reply(action.operation, rule)
            if rule.effect is not Effect.DROP_AFTER:
                service.count(action.operation, str(reply.status) if reply is not None else "dropped")
            return reply

    def _answer(self, action: Action, call: Call) -> Reply:
        """The service's answer, counted. The lock is held."""
        service = self._service
        try:
            call.worker = service.choose_worker(call.headers)
            reply = action.answer(service, call)
        except Denied as denied:
            reply = build_refusal(denied)
        service.count(action.operation, str(reply.status))
        return reply

    def _start_late(self, action: Action, call: Call, seconds: float) -> None:
        async def happen() -> None:
            await asyncio.sleep(seconds)
            with self._service.lock:
                self._answer(action, call)
                self._service.faults.late_pending -= 1

        task = asyncio.get_running_loop().create_task(happen())
        self._aftermath.tasks.add(task)
        task.add_done_callback(self._aftermath.tasks.discard)

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._aftermath.stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _send(self, send: Send, reply: Reply) -> None:
        headers = [(b"date", self._service.clock.date_header()), (b"content-length", b"%d" % len(reply.body)), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


def _build_faulty_reply(operation: str, rule: FaultRule) -> Reply | None:
    """What the client gets instead of an answer; None: nothing, the connection is dropped."""
    if rule.effect is Effect.STATUS:
        return build_refusal(Denied(rule.status, "upstream_failed" if rule.status == 502 else "internal_error"))
    if rule.effect is Effect.RATE_LIMITED:
        return build_refusal(Denied(429, "rate_limited", retry_after=math.ceil(rule.seconds)))
    if rule.effect is Effect.HTML_401:
        return Reply(401, _HTML_401, ((b"content-type", b"text/html; charset=utf-8"),))
    if rule.effect is Effect.AUTH_OUTAGE:
        return build_refusal(Denied(401, "invalid_session" if operation in _ADMIN else "invalid_api_key"))
    if rule.effect is Effect.GARBAGE:
        return Reply(200, b'{"garbage": [1, 2', (JSON_TYPE,))
    if rule.effect is Effect.REDIRECT:
        return Reply(307, b"", ((b"location", rule.location.encode("latin-1", "replace")),))
    return None


async def _read_call(scope: Scope, receive: Receive) -> Call | None:
    """The request with its whole body; None when that is too large."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    body = b""
    if b"content-length" in headers or b"transfer-encoding" in headers:
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > _LARGEST_BODY:
                return None
    return Call(scope["method"], headers, body, scope["query_string"], scope.get("path_params", {}))


async def _drop(scope: Scope, receive: Receive) -> None:
    scope["extensions"][_TRANSPORT]["transport"].close()
    while (await receive())["type"] != "http.disconnect":
        pass


def _find_key_id(call: Call) -> str | None:
    """The key id that the path names or the bearer token shows."""
    named = call.params.get("id")
    if named is not None:
        return named
    try:
        return str(parse_key(call.bearer() or ""))
    except MalformedKey:
        return None
