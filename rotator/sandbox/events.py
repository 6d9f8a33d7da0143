"""Projects and their events, in memory, and the questions that the read tools ask of them.

The schema of an event is our assumption. The newest `_MOST_EVENTS` of each project are kept. Not thread-safe: the service's lock
guards every call.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rotator.sandbox.clock import render_time
from rotator.sandbox.exchange import Denied

_MOST_EVENTS = 10_000
_MOST_RESULTS = 1000
_DEMO_NAMES = ("page_view", "page_view", "signup", "page_view", "purchase", "page_view")
_DEMO_SOURCES = ("google", "newsletter", "direct")
GROUPS = ("day", "event", "source")

EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "description": "name of the event"},
        "user_id": {"type": "string"},
        "source": {"type": "string"},
        "timestamp": {"type": "string", "format": "date-time"},
        "properties": {"type": "object"},
    },
    "required": ["event"],
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `at` in epoch seconds."""

    name: str
    at: float
    user_id: str | None = None
    source: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As read tools answer it."""
        return {
            "event": self.name,
            "timestamp": render_time(self.at),
            "user_id": self.user_id,
            "source": self.source,
            "properties": dict(self.properties),
        }


@dataclass(slots=True, eq=False)
class Project:
    """A project and its events, oldest first."""

    id: str
    slug: str
    events: deque[Event]

    def document(self) -> dict[str, Any]:
        """As `list_projects` answers it."""
        return {"project_id": self.id, "project_slug": self.slug, "events": len(self.events)}


@dataclass(frozen=True, slots=True)
class Span:
    """`start` inclusive, `end` exclusive, epoch seconds."""

    start: float
    end: float


class Warehouse:
    """Every project of the account."""

    def __init__(self, slugs: Iterable[str], now: float) -> None:
        self._by_slug: dict[str, Project] = {}
        for slug in slugs:
            self.ensure(slug).events.extend(_demo_events(now))

    def ensure(self, slug: str) -> Project:
        """The project of this slug, made empty where there is none."""
        project = self._by_slug.get(slug)
        if project is None:
            number = hashlib.sha256(slug.encode()).hexdigest()[:12]
            project = self._by_slug[slug] = Project(f"proj_{number}", slug, deque(maxlen=_MOST_EVENTS))
        return project

    def find(self, *, slug: str | None = None, project_id: str | None = None) -> Project | None:
        """By slug or by id."""
        if slug is not None:
            return self._by_slug.get(slug)
        return next((project for project in self._by_slug.values() if project.id == project_id), None)

    def all(self) -> list[Project]:
        """In the order in which they were made."""
        return list(self._by_slug.values())


def parse_event(value: object, now: float) -> Event:
    """Raises `Denied` 400 invalid_payload naming the field."""
    if not isinstance(value, Mapping):
        raise Denied(400, "invalid_payload", {"event": "must be an object"})
    name = value.get("event")
    if not isinstance(name, str) or not 0 < len(name) <= 200:
        raise Denied(400, "invalid_payload", {"event": "must be a name of 1 to 200 characters"})
    for optional in ("user_id", "source"):
        if not isinstance(value.get(optional, ""), str):
            raise Denied(400, "invalid_payload", {optional: "must be text"})
    properties = value.get("properties", {})
    if not isinstance(properties, Mapping):
        raise Denied(400, "invalid_payload", {"properties": "must be an object"})
    moment = _parse_moment(value.get("timestamp"), now, Denied(400, "invalid_payload", {"timestamp": "must be ISO 8601"}))
    return Event(name, moment, value.get("user_id"), value.get("source"), properties)


def parse_span(arguments: Mapping[str, Any]) -> Span:
    """`from` (inclusive) and `to` (exclusive), both optional. Raises `Denied` 400 invalid_params."""
    start = _parse_moment(arguments.get("from"), float("-inf"), Denied(400, "invalid_params", {"from": "must be ISO 8601"}))
    end = _parse_moment(arguments.get("to"), float("inf"), Denied(400, "invalid_params", {"to": "must be ISO 8601"}))
    return Span(start, end)


def parse_limit(arguments: Mapping[str, Any], default: int = 100, most: int = _MOST_RESULTS) -> int:
    """`limit`, a whole number from 1. Raises `Denied` 400 invalid_params."""
    try:
        limit = int(arguments.get("limit", default))
    except (TypeError, ValueError):
        limit = 0
    if not 1 <= limit <= most:
        raise Denied(400, "invalid_params", {"limit": f"must be a whole number from 1 to {most}"})
    return limit


def query_events(projects: list[Project], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`{"events": [...], "count": n}`, newest first; filters `from`, `to`, `event`, `user_id`; at most `limit`."""
    limit = parse_limit(arguments)
    wanted = {name: arguments[name] for name in ("event", "user_id") if arguments.get(name) is not None}
    found = [
        event
        for event in _within(projects, arguments)
        if wanted.get("event", event.name) == event.name and wanted.get("user_id", event.user_id) == event.user_id
    ]
    found.sort(key=lambda event: event.at, reverse=True)
    return {"events": [event.document() for event in found[:limit]], "count": len(found)}


