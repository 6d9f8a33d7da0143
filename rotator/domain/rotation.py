"""What a credential's rotation does next. Pure, total: every combination of facts has an answer.

`decide_rotation` asks the checks of `CHECKS` in order; the first that speaks decides. Each check is one rule, or one small family of
rules, of the lifecycle; the numbers name them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum

from rotator.domain.decisions import (
    Adopt,
    CloseAttempt,
    CloseRotation,
    Decision,
    Distribute,
    Do,
    DoomOrphan,
    Mint,
    OpenAttempt,
    OpenRotation,
    Park,
    Preflight,
    Probe,
    Promote,
    Recognise,
    Retire,
    RevokeOrphan,
    Sweep,
    Wait,
)  # fmt: skip
from rotator.domain.facts import Facts, Rotation, Verdict
from rotator.domain.keys import PUBLISHED_TOOLS, KeyId
from rotator.domain.reasons import Reason
from rotator.domain.record import KeyEntry
from rotator.domain.standing import GUARDS, behind, is_proven, may_probe, probe_at

PREFLIGHT_FOR = timedelta(minutes=10)
"""How long a passed preflight is believed."""

Check = Callable[[Facts, datetime], Decision | None]


class Phase(StrEnum):
    """Where a rotation stands."""

    OPENED = "opened"
    STAGED = "staged"
    VERIFIED = "verified"
    PROMOTED = "promoted"


def decide_rotation(facts: Facts, now: datetime) -> Decision:
    """The next step of the credential's rotation, of its distribution, or of the sweep of its orphans."""
    for check in CHECKS:
        decision = check(facts, now)
        if decision is not None:
            return decision
    return Wait(Reason.NOT_DUE, facts.due_at)


def phase_of(facts: Facts, now: datetime) -> Phase | None:
    """The phase of the open rotation, derived from what is true; None without one."""
    if facts.rotation is None:
        return None
    if is_promoted(facts, facts.rotation):
        return Phase.PROMOTED
    pending = facts.record.pending if facts.record else None
    if pending is None:
        return Phase.OPENED
    return Phase.VERIFIED if verify(facts, pending, now) is None else Phase.STAGED


def is_promoted(facts: Facts, rotation: Rotation) -> bool:
    """Whether current is another key than when the rotation was opened: by this replica, by a sibling, or from outside."""
    current = facts.record.current if facts.record else None
    return current is not None and current.key_id != rotation.replaces


def is_emergency(facts: Facts) -> bool:
    """L22: derived, so that a leak upgrades the open rotation in place."""
    current = facts.record.current if facts.record else None
    return (facts.rotation is not None and facts.rotation.emergency) or (current is not None and current.compromised_at is not None)


def recognise(facts: Facts, _now: datetime) -> Decision | None:
    """L29: a journal that meets a record for the first time remembers it; over keys it never saw it is *recovered*."""
    if facts.memory is None and facts.record is not None:
        return Do(Recognise(recovered=facts.record.generation > 0))
    return None


def settle_outsider(facts: Facts, now: datetime) -> Decision | None:
    """L13, L15: a key that someone else made current is verified, then adopted; one that does not answer is not."""
    known = facts.record.current if facts.record else None
    key = facts.current
    if key is None or (known is not None and known.key_id == key):
        return None
    if key.kind is not facts.policy.kind:
        return Park(
            Reason.BROADER_THAN_DECLARED,
            f"key {key} was written from outside and is of kind {key.kind}, not {facts.policy.kind}: put back a key of the declared kind",
        )
    seen = facts.seen(key)
    if seen.answer is Verdict.ALIVE and not (facts.record is not None and facts.record.is_doomed(key)):
        extra = _find_extra_tools(facts, seen.tools)
        if not extra:
            return Do(Adopt(key))
        return Park(
            Reason.BROADER_THAN_DECLARED,
            f"key {key} was written from outside and lists tools beyond kind {facts.policy.kind}: {', '.join(extra)}; add them to "
            "`allowed_tools` if that is meant, or put a narrower key there",
        )
    if may_probe(facts, key, now):
        return Do(Probe(key))
    if seen.answer is Verdict.UNKNOWN:
        return Wait(Reason.VERIFYING, probe_at(facts, key))
    return Park(
        Reason.OUTSIDER_DEAD,
        f"key {key} was written from outside and is refused, or doomed: write one that works, or put the former one back",
        until=probe_at(facts, key),
    )


