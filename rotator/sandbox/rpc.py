"""JSON-RPC 2.0 over stateless streamable HTTP, as MCP clients speak it: envelopes, batches, errors. No method is known here.

Published: the error codes below. Assumed: a JSON-RPC error comes with HTTP 200, an unreadable envelope with 400.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rotator.sandbox.exchange import Denied, Reply, parse_json, render_json

CODES = {
    "invalid_request": -32600,
    "method_not_found": -32601,
    "unknown_tool": -32602,
    "unknown_resource": -32602,
    "tool_failed": -32000,
    "insufficient_scope": -32000,
    "plan_limit": -32002,
    "unknown_project_id": -32004,
    "unknown_project_slug": -32004,
    "no_projects_visible": -32005,
}
PROTOCOL_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Newest first."""

_MOST_IN_BATCH = 100

Method = Callable[[str, dict[str, Any]], bytes]
"""From method and params to the result as JSON. Raises `RpcError`."""


class RpcError(Exception):
    """A JSON-RPC error of the service's registry."""

    def __init__(self, code: str, data: object = None) -> None:
        super().__init__(code)
        self.code = code
        self.data = data


def answer_body(body: bytes, protocol: bytes | None, method: Method) -> Reply:
    """The answer to one POST: a response, a batch of them, or 202 when nothing in it asks for one."""
    try:
        message = parse_json(body)
    except Denied:
        return _reject("the body is not JSON")
    batch = message if isinstance(message, list) else [message]
    if not batch or len(batch) > _MOST_IN_BATCH:
        return _reject(f"a batch has 1 to {_MOST_IN_BATCH} messages")
    if protocol is not None and protocol.decode("latin-1") not in PROTOCOL_VERSIONS and not _asks_to_initialize(batch):
        return _reject("unsupported MCP-Protocol-Version")
    answers = [answer for item in batch if (answer := _answer_one(item, method)) is not None]
    if not answers:
        return Reply(202, b"", ())
    if isinstance(message, list):
        return Reply(200, b"[" + b",".join(answers) + b"]")
    return Reply(200 if _is_readable(message) else 400, answers[0])


def _answer_one(message: Any, method: Method) -> bytes | None:
    if not _is_readable(message):
        return _render_error(_id_of(message), RpcError("invalid_request"))
    if "method" not in message or "id" not in message:
        return None
    params = message.get("params")
    try:
        result = method(message["method"], params if isinstance(params, dict) else {})
    except RpcError as error:
        return _render_error(message["id"], error)
    return b'{"jsonrpc":"2.0","id":' + render_json(message["id"]) + b',"result":' + result + b"}"


def _is_readable(message: Any) -> bool:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        return False
    if "method" not in message:
        return "id" in message and ("result" in message or "error" in message)
    wrong_id = "id" in message and (not isinstance(message["id"], str | int | float) or isinstance(message["id"], bool))
    return isinstance(message["method"], str) and not wrong_id and isinstance(message.get("params", {}), dict | list)


def _id_of(message: Any) -> Any:
    value = message.get("id") if isinstance(message, dict) else None
    return value if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def _asks_to_initialize(batch: list[Any]) -> bool:
    return any(isinstance(message, dict) and message.get("method") == "initialize" for message in batch)


def _render_error(identity: Any, error: RpcError) -> bytes:
    body: dict[str, Any] = {"code": CODES[error.code], "message": error.code}
    if error.data is not None:
        body["data"] = error.data
    return render_json({"jsonrpc": "2.0", "id": identity, "error": body})


def _reject(reason: str) -> Reply:
    return Reply(400, _render_error(None, RpcError("invalid_request", {"reason": reason})))