def get_stats(projects: list[Project], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`{"total", "unique_users", "groups": [{"key", "count"}]}`. Raises `Denied` 400 invalid_group_by."""
    group_by = arguments.get("group_by") or "day"
    if group_by not in GROUPS:
        raise Denied(400, "invalid_group_by", {"group_by": f"must be one of {', '.join(GROUPS)}"})
    events = list(_within(projects, arguments))
    counts = Counter(_group_key(event, group_by) for event in events)
    groups = [{"key": key, "count": count} for key, count in sorted(counts.items())]
    return {"total": len(events), "unique_users": len({event.user_id for event in events if event.user_id}), "groups": groups}


def top_sources(projects: list[Project], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`{"sources": [{"source", "count"}]}`, most first, at most `limit` (10)."""
    counts = Counter(event.source or "direct" for event in _within(projects, arguments))
    top = counts.most_common(parse_limit(arguments, default=10))
    return {"sources": [{"source": source, "count": count} for source, count in top]}


def funnel(projects: list[Project], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`{"steps": [{"event", "users"}]}`: users who did the steps in order."""
    steps = arguments.get("steps")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
        raise Denied(400, "invalid_params", {"steps": "must be a list of event names"})
    reached: dict[str, int] = {}
    for event in sorted(_within(projects, arguments), key=lambda event: event.at):
        done = reached.get(event.user_id or "", 0)
        if event.user_id and done < len(steps) and steps[done] == event.name:
            reached[event.user_id] = done + 1
    counts = [sum(1 for done in reached.values() if done > number) for number in range(len(steps))]
    return {"steps": [{"event": step, "users": count} for step, count in zip(steps, counts, strict=True)]}


def forget_user(project: Project, user_id: str) -> int:
    """Deletes the user's events for good; how many."""
    kept = [event for event in project.events if event.user_id != user_id]
    gone = len(project.events) - len(kept)
    project.events.clear()
    project.events.extend(kept)
    return gone


def _within(projects: list[Project], arguments: Mapping[str, Any]) -> Iterator[Event]:
    span = parse_span(arguments)
    return (event for project in projects for event in project.events if span.start <= event.at < span.end)


def _group_key(event: Event, group_by: str) -> str:
    if group_by == "day":
        return render_time(event.at)[:10]
    return event.name if group_by == "event" else event.source or "direct"


def _parse_moment(value: object, default: float, refusal: Denied) -> float:
    if value is None or value == "":
        return default
    if not isinstance(value, str):
        raise refusal
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise refusal from None


def _demo_events(now: float) -> Iterator[Event]:
    for number in range(24):
        name = _DEMO_NAMES[number % len(_DEMO_NAMES)]
        source = _DEMO_SOURCES[number % len(_DEMO_SOURCES)]
        yield Event(name, now - (24 - number) * 3600.0, f"user-{number % 5}", source, {"demo": True})
