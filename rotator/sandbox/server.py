"""Runs the sandbox on a socket: in a thread (`SandboxServer`) or in the foreground (`serve`)."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from rotator.domain.errors import Misconfigured
from rotator.sandbox.app import build_app
from rotator.sandbox.clock import ServiceClock
from rotator.sandbox.endpoint import Aftermath, DroppableProtocol
from rotator.sandbox.service import Service
from rotator.sandbox.sessions import ensure_token_file
from rotator.sandbox.settings import SandboxSettings

_BACKLOG = 4096
_LONGEST_ANSWER = 2.0
_LONGEST_STOP = 10.0


class SandboxServer:
    """A sandbox in a thread of this process, as a context manager; one use each.

    `url` is without a trailing slash. `service` may be read while `service.lock` is held. Raises `Misconfigured` where it cannot bind.
    """

    def __init__(
        self,
        settings: SandboxSettings | None = None,
        *,
        admin_token: str | None = None,
        clock: ServiceClock | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.admin_token = admin_token or secrets.token_urlsafe(32)
        self.clock = clock or ServiceClock()
        self.url = ""
        self._where = (host, port)
        self._app = build_app(settings or SandboxSettings(), admin_token=self.admin_token, clock=self.clock)
        self.service: Service = self._app.state.service
        self._up = threading.Event()
        self._thread: threading.Thread | None = None
        self._server: _Server | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it listens."""
        listener = _bind(*self._where)
        self.url = _render_url(listener)
        self._server = _Server(self._app, self._app.state.aftermath, self._up.set)
        self._thread = threading.Thread(target=self._server.run_on, args=(listener,), name="sandbox", daemon=True)
        self._thread.start()
        while not self._up.wait(0.05):
            if not self._thread.is_alive():
                raise RuntimeError("the sandbox did not start; its log says why")

    def stop(self) -> None:
        """Returns when every connection is closed and the thread has ended. Late effects that are pending never happen."""
        if self._server is None or self._thread is None:
            return
        self._server.ask_to_stop()
        self._thread.join(_LONGEST_STOP)
        if self._thread.is_alive():
            raise RuntimeError("the sandbox did not stop")
        self._server = self._thread = None


def serve(
    settings: SandboxSettings, host: str, port: int, token_file: Path | None = None, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serves in the foreground until SIGTERM or SIGINT, then returns. Call it from the main thread.

    The admin token is read from `token_file` (made, 0600, where there is none); without one nobody can use the admin API. `on_ready`
    gets the URL once it listens. Raises `Misconfigured` for an unsafe token file, or where it cannot bind.
    """
    token = ensure_token_file(token_file) if token_file is not None else None
    app = build_app(settings, admin_token=token)
    listener = _bind(host, port)
    url = _render_url(listener)
    server = _Server(app, app.state.aftermath, lambda: on_ready(url) if on_ready is not None else None, signals=True)
    server.run_on(listener)


class _Server(uvicorn.Server):
    """uvicorn's server, told to stop by an event instead of a poll, and leaving no signal raised behind it."""

    def __init__(self, app: object, aftermath: Aftermath, on_ready: Callable[[], None], *, signals: bool = False) -> None:
        config = uvicorn.Config(
            app,  # type: ignore[arg-type]
            http=DroppableProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
            timeout_keep_alive=60,
        )
        super().__init__(config)
        self._aftermath = aftermath
        self._on_ready = on_ready
        self._signals = signals
        self._asked = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run_on(self, listener: socket.socket) -> None:
        """Blocks until it was asked to stop."""
        with contextlib.closing(listener), asyncio.Runner(loop_factory=self.config.get_loop_factory()) as runner:
            runner.run(self.serve(sockets=[listener]))

    def ask_to_stop(self) -> None:
        """From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended by itself
                self._loop.call_soon_threadsafe(self._asked.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self._signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.add_signal_handler(number, self._asked.set)
        self._on_ready()

    async def main_loop(self) -> None:
        await self._asked.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's, which naps for a tenth of a second: tests stop hundreds of sandboxes."""
        for listener in sockets or []:
            listener.close()
        for server in self.servers:
            server.close()
        self._aftermath.stopping.set()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = time.monotonic() + _LONGEST_ANSWER
        while (self.server_state.connections or self.server_state.tasks) and time.monotonic() < deadline:  # noqa: ASYNC110 - no event for it
            await asyncio.sleep(0.002)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # uvicorn would raise the signal again after a clean stop; ours ends with exit code 0


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Misconfigured(f"the sandbox cannot listen on {host} port {port}: {error.strerror}; choose another with --port") from error
    return listener


def _render_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
