"""Every route against every kind of caller."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.server.conftest import ROLES, TOKENS, World

OPEN = "open"
ROUTES = [
    ("GET", "/healthz", OPEN),
    ("GET", "/readyz", OPEN),
    ("GET", "/readyz/{part}", OPEN),
    ("GET", "/metrics", "viewer"),
    ("GET", "/api/v1/openapi.json", "hook"),
    ("GET", "/api/v1/credentials", "viewer"),
    ("GET", "/api/v1/credentials/{name}", "viewer"),
    ("GET", "/api/v1/credentials/{name}/plan", "viewer"),
    ("POST", "/api/v1/credentials/{name}/rotate", "operator"),
    ("POST", "/api/v1/credentials/{name}/sync", "operator"),
    ("POST", "/api/v1/credentials/{name}/retry", "operator"),
    ("POST", "/api/v1/credentials/{name}/abandon", "operator"),
    ("POST", "/api/v1/credentials/{name}/rollback", "operator"),
    ("POST", "/api/v1/credentials/{name}/adopt", "operator"),
    ("POST", "/api/v1/credentials/{name}/submit", "operator"),
    ("GET", "/api/v1/pools", "viewer"),
    ("GET", "/api/v1/pools/{issuer}/spares", "viewer"),
    ("POST", "/api/v1/pools/{issuer}/spares", "operator"),
    ("POST", "/api/v1/pools/{issuer}/strike", "operator"),
    ("POST", "/api/v1/targets/{target}/withdraw", "operator"),
    ("POST", "/api/v1/leak", "operator"),
    ("POST", "/hooks/store-changed", "hook"),
    ("GET", "/api/v1/rotations", "viewer"),
    ("GET", "/api/v1/rotations/{rotation_id}", "viewer"),
    ("GET", "/api/v1/retirements", "viewer"),
    ("GET", "/api/v1/events", "viewer"),
    ("GET", "/api/v1/audit", "viewer"),
    ("GET", "/api/v1/info", "viewer"),
    ("POST", "/api/v1/reload", "admin"),
]
CALLERS = (None, *ROLES)


def is_allowed(role: str | None, needed: str) -> bool:
    return needed == OPEN or (role is not None and ROLES.index(role) >= ROLES.index(needed))


def fill(path: str) -> str:
    return path.replace("{name}", "checkout-read").replace("{part}", "none-such").replace("{rotation_id}", "0000")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("access")) as world:
        world.configure("checkout-read")
        yield world


@pytest.mark.parametrize(("method", "path", "needed"), ROUTES)
@pytest.mark.parametrize("role", CALLERS)
def test_a_route_lets_in_whom_it_should(shared: World, method: str, path: str, needed: str, role: str | None) -> None:
    body: dict[str, str] | None = {} if method == "POST" else None
    answer = shared.client(role).request(method, fill(path), json=body)

    if is_allowed(role, needed):
        assert answer.status_code not in (401, 403, 405, 500)
    elif role is None:
        assert (answer.status_code, answer.json()["error"]) == (401, "unauthorized")
        assert answer.headers["www-authenticate"] == "Bearer"
    else:
        assert (answer.status_code, answer.json()["error"]) == (403, "forbidden")
        assert needed in answer.json()["message"]


def test_the_matrix_above_names_every_route(shared: World) -> None:
    listed = {(method, path) for method, path, _ in ROUTES}
    described = shared.client().get("/api/v1/openapi.json").json()["paths"]
    served = {(method.upper(), path) for path, methods in described.items() for method in methods}

    assert served == {(m, p) for m, p in listed if p.startswith(("/api/v1/", "/hooks/")) and not p.endswith("openapi.json")}


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "",
        "Bearer wrong",
        f"Basic {TOKENS['admin']}",
        TOKENS["admin"],
        f"Bearer {TOKENS['admin']}x",
        f"Bearer {TOKENS['admin'][:-1]}",
        "Bearer " + "é" * 40,
    ],
)
def test_an_authorization_that_is_not_ours_is_told_nothing_more(shared: World, header: str) -> None:
    none = shared.client(None).get("/api/v1/info")
    wrong = shared.client(None).get("/api/v1/info", headers=[(b"Authorization", header.encode())])

    assert (wrong.status_code, wrong.content) == (401, none.content)


def test_two_authorizations_are_none(shared: World) -> None:
    headers = [("Authorization", f"Bearer {TOKENS['admin']}"), ("Authorization", f"Bearer {TOKENS['admin']}")]
    assert shared.client(None).get("/api/v1/info", headers=headers).status_code == 401


def test_a_body_is_not_looked_at_before_the_token(shared: World) -> None:
    answer = shared.client(None).post("/api/v1/leak", content=b"{not json", headers={"Content-Type": "application/json"})
    assert answer.status_code == 401


def test_unknown_paths_say_nothing_without_a_token(shared: World) -> None:
    assert shared.client(None).get("/api/v1/nothing").status_code == 401
    assert shared.client(None).get("/docs").status_code == 401
    assert shared.client("viewer").get("/docs").status_code == 404


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil.example:8700", "", "[::2]:1"]
)
def test_a_loopback_port_answers_to_its_own_names_only(shared: World, host: str) -> None:
    answer = shared.client("admin").get("/healthz", headers={"Host": host})
    assert (answer.status_code, answer.json()["error"]) == (421, "wrong-host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1:9", "[::1]:8700", "localhost."])
def test_the_names_of_this_machine_are_answered(shared: World, host: str) -> None:
    assert shared.client(None).get("/healthz", headers={"Host": host}).status_code == 200


def test_every_answer_has_the_headers_and_none_lets_other_origins_in(shared: World) -> None:
    for role, path in ((None, "/healthz"), (None, "/api/v1/info"), ("viewer", "/api/v1/info"), ("viewer", "/nothing")):
        answer = shared.client(role).get(path, headers={"Origin": "https://evil.example"})
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "server" not in answer.headers


def test_a_preflight_of_a_browser_gets_nothing(shared: World) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert shared.client(None).options("/api/v1/leak", headers=headers).status_code == 401
    assert shared.client("admin").options("/api/v1/leak", headers=headers).status_code == 405


def test_who_asked_stands_in_the_audit_trail(shared: World) -> None:
    shared.client("operator").post("/api/v1/credentials/checkout-read/retry")
    lines = shared.client("viewer").get("/api/v1/events").json()["events"]
    assert [line["text"] for line in lines if line["action"] == "retry"][-1] == "by operator"


def test_head_is_get_without_a_body(shared: World) -> None:
    for path in ("/healthz", "/api/v1/info"):
        answer: httpx.Response = shared.client("viewer").head(path)
        assert (answer.status_code, answer.content) == (200, b"")
        assert int(answer.headers["content-length"]) > 0
