"""Minting, listing, revoking, sessions: the contract that we assume."""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from rotator.domain.keys import parse_key
from tests.support.sandbox import SandboxControl, build_client


def test_a_mint_answers_the_key_once(control: SandboxControl) -> None:
    body = {"kind": "sk", "env": "test", "project": "shop", "label": "inst/uid/attempt"}
    answer = control.http.post("/admin/v1/keys", json=body)
    minted = answer.json()
    assert answer.status_code == 201
    assert set(minted) == {"id", "key", "kind", "env", "project", "label", "created_at"}
    assert {name: minted[name] for name in body} == body
    assert str(parse_key(minted["key"])) == minted["id"]
    assert datetime.fromisoformat(minted["created_at"]).tzinfo is not None
    (listed,) = control.list()
    assert listed == {**{name: minted[name] for name in minted if name != "key"}, "revoked_at": None, "last_used_at": None}


def test_two_mints_under_one_label_are_two_keys(control: SandboxControl) -> None:
    assert control.mint(label="same").key_id != control.mint(label="same").key_id
    assert len(control.list("same")) == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "xk"},
        {"kind": ["rk"]},
        {"kind": "rk", "env": "Live"},
        {"kind": "rk", "project": ""},
        {"kind": "rk", "label": "a\nb"},
        [],
    ],
)
def test_a_mint_that_cannot_be(control: SandboxControl, body: Any) -> None:
    answer = control.http.post("/admin/v1/keys", json=body)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_payload")
    assert control.list() == []


def test_a_revocation_can_be_repeated(control: SandboxControl) -> None:
    key = control.mint()
    first = control.revoke(key.key_id)
    assert control.revoke(key.key_id) == first
    assert control.list()[0]["revoked_at"] == first


def test_an_unknown_key_cannot_be_revoked(control: SandboxControl) -> None:
    key = control.mint("rk")
    for unknown in ("rk_live_00000000", str(key.key_id).replace("rk", "sk", 1), "nonsense"):
        answer = control.http.delete(f"/admin/v1/keys/{unknown}")
        assert (answer.status_code, answer.json()) == (404, {"error": "unknown_key"})


def test_the_list_is_paged_in_the_order_of_minting(control: SandboxControl) -> None:
    minted = [str(control.mint(label=f"inst/{number % 2}/{9 - number}").key_id) for number in range(7)]
    assert [key["id"] for key in control.list(limit=3)] == minted
    assert [key["id"] for key in control.list("inst/1/", limit=2)] == minted[1::2]
    assert control.list("inst/2/") == []
    first = control.http.get("/admin/v1/keys", params={"limit": 7}).json()
    assert first["next_cursor"] is None


def test_a_page_stays_whole_while_keys_are_added(control: SandboxControl) -> None:
    minted = [str(control.mint().key_id) for _ in range(3)]
    page = control.http.get("/admin/v1/keys", params={"limit": 2}).json()
    minted.append(str(control.mint().key_id))
    rest = control.http.get("/admin/v1/keys", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    assert [key["id"] for key in page["keys"] + rest["keys"]] == minted


@pytest.mark.parametrize("params", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "-5"}])
def test_a_list_that_cannot_be(control: SandboxControl, params: dict[str, str]) -> None:
    answer = control.http.get("/admin/v1/keys", params=params)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_params")


def test_two_hundred_keys_make_a_page(control: SandboxControl) -> None:
    for _ in range(201):
        control.mint()
    page = control.http.get("/admin/v1/keys").json()
    assert (len(page["keys"]), len(control.list())) == (200, 201)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/admin/v1/keys"),
        ("GET", "/admin/v1/keys"),
        ("DELETE", "/admin/v1/keys/rk_live_00000000"),
        ("GET", "/sandbox/keys"),
        ("GET", "/sandbox/stats"),
        ("GET", "/sandbox/faults"),
        ("PUT", "/sandbox/faults"),
        ("DELETE", "/sandbox/faults"),
        ("GET", "/sandbox/settings"),
        ("PUT", "/sandbox/settings"),
        ("POST", "/sandbox/flush"),
        ("POST", "/sandbox/advance"),
    ],
)
def test_nothing_but_a_session_opens_the_admin_and_control_api(control: SandboxControl, method: str, path: str) -> None:
    key = control.mint("ak").reveal()
    for headers in ({}, {"Authorization": f"Bearer {key}"}, {"Authorization": "Basic eDp5"}):
        answer = control.anonymous.request(method, path, headers=headers, json={})
        assert (answer.status_code, answer.json()) == (401, {"error": "invalid_session"})


def test_a_session_expires_and_is_not_an_admin_token(control: SandboxControl) -> None:
    token = control.http.headers["Authorization"].removeprefix("Bearer ")
    opened = control.anonymous.post("/admin/v1/session", json={"refresh_token": token}).json()
    assert opened["expires_in"] == 3600
    with build_client(control.url, headers={"Authorization": f"Bearer {opened['access_token']}"}) as session:
        assert session.post("/admin/v1/keys", json={"kind": "rk"}).status_code == 201
        assert session.get("/sandbox/keys").json() == {"error": "invalid_session"}
        control.advance(3599)
        assert session.get("/admin/v1/keys").status_code == 200
        control.advance(1)
        assert session.get("/admin/v1/keys").json() == {"error": "invalid_session"}
    assert control.http.get("/admin/v1/keys").status_code == 200


def test_an_unknown_refresh_token_opens_nothing(control: SandboxControl) -> None:
    answer = control.anonymous.post("/admin/v1/session", json={"refresh_token": "not this"})
    assert (answer.status_code, answer.json()) == (401, {"error": "invalid_session"})
    assert control.anonymous.post("/admin/v1/session", json={}).status_code == 400


def test_the_services_clock_can_be_off(control: SandboxControl) -> None:
    def date() -> float:
        return parsedate_to_datetime(control.http.get("/admin/v1/keys").headers["date"]).timestamp()

    before = date()
    control.settings(clock_skew=-7200)
    assert -7205 < date() - before < -7195
    key = control.mint()
    assert abs(datetime.fromisoformat(control.key(key.key_id)["created_at"]).timestamp() - before + 7200) < 5


def test_calls_are_counted(control: SandboxControl) -> None:
    key = control.mint()
    control.probe(key)
    control.probe(key, path="/mcp/account")
    stats = control.stats()
    assert stats["operations"]["mint"] == {"201": 1}
    assert stats["operations"]["mcp"] == {"200": 1}
    assert stats["operations"]["mcp_account"] == {"403": 1}
    assert stats["methods"] == {"tools/list": 1}
