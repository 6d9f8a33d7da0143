"""How a key ends: waiting → doomed → revoked → dead. Pure, total.

`decide_retirements` gives one decision for every key that must die: the retiring ones, and a current one that leaked. A key is doomed and
revoked only while `EMERGENCY_CHECKS` or `ROUTINE_CHECKS` have nothing against it; they are asked again, on fresh facts, right before the
revoke (L19). Once revoked, only the proof of its death is left (L20).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum

from rotator.domain.decisions import (
    CloseRetirement,
    Decision,
    Do,
    Doom,
    Forget,
    OpenRetirement,
    Park,
    Probe,
    Revoke,
    Wait,
)
from rotator.domain.facts import AtDeadline, Facts, Level, Retirement, Verdict, WithoutReplacement
from rotator.domain.keys import KeyId
from rotator.domain.reasons import Reason
from rotator.domain.record import KeyEntry, Stage
from rotator.domain.standing import behind, guard, is_fresh, may_probe, probe_at, settles_at

REFUSALS_NEEDED = 10
"""L20: this many refusals, spread over the cache time, prove a death."""

Check = Callable[[Facts, KeyEntry, datetime], Decision | None]


class RetirementPhase(StrEnum):
    """Where a retirement stands."""

    WAITING = "waiting"
    DOOMED = "doomed"
    REVOKED = "revoked"
    DEAD = "dead"


def decide_retirements(facts: Facts, now: datetime) -> tuple[tuple[KeyId, Decision], ...]:
    """One decision for every key that must die, and for every open retirement whose key is gone."""
    standing = guard(facts, now)
    if standing is not None:
        return tuple((r.key_id, Wait(standing.reason)) for r in facts.retirements if isinstance(standing, Wait | Park))
    if facts.memory is None or facts.record is None:
        return ()
    ending = ending_keys(facts)
    decisions = [(entry.key_id, decide_retirement(facts, entry, now)) for entry in ending]
    known = {entry.key_id for entry in ending}
    for row in facts.retirements:
        if row.key_id not in known:
            back = facts.record.find(row.key_id) is not None
            decisions.append(
                (
                    row.key_id,
                    Do(CloseRetirement(row.key_id, Reason.ROLLED_BACK if back else Reason.CONFIRMED_ELSEWHERE)),
                )
            )
    return tuple(decisions)


def ending_keys(facts: Facts) -> tuple[KeyEntry, ...]:
    """The keys that must die: leaked ones first, then the oldest."""
    if facts.record is None:
        return ()
    ending = [k for k in facts.record.keys if k.stage is Stage.RETIRING or (k.stage is Stage.CURRENT and k.compromised_at is not None)]
    return tuple(sorted(ending, key=lambda k: k.compromised_at is None))


def phase_of(facts: Facts, entry: KeyEntry, row: Retirement | None) -> RetirementPhase:
    """The phase of a retirement, derived from what is true."""
    if row is not None and row.revoked_at is not None:
        return RetirementPhase.DEAD if is_dead(facts, entry, row) else RetirementPhase.REVOKED
    return RetirementPhase.WAITING if entry.doomed_at is None else RetirementPhase.DOOMED


def decide_retirement(facts: Facts, entry: KeyEntry, now: datetime) -> Decision:
    """The next step towards the death of one key."""
    row = facts.retirement(entry.key_id)
    if row is None:
        return Do(OpenRetirement(entry.key_id, _why(entry)))
    # A restored store forgets the doom of a key that was revoked: it is condemned again.
    # An acknowledged revoke without effect is asked for again.
    if entry.doomed_at is None or (facts.can_revoke(entry.key_id) and (row.revoked_at is None or is_outlived(facts, row))):
        objection = objects(facts, entry, now)
        if objection is not None:
            return objection
        if entry.doomed_at is None:
            return Do(Doom(entry.key_id))
        if row.retry_at is not None and row.retry_at > now:
            return Wait(Reason.BACKING_OFF, row.retry_at)
        return Do(Revoke(entry.key_id))
    return confirm(facts, entry, row, now)


def is_outlived(facts: Facts, row: Retirement) -> bool:
    """Whether the key works after every cache must have forgotten it: its acknowledged revoke never took effect."""
    seen = facts.seen(row.key_id)
    if row.revoked_at is None or seen.last_alive is None or seen.answer is not Verdict.ALIVE:
        return False
    return seen.last_alive >= row.revoked_at + 2 * facts.policy.cache_time


def objects(facts: Facts, entry: KeyEntry, now: datetime) -> Decision | None:
    """What speaks against dooming or revoking this key now; None: nothing."""
    checks = UNPROMOTED_CHECKS if entry.generation == 0 else EMERGENCY_CHECKS if entry.compromised_at is not None else ROUTINE_CHECKS
    for check in checks:
        decision = check(facts, entry, now)
        if decision is not None:
            return decision
    return None


def held_elsewhere(facts: Facts, entry: KeyEntry, _now: datetime) -> Decision | None:
    """L19: no credential holds the key as current or pending; nor do consumers find it at the store's place."""
    if entry.key_id in facts.held_elsewhere:
        return Wait(Reason.HELD_ELSEWHERE)
    if entry.stage is not Stage.CURRENT and facts.current == entry.key_id:
        return Wait(Reason.HELD_ELSEWHERE)
    return None


