"""What a look comes to, for status, metrics, and the index of what is due. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from rotator.domain.decisions import Decision, Do, Park, Wait
from rotator.domain.facts import Facts, Level
from rotator.domain.keys import KeyId
from rotator.domain.ports import HeldKey, View
from rotator.domain.reasons import Reason
from rotator.domain.rotation import is_emergency, phase_of
from rotator.engine.look import Look, Timing

_SOON = timedelta(milliseconds=5)
_POLLED = frozenset({Reason.ATTEMPT_HELD})
"""Held up by another replica, for seconds; everything else outside is looked at again every `recheck`."""
_RECHECKED = frozenset({Reason.TARGETS_BEHIND})
"""Has an end of its own, and may be over sooner: nobody tells when the last consumer works with a key."""
_POLL = timedelta(seconds=2)
_LOOK_AGAIN = (timedelta(seconds=2), timedelta(minutes=1), timedelta(minutes=10))
"""After a key was placed where nobody says whether it is used: a client may write its old copy back (R11)."""

Decisions = Sequence[tuple[KeyId | None, Decision]]


class Blocked(Protocol):
    """An action that failed and waits."""

    @property
    def until(self) -> datetime: ...
    @property
    def reason(self) -> Reason: ...
    @property
    def text(self) -> str: ...


def build_view(look: Look, decisions: Decisions, blocks: Iterable[Blocked], now: datetime, timing: Timing) -> View:
    """The summary of a look and of what was decided on it."""
    facts, credential = look.facts, look.credential
    record = facts.record
    current = record.current if record else None
    parked = tuple((d.reason, d.needs) for _, d in decisions if isinstance(d, Park))
    why = {Reason.STORE_UNREACHABLE: (look.error,)}
    waiting = [(d.reason, d.until, why.get(d.reason, d.names)) for _, d in decisions if isinstance(d, Wait)]
    blocks = tuple(blocks)
    waiting += [(b.reason, b.until, (b.text,)) for b in blocks]
    phase = phase_of(facts, now)
    return View(
        seen_at=now,
        due_at=_due_at(facts, decisions, blocks, now, timing),
        next_rotation_at=facts.due_at,
        expires_at=credential.expiry(current.minted_at) if current else None,
        keys=tuple(
            HeldKey(k.key_id, k.stage, k.minted_at, k.generation, k.promoted_at, k.retired_at, k.doomed_at, k.compromised_at)
            for k in (record.keys if record else ())
        ),
        phase=str(phase) if phase else None,
        parked=parked,
        waiting=tuple(dict.fromkeys(waiting)),  # a store that is away is so for every key that waits to die
        orphans=_orphans(facts),
        lane=lane_of(facts),
        blind=not facts.readable,
    )


def lane_of(facts: Facts) -> str:
    """Emergency before never-synced before routine."""
    if is_emergency(facts) or (facts.record is not None and any(k.compromised_at is not None for k in facts.record.keys)):
        return "emergency"
    never = facts.record is None or facts.record.generation == 0 or any(t.generation is None and t.key_id is None for t in facts.targets)
    return "never-synced" if never else "routine"


def _orphans(facts: Facts) -> int:
    found = {o.key_id for o in facts.memory.orphans} if facts.memory else set()
    doomed = {o.key_id for o in facts.record.orphans} if facts.record else set()
    return len(found | doomed) + (len(facts.record.lost) if facts.record else 0)


def _due_at(facts: Facts, decisions: Decisions, blocks: tuple[Blocked, ...], now: datetime, timing: Timing) -> datetime:
    """When to look again: at the earliest time that anything waits for, and every now and then anyway."""
    lane = lane_of(facts)
    times = [now + timing.resync, *(b.until for b in blocks)]
    for _, decision in decisions:
        if isinstance(decision, Do):
            continue
        if decision.until is not None:
            times.append(_from(decision.until, now, min(_POLL, timing.recheck)))
        if decision.reason in _POLLED or lane == "emergency":
            times.append(now + min(_POLL, timing.recheck))
        elif isinstance(decision, Park) or decision.reason in _RECHECKED or _is_open_ended(decision):
            times.append(now + timing.recheck)
    if facts.memory is not None and facts.memory.swept_at is not None and facts.record is not None and facts.record.closed:
        times.append(_from(facts.memory.swept_at + facts.policy.sweep_every, now, timing.recheck))
    times += _catch_up(facts, now, timing)
    placed = [t.since for t in facts.targets if t.since is not None and t.key_id is not None and t.best_level is Level.PLACED]
    times += [since + pause for since in placed for pause in _LOOK_AGAIN if since + pause > now]
    if facts.due_at is not None and (facts.rotation is None or facts.due_at > now):
        times.append(_from(facts.due_at, now, timing.recheck))
    return min(times)


def _catch_up(facts: Facts, now: datetime, timing: Timing) -> list[datetime]:
    """For targets that are behind, whether or not anything waits for them: a rotation may be long over."""
    current = facts.record.current if facts.record else None
    if current is None:
        return []
    late = [t for t in facts.targets if t.key_id != current.key_id]
    return [_from(t.retry_at, now, timing.recheck) if t.retry_at is not None else now + timing.recheck for t in late]


def _is_open_ended(decision: Wait) -> bool:
    return decision.until is None and decision.reason is not Reason.NOT_DUE


def _from(at: datetime, now: datetime, otherwise: timedelta) -> datetime:
    """That time; one that is past was not enough, so something else is in the way, which is looked at again after a while."""
    return max(at, now + _SOON) if at > now else now + otherwise
