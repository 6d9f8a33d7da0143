"""Follows what a waiting command started, until it has ended, a person is needed, or patience is over.

Only looks: nothing here changes anything, so stopping it (Ctrl-C, a time-out) leaves the daemon at work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from rotator.cli import api
from rotator.cli.api import Row
from rotator.cli.humane import parse_instant, render_span
from rotator.cli.output import Progress
from rotator.cli.present.timeline import CLOSED_DEAD, Story
from rotator.cli.present.words import is_worth_showing, render_event, split_wait

if TYPE_CHECKING:
    from rotator.remote.daemon import DaemonClient

DONE, FAILED, PERSON = 0, 1, 4

_PATIENCE = 30.0
"""Seconds that a daemon may be away, as when it is restarted, before following it ends."""
_PARKED_FOR = 6
"""Looks in a row: what parks may end by itself a moment later, as when an issuer is away for a second."""
_RETIREMENT_ONLY = frozenset({"consumers-behind", "revoke-by-hand", "leak-held", "clock-untrusted", "recovered"})
"""Reasons that park the end of an old key, and hold no rotation up."""
_KEY_ONLY = frozenset({"revoke-by-hand", "leak-held"})
"""Those of them that park the end of a leaked key too; their text names it."""
_RETIREMENTS = 20
"""Of one key of one credential; each roll-back to it has left one."""
_RETIREMENT_WAITS = frozenset({"overlap", "settling", "replacing", "confirming", "no-witness", "held-elsewhere", "not-due"})


INTERVAL = 0.5
"""Seconds between two looks."""


def _pause() -> None:
    threading.Event().wait(INTERVAL)


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to follow (None: until it ends), and how often to look."""

    timeout: timedelta | None
    pause: Callable[[], None] = _pause
    monotonic: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Ending:
    """How following one thing ended: the exit code and why."""

    credential: str
    code: int
    text: str
    rotation: Row | None = None
    story: Story | None = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is waited for, and until when."""

    text: str = ""
    until: str = ""


class Watch(Protocol):
    """One thing that is followed."""

    @property
    def waiting(self) -> Waiting:
        """What it waits for, by the last look."""

    def look(self, progress: Progress) -> Ending | None:
        """Look once; its end, or None while it goes on."""

    def give_up(self, after: timedelta) -> Ending:
        """Its end as far as this command is concerned."""


def follow(watches: Sequence[Watch], progress: Progress, pace: Pace) -> list[Ending]:
    """Look at all until each has ended. Raises `DaemonUnreachable` when the daemon stays away."""
    try:
        return _follow(watches, progress, pace)
    except KeyboardInterrupt:
        progress.say(datetime.now(UTC), "stopped following; the daemon goes on with it", ok=None)
        raise


def _follow(watches: Sequence[Watch], progress: Progress, pace: Pace) -> list[Ending]:
    from rotator.remote.daemon import DaemonUnreachable

    left, endings = list(watches), []
    started = seen = pace.monotonic()
    while True:
        try:
            for watch in list(left):
                ending = watch.look(progress)
                if ending is not None:
                    left.remove(watch)
                    endings.append(ending)
            seen = pace.monotonic()
            waits = [w.waiting for w in left]
            progress.wait_for("; ".join(w.text for w in waits if w.text), "; ".join(w.until for w in waits if w.until))
        except DaemonUnreachable:
            if pace.monotonic() - seen > _PATIENCE:
                raise
            progress.wait_for("the daemon does not answer; trying again")
        if not left:
            return endings
        if pace.timeout is not None and pace.monotonic() - started >= pace.timeout.total_seconds():
            return [*endings, *(w.give_up(pace.timeout) for w in left)]
        pace.pause()


@dataclass(slots=True)
class _Seen:
    """What the last look at a credential showed."""

    client: DaemonClient
    credential: str
    after: int
    """the journal line up to which everything was shown"""
    verbose: bool = False
    parked_looks: int = 0

    def read_events(self) -> list[Row]:
        events: list[Row] = []
        while True:
            page, self.after = api.fetch_events(self.client, self.credential, after=self.after)
            events += page
            if not page:
                return events

    def say(self, events: Sequence[Row], progress: Progress) -> None:
        for event in events:
            if is_worth_showing(event, verbose=self.verbose):
                at = parse_instant(event.get("at")) or datetime.now(UTC)
                progress.say(at, f"{self.credential}: {render_event(event)}", ok=bool(event.get("ok", True)))

    def is_parked(self, found: Sequence[Row]) -> bool:
        self.parked_looks = self.parked_looks + 1 if found else 0
        return self.parked_looks >= _PARKED_FOR


@dataclass(slots=True)
class RotationWatch:
    """Follows a rotation until it closes or parks."""

    seen: _Seen
    rotation: str
    waiting: Waiting = Waiting()

    def look(self, progress: Progress) -> Ending | None:
        """One look. Lines of the journal become lines of progress."""
        seen = self.seen
        row = api.fetch_rotation(seen.client, self.rotation)
        status = api.fetch_status(seen.client, seen.credential)
        seen.say([e for e in seen.read_events() if e.get("process") == self.rotation], progress)
        if row.get("closed_at"):
            outcome = str(row.get("outcome"))
            key = f", current key {row['key_id']}" if row.get("key_id") else ""
            return Ending(seen.credential, FAILED if outcome == "abandoned" else DONE, f"{outcome}{key}", rotation=row)
        parked = [p for p in _fresh_parked(status, parse_instant(row.get("opened_at"))) if p.get("reason") not in _RETIREMENT_ONLY]
        if seen.is_parked(parked):
            return Ending(seen.credential, PERSON, _render_parked(parked), rotation=row)
        self.waiting = _render_waiting(seen.credential, status, _RETIREMENT_WAITS)
        return None

    def give_up(self, after: timedelta) -> Ending:
        """After a time-out."""
        text = f"the rotation is still open after {render_span(after)}; it goes on: `rotator status {self.seen.credential}`"
        return Ending(self.seen.credential, FAILED, text)


@dataclass(slots=True)
class LeakWatch:
    """Follows a leaked key until it is proven dead or a person is needed."""

    seen: _Seen
    key_id: str
    reported_at: datetime
    waiting: Waiting = Waiting()
    events: list[Row] = field(default_factory=list)
    story: Story | None = None
    _refused: bool = False

    def look(self, progress: Progress) -> Ending | None:
        """One look. Lines of the journal become lines of progress."""
        seen = self.seen
        rows = api.fetch_retirements(seen.client, seen.credential, _RETIREMENTS, self.key_id)
        status = api.fetch_status(seen.client, seen.credential)
        events = seen.read_events()
        self.events += events
        seen.say(events, progress)
        reports = [e for e in self.events if e.get("action") == "leak" and e.get("key_id") == self.key_id]
        at = parse_instant(reports[0].get("at")) if reports else None
        self.reported_at = at or self.reported_at
        dying = _merge(rows, status, self.key_id, self.reported_at)
        story = self.story = Story(seen.credential, self.key_id, self.reported_at, tuple(self.events), status, dying)
        self._say_refused(story, progress)
        dying = dying or {}
        if dying.get("closed_at"):
            outcome = str(dying.get("outcome"))
            return Ending(seen.credential, DONE if outcome in CLOSED_DEAD else FAILED, outcome, story=story)
        parked = self._find_parked(status, revoked=bool(dying.get("revoked_at")))
        if seen.is_parked(parked):
            return Ending(seen.credential, PERSON, _render_parked(parked), story=story)
        self.waiting = self._render_waiting(status, dying)
        return None

    def give_up(self, after: timedelta) -> Ending:
        """After a time-out."""
        text = f"{self.key_id} is not proven dead after {render_span(after)}; it goes on: `rotator status {self.seen.credential}`"
        return Ending(self.seen.credential, FAILED, text, story=self.story)

    def _find_parked(self, status: Row, *, revoked: bool) -> list[Row]:
        found = []
        for parked in _fresh_parked(status, self.reported_at):
            reason = parked.get("reason")
            own = reason in _KEY_ONLY and self.key_id in str(parked.get("text"))
            if own or (reason not in _RETIREMENT_ONLY and not revoked):
                found.append(parked)
        return found

    def _say_refused(self, story: Story, progress: Progress) -> None:
        refused = parse_instant((story.retirement or {}).get("first_refused"))
        if refused is not None and refused >= self.reported_at and not self._refused:
            self._refused = True
            progress.say(refused, f"{self.seen.credential}: {self.key_id} refused for the first time since it was last alive")

    def _render_waiting(self, status: Row, dying: Row) -> Waiting:
        others = frozenset() if dying.get("revoked_at") else frozenset({"confirming", "no-witness"})
        said = _render_waiting(self.seen.credential, status, others | {"not-due", "overlap", "settling"})
        if not dying.get("revoked_at"):
            return said
        alive = parse_instant(dying.get("last_alive"))
        rest = ["its death can be proven one cache time after its revocation at the earliest"]
        if alive is not None:
            after = render_span(max(alive - self.reported_at, timedelta()))
            rest = [f"last seen alive {after} after the report", "its death can be proven one cache time after that at the earliest"]
        return Waiting(said.text, "; ".join(part for part in (said.until, *rest) if part))


def build_rotation_watch(client: DaemonClient, accepted: Row, after: int, *, verbose: bool) -> RotationWatch:
    """Follows what `rotate` accepted; `after` is the newest journal line before it was asked for."""
    return RotationWatch(_Seen(client, str(accepted["credential"]), after, verbose), str(accepted["rotation"]))


def build_leak_watch(client: DaemonClient, accepted: Row, key_id: str, after: int, reported_at: datetime, *, verbose: bool) -> LeakWatch:
    """Follows what `leak` accepted for one credential."""
    return LeakWatch(_Seen(client, str(accepted["credential"]), after, verbose), key_id, reported_at)


def _fresh_parked(status: Row, since: datetime | None) -> list[Row]:
    """What is parked by a look that is no older than what is followed."""
    seen_at = parse_instant(status.get("seen_at"))
    if seen_at is None or (since is not None and seen_at < since):
        return []
    return list(status.get("parked") or ())


def _render_parked(parked: Sequence[Row]) -> str:
    return "; ".join(f"a person is needed ({p.get('reason')}): {p.get('text')}" for p in parked)


def _render_waiting(credential: str, status: Row, ignored: frozenset[str]) -> Waiting:
    now = datetime.now(UTC)
    waits = [split_wait(w, now) for w in status.get("waiting") or () if w.get("reason") not in ignored]
    said = "; ".join(dict.fromkeys(text for text, _ in waits)) or f"it is {status.get('phase')}"
    behind = [str(t.get("name")) for t in status.get("targets") or () if t.get("state") != "current"]
    text = f"{credential}: {said}" + (f"; behind: {', '.join(behind)}" if behind else "")
    return Waiting(text, "; ".join(dict.fromkeys(until for _, until in waits if until)))


def _merge(rows: Sequence[Row], status: Row, key_id: str, since: datetime) -> Row | None:
    """The retirement that follows from the report, with what probes have seen so far where its row does not hold it yet."""
    former = {row.get("id") for row in rows if _is_former(row, since)}
    row = next((row for row in rows if row.get("id") not in former), None)
    sighted = next((r for r in status.get("retirements") or () if r.get("key_id") == key_id and r.get("id") not in former), None)
    if row is None or sighted is None or row.get("id") != sighted.get("id"):
        return row or sighted
    return {**row, **{name: row.get(name) or sighted.get(name) for name in ("revoked_at", "last_alive", "first_refused")}}


def _is_former(row: Row, since: datetime) -> bool:
    """Whether a retirement ended before the report: a key that was rolled back to is current again, and leaves one behind."""
    opened, closed = parse_instant(row.get("opened_at")), parse_instant(row.get("closed_at"))
    if closed is None:
        return False
    return closed < since or (row.get("outcome") == "rolled-back" and opened is not None and opened < since)