def wanted_back(facts: Facts, entry: KeyEntry, _now: datetime) -> Decision | None:
    """L28: a rollback wants this very key."""
    rotation = facts.rotation
    if rotation is not None and rotation.candidate == entry.key_id and entry.doomed_at is None:
        return Wait(Reason.ROLLBACK)
    return None


def recovered(facts: Facts, _entry: KeyEntry, _now: datetime) -> Decision | None:
    """L29: a journal that began over an old store revokes nothing by routine until a person accepts."""
    if facts.memory is not None and facts.memory.recovered:
        return Park(
            Reason.RECOVERED,
            "the journal is newer than the store's keys: look at `rotator status`, then run `rotator adopt`",
        )
    return None


def clock(facts: Facts, _entry: KeyEntry, _now: datetime) -> Decision | None:
    """L26: time decides only where it can be trusted."""
    if facts.clock_trusted:
        return None
    return Park(
        Reason.CLOCK_UNTRUSTED,
        "the local clock is more than 60 s off the service's, or behind the journal: correct the clock",
    )


def retired_since(facts: Facts, entry: KeyEntry) -> datetime | None:
    """The instant from which the overlap counts: when the key was retired, by its retirer's clock, but not before we saw it retired.

    A replica that stood still between taking the time and its commit writes an instant that is long past, while consumers lost the
    key only now.
    """
    row = facts.retirement(entry.key_id)
    if entry.retired_at is None or row is None:
        return None
    return max(entry.retired_at, row.opened_at)


def overlap(facts: Facts, entry: KeyEntry, now: datetime) -> Decision | None:
    """L17: consumers that give no receipt get `overlap.min`."""
    since = retired_since(facts, entry)
    if since is None:
        return Wait(Reason.OVERLAP)
    until = since + facts.policy.overlap_min
    return Wait(Reason.OVERLAP, until) if now < until else None


def receipts(facts: Facts, entry: KeyEntry, now: datetime) -> Decision | None:
    """L16 to L18: every required target holds the current key, or the deadline's choice is made."""
    late = behind(facts, now)
    if not late:
        return None
    names = tuple(t.name for t in late)
    placed = not behind(facts, now, settled=False)
    settling = [at for t in late if t.best_level is not Level.IN_USE and (at := settles_at(facts, t)) is not None]
    settles = placed and len(settling) == len(late)
    since = retired_since(facts, entry)
    deadline = since + facts.policy.overlap_max if since is not None else None
    if deadline is not None and now >= deadline:
        if facts.policy.at_deadline is AtDeadline.REVOKE:
            return None
        if not settles:
            return Park(
                Reason.CONSUMERS_BEHIND,
                f"overlap.max has passed and {', '.join(names)} still lack(s) the new key: the old key {entry.key_id} lives on; "
                "mend the target, make it `required: false`, or set `at_deadline: revoke`",
                names=names,
            )
    stuck = tuple(t for t in late if t.stuck)
    if stuck:
        return Park(
            Reason.CONSUMERS_BEHIND,
            f"{'; '.join(f'{t.name}: {t.stuck}' for t in stuck)}: the old key {entry.key_id} lives on until that is mended",
            until=deadline,
            names=tuple(t.name for t in stuck),
        )
    if settles:
        return Wait(Reason.SETTLING, max(settling), names)
    return Wait(Reason.TARGETS_BEHIND, deadline, names)


