"""The prober against the sandbox with each of its faults, and against servers that say what no service should."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable
from datetime import timedelta

import pytest

from rotator.domain.facts import Verdict
from rotator.domain.keys import PUBLISHED_TOOLS, Kind
from rotator.domain.ports import Prober
from rotator.domain.secret import Secret
from rotator.remote.millimetric import MillimetricProber
from tests.integration.remote.stub import Stub, answer, drip, hang, hang_up
from tests.support.sandbox import SandboxControl

Build = Callable[..., MillimetricProber]
Key = Callable[..., Secret]


def rpc_id(stub: Stub) -> str:
    return str(json.loads(stub.requests[-1].partition(b"\r\n\r\n")[2])["id"])


@pytest.mark.parametrize("kind", ["rk", "sk", "ak"])
def test_a_living_key_is_alive_with_the_tools_of_its_kind(sandbox: SandboxControl, prober_of: Build, kind: str) -> None:
    prober: Prober = prober_of(sandbox.url)
    heard = prober.probe(sandbox.mint(kind))
    assert heard.verdict is Verdict.ALIVE
    assert frozenset(heard.tools or ()) == PUBLISHED_TOOLS[Kind(kind)]
    assert heard.clock_offset is not None
    assert abs(heard.clock_offset) <= timedelta(seconds=2)


def test_a_browser_key_is_alive_by_the_403_of_the_registry(sandbox: SandboxControl, prober_of: Build) -> None:
    heard = prober_of(sandbox.url).probe(sandbox.mint("pk"))
    assert (heard.verdict, heard.detail, heard.tools) == (Verdict.ALIVE, "key_kind_not_allowed", None)


def test_a_plan_limit_is_alive_with_tools_unread(sandbox: SandboxControl, prober_of: Build) -> None:
    sandbox.settings(plan="free")
    heard = prober_of(sandbox.url).probe(sandbox.mint("rk"))
    assert (heard.verdict, heard.detail, heard.tools) == (Verdict.ALIVE, "plan_limit", None)


def test_a_revoked_key_is_dead_when_the_cache_has_forgotten_it(sandbox: SandboxControl, prober_of: Build) -> None:
    prober, key = prober_of(sandbox.url), sandbox.mint()
    assert prober.probe(key).verdict is Verdict.ALIVE
    sandbox.revoke(key.key_id)
    assert prober.probe(key).verdict is Verdict.ALIVE
    sandbox.advance(301)
    heard = prober.probe(key)
    assert (heard.verdict, heard.detail) == (Verdict.DEAD, "invalid_api_key")


def test_a_key_that_never_was_is_dead(sandbox: SandboxControl, prober_of: Build, a_key: Key) -> None:
    assert prober_of(sandbox.url).probe(a_key()).verdict is Verdict.DEAD


def test_an_authentication_outage_says_dead_of_a_living_key(sandbox: SandboxControl, prober_of: Build) -> None:
    key = sandbox.mint()
    sandbox.faults({"effect": "auth_outage"})
    assert prober_of(sandbox.url).probe(key).verdict is Verdict.DEAD  # why every refusal needs a witness (L11, L20)


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ({"effect": "html_401"}, "http_401"),
        ({"effect": "garbage"}, "not_json"),
        ({"effect": "redirect"}, "http_307"),
        ({"effect": "status", "status": 500}, "internal_error"),
        ({"effect": "status", "status": 502}, "upstream_failed"),
        ({"effect": "status", "status": 503}, "internal_error"),
        ({"effect": "drop_before"}, "answer_lost"),
        ({"effect": "drop_after"}, "answer_lost"),
        ({"effect": "rate_limited", "seconds": 7}, "rate_limited"),
    ],
)
def test_whatever_else_befalls_a_call_is_unknown(sandbox: SandboxControl, prober_of: Build, fault: dict[str, object], detail: str) -> None:
    key = sandbox.mint()
    sandbox.faults(fault)
    heard = prober_of(sandbox.url).probe(key)
    assert (heard.verdict, heard.tools, heard.detail) == (Verdict.UNKNOWN, None, detail)


def test_a_redirect_is_not_followed_within_the_service(sandbox: SandboxControl, prober_of: Build) -> None:
    key = sandbox.mint()
    sandbox.faults({"effect": "redirect"})
    prober_of(sandbox.url).probe(key)
    assert sandbox.stats()["elsewhere"]["requests"] == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_never_gets_the_key(stub: Stub, second_stub: Stub, prober_of: Build, a_key: Key, status: int) -> None:
    second_stub.say(answer(200, b"{}"))
    stub.say(answer(status, b"", "text/plain", f"Location: {second_stub.url}/mcp"))
    assert prober_of(stub.url).probe(a_key()).verdict is Verdict.UNKNOWN
    assert len(stub.requests) == 1
    assert second_stub.requests == []


def test_after_a_429_nothing_is_sent_until_the_named_time(sandbox: SandboxControl, prober_of: Build) -> None:
    prober, key = prober_of(sandbox.url), sandbox.mint()
    sandbox.faults({"effect": "rate_limited", "seconds": 90, "times": 1})
    first, second = prober.probe(key), prober.probe(key)
    assert first.retry_after == timedelta(seconds=90)
    assert (second.verdict, second.detail) == (Verdict.UNKNOWN, "rate_limited")
    assert second.retry_after is not None
    assert timedelta(seconds=30) < second.retry_after <= timedelta(seconds=90)
    assert sandbox.stats()["operations"]["mcp"] == {"429": 1}


def test_a_slow_service_is_unknown_within_the_time_limit(sandbox: SandboxControl, prober_of: Build) -> None:
    key = sandbox.mint()
    sandbox.faults({"effect": "latency", "seconds": 20})
    began = time.monotonic()
    heard = prober_of(sandbox.url, timeout="1s").probe(key)
    assert (heard.verdict, heard.detail) == (Verdict.UNKNOWN, "answer_lost")
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nX-", b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"])
def test_a_server_that_drips_cannot_hold_a_call(stub: Stub, prober_of: Build, a_key: Key, start: bytes) -> None:
    stub.say(drip(start))
    began = time.monotonic()
    assert prober_of(stub.url, timeout="1s").probe(a_key()).detail == "answer_lost"
    assert time.monotonic() - began < 15


def test_nobody_listening_is_unknown(prober_of: Build, a_key: Key) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        heard = prober_of(f"http://127.0.0.1:{unused.getsockname()[1]}").probe(a_key())
    assert (heard.verdict, heard.detail) == (Verdict.UNKNOWN, "unreachable")


REFUSAL = b'{"error":"invalid_api_key"}'


@pytest.mark.parametrize(
    "said",
    [
        answer(401, REFUSAL, "text/html"),
        answer(401, b'{"error":"malformed_api_key"}'),
        answer(401, b'{"error":"key_kind_mismatch"}'),
        answer(401, b'{"error":"Invalid_Api_Key"}'),
        answer(401, b'{"error":{"code":"invalid_api_key"}}'),
        answer(401, b'["invalid_api_key"]'),
        answer(401, REFUSAL[:-1]),
        answer(401, b'{"error":["invalid_api_key"]}'),
        answer(400, REFUSAL),
        answer(403, REFUSAL),
        answer(404, REFUSAL),
        answer(200, REFUSAL),
        answer(407, REFUSAL),
        answer(401, REFUSAL, "application/json", "Content-Encoding: gzip")[:-4],
    ],
)
def test_only_the_services_own_words_prove_a_death(stub: Stub, prober_of: Build, a_key: Key, said: bytes) -> None:
    stub.say(said)
    assert prober_of(stub.url, timeout="2s").probe(a_key()).verdict is Verdict.UNKNOWN


def test_the_refusal_word_for_word_is_dead(stub: Stub, prober_of: Build, a_key: Key) -> None:
    stub.say(answer(401, b'{"error":"invalid_api_key","details":{}}', "application/json; charset=utf-8"))
    assert prober_of(stub.url).probe(a_key()).verdict is Verdict.DEAD


@pytest.mark.parametrize(
    ("body", "verdict", "detail"),
    [
        ({"result": {"tools": [{"name": "get_stats"}]}}, Verdict.ALIVE, ""),
        ({"result": {"tools": []}}, Verdict.ALIVE, ""),
        ({"error": {"code": -32002, "message": "plan_limit"}}, Verdict.ALIVE, "plan_limit"),
        ({"error": {"code": -32601, "message": "no"}}, Verdict.UNKNOWN, "method_not_found"),
        ({"error": {"code": -32000, "message": "Unauthorized"}}, Verdict.UNKNOWN, "tool_failed"),
        ({"error": {"code": "x"}}, Verdict.UNKNOWN, "not_jsonrpc"),
        ({"result": {}}, Verdict.UNKNOWN, "no_tools"),
        ({"result": {"tools": [{"name": 3}]}}, Verdict.UNKNOWN, "no_tools"),
        ({"result": {"tools": [{"name": "a"}], "nextCursor": 5}}, Verdict.UNKNOWN, "no_tools"),
        ({"result": {"tools": []}, "id": "another"}, Verdict.UNKNOWN, "not_jsonrpc"),
        ({"result": {"tools": []}, "jsonrpc": "1.0"}, Verdict.UNKNOWN, "not_jsonrpc"),
        ({}, Verdict.UNKNOWN, "no_tools"),
    ],
)
def test_jsonrpc_answers(stub: Stub, prober_of: Build, a_key: Key, body: dict[str, object], verdict: Verdict, detail: str) -> None:
    def talk(connection: socket.socket, _stopping: object) -> None:
        connection.sendall(answer(200, json.dumps({"jsonrpc": "2.0", "id": rpc_id(stub), **body}).encode()))

    stub.say(talk)
    heard = prober_of(stub.url).probe(a_key())
    assert (heard.verdict, heard.detail) == (verdict, detail)


def pager(stub: Stub, last: int) -> Callable[[socket.socket, object], None]:
    def talk(connection: socket.socket, _stopping: object) -> None:
        number = len(stub.requests)
        result: dict[str, object] = {"tools": [{"name": f"tool_{number}"}]}
        if number < last:
            result["nextCursor"] = str(number)
        connection.sendall(answer(200, json.dumps({"jsonrpc": "2.0", "id": rpc_id(stub), "result": result}).encode()))

    return talk


def test_tools_are_read_page_by_page(stub: Stub, prober_of: Build, a_key: Key) -> None:
    stub.say(pager(stub, last=3))
    heard = prober_of(stub.url).probe(a_key())
    assert heard.tools == ("tool_1", "tool_2", "tool_3")
    assert b'"cursor": "2"' in stub.requests[-1]


def test_pages_without_end_are_unknown_not_unchecked(stub: Stub, prober_of: Build, a_key: Key) -> None:
    stub.say(pager(stub, last=1000))
    heard = prober_of(stub.url).probe(a_key())
    assert (heard.verdict, heard.tools, heard.detail) == (Verdict.UNKNOWN, None, "too_many_tools")
    assert len(stub.requests) == 10


def test_a_large_body_is_not_read(stub: Stub, prober_of: Build, a_key: Key) -> None:
    stub.say(answer(200, b'{"x":"' + b"a" * 1_100_000 + b'"}'))
    assert prober_of(stub.url).probe(a_key()).detail == "answer_lost"


@pytest.mark.parametrize(
    "talk", [hang, hang_up, b"HTTP/9.9 nonsense\r\n\r\n", b"\x00\x01\x02", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na"]
)
def test_broken_talk_is_unknown(stub: Stub, prober_of: Build, a_key: Key, talk: object) -> None:
    stub.say(talk)  # type: ignore[arg-type]
    assert prober_of(stub.url, timeout="1s").probe(a_key()).detail == "answer_lost"


def test_a_deeply_nested_body_is_not_json(stub: Stub, prober_of: Build, a_key: Key) -> None:
    stub.say(answer(200, b"[" * 200_000))
    assert prober_of(stub.url).probe(a_key()).detail == "not_json"


@pytest.mark.parametrize("date", ["Sun, 22 Nov 2026 18:00:00 GMT", "yesterday", "Sun, 99 Foo 2026 18:00:00 GMT", ""])
def test_the_clock_offset_comes_from_a_readable_date_only(stub: Stub, prober_of: Build, a_key: Key, date: str) -> None:
    stub.say(answer(401, REFUSAL, "application/json", f"Date: {date}"))
    heard = prober_of(stub.url).probe(a_key())
    assert heard.verdict is Verdict.DEAD
    assert (heard.clock_offset is not None) == date.startswith("Sun, 22")


def test_the_request_carries_the_key_in_its_header_only(stub: Stub, prober_of: Build, a_key: Key) -> None:
    key = a_key("ak")
    stub.say(answer(401, REFUSAL))
    prober_of(stub.url).probe(key)
    head, _, body = stub.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /mcp/account HTTP/1.1\r\n")
    assert head.count(key.reveal().encode()) == 1
    assert f"authorization: bearer {key.reveal()}".lower().encode() in head.lower()
    assert key.reveal().encode() not in body
    assert json.loads(body)["method"] == "tools/list"


def test_environment_proxies_are_not_used(
    stub: Stub, second_stub: Stub, prober_of: Build, a_key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, second_stub.url)
    stub.say(answer(401, REFUSAL))
    second_stub.say(answer(401, REFUSAL))
    prober_of(stub.url).probe(a_key())
    assert len(stub.requests) == 1
    assert second_stub.requests == []


def test_no_log_line_carries_a_key(sandbox: SandboxControl, prober_of: Build, caplog: pytest.LogCaptureFixture) -> None:
    key = sandbox.mint()
    with caplog.at_level(logging.DEBUG):
        prober = prober_of(sandbox.url)
        heard = prober.probe(key)
    secret_part = key.reveal().split("_", 3)[3]
    assert caplog.records
    assert secret_part not in caplog.text
    assert secret_part not in repr(heard) + repr(prober)
