"""Windows: what is read, and what the changes of the clocks do to them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.domain.timing import MalformedTiming, Window, get_zone

ZONES = (
    "UTC",
    "Europe/London",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",  # jumps at midnight
    "America/Havana",  # repeats the hour before 01:00
    "Africa/Cairo",
    "Africa/Casablanca",  # backwards for Ramadan
    "Asia/Kathmandu",
    "Asia/Beirut",
    "Australia/Lord_Howe",  # by half an hour
    "Antarctica/Troll",  # by two hours
    "Pacific/Chatham",
    "Pacific/Apia",
)
START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def transitions(name: str) -> list[datetime]:
    """The hours of 2025 to 2027 in which the zone's offset changes."""
    zone = ZoneInfo(name)
    hours = (START + number * timedelta(hours=1) for number in range((END - START) // timedelta(hours=1)))
    pairs = itertools.pairwise((hour, hour.astimezone(zone).utcoffset()) for hour in hours)
    return [hour for (_, before), (hour, after) in pairs if before != after]


TRANSITIONS = [(name, moment) for name in ZONES for moment in transitions(name)]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "canonical", "days"),
    [
        ("Mon-Fri 09:00-16:00 Europe/London", None, {0, 1, 2, 3, 4}),
        ("Sat,Sun 00:00-24:00 UTC", "Sat-Sun 00:00-24:00 UTC", {5, 6}),
        ("22:00-04:00 Europe/Berlin", None, {0, 1, 2, 3, 4, 5, 6}),
        ("fri-mon 9:00-10:30 UTC", "Mon,Fri-Sun 09:00-10:30 UTC", {0, 4, 5, 6}),
        (
            "Monday, Wednesday 09:00 - 10:00 America/Port-au-Prince",
            "Mon,Wed 09:00-10:00 America/Port-au-Prince",
            {0, 2},
        ),
        ("Sun 00:00-24:00 Etc/GMT-1", None, {6}),
    ],
)
def test_windows_are_read_and_written(text: str, canonical: str | None, days: set[int]) -> None:
    window = Window.parse(text)
    assert window.days == days
    assert str(window) == (canonical or text)
    assert Window.parse(str(window)) == window


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not days, hours and a time zone"),
        ("Mon-Fri", "not days, hours and a time zone"),
        ("Mon-Fri 09:00-16:00", "no time zone"),
        ("Mon Tue 09:00-16:00 UTC", "not days, hours and a time zone"),
        ("Mon-Fry 09:00-16:00 UTC", "'Mon-Fry' is not a day"),
        ("Mon-Wed-Fri 09:00-16:00 UTC", "not a day or a range"),
        ("Mon,,Tue 09:00-16:00 UTC", "not a day"),
        ("1-5 09:00-16:00 UTC", "not a day"),
        ("Mon 9-16 UTC", "'9' is not a time"),
        ("Mon 09:00 UTC", "'' is not a time"),
        ("Mon 09:60-16:00 UTC", "'09:60' is not a time"),
        ("Mon 09:00-24:01 UTC", "'24:01' is not a time"),
        ("Mon 24:00-09:00 UTC", "opens between 00:00 and 23:59"),
        ("Mon 09:00-09:00 UTC", "closes at another time"),
        ("Mon 22:00-00:00 UTC", "midnight as an end is 24:00"),
        ("Mon 09:00-16:00 Europe/Lodnon", "did you mean Europe/London"),
        ("Mon 09:00-16:00 Europe", "unknown time zone 'Europe'"),
        ("Mon 09:00-16:00 ../etc/passwd", "unknown time zone"),
    ],
)
def test_a_bad_window_is_told_which_part_is_wrong(text: str, fault: str) -> None:
    with pytest.raises(MalformedTiming) as caught:
        Window.parse(text)
    assert fault in str(caught.value)
    assert repr(text) in str(caught.value)
    assert "Mon-Fri 09:00-16:00 Europe/London" in str(caught.value)


def test_an_unknown_zone_without_a_neighbour_gets_an_example() -> None:
    with pytest.raises(MalformedTiming, match="write an IANA name"):
        get_zone("zzzzzz")


