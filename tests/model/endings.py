"""What must be so when a fair schedule has come to its end: everything is closed, or parked, and no key is forgotten (I2, I6)."""

from __future__ import annotations

from collections.abc import Iterable

from rotator.domain.reasons import Reason
from tests.model.actor import Choices
from tests.model.adversary import Model
from tests.model.symbols import KEYS, OUTSIDER, attempt_id, number
from tests.model.world import BAD, LIVES, Problem, State, service_of

EMERGENCY_PARKS = {Reason.LEAK_HELD, Reason.REVOKE_BY_HAND}


def find_problem(model: Model, state: State, replicas: Iterable[int]) -> Problem | None:
    """The first thing that is not as it should be; None: all is well."""
    for r in replicas:
        choices = model.choices(state, r)
        if choices.guarded:
            extra = model.extra(state)
            if not (extra.wiped or extra.emptied):
                return Problem("I6", "a guard parks everything, and nothing has happened to the store")
            return None  # a person is asked
        problem = (
            _orphan(model, state)
            or _unfinished(model, state, r, choices)
            or _undead(state, model, choices)
            or _behind(model, state, choices)
        )
        if problem is not None:
            return problem
    return None


def _orphan(model: Model, state: State) -> Problem | None:
    """I2: every key that was minted, or that stood in the store's place, is in a stage, or dead, or recorded as needing a person."""
    extra = model.extra(state)
    record, current = model.docs.docs[state.doc]
    if extra.wiped or record is None:
        return None
    held = {k.key_id for k in record.keys} | {current}
    lost = {a.id for a in record.lost}
    recorded = {o.key_id for o in record.orphans} if not model.world.policy.can_revoke else set()
    for key in range(OUTSIDER + 1):
        if (
            service_of(state.service, key) in (LIVES, BAD)
            and KEYS[key] not in held
            and KEYS[key] not in recorded
            and attempt_id(key) not in lost
        ):
            return Problem("I2", f"key {key} lives and nobody knows it")
    return None


def _unfinished(model: Model, state: State, r: int, choices: Choices) -> Problem | None:
    """The rotation is closed or parked, no lease and no pending key is left lying."""
    record = model.record(state)
    if choices.parked:
        return None
    away = any(t.away or t.lies for t in model.targets.items[state.targets])
    rotation = model.decider.journals[model.rep(state, r).journal].rotation
    if rotation is not None and not (away and set(choices.waits) == {Reason.TARGETS_BEHIND}):
        return Problem("I6", f"the rotation neither closes nor parks: {choices.waits}")
    if record is not None and record.attempt is not None:
        return Problem("I6", f"attempt {record.attempt.id} stays open")
    if record is not None and record.pending is not None:
        return Problem("I6", f"key {number(record.pending.key_id)} stays pending")
    return None


def _undead(state: State, model: Model, choices: Choices) -> Problem | None:
    """I6: every key that must die is gone, or the alert for it is firing."""
    extra = model.extra(state)
    record = model.record(state)
    for key, parked, waits in choices.ends:
        if not parked and not choices.parked and Reason.NO_WITNESS not in waits:
            return Problem("I6", f"the retirement of key {key} neither ends nor parks: {waits}")
    if extra.wiped or record is None:
        return None
    for key in range(OUTSIDER + 1):
        if extra.leaked >> key & 1 and service_of(state.service, key) == LIVES:
            alerts = next((p for k, p, _ in choices.ends if k == key), ())
            if not EMERGENCY_PARKS.intersection(alerts):
                return Problem("I6", f"the leaked key {key} lives on and no alert tells of it")
    return None


def _behind(model: Model, state: State, choices: Choices) -> Problem | None:
    """Every target that can be reached holds the current key, unless a person is asked."""
    record = model.record(state)
    if choices.parked or record is None or record.current is None or record.current.compromised_at is not None:
        return None
    for n, target in enumerate(model.targets.items[state.targets]):
        if not target.away and not target.lies and target.key != number(record.current.key_id):
            return Problem("I6", f"target {n} stays behind")
    return None
