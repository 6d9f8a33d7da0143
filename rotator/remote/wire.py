"""The transport under `remote.http`: httpx's own, with one time limit over the whole call.

httpx limits each read by itself, so a server that drips one byte a second holds a call for ever. Here every read, write, handshake and
connection attempt, and the look-up of a name, gets what is left of the call's time.
It must not know what is asked of whom.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import httpx

_LEAST = 0.001
"""A time-out of 0 would mean "don't block" to a socket."""
_MOST = 60.0

KEEP_ALIVE = 4.0
"""Seconds an idle connection is kept: less than any server's usual limit (5 s), so that a request seldom meets a closing one."""

_CONNECTIONS = 32

_call = threading.local()


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """All network calls of this thread, inside the block, end within that many seconds from now. Blocks nest; the earliest end binds."""
    outer: float = getattr(_call, "ends", math.inf)
    _call.ends = min(outer, time.monotonic() + seconds)
    try:
        yield
    finally:
        _call.ends = outer


def time_left() -> float:
    """Seconds until the end of this thread's innermost block; endless outside of one."""
    ends: float = getattr(_call, "ends", math.inf)
    return ends - time.monotonic()


def _left(timeout: float | None = None) -> float:
    return max(min(_MOST if timeout is None else timeout, time_left()), _LEAST)


class _Stream:
    """A connection whose reads and writes end with the call."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left(timeout))  # type: ignore[no-any-return]

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None) -> _Stream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, _left(timeout)))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend:
    """Opens connections within the call's time, whatever the number of addresses a name has."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **rest: Any) -> _Stream:
        addresses = _look_up(host, port)
        for address in addresses[:-1]:
            try:
                return _Stream(self._inner.connect_tcp(address, port, timeout=_left(timeout) / 2, **rest))
            except Exception:  # noqa: S112, BLE001  # the next address may answer; the last one's error is the one that counts
                continue
        return _Stream(self._inner.connect_tcp(addresses[-1], port, timeout=_left(timeout), **rest))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


def _look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, at least one. Raises `OSError` where it has none, `TimeoutError` when the call's time is over."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass
    found: list[str] = []
    failure: list[OSError] = []

    def look() -> None:
        try:
            found.extend(dict.fromkeys(str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as problem:
            failure.append(problem)

    # The system's resolver takes no time-out, and waits up to half a minute where its servers are away.
    looking = threading.Thread(target=look, name=f"look up {host}", daemon=True)
    looking.start()
    looking.join(_left())
    if failure:
        raise failure[0]
    if not found:
        raise TimeoutError(f"looking up {host} takes too long")
    return found


class Transport(httpx.HTTPTransport):
    """HTTP/1.1 over pooled connections; used without httpx's client, so there are no redirects, cookies, netrc or request logs at all."""

    def __init__(self, ca_file: str | None = None, proxy: str | None = None, client_cert: tuple[str, str] | None = None) -> None:
        limits = httpx.Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS, keepalive_expiry=KEEP_ALIVE)
        verify = True if ca_file is None and client_cert is None else _context(ca_file, client_cert)
        super().__init__(verify=verify, trust_env=False, http1=True, http2=False, limits=limits, proxy=proxy)
        # The pool takes a network backend, but httpx does not hand one through.
        self._pool._network_backend = _Backend(self._pool._network_backend)  # type: ignore[assignment]  # noqa: SLF001


def _context(ca_file: str | None, client_cert: tuple[str, str] | None) -> Any:
    import ssl

    context = httpx.create_ssl_context(trust_env=False) if ca_file is None else ssl.create_default_context(cafile=ca_file)
    if client_cert is not None:
        context.load_cert_chain(*client_cert)
    return context