def give_up(facts: Facts, _now: datetime) -> Decision | None:
    """L4: abandoning works before promotion only; the key in hand is retired."""
    rotation = facts.rotation
    if rotation is None or not rotation.abandon or is_promoted(facts, rotation):
        return None
    record = facts.record
    if record is not None and record.pending is not None:
        return Do(Retire(record.pending.key_id, failed=False))
    if record is not None and record.attempt is not None and facts.attempt is not None and facts.attempt.ours:
        return Do(CloseAttempt(record.attempt.id, failed=False, lost=not facts.policy.can_list and facts.attempt.unstaged))
    return Do(CloseRotation(Reason.ABANDONED))


def close_superseded(facts: Facts, now: datetime) -> Decision | None:
    """L4: a promoted rotation whose key leaked, or is due again, makes room for the next one; distribution goes on for that."""
    rotation, record = facts.rotation, facts.record
    if rotation is None or record is None or record.current is None or not is_promoted(facts, rotation):
        return None
    due = facts.due_at is not None and facts.due_at <= now
    return Do(CloseRotation(Reason.SUPERSEDED)) if due or record.current.compromised_at is not None else None


def open_needed(facts: Facts, now: datetime) -> Decision | None:
    """Whether a rotation must be opened, most urgent reason first."""
    if facts.rotation is not None:
        return None
    record = facts.record
    current = record.current if record else None
    replaces = current.key_id if current else None
    if current is not None and current.compromised_at is not None:
        return Do(OpenRotation(Reason.EMERGENCY, replaces))
    if current is None:
        if facts.policy.can_mint:
            return Do(OpenRotation(Reason.BOOTSTRAP, None))
        return Park(
            Reason.NO_ISSUER,
            f"{facts.place} holds no key and the credential has no issuer that can mint: write one there",
        )
    if record is not None and record.pending is not None:
        return Do(OpenRotation(Reason.RESUMED, replaces))
    if facts.due_at is not None and facts.due_at <= now:
        return Do(OpenRotation(Reason.SCHEDULED, replaces))
    return None


def close_stale_attempt(facts: Facts, _now: datetime) -> Decision | None:
    """L3, L8: an attempt that nobody works at is closed, so that its key, if it ever comes to life, is swept, or known to be possible."""
    record, view = facts.record, facts.attempt
    if record is None or record.attempt is None or view is None:
        return None
    # A key that the store did not take within the lease is not kept for ever: something else may stand before its turn.
    if not (view.unstaged and view.expired if view.in_hand else view.ours or view.expired):
        return None
    # Whoever opened it may have asked the issuer: its answer was lost, it crashed, or it stands still with the key in hand.
    return Do(CloseAttempt(record.attempt.id, failed=view.ours, lost=not facts.policy.can_list and not view.barren))


def end_orphans(facts: Facts, _now: datetime) -> Decision | None:
    """L7: an orphan is a standing fact in every phase: doomed in the store, then revoked."""
    record = facts.record
    if record is None or facts.orphans_wait:
        return None
    # Someone may have put an orphan into the store's place: consumers work with it.
    doomed_orphans = [o for o in record.orphans if o.key_id != facts.current]
    if doomed_orphans and facts.policy.can_revoke:
        return Do(RevokeOrphan(doomed_orphans[0]))
    if facts.memory is not None:
        doomed = {o.key_id for o in record.orphans}
        for orphan in facts.memory.orphans:
            if orphan.key_id not in doomed and orphan.key_id != facts.current:
                return Do(DoomOrphan(orphan))
    return None


def sweep_hourly(facts: Facts, now: datetime) -> Decision | None:
    """L7: for a day after an attempt closed, a key that came late is looked for every hour, also by a replica that never rotated."""
    if not _can_sweep(facts) or facts.orphans_wait or facts.record is None or facts.memory is None:
        return None
    since = facts.memory.swept_at or min(a.at for a in facts.record.closed)
    return Do(Sweep()) if since + facts.policy.sweep_every <= now else None


