"""The decisions' actions as tuples of small numbers."""

from __future__ import annotations

from typing import Any

from rotator.domain import decisions as do
from rotator.domain.reasons import Reason
from tests.model.symbols import attempt_number, number


def as_tuple(action: do.Action) -> tuple[Any, ...]:
    """A decision's action as numbers."""
    match action:
        case do.Recognise(recovered):
            return ("recognise", recovered)
        case do.OpenRotation(reason, replaces, candidate):
            return ("rotation", reason is Reason.EMERGENCY, number(replaces), number(candidate))
        case do.CloseRotation(outcome):
            return ("close-rotation", str(outcome))
        case do.Sweep():
            return ("sweep",)
        case do.DoomOrphan(orphan):
            return ("doom-orphan", number(orphan.key_id))
        case do.RevokeOrphan(orphan):
            return ("revoke-orphan", number(orphan.key_id))
        case do.OpenAttempt():
            return ("open",)
        case do.CloseAttempt(attempt, failed, lost):
            return ("close", attempt_number(attempt), failed, lost)
        case do.Mint(attempt):
            return ("mint", attempt_number(attempt))
        case do.Probe(key, witness):
            return ("probe", number(key), number(witness))
        case do.Promote(key, replaces):
            return ("promote", number(key), number(replaces))
        case do.Retire(key, failed):
            return ("retire", number(key), failed)
        case do.Adopt(key):
            return ("adopt", number(key))
        case do.Distribute(targets):
            return ("distribute", tuple(int(t[1:]) for t in targets))
        case do.OpenRetirement(key, _why):
            return ("row", number(key))
        case do.CloseRetirement(key, _outcome):
            return ("close-row", number(key))
        case do.Doom(key) | do.Revoke(key) | do.Forget(key):
            return (type(action).__name__.lower(), number(key))
    raise AssertionError(action)
