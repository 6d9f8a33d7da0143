from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from rotator.domain.errors import RateLimited
from rotator.remote.http import Pace


class HeldClock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 11, 22, tzinfo=UTC)

    def monotonic(self) -> float:
        return self.seconds


def test_a_burst_goes_at_once_and_the_rest_in_step() -> None:
    pace = Pace(10.0, 3, HeldClock())
    assert [round(pace.take_turn(), 6) for _ in range(6)] == [0, 0, 0, 0.1, 0.2, 0.3]


def test_unused_turns_are_kept_up_to_the_burst() -> None:
    clock = HeldClock()
    pace = Pace(10.0, 3, clock)
    for _ in range(3):
        pace.take_turn()
    clock.seconds += 100
    assert [round(pace.take_turn(), 6) for _ in range(4)] == [0, 0, 0, 0.1]


def test_no_rate_never_waits() -> None:
    pace = Pace(None, 1, HeldClock())
    assert {pace.take_turn() for _ in range(1000)} == {0.0}


def test_a_long_queue_is_an_answer_and_reserves_nothing() -> None:
    clock = HeldClock()
    pace = Pace(1.0, 1, clock)
    assert [pace.take_turn() for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    for _ in range(3):
        with pytest.raises(RateLimited) as caught:
            pace.take_turn()
        assert caught.value.after == timedelta(seconds=6)
    clock.seconds += 1
    assert pace.take_turn() == 5


def test_a_pause_holds_every_call_until_its_end() -> None:
    clock = HeldClock()
    pace = Pace(None, 1, clock)
    pace.pause(timedelta(seconds=10))
    pace.pause(timedelta(seconds=2))
    clock.seconds += 9
    with pytest.raises(RateLimited) as caught:
        pace.take_turn()
    assert caught.value.after == timedelta(seconds=1)
    clock.seconds += 1
    assert pace.take_turn() == 0


def test_threads_never_share_a_turn() -> None:
    pace = Pace(1000.0, 1, HeldClock())
    turns: list[float] = []

    def take() -> None:
        turns.extend(round(pace.take_turn(), 6) for _ in range(100))

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns) == [round(number / 1000, 6) for number in range(800)]
