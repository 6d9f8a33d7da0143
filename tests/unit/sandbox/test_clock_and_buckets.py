"""Time: a clock that can be moved, and the buckets that refill by it."""

from __future__ import annotations

import pytest

from rotator.sandbox.buckets import Buckets
from rotator.sandbox.clock import ServiceClock, render_time
from rotator.sandbox.exchange import Denied


def test_the_clock_moves_forward_only_and_skew_touches_the_wall_clock_alone() -> None:
    clock = ServiceClock(monotonic=lambda: 5.0, wall=lambda: 1_000_000_000.0)
    clock.advance(2)
    clock.skew = 60
    assert (clock.monotonic(), clock.wall()) == (7.0, 1_000_000_060.0)
    assert clock.date_header() == b"Sun, 09 Sep 2001 01:47:40 GMT"
    with pytest.raises(ValueError, match="forward"):
        clock.advance(-1)


def test_times_are_utc_with_a_z() -> None:
    assert render_time(1_000_000_000.25) == "2001-09-09T01:46:40.250Z"


def test_a_bucket_per_project_and_route() -> None:
    clock = ServiceClock(monotonic=lambda: 0.0)
    buckets = Buckets(clock)
    for _ in range(20):
        buckets.take("a", "batch")
    with pytest.raises(Denied) as refusal:
        buckets.take("a", "batch")
    assert (refusal.value.status, refusal.value.retry_after) == (429, 1)
    buckets.take("b", "batch")
    buckets.take("a", "track")
    clock.advance(0.2)
    buckets.take("a", "batch")
    clock.advance(3600)
    for _ in range(20):
        buckets.take("a", "batch")
    with pytest.raises(Denied):
        buckets.take("a", "batch")
