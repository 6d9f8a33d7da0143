"""Steps that bring a key to life: preflight, the attempt's lease, mint and stage, and the sweep of what got lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rotator.domain import decisions as do
from rotator.domain import record as store
from rotator.domain.credential import BoundTarget
from rotator.domain.errors import (
    AnswerLost,
    Conflict,
    IllegalTransition,
    KeyWanted,
    Misconfigured,
    NeedsHuman,
    Permanent,
    Refused,
    Retry,
    RotatorError,
    Unreachable,
)
from rotator.domain.ports import Event, Holding, Issued, Line, ListedKey, SaveMemory, SaveRotation
from rotator.domain.reasons import Reason
from rotator.domain.record import Attempt, KeyEntry, Orphan, Stage
from rotator.engine.look import FailedPreflight
from rotator.engine.work import Lines, Work, new_id

_STAGE_TRIES = 20


def preflight(work: Work, action: do.Preflight) -> Lines:
    """Is the store writable, does the issuer answer, can every required target be reached? Reads only."""
    credential = work.credential
    try:
        credential.store.check(credential.path)
        credential.issuer.check(work.order("preflight"))
        for bound in credential.targets:
            if action.targets and bound.required:
                _check_target(work, bound)
    except KeyWanted as problem:
        return _await_key(work, problem)
    except RotatorError as problem:
        now, before = work.now(), work.mind.preflight.get(credential.name)
        since = before.since if before is not None else now
        work.mind.preflight[credential.name] = FailedPreflight(now, since, str(problem), lasting=not isinstance(problem, Retry))
        raise
    work.mind.preflight.pop(credential.name, None)
    return (SaveRotation(replace(work.rotation, preflight_at=work.now())),)


def _await_key(work: Work, problem: KeyWanted) -> Lines:
    """The issuer has nothing to give out until a person brings it: the credential parks for that, and nothing has failed."""
    now, before = work.now(), work.mind.preflight.get(work.credential.name)
    work.mind.preflight[work.credential.name] = FailedPreflight(now, now, str(problem), lasting=True, reason=problem.reason)
    lines: list[Line] = [SaveRotation(replace(work.rotation, preflight_at=None))] if work.rotation.preflight_at is not None else []
    if before is None or before.reason is not problem.reason:
        lines.append(Event(now, "note", "wait", problem.reason, process=work.rotation.id, text=str(problem)))
    return tuple(lines)


def _check_target(work: Work, bound: BoundTarget) -> None:
    seen = work.look.observations.get(bound.name)
    try:
        bound.target.check(work.credential.name)
    except Refused as problem:
        recognised = seen is not None and seen.problem is None
        if problem.reason is not Reason.FOREIGN_ENTRY or not recognised:
            raise


def plan_attempt(work: Work, _action: do.OpenAttempt) -> Lines:
    """Written with the intent: the attempt's id is known to the journal before the store hears of it."""
    return (SaveRotation(replace(work.rotation, attempt=new_id())),)


def open_attempt(work: Work, _action: do.OpenAttempt) -> Lines:
    """Take the lease on minting (L3)."""
    rotation = work.journal.recall(work.credential.name).rotation
    assert rotation is not None
    assert rotation.attempt is not None
    facts = work.look.facts
    uid = facts.record.uid if facts.record else facts.memory.uid if facts.memory else new_id()
    work.commit(store.OpenAttempt(Attempt(rotation.attempt, work.now()), uid, facts.policy.installation))
    with work.mind.lock:
        work.mind.in_hand[work.credential.name] = rotation.attempt
    return ()


def close_attempt(work: Work, action: do.CloseAttempt) -> Lines:
    """Give the lease up, or take it from someone who let it expire."""
    work.commit(store.CloseAttempt(action.attempt, work.now(), lost=action.lost))
    work.mind.forget_attempt(work.credential.name, action.attempt)
    return (work.failed_rotation(work.rotation),) if action.failed and work.look.facts.rotation else ()


def mint(work: Work, action: do.Mint) -> Lines:
    """Ask the issuer for a key with the attempt's label, and lay it into the store as pending (L3, L14).

    Whatever goes wrong after the key was born: it is never revoked from here, since a stage whose answer was lost may have been
    applied. While the store does not take the key it is kept in memory, and staged when this step is taken again; should it get lost,
    the attempt's label lets the sweep find it.
    """
    credential = work.credential
    try:
        issued = work.mind.find_unstaged(credential.name, action.attempt) or credential.issuer.mint(work.order(action.attempt))
    except KeyWanted as problem:
        # Another credential was faster. The attempt is over and brought nothing, and that is nobody's failure.
        work.mind.give_back(credential.name, action.attempt)
        work.commit(store.CloseAttempt(action.attempt, work.now()))
        work.mind.forget_attempt(credential.name, action.attempt)
        note = Event(work.now(), "outcome", "mint", problem.reason, process=work.rotation.id, text=str(problem), ok=False)
        return (*_await_key(work, problem), note)
    except AnswerLost as problem:
        work.mind.forget_attempt(credential.name)
        return _lost(work, action, problem)
    except (Permanent, NeedsHuman, Misconfigured):
        work.mind.give_back(credential.name, action.attempt)
        raise
    work.mind.keep_unstaged(credential.name, action.attempt, issued)
    key_id = issued.secret.key_id
    try:
        overtaken = _stage(work, action, issued)
    except RotatorError as problem:
        text = f"key {key_id} is minted and waits to be stored: {problem}"
        # Another one would be minted each time, were it not kept.
        raise type(problem)(text, reason=problem.reason, **({"after": problem.after} if isinstance(problem, Retry) else {})) from None
    work.mind.forget_attempt(credential.name)
    return (Event(work.now(), "outcome", "mint", overtaken, process=work.rotation.id, key_id=key_id, ok=overtaken is None),)


