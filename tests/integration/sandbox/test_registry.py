"""The published error registry, word for word, and which kind may do what where."""

from __future__ import annotations

import secrets
from typing import Any

import httpx
import pytest

from rotator.domain.keys import PUBLISHED_TOOLS, Kind
from rotator.domain.secret import Secret
from tests.support.sandbox import SandboxControl, build_client

LIST_TOOLS = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}


def ask(control: SandboxControl, method: str, path: str, bearer: str | None, **options: Any) -> httpx.Response:
    """A request of a client that has no admin token."""
    headers = dict(options.pop("headers", {}))
    if bearer is not None:
        headers["Authorization"] = f"Bearer {bearer}"
    return control.anonymous.request(method, path, headers=headers, **options)


def build_stranger(kind: str = "rk") -> str:
    """A key that the service never minted."""
    return "_".join((kind, "live", secrets.token_hex(4), secrets.token_urlsafe(20)))


KEYED = [
    ("POST", "/mcp"),
    ("POST", "/mcp/account"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/query"),
    ("GET", "/v1/sources"),
    ("POST", "/v1/track"),
    ("POST", "/v1/batch"),
    ("POST", "/v1/identify"),
    ("POST", "/v1/forget"),
]


@pytest.mark.parametrize(("method", "path"), KEYED)
def test_each_keyed_endpoint_refuses_no_key_a_malformed_one_and_an_unknown_one(shared: SandboxControl, method: str, path: str) -> None:
    for bearer, code in ((None, "missing_bearer_token"), ("nonsense", "malformed_api_key"), (build_stranger(), "invalid_api_key")):
        answer = ask(shared, method, path, bearer, json=LIST_TOOLS)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == {"error": code}


def test_the_stored_kind_wins_over_what_the_prefix_claims(shared: SandboxControl) -> None:
    claimed = "sk" + shared.mint("rk").reveal().removeprefix("rk")
    answer = ask(shared, "POST", "/mcp", claimed, json=LIST_TOOLS)
    assert (answer.status_code, answer.json()) == (401, {"error": "key_kind_mismatch"})


def test_a_wrong_secret_or_env_under_a_known_prefix_is_refused(shared: SandboxControl) -> None:
    key = shared.mint("rk")
    wrong_secret = f"{key.key_id}_{secrets.token_urlsafe(24)}"
    wrong_env = "rk_test" + key.reveal().removeprefix("rk_live")
    for bearer in (wrong_secret, wrong_env):
        assert ask(shared, "POST", "/mcp", bearer, json=LIST_TOOLS).json() == {"error": "invalid_api_key"}


@pytest.mark.parametrize("kind", list(Kind))
def test_kinds_at_the_mcp_endpoints(shared: SandboxControl, kind: Kind) -> None:
    key = shared.mint(kind)
    project, account = shared.probe(key, path="/mcp"), shared.probe(key, path="/mcp/account")
    if kind in (Kind.RK, Kind.SK):
        assert (project.status, project.tools) == (200, PUBLISHED_TOOLS[kind])
    else:
        assert (project.status, project.error) == (403, "key_kind_not_allowed")
    if kind is Kind.AK:
        assert (account.status, account.tools) == (200, PUBLISHED_TOOLS[kind])
    else:
        assert (account.status, account.error) == (403, "account_key_required")


REST_CODES = {
    Kind.RK: ("200", "insufficient_scope", "forget_requires_secret_key"),
    Kind.SK: ("200", "202", "200"),
    Kind.AK: ("200", "insufficient_scope", "forget_requires_secret_key"),
    Kind.PK: ("insufficient_scope", "origin_not_allowed", "forget_requires_secret_key"),
}


@pytest.mark.parametrize("kind", list(Kind))
def test_kinds_at_the_rest_endpoints(shared: SandboxControl, kind: Kind) -> None:
    key = shared.mint(kind).reveal()
    answers = (
        ask(shared, "GET", "/v1/stats", key),
        ask(shared, "POST", "/v1/track", key, json={"event": "x"}),
        ask(shared, "POST", "/v1/forget", key, json={"user_id": "nobody"}),
    )
    assert tuple(answer.json().get("error", str(answer.status_code)) for answer in answers) == REST_CODES[kind]
    assert all(answer.status_code == 403 for answer in answers if "error" in answer.json())


def test_a_browser_key_may_ingest_from_an_allowed_origin_only(shared: SandboxControl) -> None:
    key = shared.mint("pk").reveal()
    allowed = ask(shared, "POST", "/v1/track", key, json={"event": "x"}, headers={"Origin": "http://localhost"})
    refused = ask(shared, "POST", "/v1/track", key, json={"event": "x"}, headers={"Origin": "http://elsewhere.test"})
    assert (allowed.status_code, refused.json()) == (202, {"error": "origin_not_allowed"})


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/track", {"event": ""}, "invalid_payload"),
        ("/v1/track", {"event": "x", "timestamp": "yesterday"}, "invalid_payload"),
        ("/v1/track", [1], "invalid_payload"),
        ("/v1/batch", {"events": []}, "invalid_payload"),
        ("/v1/batch", {"events": [{"event": "x"}] * 1001}, "invalid_payload"),
        ("/v1/forget", {}, "invalid_payload"),
    ],
)
def test_wrong_bodies(shared: SandboxControl, path: str, body: Any, code: str) -> None:
    answer = ask(shared, "POST", path, shared.mint("sk", project="wrong-bodies").reveal(), json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, code)