def distribute(facts: Facts, now: datetime) -> Decision | None:
    """L15: every target is brought to the current key, once that was seen alive since it became current. Never to a leaked one."""
    record = facts.record
    current = record.current if record else None
    if current is None or current.compromised_at is not None or current.doomed_at is not None:
        return None
    todo = tuple(
        t.name
        for t in facts.targets
        if t.reachable and t.key_id != current.key_id and t.problem is None and (t.retry_at is None or t.retry_at <= now)
    )
    if not todo:
        return None
    if is_proven(facts, current):
        return Do(Distribute(todo[:1]))  # one a step: a step in hand ends within 30 s (L25)
    return Do(Probe(current.key_id)) if may_probe(facts, current.key_id, now) else None


def prove_current(facts: Facts, now: datetime) -> Decision | None:
    """A promoted key is proven even where there is no target to tell: an old one is revoked only then."""
    rotation, record = facts.rotation, facts.record
    current = record.current if record else None
    if current is None or is_proven(facts, current):
        return None
    refused = facts.seen(current.key_id).answer is Verdict.DEAD
    if not refused if rotation is None else not is_promoted(facts, rotation):
        return None
    if may_probe(facts, current.key_id, now):
        return Do(Probe(current.key_id))
    if refused:
        return Park(
            Reason.CURRENT_DEAD,
            f"key {current.key_id} is current and is refused: `rotator rollback` brings the former key back while it lives, "
            "`rotator rotate` makes a new one",
            until=probe_at(facts, current.key_id),
        )
    return Wait(Reason.CURRENT_UNPROVEN, probe_at(facts, current.key_id))


def close_distributed(facts: Facts, now: datetime) -> Decision | None:
    """A promoted rotation closes when every required target holds the key; the issuer is swept once more before."""
    rotation, record = facts.rotation, facts.record
    if rotation is None or record is None or not is_promoted(facts, rotation):
        return None
    late = behind(facts, now, settled=False)
    if late:
        stuck = tuple(t.name for t in late if t.problem is not None)
        if stuck:
            return Park(
                Reason.CONSUMERS_BEHIND,
                f"{', '.join(stuck)} cannot be written (`rotator status` says why): mend it, or make it `required: false`",
                names=stuck,
            )
        retries = [t.retry_at for t in late if t.retry_at is not None]
        return Wait(Reason.TARGETS_BEHIND, min(retries) if retries else None, tuple(t.name for t in late))
    if _unswept(facts):
        return Do(Sweep())
    outsider = record.current is not None and record.current.attempt is None
    return Do(CloseRotation(Reason.SUPERSEDED if outsider else Reason.DISTRIBUTED))


def roll_back(facts: Facts, now: datetime) -> Decision | None:
    """L28: a rotation without a mint."""
    rotation, record = facts.rotation, facts.record
    if rotation is None or rotation.candidate is None or record is None:
        return None
    entry = record.find(rotation.candidate)
    if entry is None or entry.doomed_at is not None or entry.compromised_at is not None:
        return Do(CloseRotation(Reason.ABANDONED))
    if record.pending is not None:
        return Do(Retire(record.pending.key_id, failed=False))
    seen = facts.seen(entry.key_id)
    if seen.last_alive is not None and seen.last_alive >= rotation.opened_at and seen.answer is Verdict.ALIVE:
        return Do(Promote(entry.key_id, rotation.replaces))
    if seen.answer is Verdict.DEAD and seen.asked_at is not None and seen.asked_at >= rotation.opened_at:
        return Do(CloseRotation(Reason.ABANDONED))
    if may_probe(facts, entry.key_id, now):
        return Do(Probe(entry.key_id))
    return Wait(Reason.VERIFYING, probe_at(facts, entry.key_id))


def take_pending_on(facts: Facts, now: datetime) -> Decision | None:
    """L11, L12, L13: a pending key is verified and promoted, or given up."""
    record = facts.record
    if facts.rotation is None or record is None or record.pending is None:
        return None
    pending, current = record.pending, record.current
    if pending.compromised_at is not None or pending.replaces != (current.key_id if current else None):
        return Do(Retire(pending.key_id, failed=False))
    decision = verify(facts, pending, now)
    if decision is not None:
        return decision
    return Do(Promote(pending.key_id, pending.replaces))


