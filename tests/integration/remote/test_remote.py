"""The HTTP layer itself: what a caller is told, what observers see, and that nothing foreign gets into an error."""

from __future__ import annotations

import secrets
import socket
import ssl
import subprocess
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from rotator.domain.errors import AnswerLost, Misconfigured, RateLimited, RotatorError, Unreachable
from rotator.domain.ports import Clock
from rotator.remote.http import Remote, RemoteOptions, deadline
from tests.integration.remote.stub import Stub, Talk, answer, hang, hang_up, start_stub


def whole_text(problem: BaseException) -> str:
    """All that a log could ever print of it."""
    return "".join(traceback.format_exception(problem)) + repr(problem) + repr(problem.__context__) + repr(problem.__cause__)


@pytest.mark.parametrize(
    ("talk", "kind"),
    [
        (hang_up, AnswerLost),
        (hang, AnswerLost),
        (b"HTTP/1.1 not-a-number FOREIGN\r\n\r\n", AnswerLost),
        (answer(200, b"FOREIGN" * 200_000), AnswerLost),
        (answer(429, b'{"error":"FOREIGN"}'), RateLimited),
    ],
)
def test_errors_chain_nothing_and_quote_nothing(stub: Stub, clock: Clock, talk: bytes | Talk, kind: type[RotatorError]) -> None:
    token = secrets.token_urlsafe(24)
    stub.say(talk)
    remote = Remote("issuer x", stub.url, clock, RemoteOptions(timeout=timedelta(seconds=0.4)))
    with pytest.raises(RotatorError) as caught:
        remote.call("mint", "POST", "/keys", {"Authorization": f"Bearer {token}"}, b"{}")
    remote.close()
    assert type(caught.value) is kind
    assert caught.value.__context__ is None
    assert "FOREIGN" not in whole_text(caught.value)
    assert token not in whole_text(caught.value)
    assert "issuer x" in str(caught.value)
    assert "mint" in str(caught.value)


def test_what_was_surely_not_sent_is_unreachable_and_not_lost(clock: Clock) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        remote = Remote("issuer x", f"http://127.0.0.1:{unused.getsockname()[1]}", clock)
        with pytest.raises(Unreachable, match="nothing was sent") as caught:
            remote.call("mint", "POST", "/keys", {}, b"{}")
    assert type(caught.value) is Unreachable


def test_a_name_that_does_not_exist_is_unreachable(clock: Clock) -> None:
    with pytest.raises(Unreachable) as caught:
        Remote("issuer x", "https://no-such-host.invalid", clock).call("mint", "POST", "/keys", {}, b"{}")
    assert type(caught.value) is Unreachable


def test_a_name_whose_look_up_hangs_is_unreachable(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: release.wait(60) and [])
    remote = Remote("issuer x", "https://slow.invalid", clock, RemoteOptions(timeout=timedelta(seconds=0.3)))
    with pytest.raises(Unreachable, match="in time") as caught:
        remote.call("mint", "POST", "/keys", {}, b"{}")
    release.set()
    assert type(caught.value) is Unreachable


