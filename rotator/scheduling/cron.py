"""Cron expressions of users, read as crontab(5) reads them and evaluated by APScheduler's triggers.

APScheduler counts weekdays from Monday, joins day of month and day of week with "and", and fires a repeated 02:30
twice. So every field is parsed here into plain numbers with clear errors, weekdays are handed over by name, and the
trigger only enumerates wall-clock times (it is told that they are UTC); their way into the zone, and so every
daylight-saving change, is decided here. What comes out are UTC instants and nothing else.
"""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from rotator.domain.timing import MalformedTiming, ensure_utc, get_zone

__all__ = ["CronCalendar", "parse_cron"]

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EXAMPLE = "write five fields like '30 2 * * Mon-Fri' (minute, hour, day of month, month, day of week)"
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_PART = re.compile(r"(?P<first>\*|[A-Za-z0-9]+)(?:-(?P<last>[A-Za-z0-9]+))?(?:/(?P<step>[0-9]{1,4}))?\Z")
_LEAP_YEAR = 2028
_ONE_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Field:
    """What one field may hold. `wraps`: a range may run over the end, as Fri-Mon does."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    wraps: bool = False


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 6, _WEEKDAYS, wraps=True),
)


@dataclass(frozen=True, slots=True)
class CronCalendar:
    """The instants of a cron expression in a zone; a `Calendar` of the domain.

    A local time that the clocks jump over fires once, as much later as they jump. One that comes twice fires at its
    first coming; only where the hour is left open (`*`) does it fire at both, so that hourly work stays hourly.
    """

    expression: str
    zone: ZoneInfo
    _trigger: BaseTrigger = field(compare=False, repr=False)
    _every_hour: bool = field(compare=False, repr=False)

    def next_after(self, instant: datetime) -> datetime | None:
        """The first instant strictly after `instant`, in UTC. None only beyond the year 9999."""
        moment = ensure_utc(instant)
        # Around a change of the clocks a later wall time can come at an earlier instant. Looking back by the size of
        # the change, and ahead by it once a run is found, gives the earliest instant whatever moment was asked for.
        start = moment.astimezone(self.zone).replace(tzinfo=None) - self._change_near(moment)
        earliest: datetime | None = None
        limit: datetime | None = None
        for wall in self._wall_times_from(start):
            if limit is not None and wall > limit:
                break
            for run in self._instants_of(wall):
                if run > moment and (earliest is None or run < earliest):
                    earliest = run
            if earliest is not None and limit is None:
                limit = wall + self._change_near(earliest)
        return earliest

    def _wall_times_from(self, start: datetime) -> Iterator[datetime]:
        wall = self._trigger.get_next_fire_time(None, start.replace(tzinfo=UTC))
        while wall is not None:
            yield wall.replace(tzinfo=None)
            wall = self._trigger.get_next_fire_time(None, wall + timedelta(seconds=1))

    def _instants_of(self, wall: datetime) -> list[datetime]:
        first = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        again = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        return [first, again] if self._every_hour and again > first else [first]

    def _change_near(self, instant: datetime) -> timedelta:
        """By how much the zone's offset changes within a day of `instant`."""
        before, after = ((instant + days).astimezone(self.zone).utcoffset() for days in (-_ONE_DAY, _ONE_DAY))
        assert before is not None
        assert after is not None
        return abs(after - before)


def parse_cron(expression: str, zone: str = "UTC") -> CronCalendar:
    """The calendar of a crontab expression: five fields or a macro such as `@daily`. Raises `MalformedTiming`.

    A sixth word names a time zone and goes before `zone`: `30 2 * * Mon-Fri Europe/London`.
    """
    words = expression.split()
    try:
        if words and words[0].startswith("@"):
            words = [*_expand_macro(words[0]), *words[1:]]
        zone = _find_trailing_zone(words) or zone
        values = [_parse_field(spec, word) for spec, word in zip(_FIELDS, words, strict=False)]
        _ensure_it_fires(values, words)
        return CronCalendar(expression, get_zone(zone), _build_trigger(values, words), _every_hour=len(values[1]) == _FIELDS[1].high + 1)
    except MalformedTiming as fault:
        raise MalformedTiming(f"the cron expression {expression!r}: {fault}") from None


def _expand_macro(name: str) -> list[str]:
    if name.lower() not in _MACROS:
        raise MalformedTiming(f"{name} is not known; known are {', '.join(_MACROS)}, or {_EXAMPLE}")
    return _MACROS[name.lower()].split()


