"""The story of one leaked key: from the report to the proof of its death, each with its distance from the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rotator.cli.humane import parse_instant, render_exact, render_span, render_stamp
from rotator.cli.present.blocks import BAD, GOOD, STRONG, WARN, Block, Cell, Column, Gap, Note, Table
from rotator.cli.present.words import Row

_COLUMNS = (Column("TIME (UTC)", keep=True), Column("AFTER", keep=True, right=True), Column("WHAT"))
CLOSED_DEAD = frozenset({"dead", "confirmed-elsewhere"})


@dataclass(frozen=True, slots=True)
class Story:
    """What is known about one leaked key, as the API told it."""

    credential: str
    key_id: str
    reported_at: datetime
    events: Sequence[Row] = ()
    """of the credential, since the report"""
    status: Row | None = None
    retirement: Row | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """One line of the timeline. `what` is a stable word for --json."""

    what: str
    at: datetime
    text: str


def find_replacement(story: Story) -> tuple[str, datetime | None] | None:
    """The key that took the leaked one's place, and when it was promoted, where that was seen."""
    status = story.status or {}
    for event in reversed(story.events):
        if event.get("action") == "promote" and event.get("phase") == "outcome" and event.get("ok", True) and event.get("key_id"):
            return str(event["key_id"]), parse_instant(event.get("at"))
    current = status.get("key_id")
    return (str(current), None) if current and current != story.key_id else None


def find_behind(story: Story) -> list[Row]:
    """The targets that do not hold the current key."""
    return [t for t in (story.status or {}).get("targets") or () if t.get("state") != "current"]


def build_moments(story: Story) -> list[Moment]:
    """What has happened so far, in the order of time; the report stands first among equals."""
    moments = [Moment("reported", story.reported_at, f"{story.key_id} of {story.credential} reported as leaked")]
    replacement = find_replacement(story)
    if replacement is not None and replacement[1] is not None:
        moments.append(Moment("replaced", replacement[1], f"replaced by {replacement[0]}"))
    for target in (story.status or {}).get("targets") or ():
        since = parse_instant(target.get("since"))
        if replacement is not None and target.get("key_id") == replacement[0] and target.get("state") == "current" and since is not None:
            moments.append(Moment("receipt", since, f"{target.get('name')} holds {replacement[0]}"))
    dying = story.retirement or {}
    for what, key, text in (
        ("revoked", "revoked_at", "revoked at the service"),
        ("last-alive", "last_alive", "last seen alive"),
        ("first-refused", "first_refused", "first refused"),
        ("dead", "confirmed_at", "confirmed dead"),
    ):
        at = parse_instant(dying.get(key))
        if at is not None:
            moments.append(Moment(what, at, f"{story.key_id} {text}"))
    return sorted(moments, key=lambda m: m.at)


def build_timeline(story: Story) -> list[Block]:
    """The timeline as a table, and below it how it stands."""
    rows = tuple(
        (render_stamp(m.at.isoformat()), _after(m.at - story.reported_at), Cell(m.text, STRONG if m.what in ("reported", "dead") else ""))
        for m in build_moments(story)
    )
    blocks: list[Block] = [Note(f"{story.credential}: {story.key_id}", STRONG), Table(_COLUMNS, rows)]
    blocks += [Note(_render_behind(t), WARN) for t in find_behind(story)]
    return [*blocks, _conclude(story), Gap()]


def _conclude(story: Story) -> Note:
    dying = story.retirement or {}
    outcome = str(dying.get("outcome") or "")
    replacement = find_replacement(story)
    if outcome == "dead":
        alive, refused = render_stamp(dying.get("last_alive")), render_stamp(dying.get("first_refused"))
        if dying.get("last_alive"):
            return Note(f"dead: it stopped working between {alive} and {refused} UTC", GOOD)
        return Note(f"dead: refused since {refused} UTC, never seen alive by this daemon", GOOD)
    if outcome in CLOSED_DEAD:
        return Note("dead: another replica proved it", GOOD)
    if outcome:
        return Note(f"its retirement ended as {outcome}: the key was not proven dead", BAD)
    missing = [] if replacement else ["it has no replacement yet"]
    missing.append("it is revoked and not yet proven dead" if dying.get("revoked_at") else "it is not revoked yet")
    return Note("; ".join(missing), BAD)


def build_story_json(story: Story) -> dict[str, Any]:
    """The same for --json: exact times, and seconds after the report."""
    replacement = find_replacement(story)
    return {
        "credential": story.credential,
        "key_id": story.key_id,
        "reported_at": render_exact(story.reported_at),
        "replaced_by": replacement[0] if replacement else None,
        "outcome": (story.retirement or {}).get("outcome"),
        "timeline": [
            {
                "what": m.what,
                "at": m.at.isoformat().replace("+00:00", "Z"),
                "after_seconds": (m.at - story.reported_at).total_seconds(),
                "text": m.text,
            }
            for m in build_moments(story)
        ],
        "behind": [t.get("name") for t in find_behind(story)],
        "retirement": story.retirement,
    }


def _after(span: timedelta) -> str:
    return f"+{render_span(span)}" if span >= timedelta() else render_span(span)


def _render_behind(target: Row) -> str:
    required = "" if target.get("required", True) else " (not required)"
    why = f": {target['text']}" if target.get("text") else ""
    return f"{target.get('name')}{required} is {target.get('state')}{why}"
