"""Cron expressions against what crontab(5) says, a walk over every minute, and the changes of the clocks."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.domain.errors import Misconfigured
from rotator.domain.timing import Calendar, MalformedTiming, Schedule, next_due
from rotator.scheduling.cron import CronCalendar, parse_cron

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NAMES = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
ZONES = (
    "UTC",
    "Europe/London",
    "Europe/Berlin",
    "America/New_York",
    "America/Santiago",
    "America/Havana",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
    "Pacific/Chatham",
)
START, END = datetime(2025, 1, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)


def transitions(name: str) -> list[datetime]:
    zone = ZoneInfo(name)
    hours = (START + number * HOUR for number in range((END - START) // HOUR))
    pairs = itertools.pairwise((hour, hour.astimezone(zone).utcoffset()) for hour in hours)
    return [hour for (_, before), (hour, after) in pairs if before != after]


TRANSITIONS = [(name, moment) for name in ZONES for moment in transitions(name)]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def runs(calendar: Calendar, after: datetime, until: datetime) -> list[datetime]:
    """All runs in (after, until], as the daemon would come upon them."""
    found = []
    moment = calendar.next_after(after)
    while moment is not None and moment <= until:
        found.append(moment)
        moment = calendar.next_after(moment)
    return found


def weekdays_of(field: str) -> str:
    """The days on which a midnight of that field falls, in order from Sunday."""
    start = utc("2026-05-03T00:00") - MINUTE  # before a Sunday
    return ",".join(NAMES[moment.isoweekday() % 7] for moment in runs(parse_cron(f"0 0 * * {field}"), start, start + 7 * DAY))


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", "Sun"),
        ("1", "Mon"),
        ("6", "Sat"),
        ("7", "Sun"),
        ("0,7", "Sun"),
        ("0-2", "Sun,Mon,Tue"),
        ("1-5", "Mon,Tue,Wed,Thu,Fri"),
        ("5-7", "Sun,Fri,Sat"),
        ("0-7", ",".join(NAMES)),
        ("*/2", "Sun,Tue,Thu,Sat"),
        ("1-5/2", "Mon,Wed,Fri"),
        ("Mon-Fri", "Mon,Tue,Wed,Thu,Fri"),
        ("sat-sun", "Sun,Sat"),
        ("FRI-MON", "Sun,Mon,Fri,Sat"),
        ("6-1", "Sun,Mon,Sat"),
        ("Wed,0", "Sun,Wed"),
        ("*", ",".join(NAMES)),
    ],
)
def test_weekdays_count_from_sunday(field: str, days: str) -> None:
    assert weekdays_of(field) == days


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7), st.integers(1, 7)), min_size=1, max_size=3))
def test_weekdays_agree_with_a_naive_reading(parts: list[tuple[int, int, int]]) -> None:
    expected: set[str] = set()
    for first, last, step in parts:
        day, taken = first, []
        while True:
            taken.append(NAMES[day % 7])
            if day == last or (last < first and day % 7 == last % 7):
                break
            day += 1
        expected.update(taken[::step])
    field = ",".join(f"{first}-{last}/{step}" for first, last, step in parts)
    assert set(weekdays_of(field).split(",")) == expected


@pytest.mark.parametrize(
    ("expression", "first", "second"),
    [
        ("*/15 * * * *", "2026-05-04T09:15", "2026-05-04T09:30"),
        ("0 0 * * 1", "2026-05-11T00:00", "2026-05-18T00:00"),
        ("5,35 8-10/2 * * *", "2026-05-04T10:05", "2026-05-04T10:35"),
        ("0 3 1 jan,JUL *", "2026-07-01T03:00", "2027-01-01T03:00"),
        ("0 3 31 * *", "2026-05-31T03:00", "2026-07-31T03:00"),
        ("0 0 29 2 *", "2028-02-29T00:00", "2032-02-29T00:00"),
        ("0 0 30 2,4 *", "2027-04-30T00:00", "2028-04-30T00:00"),
        ("@hourly", "2026-05-04T10:00", "2026-05-04T11:00"),
        ("@daily", "2026-05-05T00:00", "2026-05-06T00:00"),
        ("@midnight", "2026-05-05T00:00", "2026-05-06T00:00"),
        ("@weekly", "2026-05-10T00:00", "2026-05-17T00:00"),
        ("@monthly", "2026-06-01T00:00", "2026-07-01T00:00"),
        ("@Yearly", "2027-01-01T00:00", "2028-01-01T00:00"),
        ("@annually", "2027-01-01T00:00", "2028-01-01T00:00"),
        ("@daily Europe/London", "2026-05-04T23:00", "2026-05-05T23:00"),
        ("0 12 * * * Asia/Kathmandu", "2026-05-05T06:15", "2026-05-06T06:15"),
        # both day fields restricted: either will do; a star in front, steps included: both must hold
        ("0 0 13 * 5", "2026-05-08T00:00", "2026-05-13T00:00"),
        ("0 0 30 2 5", "2027-02-05T00:00", "2027-02-12T00:00"),
        ("0 0 */2 * Mon", "2026-05-11T00:00", "2026-05-25T00:00"),
    ],
)
def test_the_runs_after_a_monday_at_nine(expression: str, first: str, second: str) -> None:
    calendar = parse_cron(expression)
    assert calendar.next_after(utc("2026-05-04T09:00")) == utc(first)
    assert calendar.next_after(utc(first)) == utc(second), "strictly after"
    found = calendar.next_after(utc("2026-05-04T09:00"))
    assert found is not None
    assert found.tzinfo is UTC


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("", "it has 0 fields"),
        ("* * * *", "it has 4 fields"),
        ("0 0 * * * *", "seconds and years are not taken"),
        ("0 0 * * * * Europe/London", "it has 7 fields"),
        ("@reboot", "@reboot is not known"),
        ("60 * * * *", "in the minute, 60 is not between 0 and 59"),
        ("* 24 * * *", "in the hour, 24 is not between 0 and 23"),
        ("* * 0 * *", "in the day of month, 0 is not between 1 and 31"),
        ("* * * 13 *", "in the month, 13 is not between 1 and 12"),
        ("* * * foo *", "in the month, 'foo' is not one of jan, feb"),
        ("* * * * 8", "in the day of week, 8 is not between 0 and 7"),
        ("* * * * Montag", "in the day of week, 'Montag' is not one of sun, mon"),
        ("*/0 * * * *", "the step 0 of '*/0' must be between 1 and 60"),
        ("*/90 * * * *", "the step 90 of '*/90' must be between 1 and 60"),
        ("5/15 * * * *", "write 5-59/15"),
        ("0 5-2 * * *", "in the hour, the range '5-2' runs backwards"),
        ("0 0 */x * *", "in the day of month, '*/x' is not a value"),
        ("0 0 *-5 * *", "mixes * with a range"),
        ("0 0 1,,2 * *", "in the day of month, '' is not a value"),
        ("0 0 * * 1#2", "not of standard cron"),
        ("0 0 ? * *", "not of standard cron"),
        ("0 0 30 2 *", "it never fires"),
        ("0 0 31 4,6,9,11 *", "it never fires"),
        ("0 0 * * * Europe/Lodnon", "did you mean Europe/London"),
        ("0 0 * * * Mon", "unknown time zone 'Mon'"),
    ],
)
def test_a_bad_expression_is_told_which_field_is_wrong(expression: str, fault: str) -> None:
    with pytest.raises(MalformedTiming) as caught:
        parse_cron(expression)
    assert fault in str(caught.value)
    assert f"the cron expression {expression!r}" in str(caught.value)
    assert isinstance(caught.value, Misconfigured)


def test_calendars_of_the_same_expression_and_zone_are_equal() -> None:
    assert parse_cron("@daily") == parse_cron("@daily")
    assert parse_cron("@daily") != parse_cron("@daily", "Europe/London")
    assert "Europe/London" in repr(parse_cron("@daily", "Europe/London"))


def test_a_naive_instant_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a time zone"):
        parse_cron("@daily").next_after(datetime(2026, 5, 4))  # noqa: DTZ001  # naive on purpose


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("30 2 * * *", "2026-03-28T12:00", ["2026-03-29T01:30", "2026-03-30T00:30"]),
        ("30 2 * * *", "2026-03-29T01:10", ["2026-03-29T01:30", "2026-03-30T00:30"]),  # asked within the hour after
        ("45 2,3 * * *", "2026-03-28T12:00", ["2026-03-29T01:45", "2026-03-30T00:45", "2026-03-30T01:45"]),
        ("50 2 * * *", "2026-10-24T12:00", ["2026-10-25T00:50", "2026-10-26T01:50"]),  # not again at 01:50Z
        ("50 2 * * *", "2026-10-25T00:55", ["2026-10-26T01:50"]),
        ("0 */2 * * *", "2026-10-24T22:30", ["2026-10-25T00:00", "2026-10-25T03:00"]),
        (
            "*/30 * * * *",
            "2026-10-25T00:00",
            [f"2026-10-25T{hour:02d}:{half}" for hour, half in [(0, 30), (1, "00"), (1, 30), (2, "00")]],
        ),
        ("0 * * * *", "2026-03-29T00:00", ["2026-03-29T01:00", "2026-03-29T02:00"]),
    ],
)
def test_the_changes_of_the_clocks_in_berlin(expression: str, after: str, expected: list[str]) -> None:
    moments = [utc(text) for text in expected]
    assert runs(parse_cron(expression, "Europe/Berlin"), utc(after), moments[-1]) == moments


@given(st.sampled_from(TRANSITIONS), st.integers(0, 5), st.integers(0, 59))
def test_a_fixed_time_fires_once_on_every_local_day(transition: tuple[str, datetime], hour: int, minute: int) -> None:
    name, moment = transition
    calendar, zone = parse_cron(f"{minute} {hour} * * *", name), ZoneInfo(name)
    found = runs(calendar, moment - 3 * DAY, moment + 3 * DAY)
    days = [run.astimezone(zone).date() for run in found]
    assert days == [days[0] + number * DAY for number in range(len(days))]
    assert len(days) in (5, 6, 7)
    assert found == sorted(set(found))


@given(st.sampled_from(TRANSITIONS), st.integers(0, 59))
def test_hourly_work_stays_hourly_where_clocks_change_by_whole_hours(transition: tuple[str, datetime], minute: int) -> None:
    name, moment = transition
    found = runs(parse_cron(f"{minute} * * * *", name), moment - 6 * HOUR, moment + 6 * HOUR)
    gaps = {later - earlier for earlier, later in itertools.pairwise(found)}
    assert gaps == {HOUR} if name != "Australia/Lord_Howe" else max(gaps) <= HOUR * 1.5


def brute(minutes: set[int], hours: set[int], zone: ZoneInfo, around: datetime) -> list[datetime]:
    """The instants within 30 hours of `around` by reading the clock each minute; every jump forward is made up for."""
    found: set[datetime] = set()
    seen: set[datetime] = set()
    previous: datetime | None = None
    for number in range(-60 * 60, 60 * 60):
        moment = around + number * MINUTE
        wall = moment.astimezone(zone).replace(tzinfo=None)
        jump = wall - previous if previous is not None and wall > previous else MINUTE
        skipped = [wall - back * MINUTE for back in range(1, jump // MINUTE)]
        for missing in skipped:
            if missing.minute in minutes and missing.hour in hours:
                found.add(moment + (missing - (wall - jump + MINUTE)))
        if wall.minute in minutes and wall.hour in hours and (wall not in seen or len(hours) == 24):
            found.add(moment)
        seen.add(wall)
        previous = wall
    return sorted(moment for moment in found if abs(moment - around) <= 30 * HOUR)


@given(
    st.sampled_from(TRANSITIONS),
    st.sets(st.integers(0, 59), min_size=1, max_size=3),
    st.sets(st.integers(0, 23), min_size=1, max_size=6) | st.sets(st.integers(0, 4), min_size=1) | st.just(set(range(24))),
    st.integers(-26 * 60, 26 * 60),
)
def test_runs_agree_with_a_walk_over_every_minute_whatever_moment_is_asked_for(
    transition: tuple[str, datetime], minutes: set[int], hours: set[int], offset: int
) -> None:
    name, around = transition
    text = f"{','.join(map(str, minutes))} {','.join(map(str, hours))} * * *"
    calendar, expected = parse_cron(text, name), brute(minutes, hours, ZoneInfo(name), around)
    asked = around + offset * MINUTE
    later = [moment for moment in expected if moment > asked]
    assert runs(calendar, asked, around + 30 * HOUR) == later


def test_it_serves_the_domain_as_its_calendar() -> None:
    calendar: CronCalendar = parse_cron("0 3 * * Mon", "Europe/Berlin")
    minted = utc("2026-05-04T09:00")
    due = next_due(Schedule(cron="0 3 * * Mon"), minted, "checkout-read", calendar)
    assert due is not None
    assert utc("2026-05-11T01:00") <= due < utc("2026-05-11T02:00")
