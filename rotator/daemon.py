"""Starts services in order, waits for a signal, stops them in reverse. Knows nothing of what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from types import FrameType

import structlog

_TICK = 2.0
_STRAY = 60.0
"""Seconds for which an ended child is left to whoever started it: each program that we start is waited for sooner."""

log = structlog.get_logger(__name__)


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """The wall clock, aware UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return monotonic()


@dataclass(frozen=True, slots=True)
class Service:
    """A part of the daemon. `start` returns when it serves; `stop` returns when it does no more."""

    name: str
    start: Callable[[], object]
    stop: Callable[[], object]


@dataclass(slots=True)
class Strays:
    """Takes note of the end of processes that nobody else does.

    A container's first process inherits every process whose parent ended, such as what a program of the user's left behind. Without this
    each would hold its place in the process table after its end, as long as the daemon runs.
    """

    _seen: dict[int, float] = field(default_factory=dict)

    def reap(self, now: float) -> None:
        """Call it again and again; `now` is monotonic. Does nothing but in a container's first process."""
        if os.getpid() != 1:
            return
        self._seen = {pid: self._seen.get(pid, now) for pid in _gather_ended_children()}
        for pid, since in self._seen.items():
            if now - since >= _STRAY:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


def _gather_ended_children() -> Iterator[int]:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            # The name, in parentheses, may hold anything; behind it stand the state and the parent.
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state == "Z" and parent == str(os.getpid()):
                yield int(entry.name)


@dataclass(slots=True)
class Daemon:
    """Runs services until a signal. SIGHUP, or a change of a watched file, asks for a reload."""

    services: Sequence[Service]
    reload: Callable[[], object]
    every_tick: Callable[[], object]
    watched: Path | None = None
    stopping: threading.Event = field(default_factory=threading.Event)
    _strays: Strays = field(default_factory=Strays)
    _reload_asked: threading.Event = field(default_factory=threading.Event)
    _awake: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. A service that cannot start stops those before it, and raises."""
        started: list[Service] = []
        with self._signals():
            try:
                for service in self.services:
                    service.start()
                    started.append(service)
                watcher = self._watch()
                log.info("running", action="started")
                self._wait()
                if watcher is not None:
                    watcher.join(2.0)
            finally:
                self.stopping.set()
                for service in reversed(started):
                    _stop(service)

    def _wait(self) -> None:
        while not self.stopping.is_set():
            self._awake.wait(_TICK)
            self._awake.clear()
            self.every_tick()
            self._strays.reap(monotonic())
            if self._reload_asked.is_set() and not self.stopping.is_set():
                self._reload_asked.clear()
                self.reload()

    def ask_reload(self) -> None:
        """Reload soon."""
        self._reload_asked.set()
        self._awake.set()

    def ask_stop(self) -> None:
        """Stop soon."""
        self.stopping.set()
        self._awake.set()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def on_stop(number: int, _frame: FrameType | None) -> None:
            log.info("stopping", action="stopping", signal=signal.Signals(number).name)
            self.ask_stop()

        handlers = {signal.SIGTERM: on_stop, signal.SIGINT: on_stop, signal.SIGHUP: lambda _n, _f: self.ask_reload()}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _watch(self) -> threading.Thread | None:
        if self.watched is None:
            return None
        thread = threading.Thread(target=self._follow, args=(self.watched,), name="config-watch", daemon=True)
        thread.start()
        return thread

    def _follow(self, path: Path) -> None:
        from watchfiles import watch

        # The folder, not the file: editors and Kubernetes replace the file, and a watch on it would follow the old one.
        names = {path.name, "..data"}
        for changes in watch(path.parent, stop_event=self.stopping, recursive=False, debounce=200, rust_timeout=1000):
            if any(Path(changed).name in names for _, changed in changes):
                self.ask_reload()


def _stop(service: Service) -> None:
    try:
        service.stop()
    except Exception:  # the others are stopped all the same
        log.exception("stopping broke", action="stop", service=service.name)
