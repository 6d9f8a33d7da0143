"""What goes wrong is told in one form, with nothing in it that was sent and nothing of our inside."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from typing import Any

import pytest

from rotator.domain.errors import Conflict, IllegalTransition, NeedsHuman, RateLimited, RotatorError, Unreachable
from rotator.domain.reasons import Reason
from rotator.server.problems import MAX_BODY
from tests.integration.server.conftest import TOKENS, World
from tests.support.daemon import wait_until
from tests.support.fakes import build_secret

LEAK = "/api/v1/leak"
ROTATE = "/api/v1/credentials/checkout-read/rotate"


def assert_is_problem(body: Any) -> None:
    assert set(body) == {"error", "message", "exit_code"}
    assert all(isinstance(body[name], str) and body[name] for name in ("error", "message"))
    assert isinstance(body["exit_code"], int)


@pytest.mark.parametrize(
    ("problem", "status", "word", "exit_code"),
    [
        (Unreachable("the store does not answer", reason=Reason.STORE_UNREACHABLE), 503, "store-unreachable", 1),
        (RateLimited("later", after=timedelta(seconds=7)), 503, "rate-limited", 1),
        (Conflict("someone was faster"), 409, "conflict", 1),
        (IllegalTransition("no"), 409, "illegal-transition", 1),
        (NeedsHuman("look", reason=Reason.MOVED), 409, "moved", 4),
        (RotatorError("something"), 500, "failed", 1),
    ],
)
def test_each_error_has_its_status_reason_and_exit_code(
    world: World, problem: RotatorError, status: int, word: str, exit_code: int
) -> None:
    world.reloaded = _raising(problem)
    answer = world.client().post("/api/v1/reload")

    assert_is_problem(answer.json())
    assert (answer.status_code, answer.json()["error"], answer.json()["exit_code"]) == (status, word, exit_code)
    if isinstance(problem, RateLimited):
        assert answer.headers["retry-after"] == "7"


def test_a_store_that_is_away_is_503(world: World) -> None:
    world.configure("checkout-read")
    world.store.read = _raising(Unreachable("vault is sealed"))  # type: ignore[method-assign]
    answer = world.client().post(ROTATE)
    assert answer.status_code == 503
    assert "vault is sealed" in answer.json()["message"]


def test_a_fault_of_ours_tells_nothing_and_is_logged(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.reloaded = _raising(ZeroDivisionError("the inside of things"))
    answer = world.client().post("/api/v1/reload")

    assert (answer.status_code, answer.json()["error"]) == (500, "fault")
    assert_is_problem(answer.json())
    assert "inside" not in answer.text
    assert "ZeroDivision" not in answer.text
    assert "nosniff" in answer.headers["x-content-type-options"]
    logged: list[str] = []

    def is_logged() -> bool:  # the line may be written a moment after the answer
        logged.extend(capfd.readouterr())
        text = "".join(logged)
        return "ZeroDivisionError" in text and answer.json()["message"].rsplit(maxsplit=1)[-1] in text

    wait_until(is_logged, what="the log line")
    assert world.client().get("/api/v1/info").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "word"),
    [
        ("GET", "/api/v1/nothing", 404, "not-found"),
        ("GET", "/api/v1/credentials/", 404, "not-found"),
        ("GET", "/", 404, "not-found"),
        ("GET", "/api/v1/credentials/nobody", 404, "unknown-credential"),
        ("GET", "/api/v1/rotations/0123", 404, "not-found"),
        ("GET", "/readyz/nobody", 404, "not-found"),
        ("DELETE", "/api/v1/credentials", 405, "method-not-allowed"),
        ("GET", "/api/v1/leak", 405, "method-not-allowed"),
        ("POST", "/healthz", 405, "method-not-allowed"),
        ("PUT", ROTATE, 405, "method-not-allowed"),
    ],
)
def test_what_is_not_there_is_said_in_json(world: World, method: str, path: str, status: int, word: str) -> None:
    answer = world.client().request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (status, word)
    assert_is_problem(answer.json())
    assert status != 405 or answer.headers["allow"]


MARK = "sent-by-the-caller"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (LEAK, None),
        (LEAK, {}),
        (LEAK, []),
        (LEAK, MARK),
        (LEAK, {"key": None, "key_id": None}),
        (LEAK, {"key": MARK}),
        (LEAK, {"key_id": MARK}),
        (LEAK, {"key": [MARK]}),
        (LEAK, {"key": MARK * 100}),
        (LEAK, {MARK: 1}),
        (LEAK, {"key_id": "rk_live_abcdefgh", MARK: MARK}),
        (ROTATE, {"emergency": MARK}),
        (ROTATE, {"emergency": 1}),
        (ROTATE, {"emergency": "true"}),
        (ROTATE, {"emergency": None}),
        (ROTATE, {MARK: True}),
        (ROTATE, [MARK]),
    ],
)
def test_a_bad_body_is_400_and_not_repeated(world: World, path: str, body: Any) -> None:
    world.configure("checkout-read")
    content = b"null" if body is None else json.dumps(body).encode()
    answer = world.client().post(path, content=content, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["exit_code"]) == (400, 2), answer.text
    assert_is_problem(answer.json())
    assert MARK not in answer.text


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b'{"key": NaN}', b"[" * 5000, b""])
def test_a_body_that_is_not_json_is_400(world: World, content: bytes) -> None:
    answer = world.client().post(LEAK, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert_is_problem(answer.json())


def test_a_body_of_another_type_is_not_read_as_json(world: World) -> None:
    answer = world.client().post(LEAK, content=b'{"key_id": "rk_live_abcdefgh"}', headers={"Content-Type": "text/plain"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "after=-1", "limti=5", "after=99999999999999999999", "key_id=rk_live"]
)
def test_a_bad_query_is_400(world: World, query: str) -> None:
    answer = world.client().get(f"/api/v1/events?{query}")
    assert (answer.status_code, answer.json()["exit_code"]) == (400, 2)
    assert_is_problem(answer.json())


def test_a_leak_names_a_key_or_a_key_id_not_both(world: World) -> None:
    secret = build_secret()
    answer = world.client().post(LEAK, json={"key": secret.reveal(), "key_id": str(secret.key_id)})
    assert answer.status_code == 400
    assert secret.reveal() not in answer.text
    assert "either" in answer.json()["message"]


def test_a_body_over_the_limit_is_413(world: World) -> None:
    stated = world.client().post(LEAK, content=b"x" * (MAX_BODY + 1), headers={"Content-Type": "application/json"})
    chunked = world.client().post(LEAK, content=iter([b"x" * 40_000] * 3), headers={"Content-Type": "application/json"})
    for answer in (stated, chunked):
        assert (answer.status_code, answer.json()["error"]) == (413, "too-large")
        assert_is_problem(answer.json())


def test_a_key_is_in_no_answer_and_no_log(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Wherever a caller may put one by mistake."""
    world.configure("checkout-read")
    secret = build_secret()
    key = secret.reveal()
    part = key.split("_", 3)[3]
    client = world.client()
    answers = [
        client.get(f"/api/v1/credentials/{key}"),
        client.post(f"/api/v1/credentials/{key}/rotate"),
        client.get(f"/api/v1/rotations/{key}"),
        client.get("/api/v1/events", params={"credential": key}),
        client.get("/api/v1/events", params={key: "1"}),
        client.get("/api/v1/retirements", params={"key_id": key}),
        client.get(f"/{key}"),
        client.get(f"/readyz/{key}"),
        client.get("/api/v1/events?credential=" + "".join(f"%{ord(c):02x}" for c in key)),
        client.post(LEAK, json={"key": key}),
        client.post(LEAK, json={"key": f" {key}"}),
        client.post(LEAK, json={"key": f"{key}\n"}),
        client.post(LEAK, json={"key": key + "é"}),
        client.post(LEAK, json={"key_id": key}),
        client.post(LEAK, json={key: key}),
        client.post(LEAK, json={"key": {"key": key}}),
        client.post(LEAK, json={"key": key, "key_id": key}),
        client.post(LEAK, content=f'{{"key": "{key}"'.encode(), headers={"Content-Type": "application/json"}),
        client.post(ROTATE, json={"emergency": key}),
        client.post(ROTATE, json=key),
        client.get("/api/v1/info", headers={"Authorization": f"Bearer {key}"}),
        client.get("/api/v1/info", headers={"X-Key": key}),
        client.get("/api/v1/events"),
        client.get("/metrics"),
    ]
    world.reloaded = _raising(Unreachable(f"somebody's text with {key}"))
    answers.append(client.post("/api/v1/reload"))

    assert [a.status_code for a in answers if a.status_code >= 500] == [503]
    for answer in answers:
        assert part not in answer.text
        assert part not in str(answer.headers)
    assert part not in "".join(capfd.readouterr())


def test_noise_instead_of_http_closes_the_connection(world: World) -> None:
    host, port = world.url.removeprefix("http://").split(":")
    for noise in (b"\x16\x03\x01 tls?\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=5) as connection:
            connection.sendall(noise)
            assert connection.recv(4096).startswith(b"HTTP/1.1 400")


def test_the_right_token_still_works_after_all_that(world: World) -> None:
    assert world.client(None).get("/api/v1/info", headers={"authorization": f"bearer  {TOKENS['viewer']}"}).status_code == 200


def _raising(problem: BaseException) -> Any:
    def fail(*_: object) -> Any:
        raise problem

    return fail
