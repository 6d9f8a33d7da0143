"""Millimetric's MCP endpoints, and the probe that finds out whether a key works (L10).

A key is only ever sent to the endpoint of its kind at the configured base URL, which must be the published one or listed in full as
trusted. Only the service's own words count as an answer: everything that a proxy, a broken worker or a slow network may say is *unknown*.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rotator.domain.errors import AnswerLost, RateLimited, RotatorError
from rotator.domain.facts import Verdict
from rotator.domain.keys import Kind
from rotator.domain.ports import Answer, Clock
from rotator.domain.secret import Secret
from rotator.remote.fields import Duration, FilePath, ProxyUrl, is_loopback, parse_base_url
from rotator.remote.http import MAX_TOTAL, VERB_WITHIN, Observer, Remote, RemoteOptions, Reply, deadline

__all__ = ["CODES", "DEFAULT_ENDPOINT", "MillimetricConfig", "MillimetricProber"]

DEFAULT_ENDPOINT = "https://api.millimetric.ai"

_CODES_BY_STATUS: dict[int, frozenset[str]] = {
    400: frozenset({"invalid_payload", "invalid_params", "invalid_group_by"}),
    401: frozenset({"missing_bearer_token", "malformed_api_key", "invalid_api_key", "key_kind_mismatch", "invalid_session"}),
    403: frozenset(
        {"key_kind_not_allowed", "account_key_required", "insufficient_scope", "origin_not_allowed", "forget_requires_secret_key"}
    ),
    429: frozenset({"rate_limited"}),
    500: frozenset({"internal_error", "forget_failed"}),
    502: frozenset({"upstream_failed"}),
}
CODES: frozenset[str] = frozenset().union(*_CODES_BY_STATUS.values())
"""The error codes that the service publishes."""

_UNAUTHORIZED = 401
_FORBIDDEN = 403
_OK = 200
_DEAD = "invalid_api_key"
_PLAN_LIMIT = -32002
_RPC_CODES = {
    -32600: "invalid_request",
    -32601: "method_not_found",
    -32602: "unknown_tool",
    -32000: "tool_failed",
    -32004: "unknown_project",
    -32005: "no_projects_visible",
}
_MOST_PAGES = 10
_MOST_TOOLS = 1000


class MillimetricConfig(BaseModel):
    """The Millimetric service: where it is, and how it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    endpoint: str = DEFAULT_ENDPOINT
    """Base URL that keys are sent to. Must be https://api.millimetric.ai, or listed in full under `trusted_endpoints`."""
    trusted_endpoints: tuple[str, ...] = ()
    """Further base URLs that may get keys, each in full. http:// is allowed here for loopback hosts only."""
    cache_time: Duration = timedelta(minutes=5)
    """How long a worker of the service goes on using what it knows of a key. A revoked key may work that long."""
    ca_file: FilePath | None = None
    """PEM file of the certificate authorities to trust, in place of the public ones."""
    proxy: ProxyUrl | None = None
    """HTTP proxy to reach an https endpoint through, such as http://proxy.example:3128. Proxies of the environment are never used."""
    rate: Annotated[float, Field(gt=0)] | None = 50.0
    """Most calls per second to the service; null: no limit."""
    burst: Annotated[int, Field(ge=1)] = 50
    """How many calls may come at once within that rate."""
    timeout: Duration = MAX_TOTAL
    """Time limit of one call, at most 10s."""

    @field_validator("trusted_endpoints")
    @classmethod
    def _well_formed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_ensure_safe(one) for one in value)

    @field_validator("endpoint")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return _ensure_safe(value)

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= MAX_TOTAL:
            raise ValueError("a call's time limit must be more than nothing and at most 10s")
        return value

    @model_validator(mode="after")
    def _trusted(self) -> MillimetricConfig:
        if self.endpoint != DEFAULT_ENDPOINT and self.endpoint not in self.trusted_endpoints:
            raise ValueError(
                f"endpoint must be {DEFAULT_ENDPOINT}, or be listed in full under trusted_endpoints: keys are sent there "
                f"({self.endpoint} is not listed)"
            )
        if self.proxy is not None and not self.endpoint.startswith("https://"):
            raise ValueError("proxy is for https:// endpoints only: a plain http:// request would show the key to the proxy")
        return self