def verify(facts: Facts, pending: KeyEntry, now: datetime) -> Decision | None:
    """None where the pending key is verified; else what is missing."""
    if pending.key_id.kind is not facts.policy.kind:
        return Do(Retire(pending.key_id, failed=True))
    seen = facts.seen(pending.key_id)
    if seen.answer is Verdict.ALIVE:
        if _accepted_long_enough(facts, pending):
            return check_power(facts, pending)
    elif seen.answer is Verdict.DEAD:
        given_up = _give_refused_up(facts, pending, now)
        if given_up is not None:
            return given_up
    if not may_probe(facts, pending.key_id, now):
        return Wait(Reason.VERIFYING, probe_at(facts, pending.key_id))
    return Do(Probe(pending.key_id, witness=_witness(facts) if seen.ever_refused else None))


def check_power(facts: Facts, pending: KeyEntry) -> Decision | None:
    """L12: no more powerful than declared. What could not be read is unchecked."""
    extra = _find_extra_tools(facts, pending.tools)
    if not extra:
        return None
    return Park(
        Reason.BROADER_THAN_DECLARED,
        f"key {pending.key_id} lists tools beyond kind {facts.policy.kind}: {', '.join(extra)}; add them to `allowed_tools` if that is "
        "meant, or run `rotator abandon`",
    )


def _find_extra_tools(facts: Facts, tools: tuple[str, ...] | None) -> list[str]:
    record = facts.record
    former = record.current.tools if record and record.current and record.current.tools else ()
    return sorted(set(tools or ()) - PUBLISHED_TOOLS[facts.policy.kind] - set(former) - facts.policy.allowed_tools)


def mint(facts: Facts, now: datetime) -> Decision | None:
    """L3, L6 to L9: one attempt at a time, swept and preflighted before, minted only by who holds it."""
    rotation, record = facts.rotation, facts.record
    if rotation is None or (record is not None and record.pending is not None):
        return None
    if record is not None and record.attempt is not None:
        if facts.attempt is not None and facts.attempt.in_hand:
            return Do(Mint(record.attempt.id))
        return Wait(Reason.ATTEMPT_HELD)
    stuck = _cannot_mint(facts, rotation, now)
    if stuck is not None:
        return stuck
    if _unswept(facts):
        return Do(Sweep())
    if rotation.preflight_at is None or rotation.preflight_at + PREFLIGHT_FOR <= now:
        return Do(Preflight(targets=not is_emergency(facts)))
    return Do(OpenAttempt())


def drop_idle_attempt(facts: Facts, _now: datetime) -> Decision | None:
    """L3: the lease is in hand but there is nothing to mint any more (a sibling was faster): give it back."""
    record, view = facts.record, facts.attempt
    if record is None or record.attempt is None or view is None or not view.in_hand:
        return None
    if facts.rotation is not None and record.pending is None and not is_promoted(facts, facts.rotation):
        return None
    return Do(CloseAttempt(record.attempt.id, failed=False, lost=not facts.policy.can_list and view.unstaged))


def tell_orphans(facts: Facts, now: datetime) -> Decision | None:
    """L7, L21: an orphan that its issuer cannot revoke holds nothing up, and a person is told of it."""
    record = facts.record
    orphans = () if record is None or facts.policy.can_revoke else tuple(o for o in record.orphans if o.key_id != facts.current)
    if not orphans:
        return None
    names = ", ".join(sorted(str(o.key_id) for o in orphans))
    swept_at = facts.memory.swept_at if facts.memory else None
    until = max(swept_at + facts.policy.sweep_every, now) if swept_at is not None else None
    return Park(
        Reason.REVOKE_BY_HAND,
        f"minted, lost, and the issuer cannot revoke: revoke {names} in the dashboard; it ends when the issuer lists it as revoked",
        until=until,
    )


