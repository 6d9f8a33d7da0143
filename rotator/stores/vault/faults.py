"""What the server said, in our words: what is wrong, where, and what to do. Nothing of the server's own text gets into a message."""

from __future__ import annotations

from rotator.domain.errors import AnswerLost, Conflict, Misconfigured, Refused, RotatorError, Unreachable
from rotator.stores.vault.adapter import Answered

__all__ = ["explain", "explain_write"]

_SEE_LOG = "its log, or that of a proxy before it, says why"
_REDIRECTS = range(300, 400)


def explain(answered: Answered, name: str, what: str, help_: str, otherwise: str = _SEE_LOG) -> RotatorError:
    """The error for an answer to something that changes nothing. `what` was asked, as in "reading X".

    `help_` is for whom it is forbidden, `otherwise` for what else is wrong with the request.
    """
    status = answered.status
    if answered.says("sealed"):
        return Unreachable(f"{name} is sealed: unseal it (`vault operator unseal`); {what} goes on by itself then")
    if answered.says("not initialized"):
        return Unreachable(f"{name} is not initialized: initialize and unseal it; {what} goes on by itself then")
    if answered.says("not active", "no active", "cluster node not found", "not the leader", "not leader"):
        return Unreachable(
            f"{name} is a standby and its cluster has no active node: see `vault operator members`; {what} goes on by itself when one is "
            "elected"
        )
    if status in _REDIRECTS:
        return Unreachable(
            f"{name} sends {what} to another address ({status}), which is not followed: name the address that leads to the active node"
        )
    if answered.says("upgrading from non-versioned"):
        return Unreachable(f"{name} is turning the mount into version 2 of KV: {what} goes on by itself when it is done")
    if answered.says("no handler for route", "route entry not found"):
        return Misconfigured(f"{name} has nothing mounted there: {what} is not possible; correct `mount`, or enable KV version 2 at it")
    if answered.says("missing client token"):
        return Refused(f"{name} saw no token with {what}: is there a proxy that takes headers away?")
    if status == 403:
        return Refused(f"{name} forbids {what}: {help_}")
    if status in (408, 412, 425, 472, 473) or status >= 500:
        return Unreachable(f"{name} failed at {what} ({status}): see its log; it is tried again")
    return Refused(f"{name} refused {what} ({status}): {otherwise}")


def explain_write(answered: Answered, name: str, what: str, help_: str) -> RotatorError:
    """The error for an answer to a write."""
    if answered.says("check-and-set parameter did not match"):
        return Conflict(f"{what} in {name}: someone else wrote since it was read: read it again")
    if answered.status == 404 and not answered.errors:
        return Conflict(f"{what} in {name}: someone else deleted it since it was read: read it again")
    if answered.status == 413 or answered.says("request body too large", "too large"):
        return Refused(f"{name} takes no document as large as {what} needs: remove fields that are not needed from it")
    if answered.status == 405:
        return Refused(f"{name} cannot do {what}: KV version 2 of Vault 1.9 or later, or of OpenBao, is needed")
    error = explain(answered, name, what, help_)
    if answered.status >= 500 and not answered.says("sealed", "not initialized", "not active", "cluster node not found"):
        return AnswerLost(f"{name} failed at {what} ({answered.status}); it may have been carried out")
    return error