@pytest.mark.parametrize(
    ("query", "code"),
    [("from=soon", "invalid_params"), ("to=1e9", "invalid_params"), ("group_by=moon", "invalid_group_by")],
)
def test_wrong_parameters(shared: SandboxControl, query: str, code: str) -> None:
    answer = ask(shared, "GET", f"/v1/stats?{query}", shared.mint().reveal())
    assert (answer.status_code, answer.json()["error"]) == (400, code)


def test_stats_prove_a_key_where_the_plan_is_too_low_for_mcp(control: SandboxControl) -> None:
    control.settings(plan="free")
    key = control.mint()
    assert control.probe(key).error == "plan_limit"
    assert ask(control, "GET", "/v1/stats", key.reveal()).status_code == 200


def test_track_has_a_token_bucket_and_says_when_to_come_back(control: SandboxControl) -> None:
    key = control.mint("sk")
    with build_client(control.url, headers={"Authorization": f"Bearer {key.reveal()}"}) as client:
        codes = [client.post("/v1/track", json={"event": "x"}).status_code for _ in range(200)]
        refused = client.post("/v1/track", json={"event": "x"})
        assert set(codes) == {202}
        assert (refused.status_code, refused.json()) == (429, {"error": "rate_limited", "retry_after_s": 1})
        assert refused.headers["retry-after"] == "1"
        control.advance(0.1)
        again = [client.post("/v1/track", json={"event": "x"}).status_code for _ in range(6)]
        assert again == [202] * 5 + [429]


def test_unknown_paths_and_methods_answer_json(shared: SandboxControl) -> None:
    lost = ask(shared, "GET", "/mcp/", None)
    assert (lost.status_code, lost.json()) == (404, {"error": "not_found"})
    wrong = ask(shared, "DELETE", "/v1/stats", None)
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")


def test_a_body_that_is_too_large_is_refused(shared: SandboxControl) -> None:
    answer = ask(shared, "POST", "/v1/track", None, content=b" " * (4 * 1024 * 1024 + 1))
    assert answer.status_code == 413


def test_no_answer_but_the_mint_repeats_the_key(shared: SandboxControl) -> None:
    key: Secret = shared.mint("sk")
    for method, path in KEYED:
        assert key.reveal() not in ask(shared, method, path, key.reveal(), json=LIST_TOOLS).text
    for path in ("/admin/v1/keys", "/sandbox/keys", "/sandbox/stats"):
        assert key.reveal().split("_", 3)[3] not in shared.http.get(path).text
