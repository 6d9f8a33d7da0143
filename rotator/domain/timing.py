"""When a key is due: durations, maintenance windows, jitter, expiry and back-off, as pure functions of their arguments.

Every instant that comes in or goes out is an aware UTC `datetime`; a naive one is a `ValueError`. Local time exists
only inside `Window`, and is turned into UTC before anything is compared: two times of one zone compare by their wall
clock, which runs backwards in autumn. Nothing here reads a clock or rolls dice: what looks random is a hash of the
caller's seed, so that every replica and every restart comes to the same answer. Cron expressions are evaluated
elsewhere and come in as a `Calendar`.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, Self
from zoneinfo import ZoneInfo, available_timezones

from rotator.domain.errors import Misconfigured

__all__ = [
    "Calendar",
    "MalformedTiming",
    "Schedule",
    "Window",
    "backoff",
    "catch_up",
    "ensure_utc",
    "expires_at",
    "get_zone",
    "next_due",
    "parse_duration",
    "render_duration",
    "spread",
]

DEFAULT_JITTER_SHARE = 10
"""Without a configured jitter, a tenth of the time between two rotations …"""
DEFAULT_JITTER_CAP = timedelta(hours=1)
"""… and never more than this."""

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,10}}){unit})?" for unit in _UNITS) + r"\Z")
_LONGEST = timedelta(days=36_500)
_MICROSECOND = timedelta(microseconds=1)
_ONE_DAY = timedelta(days=1)

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY_NUMBERS = {
    name: number
    for number, long in enumerate(("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"))
    for name in (long, long[:3])
}
_DAY_MINUTES = 24 * 60
_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})\Z")
_WINDOW_EXAMPLE = "write it like 'Mon-Fri 09:00-16:00 Europe/London'"


class MalformedTiming(Misconfigured, ValueError):
    """A duration, window, zone, cron expression or schedule is wrong. Also a `ValueError`, for validators."""


class Calendar(Protocol):
    """A recurring pattern of instants."""

    def next_after(self, instant: datetime) -> datetime | None:
        """The first instant of the pattern strictly after `instant`, both UTC; None when there is none."""
        ...


def parse_duration(text: str) -> timedelta:
    """A duration such as `30d` or `1h30m`: whole numbers of w, d, h, m, s, largest first. Raises `MalformedTiming`."""
    match = _DURATION.match(text)
    if not text or match is None:
        raise MalformedTiming(f"{text!r} is not a duration: {_duration_fault(text)}; write it like 30d, 12h, 1h30m or 90s")
    seconds = sum(int(count) * size for count, size in zip(match.groups(), _UNITS.values(), strict=True) if count)
    if seconds > _LONGEST.total_seconds():
        raise MalformedTiming(f"the duration {text!r} is longer than {_LONGEST.days}d; write it like 30d")
    return timedelta(seconds=seconds)


def _duration_fault(text: str) -> str:
    if not text.strip():
        return "it is empty"
    if any(character.isspace() for character in text):
        return "it has white space in it"
    if text.startswith("-"):
        return "it is negative"
    if re.fullmatch(r"[0-9]+", text):
        return "it has no unit (w, d, h, m or s)"
    if re.search(r"[0-9][.,][0-9]", text):
        return "only whole numbers are taken, so half a day is 12h"
    unknown = [unit for unit in re.findall(r"[^\W\d_]+", text) if unit not in _UNITS]
    if unknown:
        return f"{unknown[0]!r} is not a unit (w, d, h, m or s)"
    return "it must be whole numbers with units, each unit once and the largest first"


def render_duration(duration: timedelta) -> str:
    """The text that `parse_duration` reads back, in d, h, m, s, without parts of a second. Negative: `ValueError`."""
    if duration < timedelta(0):
        raise ValueError(f"a duration is not negative: {duration!r}")
    rest = duration // timedelta(seconds=1)
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def ensure_utc(instant: datetime) -> datetime:
    """The same instant in UTC. A naive datetime is a `ValueError`: nobody knows which instant it means."""
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise ValueError(f"an instant needs a time zone, this one has none: {instant!r}")
    return instant.astimezone(UTC)


def get_zone(name: str) -> ZoneInfo:
    """The time zone of that IANA name. Raises `MalformedTiming`, with close names where there are some."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # OSError: a folder of the zone database, such as "Europe"
        close = difflib.get_close_matches(name, sorted(available_timezones()), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "write an IANA name such as Europe/London, or UTC"
        raise MalformedTiming(f"unknown time zone {name!r}: {hint}") from None


def _first_instant_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """When clocks in the zone first read `wall` (naive); where they jump over it, the first instant after the jump."""
    before = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if before.astimezone(zone).replace(tzinfo=None) == wall:
        return before
    # In a gap the two folds stand for the offsets on its two sides: the jump lies between them. Bisect to the second.
    low, high = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), before
    offset_after = high.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // timedelta(seconds=2) * timedelta(seconds=1)
        if middle.astimezone(zone).utcoffset() == offset_after:
            high = middle
        else:
            low = middle
    return high


