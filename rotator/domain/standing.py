"""Checks that stand over every decision about a credential: whose is the store, has it gone back, is current proven, who is behind.

Every function here is pure.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from rotator.domain.decisions import Decision, Park, Wait
from rotator.domain.facts import Facts, Level, TargetFact, Verdict
from rotator.domain.keys import KeyId
from rotator.domain.reasons import Reason
from rotator.domain.record import KeyEntry

CLOCK_TOLERANCE = timedelta(seconds=60)
_AFTER_UNKNOWN = timedelta(seconds=1)
_MOST_DOUBLINGS = 16


def store_is_readable(facts: Facts, _now: datetime) -> Decision | None:
    """Nothing is decided about a store that does not answer."""
    return None if facts.readable else Wait(Reason.STORE_UNREACHABLE)


def store_is_ours(facts: Facts, _now: datetime) -> Decision | None:
    """L1: another installation's or another credential's record, or a place that moved, is never touched."""
    record, memory = facts.record, facts.memory
    if record is not None and record.installation != facts.policy.installation:
        return Park(
            Reason.OWNED_BY_ANOTHER,
            f"the store's record belongs to installation {record.installation!r}, this one is {facts.policy.installation!r}: "
            "point the credential at its own path, or run `rotator adopt` if this installation takes it over",
        )
    if memory is not None and memory.place != facts.place:
        return Park(
            Reason.MOVED,
            f"it was at {memory.place} and is now configured at {facts.place}: run `rotator adopt` if that is meant",
        )
    if memory is not None and record is not None and record.uid != memory.uid:
        return Park(
            Reason.OWNED_BY_ANOTHER,
            "the store's record is another credential's: correct the path, or run `rotator adopt` to accept what the store holds",
        )
    return None


def store_went_forward(facts: Facts, _now: datetime) -> Decision | None:
    """L2, L6: a store that lost keys or generations is not believed until a person says so."""
    record, memory = facts.record, facts.memory
    seen = max([memory.generation if memory else 0, *(t.generation or 0 for t in facts.targets)])
    if record is None:
        if facts.current is None and seen > 0:
            return Park(
                Reason.STORE_EMPTIED,
                "the store held this credential and is empty now: restore it, then run `rotator adopt`",
            )
        if facts.current is not None and memory is not None and memory.generation > 0:
            return Park(
                Reason.STORE_EMPTIED,
                "the store's lifecycle record is gone: restore it, or run `rotator adopt` to begin anew",
            )
        return None
    if record.generation < seen:
        return Park(
            Reason.STORE_WENT_BACK,
            f"the store shows generation {record.generation}, {seen} was seen before: it was restored from a backup, perhaps; "
            "restore the newer state, or run `rotator adopt` to go on from what it holds",
        )
    if record.generation > 0 and not record.vacant and (record.current is None or facts.current is None):
        return Park(Reason.STORE_EMPTIED, "the store holds no current key any more: restore it, then run `rotator adopt`")
    return None


GUARDS = (store_is_readable, store_is_ours, store_went_forward)


def guard(facts: Facts, now: datetime) -> Decision | None:
    """The first guard that speaks."""
    for check in GUARDS:
        decision = check(facts, now)
        if decision is not None:
            return decision
    return None


def is_proven(facts: Facts, entry: KeyEntry) -> bool:
    """L15: was the current key probed alive since it became current, and not refused after that?"""
    seen = facts.seen(entry.key_id)
    if seen.last_alive is None or entry.promoted_at is None or seen.answer is Verdict.DEAD:
        return False
    return seen.last_alive >= entry.promoted_at


def is_fresh(facts: Facts, entry: KeyEntry, now: datetime) -> bool:
    """L19: was the current key alive when it was last asked, and is that no older than a minute?"""
    seen = facts.seen(entry.key_id)
    if not is_proven(facts, entry) or seen.last_alive is None:
        return False
    # A sighting from the future is one from before the clock was set back.
    return seen.answer is Verdict.ALIVE and abs(now - seen.last_alive) <= facts.policy.fresh


def probe_at(facts: Facts, key_id: KeyId) -> datetime | None:
    """When a key may be asked again; None: at once."""
    seen = facts.seen(key_id)
    entry = facts.record.find(key_id) if facts.record else None
    if seen.asked_at is None or (entry is not None and entry.promoted_at is not None and seen.asked_at < entry.promoted_at):
        return None
    pause = facts.policy.probe_pause
    if seen.unknowns:
        # The network or the service stumbled: ask again soon at first.
        doublings: int = min(seen.unknowns, _MOST_DOUBLINGS) - 1
        pause = min(pause, _AFTER_UNKNOWN * (1 << doublings))
    return seen.asked_at + pause


def may_probe(facts: Facts, key_id: KeyId, now: datetime) -> bool:
    """Whether the pause since the last probe is over."""
    at, asked = probe_at(facts, key_id), facts.seen(key_id).asked_at
    return at is None or at <= now or (asked is not None and asked > now)


def counts(facts: Facts, target: TargetFact, now: datetime, *, settled: bool = True) -> bool:
    """L16: does this target's receipt for the current key count? `settled=False`: as soon as it is placed (an emergency)."""
    record = facts.record
    if record is None or record.current is None or not target.reachable or target.key_id != record.current.key_id:
        return False
    if not settled or target.level is Level.IN_USE:
        return True
    if target.best_level is Level.IN_USE:
        return False
    settles = settles_at(facts, target)
    return settles is not None and settles <= now


def settles_at(facts: Facts, target: TargetFact) -> datetime | None:
    """When a placed key counts as read by its consumer."""
    if target.since is None:
        return None
    return target.since + (facts.policy.overlap_min if target.settle is None else target.settle)


def behind(facts: Facts, now: datetime, *, settled: bool = True) -> tuple[TargetFact, ...]:
    """The required targets whose receipt does not count yet."""
    return tuple(t for t in facts.targets if t.required and not counts(facts, t, now, settled=settled))


def is_clock_trusted(offset: timedelta | None, newest_line: datetime | None, now: datetime) -> bool:
    """L26: within 60 s of the `Date` that the service answered with (None: not known yet), and not behind the newest journal line."""
    if offset is not None and abs(offset) > CLOCK_TOLERANCE:
        return False
    return newest_line is None or newest_line <= now + timedelta(seconds=1)
