"""Token buckets, one per project and route, as published: `/v1/track` 50/s (burst 200), `/v1/batch` 5/s (burst 20)."""

from __future__ import annotations

import math

from rotator.sandbox.clock import ServiceClock
from rotator.sandbox.exchange import Denied

RATES: dict[str, tuple[float, float]] = {"track": (50.0, 200.0), "batch": (5.0, 20.0)}
"""Tokens per second and burst, by route. Reads are unlimited."""


class Buckets:
    """Not thread-safe: the service's lock guards every call."""

    def __init__(self, clock: ServiceClock) -> None:
        self._clock = clock
        self._levels: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, project: str, route: str) -> None:
        """One token. Raises `Denied` 429 rate_limited with whole seconds to wait, at least 1."""
        rate, burst = RATES[route]
        now = self._clock.monotonic()
        level, seen = self._levels.get((project, route), (burst, now))
        level = min(burst, level + (now - seen) * rate)
        if level < 1.0:
            self._levels[project, route] = (level, now)
            raise Denied(429, "rate_limited", retry_after=max(1, math.ceil((1.0 - level) / rate)))
        self._levels[project, route] = (level - 1.0, now)
