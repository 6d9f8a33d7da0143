"""The worlds that are walked: the quick tier with every test run, the long tier by `python -m tests.model --long`."""

from __future__ import annotations

from dataclasses import replace

from rotator.domain.facts import AtDeadline, Policy, WithoutReplacement
from rotator.domain.keys import Kind

from tests.model.symbols import INSTALLATION
from tests.model.world import EFFECT_FAULTS, PROBE_FAULTS, TargetSpec, World

POLICY = Policy(INSTALLATION, Kind.RK)
TARGET = TargetSpec()
PLAIN = TargetSpec(keeps_generation=False)
OPTIONAL = TargetSpec(required=False)
ALL_FAULTS = EFFECT_FAULTS | PROBE_FAULTS


def events(**bounds: int) -> tuple[tuple[str, int], ...]:
    """What may happen besides faults, and how often."""
    return tuple((name.replace("_", "-"), bound) for name, bound in bounds.items())


QUICK: tuple[World, ...] = (
    World("routine, two replicas", EFFECT_FAULTS, 1, events=events(due=1), coarse=True),
    World("routine, two replicas, the service's faults", PROBE_FAULTS - {"bad"}, 1, events=events(due=1)),
    World("routine, one replica", ALL_FAULTS, 2, replicas=1, events=events(due=1)),
    World("two rotations in a row, one replica", EFFECT_FAULTS, 1, replicas=1, events=events(due=2)),
    World("two rotations in a row, two replicas", frozenset(), 0, events=events(due=2), coarse=True),
    World("bootstrap", EFFECT_FAULTS, 1, events=(), empty=True, coarse=True),
    World("leaks, one replica", EFFECT_FAULTS, 1, replicas=1, events=events(due=1, leak=2)),
    World("leak, two replicas", frozenset({"crash"}), 1, events=events(due=1, leak=1), coarse=True),
    World("leak, journal lost", frozenset({"crash"}), 1, replicas=1, events=events(due=1, leak=1, amnesia=1)),
    World(
        "leak, revoked without replacement",
        frozenset({"fail"}),
        2,
        replicas=1,
        events=events(due=1, leak=1),
        policy=replace(POLICY, without_replacement=WithoutReplacement.REVOKE),
    ),
    World("write from outside", EFFECT_FAULTS, 1, replicas=1, events=events(due=1, outsider=1)),
    World("write from outside, two replicas", frozenset(), 0, events=events(due=1, outsider=1), coarse=True),
    World("document overwritten", EFFECT_FAULTS, 1, replicas=1, events=events(due=1, overwrite=1, accept=1), targets=(TARGET,)),
    World("store restored", EFFECT_FAULTS, 1, replicas=1, events=events(due=1, backup=1, restore=1, accept=1)),
    World("journal lost", EFFECT_FAULTS, 1, replicas=1, events=events(due=1, amnesia=1, accept=1)),
    World("journal lost, two replicas", frozenset(), 0, events=events(due=1, amnesia=1, accept=1), coarse=True),
    World("rollback", EFFECT_FAULTS | {"refuse"}, 1, replicas=1, events=events(due=1, rollback=1)),
    World("rollback, two replicas", frozenset(), 0, events=events(due=1, rollback=1), coarse=True),
    World("abandon", EFFECT_FAULTS, 1, replicas=1, events=events(due=1, abandon=1)),
    World("abandon, two replicas", frozenset(), 0, events=events(due=1, abandon=1), coarse=True),
    World("current key killed by hand", ALL_FAULTS - {"late"}, 1, replicas=1, events=events(due=1, kill=1)),
    World("targets, one replica", EFFECT_FAULTS, 1, replicas=1, events=events(due=1, away=1, back=1), targets=(TARGET, OPTIONAL)),
    World("target, two replicas", frozenset({"lost", "late"}), 1, events=events(due=1), targets=(TARGET,), coarse=True),
    World("plain target, two rotations, two replicas", frozenset(), 0, events=events(due=2), targets=(PLAIN,), coarse=True),
    World("target goes back, two replicas", frozenset(), 0, events=events(due=1, back=1), targets=(TARGET,), coarse=True),
    World("target lies", EFFECT_FAULTS, 1, replicas=1, events=events(due=1, lie=1), targets=(TARGET,)),
    World(
        "deadline revokes",
        frozenset({"crash"}),
        1,
        replicas=1,
        events=events(due=1, away=1),
        targets=(TARGET,),
        policy=replace(POLICY, at_deadline=AtDeadline.REVOKE),
    ),
    World("issuer cannot list", EFFECT_FAULTS, 2, replicas=1, events=events(due=1), policy=replace(POLICY, can_list=False)),
    World("issuer cannot list, two replicas", EFFECT_FAULTS, 1, events=events(due=1), policy=replace(POLICY, can_list=False), coarse=True),
    World(
        "issuer cannot revoke",
        ALL_FAULTS - {"late"},
        1,
        replicas=1,
        events=events(due=1, by_hand=1),
        policy=replace(POLICY, can_revoke=False),
    ),
    World("clock jumps", frozenset({"crash"}), 1, replicas=1, events=events(due=1), clock_jumps=True, targets=(TARGET,)),
)
