"""MCP over stateless streamable HTTP, as real clients speak it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from rotator.domain.secret import Secret
from tests.support.sandbox import SandboxControl

ACCEPT = {"Accept": "application/json, text/event-stream"}


def post(control: SandboxControl, key: Secret, message: Any, path: str | None = None, **headers: str) -> httpx.Response:
    """One POST, as an MCP client makes it."""
    all_headers = {
        "Authorization": f"Bearer {key.reveal()}",
        **ACCEPT,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return control.anonymous.post((path or key.key_id.kind.mcp_path), json=message, headers=all_headers)


def call(control: SandboxControl, key: Secret, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON-RPC response to one request."""
    answer = post(control, key, {"jsonrpc": "2.0", "id": "one", "method": method, "params": params or {}})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    assert (body["jsonrpc"], body["id"]) == ("2.0", "one")
    return body


def tool(control: SandboxControl, key: Secret, name: str, **arguments: Any) -> Any:
    """What a tool answers, or its JSON-RPC error."""
    body = call(control, key, "tools/call", {"name": name, "arguments": arguments})
    if "error" in body:
        return body["error"]
    (content,) = body["result"]["content"]
    assert content["type"] == "text"
    return json.loads(content["text"])


@pytest.mark.parametrize(
    ("asked", "agreed"),
    [
        ("2024-11-05", "2024-11-05"),
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2025-11-25", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
        (None, "2025-11-25"),
    ],
)
def test_the_protocol_version_is_negotiated(shared: SandboxControl, asked: str | None, agreed: str) -> None:
    result = call(shared, shared.mint(), "initialize", {"protocolVersion": asked, "capabilities": {}})["result"]
    assert result["protocolVersion"] == agreed
    assert set(result["capabilities"]) == {"tools", "resources"}
    assert result["serverInfo"]["name"] == "millimetric-sandbox"


def test_a_whole_session(shared: SandboxControl) -> None:
    key = shared.mint("sk", project="session")
    call(shared, key, "initialize", {"protocolVersion": "2025-06-18"})
    ready = post(shared, key, {"jsonrpc": "2.0", "method": "notifications/initialized"}, mcp_protocol_version="2025-06-18")
    assert (ready.status_code, ready.content) == (202, b"")
    assert call(shared, key, "ping")["result"] == {}
    for listed in call(shared, key, "tools/list")["result"]["tools"]:
        assert listed["inputSchema"]["type"] == "object"
        assert listed["description"]
    assert tool(shared, key, "track_event", event="signup", user_id="u", source="ad") == {"ok": True}
    assert tool(shared, key, "query_events", event="signup")["events"][0]["user_id"] == "u"
    assert tool(shared, key, "get_stats", group_by="source")["groups"] == [{"key": "ad", "count": 1}]
    assert tool(shared, key, "top_sources")["sources"] == [{"source": "ad", "count": 1}]
    assert tool(shared, key, "funnel", steps=["signup", "buy"])["steps"] == [{"event": "signup", "users": 1}, {"event": "buy", "users": 0}]


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_there_is_no_stream_and_no_session_to_end(shared: SandboxControl, method: str) -> None:
    for path in ("/mcp", "/mcp/account"):
        answer = shared.anonymous.request(method, path, headers={"Accept": "text/event-stream"})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_read_key_cannot_write(shared: SandboxControl) -> None:
    key = shared.mint("rk")
    assert tool(shared, key, "track_event", event="x") == {"code": -32000, "message": "insufficient_scope"}
    assert tool(shared, key, "drop_tables") == {"code": -32602, "message": "unknown_tool"}
    assert tool(shared, key, "list_projects") == {"code": -32602, "message": "unknown_tool"}


def test_a_tool_that_fails_says_why(shared: SandboxControl) -> None:
    key = shared.mint("rk")
    error = tool(shared, key, "query_events", limit=0)
    assert (error["code"], error["message"], error["data"]["error"]) == (-32000, "tool_failed", "invalid_params")


def test_track_event_shares_the_bucket_of_the_track_route(control: SandboxControl) -> None:
    key = control.mint("sk")
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "track_event", "arguments": {"event": "x"}}}
    for _ in range(2):
        assert "error" not in post(control, key, [message] * 100).text
    assert tool(control, key, "track_event", event="x")["data"] == {"error": "rate_limited", "retry_after_s": 1}
    answer = control.anonymous.post("/v1/track", json={"event": "x"}, headers={"Authorization": f"Bearer {key.reveal()}"})
    assert answer.status_code == 429


