"""One function per action: `(work, action) -> lines for the journal`. Idempotent, and fit to be killed at any point.

`STEPS` is the table; a step's reach says what it may touch. Those with an effect get an intent before and an outcome after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rotator.domain import decisions as do
from rotator.engine.steps import ending, living, minting
from rotator.engine.work import Lines, Work


class Reach(Enum):
    """What a step may touch."""

    JOURNAL = "journal"
    """nothing but the journal, which it only adds to"""
    QUESTION = "question"
    """it asks outside and changes nothing, but for notes in the store's record"""
    EFFECT = "effect"
    """it changes the world, or ends something: decided on a look that was taken right before it"""


@dataclass(frozen=True, slots=True)
class Step:
    """How an action is done, and what the journal calls it."""

    name: str
    run: Callable[[Work, Any], Lines]
    reach: Reach = Reach.EFFECT
    plan: Callable[[Work, Any], Lines] | None = None
    """lines that are written with the intent"""
    fresh: bool = False
    """decided on what targets hold now, never on what they remember: a key ends by it"""


STEPS: Mapping[type, Step] = {
    do.Recognise: Step("recognise", living.recognise, Reach.JOURNAL),
    do.OpenRotation: Step("open", living.open_rotation, Reach.JOURNAL),
    do.CloseRotation: Step("close", living.close_rotation),
    do.Preflight: Step("preflight", minting.preflight, Reach.QUESTION),
    do.Sweep: Step("sweep", minting.sweep, Reach.QUESTION),
    do.DoomOrphan: Step("doom-orphan", minting.doom_orphan),
    do.RevokeOrphan: Step("revoke-orphan", minting.revoke_orphan),
    do.OpenAttempt: Step("open-attempt", minting.open_attempt, plan=minting.plan_attempt),
    do.CloseAttempt: Step("close-attempt", minting.close_attempt),
    do.Mint: Step("mint", minting.mint),
    do.Probe: Step("probe", living.probe, Reach.QUESTION),
    do.Promote: Step("promote", living.promote),
    do.Retire: Step("retire", living.retire),
    do.Adopt: Step("adopt", living.adopt),
    do.Distribute: Step("distribute", living.distribute),
    do.OpenRetirement: Step("retirement", ending.open_retirement, Reach.JOURNAL),
    do.Doom: Step("doom", ending.doom, fresh=True),
    do.Revoke: Step("revoke", ending.revoke, fresh=True),
    do.Forget: Step("forget", ending.forget),
    do.CloseRetirement: Step("close-retirement", ending.close_retirement, Reach.JOURNAL),
}