@pytest.mark.parametrize(
    ("text", "asked", "answer"),
    [
        ("Mon-Fri 09:00-16:00 Europe/London", "2026-05-04T08:00", "2026-05-04T08:00"),  # summer: 09:00 there
        ("Mon-Fri 09:00-16:00 Europe/London", "2026-05-04T15:00", "2026-05-05T08:00"),  # the close is outside
        ("Mon-Fri 09:00-16:00 Europe/London", "2026-05-08T15:00", "2026-05-11T08:00"),  # over the weekend
        ("Mon-Fri 09:00-16:00 Europe/London", "2026-03-27T20:00", "2026-03-30T08:00"),  # over the change
        ("Mon-Fri 09:00-16:00 Europe/London", "2026-01-05T08:59", "2026-01-05T09:00"),
        ("Fri 22:00-04:00 Europe/Berlin", "2026-05-09T01:00", "2026-05-09T01:00"),  # Saturday 03:00 is Friday's
        ("Fri 22:00-04:00 Europe/Berlin", "2026-05-09T02:00", "2026-05-15T20:00"),
        ("Fri 22:00-04:00 Europe/Berlin", "2026-05-08T01:00", "2026-05-08T20:00"),  # Friday 03:00 is Thursday's
        ("Sat,Sun 00:00-24:00 UTC", "2026-05-09T23:59:59.999999", "2026-05-09T23:59:59.999999"),
        ("Sat,Sun 00:00-24:00 UTC", "2026-05-11T00:00", "2026-05-16T00:00"),
        # spring in Berlin: 02:00 becomes 03:00 at 01:00Z
        ("02:30-04:00 Europe/Berlin", "2026-03-28T23:00", "2026-03-29T01:00"),
        ("02:15-02:45 Europe/Berlin", "2026-03-28T23:00", "2026-03-29T01:00"),
        ("02:15-02:45 Europe/Berlin", "2026-03-29T01:29", "2026-03-29T01:29"),
        ("02:15-02:45 Europe/Berlin", "2026-03-29T01:30", "2026-03-30T00:15"),
        ("01:00-02:30 Europe/Berlin", "2026-03-29T00:59", "2026-03-29T00:59"),
        ("01:00-02:30 Europe/Berlin", "2026-03-29T01:00", "2026-03-29T23:00"),
        # autumn in Berlin: 03:00 becomes 02:00 at 01:00Z; the first reading counts
        ("02:30-04:00 Europe/Berlin", "2026-10-25T00:00", "2026-10-25T00:30"),
        ("02:30-04:00 Europe/Berlin", "2026-10-25T01:10", "2026-10-25T01:10"),
        ("02:00-02:30 Europe/Berlin", "2026-10-25T00:30", "2026-10-26T01:00"),
        ("02:00-02:30 Europe/Berlin", "2026-10-25T01:10", "2026-10-26T01:00"),  # 02:10 again, after the close
        ("22:00-02:30 Europe/Berlin", "2026-10-25T01:10", "2026-10-25T21:00"),
        # a midnight that does not exist
        ("Sun 00:00-24:00 America/Santiago", "2026-09-06T03:00", "2026-09-06T04:00"),
        # half an hour, in Lord Howe: 02:00 becomes 02:30 at 15:30Z
        ("02:10-05:00 Australia/Lord_Howe", "2026-10-03T15:00", "2026-10-03T15:30"),
    ],
)
def test_the_next_open_instant(text: str, asked: str, answer: str) -> None:
    window = Window.parse(text)
    if text.startswith("Sun 00:00-24:00 America/Santiago"):
        assert utc(answer).astimezone(ZoneInfo("America/Santiago")).hour == 1
    assert window.next_open(utc(asked)) == utc(answer)
    assert window.contains(utc(asked)) is (asked == answer)


def test_the_last_opening_before_a_limit_in_the_repeated_hour() -> None:
    window = Window.parse("02:30-04:00 Europe/Berlin")
    found = window.last_opening_between(utc("2026-10-24T12:00"), utc("2026-10-25T01:10"))
    assert found == (utc("2026-10-25T00:30"), utc("2026-10-25T03:00"))
    assert window.last_opening_between(utc("2026-10-25T00:30"), utc("2026-10-25T01:10")) is None