@pytest.mark.parametrize(("kind", "uris"), [("rk", {"events://recent", "schema://events"}), ("ak", {"projects://all", "schema://events"})])
def test_resources(shared: SandboxControl, kind: str, uris: set[str]) -> None:
    key = shared.mint(kind)
    assert {resource["uri"] for resource in call(shared, key, "resources/list")["result"]["resources"]} == uris
    assert call(shared, key, "resources/templates/list")["result"] == {"resourceTemplates": []}
    for uri in uris:
        (content,) = call(shared, key, "resources/read", {"uri": uri})["result"]["contents"]
        assert content["uri"] == uri
        assert isinstance(json.loads(content["text"]), dict)
    assert call(shared, key, "resources/read", {"uri": "file:///x"})["error"] == {"code": -32602, "message": "unknown_resource"}


@pytest.mark.parametrize("method", ["prompts/list", "logging/setLevel", "nonsense"])
def test_methods_that_are_not_there(shared: SandboxControl, method: str) -> None:
    assert call(shared, shared.mint(), method)["error"] == {"code": -32601, "message": "method_not_found"}


def test_envelopes_that_cannot_be_read(shared: SandboxControl) -> None:
    key = shared.mint()
    bodies: list[Any] = [{}, 7, {"jsonrpc": "1.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "id": [], "method": "ping"}, []]
    for body in bodies:
        answer = post(shared, key, body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32600)
    broken = shared.anonymous.post("/mcp", content=b"{", headers={"Authorization": f"Bearer {key.reveal()}"})
    assert (broken.status_code, broken.json()["error"]["message"]) == (400, "invalid_request")


def test_batches(shared: SandboxControl) -> None:
    key = shared.mint()
    ping = {"jsonrpc": "2.0", "method": "ping"}
    answers = post(shared, key, [{**ping, "id": 1}, ping, {**ping, "id": 2, "method": "x"}, 3]).json()
    assert [answer.get("id") for answer in answers] == [1, 2, None]
    assert ["result" in answer for answer in answers] == [True, False, False]
    assert post(shared, key, [ping, ping]).status_code == 202


def test_a_clients_response_is_taken_in_silence(shared: SandboxControl) -> None:
    assert post(shared, shared.mint(), {"jsonrpc": "2.0", "id": 1, "result": {}}).status_code == 202


def test_an_unknown_protocol_version_in_the_header_is_refused(shared: SandboxControl) -> None:
    key = shared.mint()
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert post(shared, key, ping, mcp_protocol_version="1999-01-01").status_code == 400
    assert post(shared, key, {**ping, "method": "initialize"}, mcp_protocol_version="1999-01-01").status_code == 200


@pytest.mark.parametrize(
    ("plan", "project_works", "account_works"),
    [("free", False, False), ("pro", True, False), ("business", True, True)],
)
def test_plans(control: SandboxControl, plan: str, project_works: bool, account_works: bool) -> None:
    control.settings(plan=plan)
    for kind, works in (("rk", project_works), ("ak", account_works)):
        probed = control.probe(control.mint(kind))
        assert (probed.status, probed.error) == (200, None if works else "plan_limit")


def test_one_projects_plan(control: SandboxControl) -> None:
    control.settings(plans={"poor": "free"})
    assert control.probe(control.mint(project="poor")).error == "plan_limit"
    assert control.probe(control.mint()).alive
    assert call(control, control.mint(project="poor"), "tools/list")["error"]["code"] == -32002


def test_an_account_key_sees_every_project(control: SandboxControl) -> None:
    writer = control.mint("sk", project="shop")
    tool(control, writer, "track_event", event="buy")
    key = control.mint("ak")
    projects = {project["project_slug"]: project["project_id"] for project in tool(control, key, "list_projects")["projects"]}
    assert set(projects) == {"default", "shop"}
    assert tool(control, key, "get_stats")["total"] == 25
    assert tool(control, key, "get_stats", project_slug="shop")["total"] == 1
    assert tool(control, key, "query_events", project_id=projects["shop"])["count"] == 1
    assert tool(control, key, "top_sources", project_ids=list(projects.values()))["sources"][0]["count"] == 9
    compared = tool(control, key, "compare_projects", project_ids=[projects["shop"], projects["default"]])["projects"]
    assert [(one["project_slug"], one["total"]) for one in compared] == [("shop", 1), ("default", 24)]
    assert tool(control, key, "get_stats", project_id="x") == {"code": -32004, "message": "unknown_project_id"}
    assert tool(control, key, "get_stats", project_slug="x") == {"code": -32004, "message": "unknown_project_slug"}


def test_an_account_without_projects(start: Any) -> None:
    control = start(projects=())
    assert tool(control, control.mint("ak"), "get_stats") == {"code": -32005, "message": "no_projects_visible"}
