"""When a key is due: schedules, jitter, the window and the maximum age that it yields to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.domain.timing import MalformedTiming, Schedule, Window, catch_up, expires_at, next_due

MINTED = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)  # a Monday
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SEEDS = [f"credential-{number}" for number in range(10_000)]


@dataclass(frozen=True)
class Monthly:
    """The first of each month at midnight, as many times as are left."""

    last: datetime = datetime(2100, 1, 1, tzinfo=UTC)

    def next_after(self, instant: datetime) -> datetime | None:
        found = (instant.replace(day=1, hour=0, minute=0, second=0, microsecond=0) + 32 * DAY).replace(day=1)
        return found if found <= self.last else None


def due(schedule: Schedule, seed: str = "a", minted: datetime = MINTED) -> datetime:
    found = next_due(schedule, minted, seed, Monthly())
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"every": DAY, "cron": "@daily"}, "not both"),
        ({"every": timedelta(0)}, "`every` must be longer than nothing"),
        ({"max_age": -DAY}, "`max_age` must be longer"),
        ({"jitter": -DAY}, "must not be negative"),
        ({"every": DAY, "jitter": 2 * DAY}, r"`jitter` \(2d\) must not be longer than `every` \(1d\)"),
        ({"every": 60 * DAY, "max_age": 45 * DAY}, r"`max_age` \(45d\) must not be shorter than `every` \(60d\)"),
    ],
)
def test_a_schedule_that_contradicts_itself_is_refused(fields: dict[str, timedelta], fault: str) -> None:
    with pytest.raises(MalformedTiming, match=fault):
        Schedule(**fields)  # type: ignore[arg-type]


def test_without_every_and_cron_nothing_is_due_and_the_expiry_is_only_told() -> None:
    schedule = Schedule(max_age=45 * DAY, window=Window.parse("09:00-16:00 UTC"))
    assert next_due(schedule, MINTED, "a") is None
    assert expires_at(schedule, MINTED) == MINTED + 45 * DAY
    assert expires_at(Schedule(every=DAY), MINTED) is None


def test_jitter_is_a_tenth_of_every_and_at_most_an_hour_unless_it_is_set() -> None:
    for every, span in ((10 * HOUR, HOUR), (30 * DAY, HOUR), (HOUR, 6 * timedelta(minutes=1))):
        offsets = [due(Schedule(every=every), seed) - MINTED - every for seed in SEEDS[:500]]
        assert all(timedelta(0) <= offset < span for offset in offsets)
        assert max(offsets) > span * 0.95
    assert due(Schedule(every=DAY, jitter=timedelta(0))) == MINTED + DAY
    assert due(Schedule(cron="x")) - datetime(2026, 6, 1, tzinfo=UTC) < HOUR


def test_ten_thousand_credentials_minted_at_once_share_no_second() -> None:
    for schedule in (Schedule(every=30 * DAY), Schedule(every=30 * DAY, max_age=30 * DAY), Schedule(cron="@monthly")):
        moments = Counter(due(schedule, seed).replace(microsecond=0) for seed in SEEDS)
        assert max(moments.values()) <= 14
        assert max(moments) - min(moments) <= HOUR


def test_what_fell_due_while_the_window_was_shut_is_spread_behind_its_opening() -> None:
    schedule = Schedule(every=DAY, window=Window.parse("Fri 12:00-12:30 UTC"), jitter=HOUR)
    moments = Counter(due(schedule, seed).replace(microsecond=0) for seed in SEEDS)
    assert max(moments.values()) <= 20
    assert min(moments) >= datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
    assert max(moments) < datetime(2026, 5, 8, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "max_age", "expected"),
    [
        ("00:00-24:00 UTC", None, MINTED + 10 * DAY),  # Thursday the 14th, 09:00
        ("Sat 10:00-12:00 UTC", None, datetime(2026, 5, 16, 10, tzinfo=UTC)),
        ("Sat 10:00-12:00 UTC", 13 * DAY, datetime(2026, 5, 16, 10, tzinfo=UTC)),
        ("Sat 10:00-12:00 UTC", 11 * DAY, datetime(2026, 5, 9, 10, tzinfo=UTC)),  # the opening before the expiry
        ("Thu 08:00-09:30 UTC", 11 * DAY, MINTED + 10 * DAY),
        ("Mon 08:00-09:30 UTC", 11 * DAY, datetime(2026, 5, 11, 8, tzinfo=UTC)),
    ],
)
def test_the_window_moves_what_is_due_and_yields_to_the_maximum_age(window: str, max_age: timedelta | None, expected: datetime) -> None:
    schedule = Schedule(every=10 * DAY, window=Window.parse(window), jitter=timedelta(0), max_age=max_age)
    assert due(schedule) == expected


def test_with_no_opening_left_before_the_expiry_the_key_is_replaced_outside_the_window() -> None:
    schedule = Schedule(every=2 * DAY, window=Window.parse("Mon 08:00-10:00 UTC"), jitter=timedelta(0), max_age=3 * DAY)
    assert due(schedule) == MINTED + 2 * DAY, "the opening in which it was minted is no reason to replace it at once"


def test_a_cron_later_than_the_expiry_is_held_before_it() -> None:
    schedule = Schedule(cron="@monthly", max_age=7 * DAY)
    assert MINTED + 7 * DAY - HOUR <= due(schedule) < MINTED + 7 * DAY
    assert next_due(Schedule(cron="x"), MINTED, "a", Monthly(last=MINTED)) is None
    assert next_due(Schedule(cron="x"), MINTED, "a", Monthly(last=MINTED + 40 * DAY)) is not None
    with pytest.raises(ValueError, match="needs the calendar"):
        next_due(schedule, MINTED, "a")


def test_a_long_jitter_never_replaces_a_key_that_was_just_minted() -> None:
    schedule = Schedule(cron="@monthly", jitter=20 * DAY, max_age=DAY)
    assert min(due(schedule, seed) for seed in SEEDS) >= MINTED + DAY / 2


def test_naive_instants_are_refused() -> None:
    naive, schedule = MINTED.replace(tzinfo=None), Schedule(every=DAY, max_age=DAY)
    with pytest.raises(ValueError, match="needs a time zone"):
        next_due(schedule, naive, "a")
    with pytest.raises(ValueError, match="needs a time zone"):
        expires_at(schedule, naive)
    with pytest.raises(ValueError, match="needs a time zone"):
        catch_up(schedule, naive, "a", MINTED, HOUR)
    with pytest.raises(ValueError, match="needs a time zone"):
        catch_up(schedule, MINTED, "a", naive, HOUR)


spans = st.integers(60, 60 * 86_400).map(lambda seconds: timedelta(seconds=seconds))
windows = st.builds(
    lambda days, opens, length, zone: Window(days, opens, (opens + length - 1) % 1440 + 1, ZoneInfo(zone)),
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, 1439),
    st.integers(1, 1439),
    st.sampled_from(["UTC", "Europe/London", "America/Santiago", "Australia/Lord_Howe"]),
)
moments = st.integers(0, 3 * 365 * 86_400).map(lambda s: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=s))


@given(spans, spans, st.none() | windows, st.integers(0, 100), moments, st.text(max_size=8))
def test_due_lies_between_minting_and_expiry_and_in_the_window_where_that_can_be(
    every: timedelta, more: timedelta, window: Window | None, percent: int, minted: datetime, seed: str
) -> None:
    schedule = Schedule(every=every, window=window, jitter=every * percent / 100, max_age=every + more)
    found, expiry = due(schedule, seed, minted), minted + every + more
    assert minted < found <= expiry
    assert found == due(schedule, seed, minted)
    assert found.tzinfo is UTC
    if window is not None and not window.contains(found):
        assert window.last_opening_between(minted, expiry) is None
    if window is None:
        assert found >= minted + min(every, (every + more) / 2)
    unlimited = due(Schedule(every=every, window=window, jitter=every * percent / 100), seed, minted)
    assert unlimited >= minted + every
    assert window is None or window.contains(unlimited)


@given(spans, st.none() | windows, moments, spans, spans, st.text(max_size=8))
def test_what_was_missed_is_made_up_for_soon_in_the_window_and_before_the_expiry(
    max_age: timedelta, window: Window | None, minted: datetime, later: timedelta, over: timedelta, seed: str
) -> None:
    now, expiry = minted + later, minted + max_age
    found = catch_up(Schedule(window=window, max_age=max_age), minted, seed, now, over)
    assert now <= found
    if expiry <= now:
        assert found < now + over
        return
    assert found <= expiry
    if window is None:
        assert found < now + over
    elif not window.contains(found):
        assert window.last_opening_between(now, expiry) is None
        assert not window.contains(now)


def test_an_opening_that_ends_soon_is_used_to_its_end_when_no_other_comes_in_time() -> None:
    saturday = Window.parse("Sat 00:00-24:00 UTC")
    now = datetime(2026, 5, 9, 23, 50, tzinfo=UTC)
    schedule = Schedule(every=DAY, window=saturday, max_age=7 * DAY)
    for seed in SEEDS[:200]:
        assert now <= catch_up(schedule, MINTED, seed, now, HOUR) < now + timedelta(minutes=10)