def _lost(work: Work, action: do.Mint, problem: AnswerLost) -> Lines:
    now = work.now()
    text = f"attempt {action.attempt}: a key may have been minted, or may yet be: {problem}"
    return (Event(now, "outcome", "mint", Reason.ANSWER_LOST, process=work.rotation.id, text=text, ok=False),)


def _stage(work: Work, action: do.Mint, issued: Issued) -> Reason | None:
    """None when the key is staged, else why it is left to the sweep. Raises what the store raises, while it may take the key later."""
    credential = work.credential
    current = work.record.current
    entry = KeyEntry(
        key_id=issued.secret.key_id,
        stage=Stage.PENDING,
        minted_at=min(issued.minted_at, work.now()),
        staged_at=work.now(),
        attempt=action.attempt,
        reference=issued.reference,
        issuer=credential.issuer_name,
        replaces=current.key_id if current else None,
    )
    for _ in range(_STAGE_TRIES):
        try:
            seen = credential.store.read(credential.path)
            if _is_staged(seen, action.attempt):
                return None
            credential.store.commit(credential.path, seen, store.StageKey(entry, issued.secret))
        except (Conflict, AnswerLost):
            continue
        except IllegalTransition:
            return Reason.ATTEMPT_HELD
        return None
    raise Unreachable(f"the store of {credential.name} changed, or gave no answer, {_STAGE_TRIES} times in a row")


def _is_staged(seen: Holding, attempt: str) -> bool:
    return seen.record is not None and any(k.attempt == attempt for k in seen.record.keys)


def sweep(work: Work, _action: do.Sweep) -> Lines:
    """Look for living keys of closed attempts that stand in no stage (L7)."""
    facts, record, issuer = work.look.facts, work.record, work.credential.issuer
    assert facts.memory is not None
    prefix = work.label("")
    closed = {a.id for a in record.closed}
    now = work.now()
    orphans = []
    listing = issuer.list_labelled(prefix, work.credential.name)
    for listed in listing:
        attempt = listed.label.removeprefix(prefix)
        if record.find(listed.key_id) is not None:
            issuer.settle(listed.label, work.credential.name)
        elif not listed.revoked and attempt in closed:
            orphans.append(Orphan(listed.key_id, attempt, listed.reference))
    ended = _find_ended(record.orphans, listing)
    if ended is not None:
        work.commit(store.ForgetOrphan(ended.key_id))
        return (SaveMemory(replace(facts.memory, swept_at=None)), Event(now, "note", "orphan", Reason.DEAD, key_id=ended.key_id))
    # What was found must first be doomed under its closed attempt: only then may the attempt be forgotten.
    if not orphans and not record.orphans and any(a.at + store.SWEEP_FOR <= now for a in record.closed):
        work.commit(store.Swept(now))
    notes = tuple(
        Event(
            now,
            "note",
            "orphan",
            Reason.ANSWER_LOST,
            key_id=o.key_id,
            text=f"minted under the closed attempt {o.attempt}, in no stage",
            ok=False,
        )
        for o in orphans
    )
    return (SaveMemory(replace(facts.memory, swept_at=now, orphans=tuple(orphans))), *notes)


def _find_ended(orphans: Iterable[Orphan], listing: Iterable[ListedKey]) -> Orphan | None:
    """A doomed orphan that the issuer lists as revoked: whoever did that, nobody needs to any more."""
    revoked = {listed.key_id for listed in listing if listed.revoked}
    return next((orphan for orphan in orphans if orphan.key_id in revoked), None)


def doom_orphan(work: Work, action: do.DoomOrphan) -> Lines:
    """Condemn an orphan in the store before it is revoked. One that a person must end is kept, where its secret is known: it is watched
    until it is dead, as every key that must die."""
    memory = work.look.facts.memory
    assert memory is not None
    rest = SaveMemory(replace(memory, orphans=tuple(o for o in memory.orphans if o.key_id != action.orphan.key_id)))
    try:
        work.commit(_condemnation(work, action.orphan))
    except IllegalTransition as problem:
        # It stands in the store after all, or its attempt is not closed: it is no orphan.
        return (rest, Event(work.now(), "note", "orphan", Reason.ILLEGAL_TRANSITION, key_id=action.orphan.key_id, text=str(problem)))
    return (rest,)


def _condemnation(work: Work, orphan: Orphan) -> store.DoomOrphan | store.RetireOrphan:
    issuer, now = work.credential.issuer, work.now()
    known = () if issuer.abilities.revoke else issuer.list_labelled(work.label(orphan.attempt), work.credential.name)
    secret = next((listed.secret for listed in known if listed.key_id == orphan.key_id), None)
    if secret is None:
        return store.DoomOrphan(orphan)
    entry = KeyEntry(
        orphan.key_id, Stage.RETIRING, now, attempt=orphan.attempt, reference=orphan.reference, issuer=work.credential.issuer_name
    )
    return store.RetireOrphan(entry, secret, now)


def revoke_orphan(work: Work, action: do.RevokeOrphan) -> Lines:
    """End a condemned orphan; revoking a dead key is success."""
    orphan = action.orphan
    work.credential.issuer.revoke(orphan.key_id, orphan.reference)
    work.commit(store.ForgetOrphan(orphan.key_id))
    return ()
