"""Times, spans and foreign text as people read them. Pure; exact values are for --json.

Foreign text is what a daemon sent: it may be any daemon, so nothing of it reaches the terminal that could steer it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

ERRNO = re.compile(r"\[Errno -?\d+\] ")
"""What Python puts before the system's own words."""

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def parse_instant(value: object) -> datetime | None:
    """An instant as the API writes it; None for null and for what is none."""
    if not isinstance(value, str):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    return instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)


def render_span(span: timedelta) -> str:
    """`3d 4h`, `5m 10s`, `8.2s`: at most two units, never rounded up; a negative one with a minus sign."""
    if span < timedelta():
        return f"-{render_span(-span)}"
    seconds = span.total_seconds()
    if seconds < 10 and seconds != int(seconds):
        return f"{int(seconds * 10) / 10:g}s"
    left = int(seconds)
    parts: list[tuple[int, str]] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, unit))
        if len(parts) == 2:
            break
    shown = [f"{count}{unit}" for count, unit in parts if count]
    return " ".join(shown) or "0s"


def render_age(seconds: object) -> str:
    """The age of a key that the API gives in seconds; its largest unit only, except below a day."""
    if not isinstance(seconds, int | float):
        return "-"
    return render_span(timedelta(days=seconds // 86_400) if seconds >= 2 * 86_400 else timedelta(seconds=int(seconds)))


def render_from_now(value: object, now: datetime) -> str:
    """`in 3d 4h`, `in 25d`, `5m ago`; `-` for null."""
    instant = parse_instant(value)
    if instant is None:
        return "-"
    span = instant - now
    if abs(span) < timedelta(seconds=1):
        return "now"
    seconds = int(abs(span).total_seconds())
    whole = timedelta(days=seconds // 86_400) if seconds >= 10 * 86_400 else timedelta(seconds=seconds)
    return f"in {render_span(whole)}" if span > timedelta() else f"{render_span(whole)} ago"


def render_exact(instant: datetime) -> str:
    """`2026-11-22T18:42:26Z`."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def render_stamp(value: object) -> str:
    """`2026-11-22 18:42:26`, UTC; `-` for null."""
    instant = parse_instant(value)
    return "-" if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def render_clock(value: object) -> str:
    """`18:42:26`, UTC; empty for null."""
    instant = parse_instant(value)
    return "" if instant is None else instant.astimezone(UTC).strftime("%H:%M:%S UTC")


def clean(text: object) -> str:
    """Text on one line, with everything unprintable (escape sequences, direction marks) written as an escape, and without `[Errno …]`."""
    joined = ERRNO.sub("", " ".join(str(text).split()))
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in joined)


def count(number: int, noun: str) -> str:
    """`1 credential`, `2 credentials`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
