"""A daemon reduced to its API's shapes, over real HTTP on a free port; it keeps what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

TOKEN = "stub-token"

Answer = Any
Route = Answer | Callable[["Asked"], Answer]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    token: str


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer that is an error."""

    status: int
    error: str
    message: str
    exit_code: int


@dataclass(slots=True)
class StubDaemon:
    """`routes` maps `GET /api/v1/credentials` to an answer, to a function of the request, or to a list that is answered in turn, its last
    item for ever."""

    url: str = ""
    routes: dict[str, Route] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    open_paths: set[str] = field(default_factory=set)
    """need no token"""

    def write_state(self, folder: Path) -> Path:
        """A state folder that leads here."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "daemon.json").write_text(json.dumps({"url": self.url, "pid": 1}))
        (folder / "admin.token").write_text(f"{TOKEN}\n")
        return folder

    def posts(self, path: str) -> list[Any]:
        """The bodies that were posted to a path."""
        return [a.body for a in self.asked if a.method == "POST" and a.path == path]

    def answer(self, asked: Asked) -> Answer:
        """What a request gets."""
        self.asked.append(asked)
        if asked.token != f"Bearer {TOKEN}" and asked.path not in self.open_paths:
            return Problem(401, "unauthorized", "no", 1)
        name = f"{asked.method} {asked.path}"
        route = self.routes.get(name, _DEFAULTS.get(name, Problem(404, "misconfigured", f"no credential is called so: {asked.path}", 2)))
        if isinstance(route, list):
            route = route.pop(0) if len(route) > 1 else route[0]
        return route(asked) if callable(route) else route


_DEFAULTS: dict[str, Answer] = {
    "GET /api/v1/events": {"events": [], "next": 0},
    "GET /api/v1/info": {"rejected_configuration": ""},
}


@contextmanager
def run_stub(**routes: Route) -> Iterator[StubDaemon]:
    """A stub that answers until the end of the block."""
    stub = StubDaemon(routes=dict(routes))

    class Talk(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._talk("GET")

        def do_POST(self) -> None:
            self._talk("POST")

        def _talk(self, method: str) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            parts = urlsplit(self.path)
            asked = Asked(method, unquote(parts.path), dict(parse_qsl(parts.query)), body, self.headers.get("Authorization", ""))
            answer = stub.answer(asked)
            status = answer.status if isinstance(answer, Problem) else 200
            if isinstance(answer, Problem):
                answer = {"error": answer.error, "message": answer.message, "exit_code": answer.exit_code}
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Talk)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def events_after(events: list[dict[str, Any]], before: int = 0) -> Callable[[Asked], Answer]:
    """The events route over a fixed journal: `before` is its newest line at the start."""

    def answer(asked: Asked) -> Answer:
        if "after" not in asked.query:
            return {"events": [], "next": before}
        after = int(asked.query["after"])
        rows = [e for e in events if e["seq"] > after and e["credential"] == asked.query.get("credential", e["credential"])]
        return {"events": rows, "next": max([after, *(e["seq"] for e in rows)])}

    return answer
