"""The worlds that are walked: the quick tier with every test run, the long tier by `python -m tests.model --long`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from rotator.domain.facts import AtDeadline, WithoutReplacement
from tests.model.world import EFFECT_FAULTS, HOLLOW, POLICY, PROBE_FAULTS, STALE, TargetSpec, World

TARGET = TargetSpec()
PLAIN = TargetSpec(keeps_generation=False)
OPTIONAL = TargetSpec(required=False)
ALL_FAULTS = EFFECT_FAULTS | PROBE_FAULTS


def events(**bounds: int) -> tuple[tuple[str, int], ...]:
    """What may happen besides faults, and how often."""
    return tuple((name.replace("_", "-"), bound) for name, bound in bounds.items())


ACCIDENTS = frozenset({"crash", "lost"})
CANNOT_LIST = replace(POLICY, can_list=False)
CANNOT_REVOKE = replace(POLICY, can_revoke=False)
REVOKE_UNREPLACED = replace(POLICY, without_replacement=WithoutReplacement.REVOKE)
REVOKE_AT_DEADLINE = replace(POLICY, at_deadline=AtDeadline.REVOKE)


def _one(name: str, faults: frozenset[str], budget: int = 1, **more: Any) -> World:
    return World(name, faults, budget, replicas=1, **more)


def _two(name: str, faults: frozenset[str] = frozenset(), budget: int = 1, **more: Any) -> World:
    return World(name, faults, budget if faults else 0, replicas=2, coarse=True, **more)


QUICK: tuple[World, ...] = (
    _two("routine, two replicas", EFFECT_FAULTS, events=events(due=1)),
    World("routine, two replicas, the service's faults", PROBE_FAULTS - {"bad"}, 1, events=events(due=1)),
    _one("routine, one replica", ALL_FAULTS, 2, events=events(due=1)),
    _one("two rotations in a row", EFFECT_FAULTS, events=events(due=2)),
    _two("bootstrap", ACCIDENTS, empty=True),
    _one("leak", EFFECT_FAULTS, events=events(due=1, leak=1), coarse=True),
    _two("leak, two replicas", frozenset({"crash"}), events=events(leak=1)),
    _one("leak, journal lost", frozenset({"crash"}), events=events(leak=1, amnesia=1)),
    _one("leak, revoked without replacement", frozenset({"fail"}), events=events(due=1, leak=1), policy=REVOKE_UNREPLACED, coarse=True),
    _one("write from outside", EFFECT_FAULTS, events=events(due=1, outsider=1)),
    _two("write from outside, two replicas", frozenset({"crash"}), events=events(outsider=1)),
    _one("document overwritten", EFFECT_FAULTS, events=events(due=1, overwrite=1, accept=1), targets=(TARGET,)),
    _one("store restored", ACCIDENTS, events=events(due=1, backup=1, restore=1, accept=1)),
    _one("journal lost", EFFECT_FAULTS, events=events(due=1, amnesia=1, accept=1)),
    _one("rollback", EFFECT_FAULTS | {"refuse"}, events=events(due=1, rollback=1)),
    _two("rollback, two replicas", events=events(due=1, rollback=1)),
    _one("abandon", EFFECT_FAULTS, events=events(due=1, abandon=1)),
    _one("current key killed by hand", ALL_FAULTS - {"late"}, events=events(due=1, kill=1)),
    _one("targets", EFFECT_FAULTS, events=events(due=1, away=1, back=1), targets=(TARGET, OPTIONAL)),
    _two("new target, two replicas", EFFECT_FAULTS, events=events(), targets=(TARGET,), new_targets=True),
    _two("target, two replicas", events=events(due=1), targets=(TARGET,), new_targets=True),
    _two("plain targets, two replicas", events=events(due=1), targets=(PLAIN, PLAIN)),
    _two("target goes back, two replicas", events=events(due=1, back=1), targets=(TARGET,)),
    _one("target lies", EFFECT_FAULTS, events=events(due=1, lie=1), targets=(TARGET,)),
    _one("deadline revokes", frozenset({"crash"}), events=events(due=1, away=1), targets=(TARGET,), policy=REVOKE_AT_DEADLINE),
    _one("issuer cannot list", EFFECT_FAULTS, 2, events=events(due=1), policy=CANNOT_LIST),
    _two("issuer cannot list, two replicas", EFFECT_FAULTS, events=events(due=1), policy=CANNOT_LIST),
    _one("issuer cannot revoke", ALL_FAULTS - {"late"}, events=events(due=1, by_hand=1), policy=CANNOT_REVOKE),
    _one("revoke has no effect", frozenset({HOLLOW, "crash", "refuse"}), 2, events=events(due=1)),
    _one("leak, revoke has no effect", frozenset({HOLLOW}), events=events(leak=1), coarse=True),
    _one("clock jumps", frozenset({"crash"}), events=events(due=1), clock_jumps=True, targets=(TARGET,)),
)

VAULT: tuple[World, ...] = (
    _one("Vault: routine", ALL_FAULTS, 2, events=events(due=1), store="vault"),
    _two("Vault: routine, two replicas", frozenset({"fail"}), events=events(due=1), store="vault"),
    _two("Vault: routine, two replicas, torn looks", events=events(due=1), targets=(TARGET,), store="vault", torn=True),
    _two("Vault: bootstrap", ACCIDENTS, empty=True, store="vault"),
    _two("Vault: leak, two replicas, torn looks", events=events(leak=1), store="vault", torn=True),
    _one("Vault: write from outside", EFFECT_FAULTS, events=events(due=1, outsider=1), store="vault"),
    _two("Vault: write from outside, two replicas, torn looks", ACCIDENTS, events=events(outsider=1), store="vault", torn=True),
    _one("Vault: two writes from outside", ACCIDENTS, events=events(due=1, outsider=2), store="vault"),
    _one("Vault: both documents overwritten", EFFECT_FAULTS, events=events(due=1, overwrite=1, accept=1), targets=(TARGET,), store="vault"),
    _one("Vault: document deleted", ACCIDENTS, events=events(due=1, delete=1, accept=1), store="vault"),
    _one("Vault: store restored", ACCIDENTS, events=events(due=1, backup=1, restore=1, accept=1), store="vault"),
    _one("Vault: journal lost", EFFECT_FAULTS, events=events(due=1, amnesia=1, accept=1), store="vault"),
    _one("Vault: rollback", EFFECT_FAULTS, events=events(due=1, rollback=1), store="vault"),
)

AWS: tuple[World, ...] = (
    _one("AWS: routine", EFFECT_FAULTS | {STALE}, 2, events=events(due=1), store="aws"),
    _two("AWS: routine, two replicas, stale reads", frozenset({STALE}), events=events(due=1), targets=(TARGET,), store="aws"),
    _two("AWS: bootstrap", ACCIDENTS, empty=True, store="aws"),
    _two("AWS: leak, two replicas", frozenset({STALE, "crash"}), events=events(leak=1), store="aws"),
    _one("AWS: write from outside", EFFECT_FAULTS | {STALE}, events=events(due=1, outsider=1), store="aws"),
    _two("AWS: write from outside, two replicas", ACCIDENTS | {STALE}, events=events(outsider=1), store="aws"),
    _one("AWS: two writes from outside", frozenset({STALE, "crash"}), events=events(due=1, outsider=2), store="aws"),
    _one("AWS: store restored", ACCIDENTS, events=events(due=1, backup=1, restore=1, accept=1), store="aws"),
    _one("AWS: rollback", EFFECT_FAULTS | {STALE}, events=events(due=1, rollback=1), store="aws"),
)

QUICK = (*QUICK, *VAULT, *AWS)

LONG: tuple[World, ...] = (
    *(
        _two(f"routine, two replicas, twice {' or '.join(sorted(group))}", frozenset(group), 2, events=events(due=1))
        for group in ({"crash"}, {"lost"}, {"fail"}, {"stall"}, {"crash", "stall"}, {"late"}, {"refuse", "outage", "unknown"})
    ),
    _two("routine, two replicas, a bad key", frozenset({"bad"}), events=events(due=1)),
    _one("routine, one replica, three faults", ALL_FAULTS, 3, events=events(due=1)),
    _two("two rotations in a row, two replicas", events=events(due=2)),
    _one("two rotations in a row, two faults", EFFECT_FAULTS, 2, events=events(due=2), coarse=True),
    _two("abandon, two replicas, at most two keys", events=events(due=1, abandon=1), attempts=2, liveness=False),
    _two("write from outside, during a rotation, two replicas", events=events(due=1, outsider=1)),
    _two("bootstrap, every effect's faults", EFFECT_FAULTS, empty=True),
    _one("two leaks", frozenset({"crash"}), events=events(due=1, leak=2), coarse=True),
    _two("leak and rotation, two replicas", events=events(due=1, leak=1)),
    _one("leak, journal lost, during a rotation", frozenset({"crash"}), events=events(due=1, leak=1, amnesia=1)),
    _two("journal lost, two replicas", events=events(due=1, amnesia=1, accept=1)),
    _one("store restored, every effect's faults", EFFECT_FAULTS, events=events(due=1, backup=1, restore=1, accept=1)),
    _two("target, two replicas, lost or late", frozenset({"lost", "late"}), events=events(due=1), targets=(TARGET,)),
    _two("plain target, two rotations, two replicas", events=events(due=2), targets=(PLAIN,)),
    _two("issuer cannot list, two replicas, two faults", ACCIDENTS, 2, events=events(due=1), policy=CANNOT_LIST),
)

TWOFOLD: tuple[World, ...] = (
    *(
        _two(f"{name}: routine, two replicas, twice {' or '.join(sorted(group))}", frozenset(group), 2, events=events(due=1), store=store)
        for name, store, groups in (
            ("Vault", "vault", ({"crash"}, {"lost"}, {"fail"}, {"stall"})),
            ("AWS", "aws", ({"lost"}, {STALE}, {STALE, "crash"})),
        )
        for group in groups
    ),
    _two("Vault: routine, two replicas, every effect's faults", EFFECT_FAULTS, events=events(due=1), store="vault"),
    _two("AWS: routine, two replicas, every effect's faults", EFFECT_FAULTS | {STALE}, events=events(due=1), store="aws"),
    _one("Vault: routine, three faults", EFFECT_FAULTS, 3, events=events(due=1), store="vault"),
    _one("AWS: routine, three faults", EFFECT_FAULTS | {STALE}, 3, events=events(due=1), store="aws"),
    _two("Vault: leak and rotation, two replicas", events=events(due=1, leak=1), store="vault"),
    _two("AWS: leak and rotation, two replicas", events=events(due=1, leak=1), store="aws"),
    _one("AWS: leak, stale reads, crashes", frozenset({STALE, "crash"}), 2, events=events(due=1, leak=1), store="aws"),
    _one("AWS: leak, stale reads, failures", frozenset({STALE, "fail"}), 3, events=events(due=1, leak=1), store="aws"),
    _two("Vault: abandon, two replicas, at most two keys", events=events(due=1, abandon=1), attempts=2, liveness=False, store="vault"),
    _two("Vault: rollback, two replicas", events=events(due=1, rollback=1), store="vault"),
    _two("Vault: write from outside, during a rotation, two replicas", events=events(due=1, outsider=1), store="vault"),
)

LONG = (*LONG, *TWOFOLD)
