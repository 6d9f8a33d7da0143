"""Prometheus, Alertmanager and a receiver of its notes, as processes and a thread of the tests'."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.daemon import wait_until
from tests.support.sandbox import build_client
from tests.support.servers import Spawned, find_free_ports, get_system_program

Document = dict[str, Any]


@dataclass(slots=True)
class Program:
    """One of the two, while it runs."""

    url: str
    process: Spawned

    def ask(self, path: str, **params: str) -> Any:
        """GET a path of its API; its JSON."""
        with build_client(self.url, timeout=30.0, trust_env=False) as client:
            answer = client.get(path, params=params)
        assert answer.status_code == 200, f"{path} {params}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def is_ready(self) -> bool:
        assert self.process.is_running, self.process.tail()
        with contextlib.suppress(httpx.TransportError), build_client(self.url, timeout=30.0, trust_env=False) as client:
            return client.get("/-/ready").status_code == 200
        return False


@contextlib.contextmanager
def running_prometheus(folder: Path, metrics: Mapping[str, int], rules: Path, alertmanager: Program) -> Iterator[Program]:
    """Scrapes (job → port of this host) and evaluates twice a second."""
    program = get_system_program("prometheus", "prometheus")
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for job, port in metrics.items()],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.url.removeprefix("http://")]}]}]},
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    options = (f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'prometheus'}")
    yield from _run(program, options, folder)


@contextlib.contextmanager
def running_alertmanager(folder: Path, receiver: str) -> Iterator[Program]:
    """Tells the receiver of everything, at once."""
    program = get_system_program("prometheus-alertmanager", "prometheus-alertmanager")
    route = {"receiver": "test", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
    config = {"route": route, "receivers": [{"name": "test", "webhook_configs": [{"url": receiver, "send_resolved": True}]}]}
    (folder / "alertmanager.yaml").write_text(yaml.safe_dump(config))
    options = (f"--config.file={folder / 'alertmanager.yaml'}", f"--storage.path={folder / 'alertmanager'}", "--cluster.listen-address=")
    yield from _run(program, options, folder)


def _run(program: Path, options: tuple[str, ...], folder: Path) -> Iterator[Program]:
    (port,) = find_free_ports(1)
    process = Spawned([str(program), *options, f"--web.listen-address=127.0.0.1:{port}"], log=folder / f"{program.name}.log")
    running = Program(f"http://127.0.0.1:{port}", process)
    process.start()
    try:
        wait_until(running.is_ready, what=f"{program.name}")
        yield running
    finally:
        process.stop()


@dataclass(slots=True)
class Receiver:
    """What Alertmanager told."""

    url: str = ""
    notes: list[Document] = field(default_factory=list)

    def told(self, name: str, status: str = "firing") -> list[Document]:
        """The alerts of that name which it told as firing, or as resolved."""
        alerts = [alert for note in list(self.notes) for alert in note["alerts"]]
        return [alert for alert in alerts if alert["labels"]["alertname"] == name and alert["status"] == status]


@contextlib.contextmanager
def running_receiver() -> Iterator[Receiver]:
    """Takes notes on a free port."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.notes.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}/"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="receiver", daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join(10.0)