def current_is_fresh(facts: Facts, entry: KeyEntry, now: datetime) -> Decision | None:
    """L15, L19: current is another key, seen alive since it became current, and within the last minute."""
    current = facts.record.current if facts.record else None
    if current is None or current.key_id == entry.key_id or current.doomed_at is not None:
        return Wait(Reason.CURRENT_UNPROVEN)
    if is_fresh(facts, current, now):
        return None
    if may_probe(facts, current.key_id, now):
        return Do(Probe(current.key_id))
    again = probe_at(facts, current.key_id)
    if facts.seen(current.key_id).answer is Verdict.DEAD:
        return Park(
            Reason.CURRENT_DEAD,
            f"key {current.key_id} is current and is refused, so the old key {entry.key_id} lives on: `rotator rollback` brings it back, "
            "`rotator rotate` makes a new one",
            until=again,
        )
    return Wait(Reason.CURRENT_UNPROVEN, again)


def leak(facts: Facts, entry: KeyEntry, now: datetime) -> Decision | None:
    """L23: as soon as the replacement is promoted and every required receipt is in, at the latest at the leak deadline."""
    current = facts.record.current if facts.record else None
    replaced = current is not None and current.key_id != entry.key_id and current.compromised_at is None
    deadline = entry.compromised_at + facts.policy.leak_deadline if entry.compromised_at is not None else now
    if replaced:
        late = behind(facts, now, settled=False)
        if late and now < deadline:
            return Wait(Reason.TARGETS_BEHIND, deadline, tuple(t.name for t in late))
        objection = current_is_fresh(facts, entry, now)
        if objection is None:
            return None
        if now < deadline or facts.policy.without_replacement is WithoutReplacement.HOLD:
            return objection
        return None
    if now < deadline:
        return Wait(Reason.REPLACING, deadline)
    if facts.policy.without_replacement is WithoutReplacement.REVOKE:
        return None
    return Park(
        Reason.LEAK_HELD,
        f"key {entry.key_id} leaked, the leak deadline has passed and no replacement is promoted: see why the rotation is stuck, "
        "or set `without_replacement: revoke` to end it at the price of an outage",
    )


UNPROMOTED_CHECKS: tuple[Check, ...] = (held_elsewhere, wanted_back)
EMERGENCY_CHECKS: tuple[Check, ...] = (held_elsewhere, leak)
ROUTINE_CHECKS: tuple[Check, ...] = (held_elsewhere, wanted_back, recovered, clock, overlap, receipts, current_is_fresh)


def confirm(facts: Facts, entry: KeyEntry, row: Retirement, now: datetime) -> Decision:
    """L20, L21: refusals beside a living witness, until they outlast the service's cache."""
    if is_dead(facts, entry, row):
        if entry.stage is Stage.RETIRING:
            return Do(Forget(entry.key_id))
        return Wait(Reason.REPLACING)
    if may_probe(facts, entry.key_id, now):
        return Do(Probe(entry.key_id, witness=_witness(facts, entry)))
    again = probe_at(facts, entry.key_id)
    if row.revoked_at is None and facts.seen(entry.key_id).answer is not Verdict.DEAD:
        return Park(Reason.REVOKE_BY_HAND, f"the issuer cannot revoke: revoke key {entry.key_id} in the dashboard", until=again)
    seen = facts.seen(entry.key_id)
    if seen.answer is Verdict.DEAD and (not seen.refusals or seen.refusals[-1] != seen.asked_at):
        return Wait(Reason.NO_WITNESS, again)
    return Wait(Reason.CONFIRMING, again)


def is_dead(facts: Facts, entry: KeyEntry, row: Retirement) -> bool:
    """Whether the refusals of a doomed key prove its death."""
    seen = facts.seen(entry.key_id)
    starts = [at for at in (row.revoked_at, seen.last_alive) if at is not None]
    if seen.answer is not Verdict.DEAD or entry.doomed_at is None or not (starts or seen.refusals):
        return False
    start = max(starts) if starts else seen.refusals[0]
    counted = [at for at in seen.refusals if at >= start]
    return len(counted) >= REFUSALS_NEEDED and counted[-1] - start >= facts.policy.cache_time


def _why(entry: KeyEntry) -> Reason:
    if entry.compromised_at is not None:
        return Reason.COMPROMISED
    return Reason.ATTEMPT_ABANDONED if entry.generation == 0 else Reason.REPLACED


def _witness(facts: Facts, entry: KeyEntry) -> KeyId | None:
    current = facts.record.current if facts.record else None
    return current.key_id if current is not None and current.key_id != entry.key_id and current.doomed_at is None else facts.witness
