"""Does something again and again, at an interval or when asked, in one thread of its own: a slow round delays only the next one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import structlog

log = structlog.get_logger(__name__)


class Polling:
    """Calls `poll` every `interval`, and soon after `ask`. Rounds never overlap."""

    def __init__(self, name: str, poll: Callable[[], object], interval: timedelta) -> None:
        self._name, self._poll, self._interval = name, poll, interval.total_seconds()
        self._asked = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, with a first round at once."""
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """No more rounds; one that is under way and slow is left to end with the process."""
        self._stopping.set()
        self._asked.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def ask(self) -> None:
        """A round soon; many askers before it share it."""
        self._asked.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._asked.clear()
            try:
                self._poll()
            except Exception:  # a fault must not end the polling
                log.exception("polling broke", action=self._name)
            self._asked.wait(self._interval)