@dataclass(frozen=True, slots=True)
class Window:
    """Weekly hours in which routine rotations may begin, in local time of a zone.

    It opens once on each of `days` (0 is Monday) and is open from the first reading of `opens` until the first
    reading of `closes`, both in minutes after midnight (`closes` up to 1440); a `closes` before `opens` is on the
    next day. In spring an edge that the clocks jump over lies at the jump; hours jumped over whole are held, at their
    length, right after it.
    """

    days: frozenset[int]
    opens: int
    closes: int
    zone: ZoneInfo

    def __post_init__(self) -> None:
        if not self.days or not self.days <= frozenset(range(len(DAYS))):
            raise MalformedTiming(f"a window needs days from 0 (Monday) to 6 (Sunday); {_WINDOW_EXAMPLE}")
        if not (0 <= self.opens < _DAY_MINUTES and 0 < self.closes <= _DAY_MINUTES) or self.opens == self.closes:
            raise MalformedTiming(
                "a window opens between 00:00 and 23:59 and closes at another time, up to 24:00; "
                "a whole day is 00:00-24:00, and midnight as an end is 24:00"
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """A window from `[days] HH:MM-HH:MM zone`; no days: every day. Raises `MalformedTiming`, naming the part."""
        words = re.sub(r"\s*([-,])\s*", r"\1", text).split()
        if words and ":" in words[-1]:
            raise MalformedTiming(f"the window {text!r} has no time zone at its end: {_WINDOW_EXAMPLE}")
        if len(words) not in (2, 3):
            raise MalformedTiming(f"the window {text!r} is not days, hours and a time zone: {_WINDOW_EXAMPLE}")
        *days, hours, zone = words
        try:
            first, _, last = hours.partition("-")
            return cls(
                days=_parse_days(days[0]) if days else frozenset(range(len(DAYS))),
                opens=_parse_time(first),
                closes=_parse_time(last),
                zone=get_zone(zone),
            )
        except MalformedTiming as fault:
            raise MalformedTiming(f"the window {text!r}: {fault}; {_WINDOW_EXAMPLE}") from None

    def __str__(self) -> str:
        hours = f"{_render_time(self.opens)}-{_render_time(self.closes)} {self.zone.key}"
        return hours if len(self.days) == len(DAYS) else f"{_render_days(self.days)} {hours}"

    def contains(self, instant: datetime) -> bool:
        """Whether the window is open at `instant`; it is at its opening, and no longer at its close."""
        return self.next_open(instant) == instant

    def next_open(self, instant: datetime) -> datetime:
        """The first instant, `instant` or later, at which the window is open."""
        return max(self.opening_from(instant)[0], ensure_utc(instant))

    def opening_from(self, instant: datetime) -> tuple[datetime, datetime]:
        """Opening and close of the first opening that is not over at `instant`."""
        moment = ensure_utc(instant)
        first = moment.astimezone(self.zone).date() - 2 * _ONE_DAY
        return next((opened, closed) for opened, closed in self._openings(first, _ONE_DAY) if closed > moment)

    def last_opening_between(self, floor: datetime, limit: datetime) -> tuple[datetime, datetime] | None:
        """Opening and close of the last opening after `floor` and before `limit`; None when there is none."""
        low, high = ensure_utc(floor), ensure_utc(limit)
        last = high.astimezone(self.zone).date() + _ONE_DAY
        found = next((opened, closed) for opened, closed in self._openings(last, -_ONE_DAY) if opened < high)
        return found if found[0] > low else None

    def _openings(self, start: date, stride: timedelta) -> Iterator[tuple[datetime, datetime]]:
        for number in itertools.count():
            day = start + number * stride
            if day.weekday() in self.days:
                yield self._opening_on(day)

    def _opening_on(self, day: date) -> tuple[datetime, datetime]:
        midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001  # a wall clock, given its zone below
        length = self.closes - self.opens + (_DAY_MINUTES if self.closes <= self.opens else 0)
        opening = midnight + timedelta(minutes=self.opens)
        opened = _first_instant_of(opening, self.zone)
        closed = _first_instant_of(opening + timedelta(minutes=length), self.zone)
        return opened, closed if closed > opened else opened + timedelta(minutes=length)


def _parse_days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        ends = part.split("-")
        numbers = [_DAY_NUMBERS.get(end.lower()) for end in ends]
        if None in numbers or len(numbers) > 2:
            raise MalformedTiming(f"{part!r} is not a day or a range of days ({', '.join(DAYS)})")
        first, last = _DAY_NUMBERS[ends[0].lower()], _DAY_NUMBERS[ends[-1].lower()]
        days.update(number % len(DAYS) for number in range(first, last + 1 if last >= first else last + 1 + len(DAYS)))
    return frozenset(days)


def _render_days(days: frozenset[int]) -> str:
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    return ",".join(DAYS[run[0]] + ("" if len(run) == 1 else f"-{DAYS[run[-1]]}") for run in runs)


def _parse_time(text: str) -> int:
    match = _TIME.match(text)
    minutes = int(match[1]) * 60 + int(match[2]) if match else -1
    if match is None or int(match[2]) > 59 or minutes > _DAY_MINUTES:
        raise MalformedTiming(f"{text!r} is not a time from 00:00 to 24:00")
    return minutes


def _render_time(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a credential's key is replaced.

    `every` (since the key was minted) or `cron`, or neither: then nothing is due by itself, and `max_age` is only an
    expiry to alert on. `jitter` is the time over which credentials of one schedule are spread, after the moment that
    it names; without it a tenth of the time between two rotations, at most an hour. `max_age` binds: neither `jitter`
    nor `window` delays a rotation past it.
    """

    every: timedelta | None = None
    cron: str | None = None
    window: Window | None = None
    jitter: timedelta | None = None
    max_age: timedelta | None = None

    def __post_init__(self) -> None:
        nothing = timedelta(0)
        if self.every is not None and self.cron is not None:
            raise MalformedTiming("a schedule has `every` or `cron`, not both: remove one")
        for name, value in (("every", self.every), ("max_age", self.max_age)):
            if value is not None and value <= nothing:
                raise MalformedTiming(f"`{name}` must be longer than nothing, for instance 30d")
        if self.jitter is not None and self.jitter < nothing:
            raise MalformedTiming("`jitter` must not be negative; 0s turns it off")
        if self.every is None:
            return
        every = f"`every` ({render_duration(self.every)})"
        if self.jitter is not None and self.jitter > self.every:
            raise MalformedTiming(f"`jitter` ({render_duration(self.jitter)}) must not be longer than {every}")
        if self.max_age is not None and self.max_age < self.every:
            raise MalformedTiming(f"`max_age` ({render_duration(self.max_age)}) must not be shorter than {every}")


def expires_at(schedule: Schedule, minted_at: datetime) -> datetime | None:
    """When the key passes its maximum age; None when it has none."""
    minted = ensure_utc(minted_at)
    return None if schedule.max_age is None else minted + schedule.max_age


def next_due(schedule: Schedule, minted_at: datetime, seed: str, calendar: Calendar | None = None) -> datetime | None:
    """When the key that was minted at `minted_at` is to be replaced; None when the schedule never says.

    The same arguments give the same answer, for ever. It lies after `minted_at`, not after the key's expiry, and
    inside the window unless that has no opening left before the expiry. `seed` names the credential. A `cron` needs
    its `calendar` (`ValueError`).
    """
    minted = ensure_utc(minted_at)
    if schedule.every is not None:
        wanted: datetime | None = minted + schedule.every
        period: timedelta | None = schedule.every
    elif schedule.cron is not None:
        if calendar is None:
            raise ValueError("a schedule with `cron` needs the calendar of that expression")
        wanted = calendar.next_after(minted)
        following = None if wanted is None else calendar.next_after(wanted)
        period = None if wanted is None or following is None else following - wanted
    else:
        return None
    if wanted is None:
        return None
    span, expiry = _jitter_span(schedule, period), expires_at(schedule, minted)
    return _fit(wanted, span, minted, expiry, schedule.window, _share("jitter", seed))


def catch_up(schedule: Schedule, minted_at: datetime, seed: str, now: datetime, over: timedelta) -> datetime:
    """When to make up for a rotation whose due time has passed at `now`, spread over `over`.

    In the window where there is one, unless the key would pass its maximum age before that; a key that already has
    passed it does not wait for a window. The answer moves with `now`: ask once per start, and keep it.
    """
    start, expiry, window = ensure_utc(now), expires_at(schedule, minted_at), schedule.window
    if expiry is not None and expiry <= start:
        return spread(seed, start, over)
    moment = _fit(start, _not_negative(over), start, expiry, window, _share("spread", seed))
    if window is not None and window.contains(start) and not window.contains(moment):
        # No later opening comes in time: better crowded into what is left of this one than outside of it.
        return spread(seed, start, min(over, window.opening_from(start)[1] - start))
    return moment


def spread(seed: str, now: datetime, over: timedelta) -> datetime:
    """A moment from `now` until just before `now + over`, the same for the same seed, evenly spread over seeds."""
    return ensure_utc(now) + _part_of(_not_negative(over), _share("spread", seed))


def backoff(attempts: int, seed: str, base: timedelta, cap: timedelta) -> timedelta:
    """How long to wait after that many failures in a row: nothing for 0, then doubling from `base` up to `cap`.

    Each wait is between half of that and the whole, fixed by the seed; it never falls as attempts rise.
    """
    if attempts < 0 or base <= timedelta(0) or cap < base:
        raise ValueError(f"attempts must not be negative, and 0 < base <= cap: {attempts}, {base!r}, {cap!r}")
    if attempts == 0:
        return timedelta(0)
    doubled = (base // _MICROSECOND) << min(attempts - 1, 64)
    half = timedelta(microseconds=min(cap // _MICROSECOND, doubled) // 2)
    return half + _part_of(half, _share("backoff", seed))


def _fit(wanted: datetime, span: timedelta, floor: datetime, expiry: datetime | None, window: Window | None, share: int) -> datetime:
    """`wanted` plus its share of `span`, held before the expiry, moved into the window, never before `floor`."""
    if expiry is not None:
        # The whole span is moved before the expiry: cutting off there would heap all late ones up on one second. Half
        # of the time is kept free of it, so that a long jitter never replaces a key right after it was minted.
        span = min(span, (expiry - floor) / 2)
        wanted = min(wanted, expiry - span)
    moment = wanted + _part_of(span, share)
    if window is None:
        return moment
    opened, closed = window.opening_from(moment)
    # Spread again behind an opening, where everything that fell due while it was shut would otherwise start at once.
    placed = moment if opened <= moment else opened + _part_of(min(span, closed - opened), share)
    if expiry is None or placed <= expiry:
        return placed
    last = window.last_opening_between(floor, expiry)
    if last is None:
        return moment
    opened, closed = last
    return opened + _part_of(min(span, closed - opened, expiry - opened), share)


def _jitter_span(schedule: Schedule, period: timedelta | None) -> timedelta:
    if schedule.jitter is not None:
        return schedule.jitter
    return DEFAULT_JITTER_CAP if period is None else min(period / DEFAULT_JITTER_SHARE, DEFAULT_JITTER_CAP)


def _share(purpose: str, seed: str) -> int:
    """64 evenly distributed bits of the seed; purposes are independent of each other."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{seed}".encode()).digest()[:8])


def _part_of(span: timedelta, share: int) -> timedelta:
    """That share of the span, always less than the whole. In integers, as a float could round up to the whole."""
    return timedelta(microseconds=(span // _MICROSECOND) * share >> 64)


def _not_negative(span: timedelta) -> timedelta:
    if span < timedelta(0):
        raise ValueError(f"a span of time is not negative: {span!r}")
    return span
