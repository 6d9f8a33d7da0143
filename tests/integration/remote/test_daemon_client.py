from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterator

import pytest

from rotator.domain.errors import Misconfigured, RotatorError
from rotator.domain.reasons import Reason
from rotator.remote.daemon import DaemonClient, DaemonError, DaemonUnreachable
from tests.integration.remote.stub import Stub, answer, hang_up
from tests.integration.remote.test_remote import whole_text

TOKEN = secrets.token_urlsafe(24)


@pytest.fixture
def client(stub: Stub) -> Iterator[DaemonClient]:
    with DaemonClient(stub.url + "/", TOKEN, "the state folder /x") as one:
        yield one


def test_get_and_post(stub: Stub, client: DaemonClient) -> None:
    stub.say(answer(200, b'{"a":[1]}'), answer(202, b'"id"'), answer(204, b""))
    assert client.get("/api/v1/credentials", {"name": "a b&c"}) == {"a": [1]}
    assert client.post("/api/v1/rotations", {"credential": "x"}) == "id"
    assert client.delete("/api/v1/x") is None
    assert stub.requests[0].startswith(b"GET /api/v1/credentials?name=a%20b%26c HTTP/1.1\r\n")
    assert json.loads(stub.requests[1].partition(b"\r\n\r\n")[2]) == {"credential": "x"}
    assert all(f"Bearer {TOKEN}".encode() in request for request in stub.requests)


def test_no_daemon_is_exit_5_naming_both_variables_and_the_state_folder() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        client = DaemonClient(f"http://127.0.0.1:{unused.getsockname()[1]}", TOKEN, "the state folder /x")
        with pytest.raises(DaemonUnreachable) as caught:
            client.get("/api/v1/credentials")
    assert caught.value.exit_code == 5
    for word in ("ROTATOR_URL", "ROTATOR_TOKEN", "ROTATOR_STATE_DIR", "the state folder /x", "rotator run"):
        assert word in str(caught.value)
    assert TOKEN not in whole_text(caught.value)


@pytest.mark.parametrize("said", [answer(200, b"<html>", "text/html"), answer(502, b"<html>", "text/html"), answer(200, b"{")])
def test_something_else_at_the_address_is_exit_5(stub: Stub, client: DaemonClient, said: bytes) -> None:
    stub.say(said)
    with pytest.raises(DaemonUnreachable, match="is not a rotator daemon"):
        client.get("/")


def test_a_daemon_that_hangs_up_is_exit_5(stub: Stub, client: DaemonClient) -> None:
    stub.say(hang_up)
    with pytest.raises(DaemonUnreachable, match="it may have been carried out"):
        client.post("/api/v1/rotations", {})


@pytest.mark.parametrize(
    ("status", "body", "text", "reason", "exit_code"),
    [
        (409, {"error": "illegal-transition", "message": "no such step", "exit_code": 4}, "no such step", Reason.ILLEGAL_TRANSITION, 4),
        (404, {"error": "unknown-credential", "message": "no credential x"}, "no credential x", Reason.FAILED, 1),
        (500, {}, "the daemon answered 500 failed", Reason.FAILED, 1),
        (400, {"error": 3, "message": ["x"], "exit_code": True}, "the daemon answered 400 failed", Reason.FAILED, 1),
        (401, {"error": "unauthorized"}, "does not accept the token: check ROTATOR_TOKEN", Reason.FAILED, 1),
        (403, {"error": "forbidden"}, "needs a token of a higher role", Reason.FAILED, 1),
        (302, {}, "the daemon answered 302", Reason.FAILED, 1),
    ],
)
def test_refusals_come_back_as_they_were(
    stub: Stub, client: DaemonClient, status: int, body: object, text: str, reason: Reason, exit_code: int
) -> None:
    stub.say(answer(status, json.dumps(body).encode()))
    with pytest.raises(DaemonError) as caught:
        client.get("/")
    assert text in str(caught.value)
    assert (caught.value.reason, caught.value.exit_code, caught.value.status) == (reason, exit_code, status)
    assert len(stub.requests) == 1


def test_too_many_requests_are_told(stub: Stub, client: DaemonClient) -> None:
    stub.say(answer(429, b"{}", "application/json", "Retry-After: 3"))
    with pytest.raises(RotatorError, match="try again later"):
        client.get("/")


@pytest.mark.parametrize(("url", "token"), [("127.0.0.1:8700", "x"), ("http://u:p@h", "x"), ("http://h", ""), ("http://h", "a\r\nX: 1")])
def test_addresses_and_tokens_that_cannot_be_one(url: str, token: str) -> None:
    with pytest.raises(Misconfigured, match=r"ROTATOR_(URL|TOKEN)"):
        DaemonClient(url, token)
