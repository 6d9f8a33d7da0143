"""Wake-ups: none that was asked for is lost, whenever it was asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from rotator.scheduling.wakeups import HEARTBEAT, Wakeups

WITHIN = 10.0


class Clock:
    """The machine's clocks."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


class Dispatched:
    """Counts its calls. `during` is called within each of them."""

    def __init__(self) -> None:
        self.calls = threading.Semaphore(0)
        self.count = 0
        self.during: Callable[[int], None] = lambda _count: None

    def __call__(self) -> datetime | None:
        self.count += 1
        self.during(self.count)
        self.calls.release()
        return None


def test_what_is_asked_for_during_a_dispatch_is_not_lost() -> None:
    """The scheduler gets the time to see the wish while the dispatch runs: it must not drop it for that."""
    clock, dispatched = Clock(), Dispatched()
    wakeups = Wakeups(dispatched, clock)

    def ask(count: int) -> None:
        if count < 10:
            wakeups.wake_at(clock.now())
            threading.Event().wait(0.05)

    dispatched.during = ask
    wakeups.start()
    try:
        for number in range(10):
            assert dispatched.calls.acquire(timeout=WITHIN), f"dispatch {number + 1} never came"
    finally:
        wakeups.stop()


def test_what_was_asked_for_before_the_start_is_not_lost() -> None:
    """The engine starts first and may ask; when the scheduler is up, that time may have passed."""
    clock, dispatched = Clock(), Dispatched()
    wakeups = Wakeups(dispatched, clock)
    wakeups.wake_at(clock.now())
    wakeups.start()
    try:
        assert dispatched.calls.acquire(timeout=WITHIN)
    finally:
        wakeups.stop()


def test_what_is_asked_for_by_other_threads_around_a_dispatch_is_not_lost() -> None:
    clock, dispatched = Clock(), Dispatched()
    wakeups = Wakeups(dispatched, clock)
    wakeups.start()
    try:
        for number in range(200):
            assert dispatched.calls.acquire(timeout=WITHIN), f"dispatch {number + 1} never came"
            wakeups.wake_at(clock.now())  # while the run that was counted just now is about to return
    finally:
        wakeups.stop()


def test_it_stops_while_a_dispatch_is_about_to_plan() -> None:
    """Neither waits for the other, and the scheduler's thread ends without a word."""
    for _ in range(100):
        dispatched = Dispatched()
        wakeups = Wakeups(dispatched, Clock())
        wakeups.start()
        assert dispatched.calls.acquire(timeout=WITHIN)
        stopping = threading.Thread(target=wakeups.stop, daemon=True)
        stopping.start()
        stopping.join(WITHIN)
        assert not stopping.is_alive()


def test_a_run_that_never_came_is_planned_anew() -> None:
    clock, dispatched = Clock(), Dispatched()
    wakeups = Wakeups(dispatched, clock)
    wakeups.start()
    try:
        assert dispatched.calls.acquire(timeout=WITHIN)
        settled = threading.Event()
        while wakeups._running:
            settled.wait(0.01)
        wakeups._scheduler.remove_all_jobs()
        wakeups._planned = clock.now() - 2 * HEARTBEAT
        wakeups.mind_the_clock()
        assert dispatched.calls.acquire(timeout=WITHIN)
    finally:
        wakeups.stop()
