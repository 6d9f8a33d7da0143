"""Durations, spread and back-off."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.domain.errors import Misconfigured
from rotator.domain.timing import MalformedTiming, backoff, parse_duration, render_duration, spread

NOW = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30d", 30 * 86_400),
        ("12h", 12 * 3_600),
        ("90s", 90),
        ("1h30m", 5_400),
        ("2w", 14 * 86_400),
        ("5m", 300),
        ("1w1d1h1m1s", 694_861),
        ("0s", 0),
    ],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("30", "no unit"),
        ("30 d", "white space"),
        ("-5m", "negative"),
        ("0.5d", "whole numbers"),
        ("0,5d", "whole numbers"),
        ("3y", "'y' is not a unit"),
        ("3 months", "white space"),
        ("5M", "'M' is not a unit"),
        ("500ms", "'ms' is not a unit"),
        ("30m1h", "largest first"),
        ("1h1h", "each unit once"),
        ("d", "whole numbers with units"),
        ("٣d", "whole numbers with units"),
        ("30d\n", "white space"),
        ("9999999999w", "longer than"),
    ],
)
def test_a_bad_duration_is_told_what_is_wrong_and_shown_an_example(text: str, fault: str) -> None:
    with pytest.raises(MalformedTiming) as caught:
        parse_duration(text)
    assert fault in str(caught.value)
    assert "30d" in str(caught.value)
    assert isinstance(caught.value, Misconfigured)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (90, "1m30s"), (43_200, "12h"), (14 * 86_400, "14d"), (90_061, "1d1h1m1s")])
def test_durations_are_written_in_whole_units(seconds: int, text: str) -> None:
    assert render_duration(timedelta(seconds=seconds)) == text


@given(st.integers(0, 36_500 * 86_400))
def test_a_written_duration_reads_back_as_itself(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(render_duration(duration)) == duration


def test_parts_of_a_second_are_cut_off_and_negative_durations_refused() -> None:
    assert render_duration(timedelta(seconds=1, microseconds=999_999)) == "1s"
    with pytest.raises(ValueError, match="not negative"):
        render_duration(timedelta(seconds=-1))


def test_ten_thousand_seeds_over_an_hour_share_no_second() -> None:
    hour = timedelta(hours=1)
    moments = [spread(f"credential-{number}", NOW, hour) for number in range(10_000)]
    assert all(NOW <= moment < NOW + hour for moment in moments)
    per_second = Counter((moment - NOW) // timedelta(seconds=1) for moment in moments)
    assert max(per_second.values()) <= 14
    per_tenth = Counter((moment - NOW) // timedelta(minutes=6) for moment in moments)
    assert len(per_tenth) == 10
    assert all(850 < count < 1_150 for count in per_tenth.values())


def test_spread_is_the_same_for_the_same_seed_and_nothing_over_nothing() -> None:
    assert spread("a", NOW, timedelta(hours=1)) == spread("a", NOW, timedelta(hours=1))
    assert spread("a", NOW, timedelta(0)) == NOW
    with pytest.raises(ValueError, match="not negative"):
        spread("a", NOW, timedelta(seconds=-1))
    with pytest.raises(ValueError, match="needs a time zone"):
        spread("a", NOW.replace(tzinfo=None), timedelta(hours=1))


@given(st.text(max_size=20), st.integers(1, 10**9), st.integers(1, 10**6))
def test_backoff_doubles_between_half_and_whole_never_falls_and_ends_at_its_cap(seed: str, base: int, more: int) -> None:
    first, cap = timedelta(microseconds=base), timedelta(microseconds=base * more)
    waits = [backoff(attempts, seed, first, cap) for attempts in range(1, 40)]
    for attempts, wait in enumerate(waits):
        whole = min(cap, first * 2 ** min(attempts, 20))
        assert whole / 2 - timedelta(microseconds=1) <= wait <= whole
    assert waits == sorted(waits)
    assert backoff(10_000, seed, first, cap) == waits[-1]


def test_backoff_waits_for_nothing_before_the_first_failure_and_differs_between_seeds() -> None:
    second, minute = timedelta(seconds=1), timedelta(minutes=1)
    assert backoff(0, "a", second, minute) == timedelta(0)
    assert len({backoff(3, f"seed-{number}", second, minute) for number in range(100)}) > 95
    for attempts, base, cap in ((-1, second, minute), (1, timedelta(0), minute), (1, minute, second)):
        with pytest.raises(ValueError, match="attempts"):
            backoff(attempts, "a", base, cap)
