"""Serves the application on sockets, in threads of its own, so that everything else stays synchronous."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import threading
from collections.abc import Collection
from time import monotonic

import structlog
import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from rotator.domain.errors import Misconfigured
from rotator.server.guards import LOOPBACK_HOSTS, HostGuard

_BACKLOG = 4096
_KEEP_ALIVE = 65
_START_WITHIN = 10.0

log = structlog.get_logger(__name__)


class ApiServer:
    """The API on one port and, if `metrics_port` is given, the metrics on another. `start` once, `stop` once.

    Port 0 is a free one. Bound to a loopback address it answers only to loopback names (and `hosts`), whatever a browser was told.
    """

    def __init__(
        self,
        app: FastAPI,
        host: str = "127.0.0.1",
        port: int = 8700,
        *,
        metrics_host: str | None = None,
        metrics_port: int | None = None,
        hosts: Collection[str] = (),
    ) -> None:
        self._listeners = [_Listener(app, host, port, hosts, "api")]
        if metrics_port is not None:
            self._listeners.append(_Listener(app.state.metrics_app, metrics_host or host, metrics_port, hosts, "metrics"))

    def start(self) -> str:
        """Returns the API's URL when everything serves. Raises `Misconfigured` where an address is taken or not ours."""
        try:
            for listener in self._listeners:
                listener.start()
        except BaseException:
            self.stop()
            raise
        return self._listeners[0].url

    @property
    def metrics_url(self) -> str | None:
        """Where the metrics are served on their own port, once started."""
        return self._listeners[1].url if len(self._listeners) > 1 else None

    def stop(self, timeout: float = 2.0) -> bool:
        """Close every connection; True if that was done in time. Idempotent."""
        deadline = monotonic() + timeout
        for listener in self._listeners:
            listener.ask_to_stop()
        ended = [listener.join(deadline - monotonic()) for listener in self._listeners]
        return all(ended)

    @property
    def is_running(self) -> bool:
        """Whether everything serves."""
        return all(listener.is_running for listener in self._listeners)


class _Listener:
    def __init__(self, app: ASGIApp, host: str, port: int, hosts: Collection[str], name: str) -> None:
        self._address = (host, port)
        self._name = name
        if _is_loopback(host):
            app = HostGuard(app, {*LOOPBACK_HOSTS, host, *hosts})
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                backlog=_BACKLOG,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread: threading.Thread | None = None
        self.url = ""

    @property
    def is_running(self) -> bool:
        return self._server.started and self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        bound = _bind(*self._address)
        self.url = _render_url(bound)
        self._thread = threading.Thread(target=self._serve, args=(bound,), name=f"http-{self._name}", daemon=True)
        self._thread.start()
        deadline = monotonic() + _START_WITHIN
        while not self._server.started:
            self._thread.join(0.01)
            if not self._thread.is_alive() or monotonic() > deadline:
                raise RuntimeError(f"the {self._name} server did not start; the log says why")
        log.info("listening", action="listen", server=self._name, url=self.url)

    def ask_to_stop(self) -> None:
        # Connections that are merely kept alive are closed at once; a request in hand gets a second to be answered.
        self._server.should_exit = True

    def join(self, timeout: float) -> bool:
        if self._thread is None:
            return True
        self._thread.join(max(0.0, timeout))
        return not self._thread.is_alive()

    def _serve(self, bound: socket.socket) -> None:
        with contextlib.closing(bound):
            self._server.run(sockets=[bound])


def _bind(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise Misconfigured(
            f"server: cannot listen on {host} port {port}: {error.strerror or type(error).__name__}; "
            "stop what uses it, or choose another address or port"
        ) from error
    return bound


def _render_url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:  # every address: this machine reaches it by its own
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