class MillimetricProber:
    """Asks `tools/list` of the endpoint that takes the key's kind. Safe to share between threads."""

    def __init__(
        self, config: MillimetricConfig, clock: Clock, observe: Observer | None = None, wait: Callable[[float], None] = time.sleep
    ) -> None:
        """Opens no connection. Raises `Misconfigured` for an unusable CA file."""
        options = RemoteOptions(timeout=config.timeout, ca_file=config.ca_file, proxy=config.proxy, rate=config.rate, burst=config.burst)
        self._clock = clock
        self._remote = Remote("millimetric", config.endpoint, clock, options, observe, wait)

    def endpoint(self, kind: Kind) -> str:
        """The URL a key of this kind is sent to."""
        return self._remote.base_url + kind.mcp_path

    def close(self) -> None:
        """Close idle connections."""
        self._remote.close()

    def probe(self, secret: Secret) -> Answer:
        """Whether the key works. `at` is the time of the answer. Never raises for what the service or the network does."""
        with deadline(VERB_WITHIN):
            return self._probe(secret)

    def _probe(self, secret: Secret) -> Answer:
        tools: list[str] = []
        cursor: str | None = None
        offset: timedelta | None = None
        for _ in range(_MOST_PAGES):
            heard = self._ask(secret, cursor)
            offset = heard.offset if offset is None else offset
            if heard.verdict is not Verdict.ALIVE or heard.tools is None:
                return Answer(heard.verdict, self._clock.now(), None, offset, heard.detail, heard.retry_after)
            tools += heard.tools
            if heard.cursor is None:
                return Answer(Verdict.ALIVE, self._clock.now(), tuple(tools), offset)
            if len(tools) > _MOST_TOOLS:
                break
            cursor = heard.cursor
        # A key whose tools can't be read to the end is not passed off as one that was checked (L12).
        return Answer(Verdict.UNKNOWN, self._clock.now(), None, offset, "too_many_tools")

    def _ask(self, secret: Secret, cursor: str | None) -> _Heard:
        request_id = secrets.token_hex(8)
        body = {"jsonrpc": "2.0", "id": request_id, "method": "tools/list", "params": {"cursor": cursor} if cursor else {}}
        headers = {
            "Authorization": f"Bearer {secret.reveal()}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
        }
        before = self._clock.now()
        try:
            reply = self._remote.call("probe", "POST", secret.key_id.kind.mcp_path, headers, json.dumps(body).encode())
        except RateLimited as problem:
            return _Heard(Verdict.UNKNOWN, "rate_limited", retry_after=problem.after)
        except RotatorError as problem:
            return _Heard(Verdict.UNKNOWN, "answer_lost" if isinstance(problem, AnswerLost) else "unreachable")
        offset = None if reply.date is None else reply.date - (before + (self._clock.now() - before) / 2)
        return _judge(reply, request_id).dated(offset)


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one request told."""

    verdict: Verdict
    detail: str = ""
    tools: tuple[str, ...] | None = None
    cursor: str | None = None
    offset: timedelta | None = None
    retry_after: timedelta | None = None

    def dated(self, offset: timedelta | None) -> _Heard:
        return _Heard(self.verdict, self.detail, self.tools, self.cursor, offset, self.retry_after)


def _judge(reply: Reply, request_id: str) -> _Heard:
    """L10, exactly: what is not surely the service's word on this key is unknown."""
    code = reply.find_code(CODES)
    if reply.status == _UNAUTHORIZED and code == _DEAD:
        return _Heard(Verdict.DEAD, _DEAD)
    if reply.status == _FORBIDDEN and code in _CODES_BY_STATUS[_FORBIDDEN]:
        return _Heard(Verdict.ALIVE, code or "")
    if reply.status == _OK:
        return _judge_rpc(reply, request_id)
    return _Heard(Verdict.UNKNOWN, code or f"http_{reply.status}", retry_after=reply.retry_after)


def _judge_rpc(reply: Reply, request_id: str) -> _Heard:
    try:
        body = reply.parse_json()
    except ValueError:
        return _Heard(Verdict.UNKNOWN, "not_json")
    if not isinstance(body, dict) or body.get("jsonrpc") != "2.0" or body.get("id") != request_id:
        return _Heard(Verdict.UNKNOWN, "not_jsonrpc")
    error = body.get("error")
    if error is not None:
        number = error.get("code") if isinstance(error, dict) and "result" not in body else None
        if number == _PLAN_LIMIT:
            return _Heard(Verdict.ALIVE, "plan_limit")
        return _Heard(Verdict.UNKNOWN, _RPC_CODES.get(number, "jsonrpc_error") if isinstance(number, int) else "not_jsonrpc")
    return _judge_tools(body.get("result"))


def _judge_tools(result: object) -> _Heard:
    tools = result.get("tools") if isinstance(result, dict) else None
    if not isinstance(result, dict) or not isinstance(tools, list):
        return _Heard(Verdict.UNKNOWN, "no_tools")
    names = [tool.get("name") if isinstance(tool, dict) else None for tool in tools]
    cursor = result.get("nextCursor")
    if not all(isinstance(name, str) for name in names) or not isinstance(cursor, str | None):
        return _Heard(Verdict.UNKNOWN, "no_tools")
    return _Heard(Verdict.ALIVE, tools=tuple(str(name) for name in names), cursor=cursor or None)


def _ensure_safe(url: str) -> str:
    parts = parse_base_url(url)
    if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        raise ValueError("must begin with https://; plain http:// is for loopback hosts (localhost, 127.0.0.1, [::1]) only")
    return url.rstrip("/")
