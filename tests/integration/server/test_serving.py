"""Sockets: stopping with connections open, slow callers, many callers."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from rotator.domain.errors import Misconfigured
from rotator.server.listening import ApiServer
from tests.integration.server.conftest import TOKENS, World, is_settled, wait_for

BLOCKED = 120.0
"""seconds: as good as for ever"""


def address(world: World) -> tuple[str, int]:
    host, port = world.url.removeprefix("http://").split(":")
    return host, int(port)


def stop_time(server: ApiServer) -> float:
    started = time.monotonic()
    assert server.stop(timeout=BLOCKED / 2)
    return time.monotonic() - started


def test_stop_is_quick_with_idle_half_sent_and_silent_connections(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.client("viewer").get("/api/v1/info")
    silent = socket.create_connection(address(world))
    half = socket.create_connection(address(world))
    half.sendall(b"POST /api/v1/leak HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKENS["admin"].encode())
    half.sendall(b"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
    wait_for(lambda: world.client(None).get("/healthz").status_code, lambda status: status == 200)

    assert stop_time(world.server) < BLOCKED / 2
    with silent, half:
        silent.settimeout(60)
        assert silent.recv(100) == b""
        half.settimeout(60)
        told = b"".join(iter(lambda: half.recv(4096), b""))
    assert told.startswith(b"HTTP/1.1 503")
    assert b'"stopping"' in told
    assert "Traceback" not in caplog.text
    with pytest.raises(httpx.ConnectError):
        world.client(None).get("/healthz")


def test_stop_is_quick_while_an_endpoint_blocks(world: World) -> None:
    entered, release = threading.Event(), threading.Event()

    def block() -> tuple[bool, str]:
        entered.set()
        release.wait(BLOCKED)
        return False, "late"

    world.reloaded = block
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(world.client().post, "/api/v1/reload")
        try:
            assert entered.wait(60)
            assert stop_time(world.server) < BLOCKED / 2
        finally:
            release.set()
        assert (asked.result().status_code, asked.result().json()["error"]) == (503, "stopping")


def test_a_request_in_hand_is_answered_before_the_stop(world: World) -> None:
    entered = threading.Event()

    def linger() -> tuple[bool, str]:
        entered.set()
        threading.Event().wait(0.3)
        return True, "done"

    world.reloaded = linger
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(world.client().post, "/api/v1/reload")
        assert entered.wait(60)
        assert stop_time(world.server) < BLOCKED / 2
        assert asked.result().json()["message"] == "done"


def test_stop_twice_is_once(world: World) -> None:
    assert world.server.stop()
    assert world.server.stop()
    assert not world.server.is_running


def test_a_taken_port_is_a_clear_error_and_leaves_nothing_open(world: World) -> None:
    _, port = address(world)
    second = ApiServer(world.app, port=0, metrics_port=port)
    with pytest.raises(Misconfigured, match=f"port {port}") as caught:
        second.start()
    assert caught.value.exit_code == 3
    assert not second.is_running


def test_an_address_that_is_not_ours_is_a_clear_error(world: World) -> None:
    with pytest.raises(Misconfigured, match=r"192\.0\.2\.1"):
        ApiServer(world.app, host="192.0.2.1", port=0).start()


def test_bound_to_every_address_any_name_is_answered(world: World) -> None:
    server = ApiServer(world.app, host="0.0.0.0", port=0)
    url = server.start()
    try:
        with httpx.Client(base_url=url, trust_env=False) as client:
            assert client.get("/healthz", headers={"Host": "rotator.tools.svc"}).status_code == 200
    finally:
        assert server.stop()


def test_slow_callers_hold_no_thread(world: World) -> None:
    """More than there are worker threads, each in the middle of its body."""
    head = b"POST /api/v1/leak HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + TOKENS["admin"].encode()
    slow = [socket.create_connection(address(world)) for _ in range(60)]
    try:
        for connection in slow:
            connection.sendall(head + b"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        started = time.monotonic()
        assert world.client("viewer").get("/api/v1/info").status_code == 200
        assert time.monotonic() - started < 30
    finally:
        for connection in slow:
            connection.close()


def test_alive_is_said_while_every_thread_waits(world: World) -> None:
    release = threading.Event()
    waiting = threading.Semaphore(0)

    def block() -> tuple[bool, str]:
        waiting.release()
        release.wait(BLOCKED)
        return False, "late"

    world.reloaded = block
    with ThreadPoolExecutor(45) as pool:
        client = world.client(limits=httpx.Limits(max_connections=50))
        asked = [pool.submit(client.post, "/api/v1/reload") for _ in range(45)]
        try:
            for _ in range(40):
                assert waiting.acquire(timeout=BLOCKED / 2)
            assert world.client(None).get("/healthz").status_code == 200
        finally:
            release.set()
        assert {one.result().status_code for one in asked} == {200}


def test_many_callers_at_once(running: World) -> None:
    paths = ["/api/v1/credentials", "/api/v1/events", "/metrics", "/readyz", "/api/v1/credentials/checkout-read/plan"]

    def ask(number: int) -> int:
        client = clients[number % len(clients)]
        if number % 10 == 0:
            return client.post("/api/v1/credentials/checkout-read/rotate", json={}).status_code
        return client.get(paths[number % len(paths)]).status_code

    clients = [running.client() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(100))) == {200}
    running.settle("checkout-read", is_settled)
    assert running.client().get("/api/v1/audit").json()["problems"] == []


def test_a_client_that_leaves_in_the_middle_harms_nobody(world: World, tmp_path: Path) -> None:
    del tmp_path
    for _ in range(5):
        with socket.create_connection(address(world)) as connection:
            request = f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['viewer']}\r\n\r\n"
            connection.sendall(request.encode())
    assert world.client("viewer").get("/metrics").status_code == 200
