"""Polling: at once, at its interval, when asked; a fault in a round ends nothing."""

from __future__ import annotations

import threading
from datetime import timedelta

from rotator.scheduling.polling import Polling

WITHIN = 10.0


def test_rounds_come_at_once_at_the_interval_and_when_asked() -> None:
    rounds = threading.Semaphore(0)
    polling = Polling("poll", rounds.release, timedelta(milliseconds=20))
    polling.start()
    try:
        for number in range(3):
            assert rounds.acquire(timeout=WITHIN), f"round {number} never came"
    finally:
        polling.stop()


def test_what_is_asked_for_during_a_round_is_not_lost() -> None:
    began, go_on, count = threading.Semaphore(0), threading.Semaphore(0), 0

    def poll() -> None:
        nonlocal count
        count += 1
        began.release()
        go_on.acquire(timeout=WITHIN)

    polling = Polling("poll", poll, timedelta(hours=1))
    polling.start()
    try:
        assert began.acquire(timeout=WITHIN)
        polling.ask()
        polling.ask()
        go_on.release()
        assert began.acquire(timeout=WITHIN), "the round that was asked for never came"
        go_on.release()
    finally:
        polling.stop()
    assert count == 2, "many askers share one round"


def test_a_fault_in_a_round_ends_nothing() -> None:
    rounds = threading.Semaphore(0)

    def poll() -> None:
        rounds.release()
        raise ValueError("broken")

    polling = Polling("poll", poll, timedelta(milliseconds=20))
    polling.start()
    try:
        assert rounds.acquire(timeout=WITHIN)
        assert rounds.acquire(timeout=WITHIN)
    finally:
        polling.stop()