def test_the_next_address_is_tried(stub: Stub, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.say(answer(200, b"{}"))
    found = [(2, 1, 6, "", (address, stub.port)) for address in ("127.0.0.254", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_named: found)
    remote = Remote("x", f"http://localhost:{stub.port}", clock)
    assert remote.call("list", "GET", "/", {}).status == 200
    remote.close()


@pytest.fixture
def tls_stub(tmp_path: Path) -> tuple[Path, Path]:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "ca.pem"), "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path / "ca.pem", tmp_path / "key.pem"


def over_tls(certificate: tuple[Path, Path]) -> tuple[socket.socket, threading.Thread, list[bytes]]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    listener, heard = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as secure:
                heard.append(secure.recv(65536))
                secure.sendall(answer(200, b"{}"))
        except OSError:
            connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return listener, thread, heard


def test_tls_is_verified_and_a_ca_file_is_honoured(tls_stub: tuple[Path, Path], clock: Clock) -> None:
    for ca_file in (None, tls_stub[0]):
        listener, thread, heard = over_tls(tls_stub)
        with listener:
            remote = Remote("x", f"https://localhost:{listener.getsockname()[1]}", clock, RemoteOptions(ca_file=ca_file))
            if ca_file is None:
                with pytest.raises(Unreachable, match="not trusted here; name its authority's file as ca_file"):
                    remote.call("probe", "GET", "/", {})
            else:
                assert remote.call("probe", "GET", "/", {}).status == 200
            remote.close()
            thread.join(60)
        assert len(heard) == (0 if ca_file is None else 1)


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_an_unusable_ca_file_is_named(tmp_path: Path, clock: Clock, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(Misconfigured, match=r"ca_file .*ca\.pem cannot be used"):
        Remote("x", "https://localhost", clock, RemoteOptions(ca_file=file))


def test_all_calls_of_one_verb_end_together(stub: Stub, clock: Clock) -> None:
    stub.say(hang)
    remote = Remote("x", stub.url, clock)
    began = time.monotonic()
    with deadline(1.5):
        with deadline(20), pytest.raises(AnswerLost):
            remote.call("list", "GET", "/", {})
        with pytest.raises(Unreachable, match="no time is left"):
            remote.call("list", "GET", "/", {})
    assert time.monotonic() - began < 20
    assert len(stub.requests) == 1
    stub.say(answer(200, b""))
    assert remote.call("list", "GET", "/", {}).status == 200


def test_observers_see_every_call(stub: Stub, clock: Clock) -> None:
    seen: list[tuple[str, str, str]] = []
    remote = Remote("x", stub.url, clock, observe=lambda *told: seen.append(told[:3]))
    for status in (200, 302, 404, 500):
        stub.say(answer(status, b""))
        remote.call("list", "GET", "/", {})
    stub.say(hang_up)
    with pytest.raises(AnswerLost):
        remote.call("list", "GET", "/", {})
    stub.say(answer(429, b"", "text/plain", "Retry-After: 9"))
    for _ in range(2):
        with pytest.raises(RateLimited):
            remote.call("list", "GET", "/", {})
    remote.close()
    assert [outcome for _, _, outcome in seen] == [
        "ok", "redirected", "refused", "failed", "answer_lost", "rate_limited", "held_back",
    ]  # fmt: skip
    assert {told[:2] for told in seen} == {("x", "list")}


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        (["Retry-After: 12"], b"", 12),
        (["Retry-After: 99999999"], b"", 3600),
        (["Retry-After: soon"], b"", None),
        (["Retry-After: -1"], b"", None),
        (["Date: Sun, 22 Nov 2026 18:00:00 GMT", "Retry-After: Sun, 22 Nov 2026 18:00:20 GMT"], b"", 20),
        ([], b'{"error":"rate_limited","retry_after_s":2.5}', 2.5),
        ([], b'{"error":"rate_limited","retry_after_s":NaN}', None),
        ([], b'{"error":"rate_limited","retry_after_s":true}', None),
        ([], b"", None),
    ],
)
def test_the_time_to_come_back(stub: Stub, clock: Clock, headers: list[str], body: bytes, seconds: float | None) -> None:
    stub.say(answer(429, body, "application/json", *headers))
    remote = Remote("x", stub.url, clock)
    with pytest.raises(RateLimited) as caught:
        remote.call("list", "GET", "/", {})
    remote.close()
    assert caught.value.after == (None if seconds is None else timedelta(seconds=seconds))


def test_sixteen_threads_share_one_remote(clock: Clock) -> None:
    with start_stub() as stub:
        stub.say(answer(200, b'{"a":1}'))
        remote = Remote("x", stub.url, clock)
        with ThreadPoolExecutor(16) as pool:
            replies = list(pool.map(lambda number: remote.call("list", "GET", f"/{number % 40}", {}), range(640)))
        remote.close()
    assert {reply.body for reply in replies} == {b'{"a":1}'}
    assert len(stub.requests) == 640
