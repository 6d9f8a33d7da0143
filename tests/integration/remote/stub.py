"""A server that says exactly what a test tells it to, byte by byte, and records what it was sent."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Talk = Callable[[socket.socket, threading.Event], None]


@dataclass(slots=True)
class Stub:
    url: str
    port: int
    stopping: threading.Event
    requests: list[bytes] = field(default_factory=list)
    talks: list[Talk] = field(default_factory=list)
    """one per request; the last one stays"""

    def say(self, *answers: bytes | Talk) -> None:
        self.talks = [one if callable(one) else _sender(one) for one in answers]

    def next_talk(self) -> Talk:
        return self.talks.pop(0) if len(self.talks) > 1 else self.talks[0]


def answer(status: int, body: bytes, content_type: str = "application/json", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Word", f"Content-Type: {content_type}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _sender(data: bytes) -> Talk:
    def talk(connection: socket.socket, _stopping: threading.Event) -> None:
        connection.sendall(data)

    return talk


def hang(_connection: socket.socket, stopping: threading.Event) -> None:
    stopping.wait(60)


def hang_up(connection: socket.socket, _stopping: threading.Event) -> None:
    connection.shutdown(socket.SHUT_RDWR)


def drip(start: bytes) -> Talk:
    """The start, then a byte every 50 ms without end."""

    def talk(connection: socket.socket, stopping: threading.Event) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(start)
            while not stopping.wait(0.05):
                connection.sendall(b"a")

    return talk


@contextlib.contextmanager
def start_stub() -> Iterator[Stub]:
    stopping = threading.Event()

    class Exchange(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while (request := _read_request(self.request)) and not stopping.is_set():
                    stub.requests.append(request)
                    stub.next_talk()(self.request, stopping)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        request_queue_size = 64

    with Server(("127.0.0.1", 0), Exchange) as server:
        port = server.server_address[1]
        stub = Stub(f"http://127.0.0.1:{port}", port, stopping)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield stub
        finally:
            stopping.set()
            server.shutdown()
            thread.join(30)
            server.block_on_close = False


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body
