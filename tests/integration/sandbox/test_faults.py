"""Every fault, as a client on a real socket sees it."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from rotator.sandbox import SandboxServer
from tests.support.sandbox import SandboxControl, build_client, wait_until


def mint(control: SandboxControl, **options: Any) -> httpx.Response:
    """The answer to a mint, whatever it is."""
    return control.anonymous.post("/admin/v1/keys", json={"kind": "rk"}, headers=dict(control.http.headers), **options)


def test_dropped_before_there_is_no_effect(control: SandboxControl) -> None:
    control.faults({"operation": "mint", "effect": "drop_before", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        control.mint()
    assert control.list() == []
    control.mint()
    assert control.stats()["operations"]["mint"] == {"dropped": 1, "201": 1}


def test_dropped_after_the_effect_stays(control: SandboxControl) -> None:
    control.faults({"operation": "mint", "effect": "drop_after", "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        control.mint(label="lost")
    assert [key["label"] for key in control.list()] == ["lost"]
    assert control.fault_state()["rules"][0]["applied"] == 1


def test_dropping_closes_the_connection_on_a_reused_one_too(control: SandboxControl) -> None:
    key = control.mint()
    with build_client(control.url) as client:
        for _ in range(2):
            client.get("/v1/stats", headers={"Authorization": f"Bearer {key.reveal()}"})
        control.faults({"operation": "stats", "effect": "drop_after", "times": 1})
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            client.get("/v1/stats", headers={"Authorization": f"Bearer {key.reveal()}"})
        assert client.get("/v1/stats", headers={"Authorization": f"Bearer {key.reveal()}"}).status_code == 200


def test_a_late_mint_takes_effect_after_the_connection_is_gone(control: SandboxControl) -> None:
    control.faults({"operation": "mint", "effect": "late", "seconds": 1, "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        control.mint(label="late")
    assert control.list() == []
    assert control.fault_state()["late_pending"] == 1
    wait_until(lambda: control.fault_state()["late_pending"] == 0)
    assert [key["label"] for key in control.list()] == ["late"]


def test_a_late_revocation_too(control: SandboxControl) -> None:
    key = control.mint()
    control.faults({"operation": "revoke", "effect": "late", "seconds": 3, "times": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        control.revoke(key.key_id)
    assert control.living() == {str(key.key_id)}
    wait_until(lambda: control.living() == set())


def test_latency_delays_and_the_effect_outlives_the_clients_patience(control: SandboxControl) -> None:
    rule = {"operation": "mint", "effect": "latency", "times": 1}
    control.faults({**rule, "seconds": 0.3})
    began = time.monotonic()
    assert mint(control).status_code == 201
    assert time.monotonic() - began >= 0.3
    control.faults({**rule, "seconds": 3})
    with pytest.raises(httpx.ReadTimeout):
        mint(control, timeout=0.1)
    assert len(control.list()) == 1
    wait_until(lambda: len(control.list()) == 2)


def test_latency_goes_with_another_fault(control: SandboxControl) -> None:
    control.faults({"operation": "mint", "effect": "latency", "seconds": 0.05}, {"operation": "any", "effect": "status", "status": 503})
    assert mint(control).status_code == 503
    assert [rule["applied"] for rule in control.fault_state()["rules"]] == [1, 1]


@pytest.mark.parametrize(("status", "code"), [(500, "internal_error"), (502, "upstream_failed"), (503, "internal_error")])
def test_server_errors_have_no_effect(control: SandboxControl, status: int, code: str) -> None:
    control.faults({"operation": "mint", "effect": "status", "status": status, "times": 1})
    answer = mint(control)
    assert (answer.status_code, answer.json()) == (status, {"error": code})
    assert control.list() == []


def test_rate_limited(control: SandboxControl) -> None:
    control.faults({"operation": "mcp", "effect": "rate_limited", "seconds": 7, "times": 1})
    key = control.mint()
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answer = control.anonymous.post("/mcp", json=message, headers={"Authorization": f"Bearer {key.reveal()}"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {"error": "rate_limited", "retry_after_s": 7}
    assert control.probe(key).alive


def test_a_proxys_401_in_html(control: SandboxControl) -> None:
    control.faults({"operation": "stats", "effect": "html_401"})
    answer = control.anonymous.get("/v1/stats", headers={"Authorization": f"Bearer {control.mint().reveal()}"})
    assert (answer.status_code, answer.headers["content-type"]) == (401, "text/html; charset=utf-8")
    assert answer.text.startswith("<!doctype html>")


def test_an_authentication_outage_refuses_every_key(control: SandboxControl) -> None:
    key, account = control.mint(), control.mint("ak")
    control.faults({"operation": "any", "effect": "auth_outage"})
    assert (control.probe(key).status, control.probe(key).error) == (401, "invalid_api_key")
    assert control.probe(account).error == "invalid_api_key"
    assert mint(control).json() == {"error": "invalid_session"}
    control.faults()
    assert control.probe(key).alive


def test_garbage(control: SandboxControl) -> None:
    control.faults({"operation": "mint", "effect": "garbage"})
    answer = mint(control)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match="delimiter"):
        answer.json()


def test_a_redirect_and_who_followed_it(control: SandboxControl) -> None:
    control.faults({"operation": "mcp", "effect": "redirect"}, {"operation": "stats", "effect": "redirect", "location": "http://a.test/b"})
    bearer = {"Authorization": f"Bearer {control.mint().reveal()}"}
    answer = control.anonymous.post("/mcp", headers=bearer, json={})
    assert (answer.status_code, answer.headers["location"]) == (307, "/elsewhere")
    assert control.anonymous.get("/v1/stats", headers=bearer).headers["location"] == "http://a.test/b"
    assert control.stats()["elsewhere"] == {"requests": 0, "with_authorization": 0}
    assert control.anonymous.post("/mcp", headers=bearer, json={}, follow_redirects=True).status_code == 200
    assert control.stats()["elsewhere"] == {"requests": 1, "with_authorization": 1}


def test_a_fault_for_one_key_only(control: SandboxControl) -> None:
    struck, spared = control.mint(), control.mint()
    control.faults({"operation": "any", "effect": "auth_outage", "key_id": str(struck.key_id)})
    assert (control.probe(struck).alive, control.probe(spared).alive) == (False, True)
    assert control.http.delete(f"/admin/v1/keys/{struck.key_id}").status_code == 401
    assert control.http.delete(f"/admin/v1/keys/{spared.key_id}").status_code == 200


def test_a_fault_by_chance_is_repeatable(control: SandboxControl) -> None:
    key = control.mint()

    def throw() -> list[bool]:
        control.faults({"operation": "mcp", "effect": "status", "probability": 0.5}, seed=7)
        return [control.probe(key).alive for _ in range(30)]

    first = throw()
    assert first == throw()
    assert 5 < sum(first) < 25


def test_faults_are_cleared(control: SandboxControl) -> None:
    control.faults({"operation": "any", "effect": "drop_before"})
    assert control.http.delete("/sandbox/faults").json() == {"rules": [], "late_pending": 0}
    control.mint()


def test_a_bare_list_of_rules_will_do(control: SandboxControl) -> None:
    answer = control.http.put("/sandbox/faults", json=[{"effect": "latency", "seconds": 0}])
    assert answer.json()["rules"][0]["operation"] == "any"


def test_it_stops_at_once_whatever_is_under_way() -> None:
    with SandboxServer() as server, SandboxControl(server.url, server.admin_token) as control:
        control.faults({"operation": "mint", "effect": "late", "seconds": 60}, {"operation": "list", "effect": "latency", "seconds": 60})
        with pytest.raises(httpx.RemoteProtocolError):
            control.mint()
        with pytest.raises(httpx.ReadTimeout):
            control.anonymous.get("/admin/v1/keys", timeout=0.1)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 30
