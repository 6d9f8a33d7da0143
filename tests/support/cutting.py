"""A proxy on loopback that is the weather between a client and an HTTP server: answers that get lost, requests that come late or never.

Only writes are counted and meddled with; a request that only reads goes through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

import httpx


class CuttingProxy:
    """Forwards to `upstream`. Use as a context manager; `meddle` says what happens to the next writes."""

    def __init__(self, upstream: str) -> None:
        self._client = httpx.Client(base_url=upstream, trust_env=False, timeout=20)
        self._lock = threading.Lock()
        self._left: dict[int, str] = {}
        self._held: list[Callable[[], None]] = []
        self.writes = 0
        """since `meddle`"""
        self.watch: Callable[[str, str], None] = lambda _when, _path: None
        """called `before` and `after` each write, with its path; what it does happens while the client waits"""
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do(self) -> None:
                proxy._serve(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_LIST = do  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing: a request line may be of interest to nobody."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def meddle(self, fates: dict[int, str] | None = None) -> None:
        """From now on the nth write is `lost` (carried out, no answer), `dropped` (not carried out, no answer), or `late` (no answer, and
        carried out at `release`)."""
        with self._lock:
            self.writes, self._left = 0, fates or {}

    def release(self) -> None:
        """Carry out what is late."""
        with self._lock:
            held, self._held = self._held, []
        for carry_out in held:
            carry_out()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        fate = self._find_fate(handler)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in ("host", "connection")}

        def carry_out() -> httpx.Response:
            return self._client.request(handler.command, handler.path, content=body, headers=headers)

        writes = handler.command != "GET"
        if writes:
            self.watch("before", handler.path)
        if fate == "late":
            self._held.append(carry_out)
        answer = carry_out() if fate in ("", "lost") else None
        if writes:
            self.watch("after", handler.path)
        if answer is None or fate == "lost":
            handler.close_connection = True
            return
        handler.send_response(answer.status_code)
        for name in ("Content-Type", "Retry-After"):
            if name in answer.headers:
                handler.send_header(name, answer.headers[name])
        handler.send_header("Content-Length", str(len(answer.content)))
        handler.end_headers()
        handler.wfile.write(answer.content)

    def _find_fate(self, handler: BaseHTTPRequestHandler) -> str:
        if handler.command == "GET" or "/data/" not in handler.path:
            return ""
        with self._lock:
            self.writes += 1
            return self._left.get(self.writes, "")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._client.close()