def test_a_naive_instant_is_refused_and_an_aware_one_is_taken_in_any_zone() -> None:
    window = Window.parse("09:00-16:00 Europe/London")
    for ask in (window.contains, window.next_open):
        with pytest.raises(ValueError, match="needs a time zone"):
            ask(datetime(2026, 5, 4, 9))  # noqa: DTZ001  # naive on purpose
    assert window.next_open(datetime(2026, 5, 4, 23, 0, tzinfo=ZoneInfo("Asia/Tokyo"))) == utc("2026-05-04T14:00")
    assert window.next_open(datetime(2026, 5, 4, 23, 0, tzinfo=ZoneInfo("Asia/Tokyo"))).tzinfo is UTC


def brute_openings(window: Window, around: datetime) -> list[tuple[datetime, datetime]]:
    """Openings near `around`, by walking every minute and reading the clock on the wall; gaps are seen as jumps."""
    first = around - timedelta(days=3)
    minutes = [first + number * MINUTE for number in range(6 * 24 * 60)]
    walls = [moment.astimezone(window.zone).replace(tzinfo=None) for moment in minutes]
    reached: dict[datetime, datetime] = {}
    highest = walls[0] - MINUTE
    for moment, wall in zip(minutes, walls, strict=True):
        while highest < wall:
            highest += MINUTE
            reached[highest] = moment
    openings = []
    length = timedelta(minutes=window.closes - window.opens)
    length += timedelta(days=1) if length <= timedelta(0) else timedelta(0)
    for wall, opened in reached.items():
        if wall.weekday() in window.days and wall.hour * 60 + wall.minute == window.opens and wall + length in reached:
            closed = reached[wall + length]
            openings.append((opened, closed if closed > opened else opened + length))
    return openings


@given(
    st.sampled_from(TRANSITIONS),
    st.integers(-150, 150),
    st.integers(1, 180) | st.integers(1, 1439),
    st.frozensets(st.integers(0, 6), min_size=5),
    st.integers(0, 9),
)
def test_windows_agree_with_a_walk_over_every_minute_of_each_transition(
    transition: tuple[str, datetime], shift: int, length: int, days: frozenset[int], phase: int
) -> None:
    name, moment = transition
    wall = moment.astimezone(ZoneInfo(name)) + shift * MINUTE
    opens = wall.hour * 60 + wall.minute
    window = Window(days, opens, (opens + length - 1) % 1440 + 1, ZoneInfo(name))
    openings = brute_openings(window, moment)
    for offset in [*range(-300 + phase, 300, 10), -30 * 60, 30 * 60]:
        asked = moment + offset * MINUTE
        inside = any(opened <= asked < closed for opened, closed in openings)
        assert window.contains(asked) is inside
        answer = window.next_open(asked)
        assert answer >= asked
        assert window.contains(answer)
        expected = [max(opened, asked) for opened, closed in openings if closed > asked]
        if expected:
            assert answer == min(expected)
        floor = moment - timedelta(days=2)
        before = [opening for opening in openings if floor < opening[0] < asked]
        assert window.last_opening_between(floor, asked) == (before[-1] if before else None)


@given(st.sampled_from(TRANSITIONS), st.integers(0, 1439), st.integers(1, 1439), st.integers(0, 6))
def test_a_window_opens_once_on_each_of_its_days(transition: tuple[str, datetime], opens: int, length: int, day: int) -> None:
    name, moment = transition
    window = Window(frozenset({day}), opens, (opens + length - 1) % 1440 + 1, ZoneInfo(name))
    opened, closed = window.opening_from(moment - timedelta(days=7))
    for _ in range(2):
        following, closing = window.opening_from(closed)
        assert timedelta(days=6, hours=21) <= following - opened <= timedelta(days=7, hours=3)
        assert closed < following < closing
        assert window.last_opening_between(opened, following) is None
        assert window.last_opening_between(opened - MINUTE, following) == (opened, closed)
        opened, closed = following, closing