def _find_trailing_zone(words: list[str]) -> str | None:
    if len(words) == len(_FIELDS) + 1 and words[-1][0].isalpha():
        return words[-1]
    if len(words) != len(_FIELDS):
        hint = "; seconds and years are not taken" if len(words) > len(_FIELDS) else ""
        raise MalformedTiming(f"it has {len(words)} fields{hint}: {_EXAMPLE}")
    return None


def _parse_field(spec: _Field, text: str) -> frozenset[int]:
    """The numbers that a field stands for. Weekdays: 0 is Sunday, and 7 too."""
    values: set[int] = set()
    for part in text.split(","):
        match = _PART.match(part)
        if match is None:
            hint = " (L, W, # and ? are not of standard cron)" if re.search(r"[LW#?]", part) else ""
            raise MalformedTiming(f"in the {spec.name}, {part!r} is not a value, range, list or step{hint}; {_EXAMPLE}")
        values.update(_parse_part(spec, part, match["first"], match["last"], match["step"]))
    return frozenset(values)


def _parse_part(spec: _Field, part: str, first: str, last: str | None, step: str | None) -> list[int]:
    size = spec.high - spec.low + 1
    if first == "*" and last is not None:
        raise MalformedTiming(f"in the {spec.name}, {part!r} mixes * with a range; {_EXAMPLE}")
    if first != "*" and last is None and step is not None:
        raise MalformedTiming(f"in the {spec.name}, {part!r} has a step without a range: write {first}-{spec.high}/{step}")
    stride = int(step) if step is not None else 1
    if not 1 <= stride <= size:
        raise MalformedTiming(f"in the {spec.name}, the step {stride} of {part!r} must be between 1 and {size}")
    if first == "*":
        low, high = spec.low, spec.high
    else:
        low = _parse_value(spec, first)
        high = low if last is None else _parse_value(spec, last)
    if high < low:
        if not spec.wraps:
            raise MalformedTiming(f"in the {spec.name}, the range {part!r} runs backwards: write two ranges, joined by a comma")
        high += size
    return [(number - spec.low) % size + spec.low for number in range(low, high + 1, stride)]


def _parse_value(spec: _Field, text: str) -> int:
    highest = spec.high + (1 if spec.wraps else 0)
    if text.isdecimal():
        number = int(text)
        if not spec.low <= number <= highest:
            raise MalformedTiming(f"in the {spec.name}, {text} is not between {spec.low} and {highest}")
        return number
    if text.lower() in spec.names:
        return spec.names.index(text.lower()) + spec.low
    known = f"one of {', '.join(spec.names)}, or a number" if spec.names else "a number"
    raise MalformedTiming(f"in the {spec.name}, {text!r} is not {known} between {spec.low} and {highest}")


def _ensure_it_fires(values: list[frozenset[int]], words: list[str]) -> None:
    if not _either_day_will_do(words) and not _has_such_a_day(values):
        raise MalformedTiming(f"it never fires: no month of {words[3]!r} has a day of month {words[2]!r}")


def _has_such_a_day(values: list[frozenset[int]]) -> bool:
    _, _, days, months, _ = values
    return any(min(days) <= monthrange(_LEAP_YEAR, month)[1] for month in months)


def _either_day_will_do(words: list[str]) -> bool:
    """Whether cron joins the two day fields with "or": when neither begins with a star."""
    return not words[2].startswith("*") and not words[4].startswith("*")


def _build_trigger(values: list[frozenset[int]], words: list[str]) -> BaseTrigger:
    minute, hour, day, month, _ = (
        "*" if len(found) == spec.high - spec.low + 1 else ",".join(map(str, sorted(found)))
        for spec, found in zip(_FIELDS, values, strict=True)
    )
    weekday = "*" if len(values[4]) == len(_WEEKDAYS) else ",".join(_WEEKDAYS[number] for number in sorted(values[4]))
    same = {"minute": minute, "hour": hour, "month": month, "second": 0, "timezone": UTC}
    if _either_day_will_do(words):
        # A trigger without any day is left out: it would be searched for up to the year 9999.
        by_day = [CronTrigger(day=day, **same)] if _has_such_a_day(values) else []
        return OrTrigger([*by_day, CronTrigger(day_of_week=weekday, **same)])
    return CronTrigger(day=day, day_of_week=weekday, **same)
