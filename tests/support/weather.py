"""A proxy on loopback before an API server: it passes watches on line by line, counts what is asked, and answers by itself when told to."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import httpx


@dataclass(frozen=True)
class Asked:
    """One request, as it came."""

    method: str
    path: str
    """with its query"""
    body: bytes = field(default=b"", repr=False)

    @property
    def watches(self) -> bool:
        return "watch=1" in self.path

    @property
    def writes(self) -> bool:
        return self.method != "GET" and "dryRun" not in self.path and "/apis/authorization" not in self.path


@dataclass(frozen=True)
class Reply:
    """What the proxy answers in the server's place."""

    status: int
    reason: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    lost: bool = False
    """no answer at all; what was asked is carried out"""

    def body(self) -> bytes:
        found = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": self.status, "reason": self.reason}
        return json.dumps(found).encode()


class WeatherProxy:
    """Forwards to `upstream`. Use as a context manager. `judge` is asked about each request: None lets it through."""

    def __init__(self, upstream: str, ca_file: Path | None = None) -> None:
        trusted: Any = ssl.create_default_context(cafile=str(ca_file)) if ca_file is not None else True
        limits = httpx.Limits(max_connections=None)
        self._client = httpx.Client(base_url=upstream, verify=trusted, trust_env=False, timeout=httpx.Timeout(20, read=400), limits=limits)
        self.judge: Callable[[Asked], Reply | None] = lambda _asked: None
        self.asked: list[Asked] = []
        self.heard: list[bytes] = []
        """what was answered"""
        self._open: set[BaseHTTPRequestHandler] = set()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 0
            disable_nagle_algorithm = True

            def do(self) -> None:
                proxy._open.add(self)
                try:
                    proxy._serve(self)
                except (httpx.HTTPError, OSError):
                    self.close_connection = True
                finally:
                    proxy._open.discard(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def count(self, wanted: Callable[[Asked], bool] = lambda _asked: True) -> int:
        """How many such requests came, since `forget`."""
        return sum(wanted(asked) for asked in list(self.asked))

    def forget(self) -> None:
        """Count from nothing."""
        self.asked.clear()

    def cut(self) -> None:
        """Break every connection that is answered just now: watches, above all."""
        for handler in list(self._open):
            with contextlib.suppress(OSError):
                handler.connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        asked = Asked(handler.command, handler.path, body)
        self.asked.append(asked)
        reply = self.judge(asked)
        if reply is not None and not reply.lost:
            self._answer(handler, reply.status, {"Content-Type": "application/json", **reply.headers}, reply.body())
            return
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in ("host", "connection", "accept-encoding")}
        with self._client.stream(handler.command, handler.path, content=body, headers=headers) as answer:
            if reply is not None:
                answer.read()
                handler.close_connection = True
            elif asked.watches and answer.status_code == 200:
                self._pass_on(handler, answer)
            else:
                kept = {name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers}
                self._answer(handler, answer.status_code, kept, answer.read())

    def _answer(self, handler: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        handler.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        self.heard.append(body)

    def _pass_on(self, handler: BaseHTTPRequestHandler, answer: httpx.Response) -> None:
        handler.send_response(answer.status_code)
        handler.send_header("Content-Type", answer.headers["Content-Type"])
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for chunk in answer.iter_bytes():
            self.heard.append(chunk)
            handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self.cut()
        self._client.close()