def _cannot_mint(facts: Facts, rotation: Rotation, now: datetime) -> Decision | None:
    if not facts.policy.can_mint:
        return Park(
            Reason.NO_ISSUER,
            "the credential has no issuer that can mint: configure one, or write a new key into the store",
        )
    if rotation.failures >= facts.policy.max_failures:
        if _unswept(facts) and not facts.orphans_wait:
            return Do(Sweep())  # what the last attempt brought is found now, not within the hour
        return Park(
            Reason.ATTEMPTS_FAILED,
            f"{rotation.failures} attempts in a row brought no usable key: see `rotator history`, then `rotator retry` or `abandon`",
        )
    if not facts.policy.can_list and facts.record is not None and len(facts.record.lost) > 1:
        return Park(
            Reason.POSSIBLY_ORPHANED,
            "the answers of two mints were lost and the issuer cannot list: revoke unknown keys by hand, then run `rotator retry`",
        )
    if facts.preflight_problem is not None and not facts.preflight_lasts:
        return Wait(Reason.PREFLIGHT_FAILED, names=(facts.preflight_problem,))
    if facts.preflight_problem is not None and facts.preflight_reason is not Reason.PREFLIGHT_FAILED:
        return Park(facts.preflight_reason, facts.preflight_problem)
    if facts.preflight_problem is not None:
        return Park(Reason.PREFLIGHT_FAILED, f"nothing is minted that can't be put anywhere: {facts.preflight_problem}")
    if rotation.retry_at is not None and rotation.retry_at > now:
        return Wait(Reason.BACKING_OFF, rotation.retry_at)
    return None


def _accepted_long_enough(facts: Facts, pending: KeyEntry) -> bool:
    seen = facts.seen(pending.key_id)
    if not seen.ever_refused or is_emergency(facts):
        return True
    # A refusal may be cached by one worker while another one answers: only the cache time tells.
    return seen.alive_since is not None and seen.last_alive is not None and seen.last_alive - seen.alive_since >= facts.policy.cache_time


def _give_refused_up(facts: Facts, pending: KeyEntry, now: datetime) -> Decision | None:
    seen = facts.seen(pending.key_id)
    # Refusals beside a witness that answers prove the key bad; without one they prove nothing about it, and no time counts. A refusal may
    # be cached, from an outage that is over: only a run that outlasts the cache is the service's word.
    if seen.refusals and seen.refusals[-1] == seen.asked_at:
        lasting = seen.refusals[-1] - seen.refusals[0] >= max(facts.policy.verify_for, facts.policy.cache_time)
        return Do(Retire(pending.key_id, failed=True)) if lasting else None
    if seen.first_refused is None or now < seen.first_refused + facts.policy.verify_for:
        return None
    if may_probe(facts, pending.key_id, now):
        return Do(Probe(pending.key_id, witness=_witness(facts)))
    return Park(
        Reason.UNVERIFIABLE,
        f"key {pending.key_id} is refused and no known key answers at the endpoint either: see whether the service is well; "
        "it is probed on, `rotator abandon` gives it up",
        until=probe_at(facts, pending.key_id),
    )


def _witness(facts: Facts) -> KeyId | None:
    current = facts.record.current if facts.record else None
    return current.key_id if current is not None else facts.witness


def _can_sweep(facts: Facts) -> bool:
    return facts.policy.can_list and facts.record is not None and bool(facts.record.closed)


def _unswept(facts: Facts) -> bool:
    if not _can_sweep(facts) or facts.record is None:
        return False
    swept_at = facts.memory.swept_at if facts.memory else None
    return swept_at is None or any(a.at > swept_at for a in facts.record.closed)


CHECKS: tuple[Check, ...] = (
    *GUARDS,
    recognise,  # L29
    close_stale_attempt,  # L3, L8
    end_orphans,  # L7
    sweep_hourly,  # L7
    settle_outsider,  # L13, L15
    drop_idle_attempt,  # L3
    give_up,  # L4
    close_superseded,  # L4, L22
    open_needed,  # L6, L22
    distribute,  # L15, L16
    prove_current,  # L15
    close_distributed,  # L4, L7
    roll_back,  # L28
    take_pending_on,  # L11-L13
    mint,  # L3, L7-L9
    tell_orphans,  # L7, L21
)
