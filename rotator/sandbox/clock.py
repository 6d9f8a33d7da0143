"""The sandbox's clock: one monotonic source for all ageing, one wall clock for what the service writes into its answers.

It can be moved forward (`advance`), so that a test need not wait five minutes for a cache. It must never be moved back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate


class ServiceClock:
    """Seconds. `skew` is how far the service's wall clock (Date header, created_at) is ahead of this machine's."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._ahead = 0.0
        self._date = (0, b"")
        self.skew = 0.0

    def monotonic(self) -> float:
        """Caches, sessions, buckets and propagation age by this."""
        return self._monotonic() + self._ahead

    def wall(self) -> float:
        """Seconds since the epoch, as the service believes."""
        return self._wall() + self.skew

    def advance(self, seconds: float) -> None:
        """Makes everything that ages older by `seconds`. The wall clock stays."""
        if seconds < 0:
            raise ValueError("a monotonic clock only goes forward")
        self._ahead += seconds

    def date_header(self) -> bytes:
        """The value of the Date header, rendered once per second."""
        second = int(self.wall())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]


def render_time(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds and a Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
