"""Roles at routes: `dependencies=[NEEDS_OPERATOR]`, and who the caller is."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from rotator.domain.errors import RotatorError
from rotator.server.tokens import Caller, Role


class Forbidden(RotatorError):
    """The caller's role is not enough."""


def find_caller(request: Request) -> Caller:
    """Who asks; the gate has put it there."""
    caller: Caller = request.state.caller
    return caller


CallerOf = Annotated[Caller, Depends(find_caller)]


class _Needs:
    def __init__(self, role: Role) -> None:
        self._role = role

    def __call__(self, caller: CallerOf) -> None:
        if caller.role < self._role:
            raise Forbidden(f"this needs a token of the role {self._role.name.lower()}; the one sent is a {caller.role.name.lower()}'s")


NEEDS_HOOK = Depends(_Needs(Role.HOOK))
NEEDS_VIEWER = Depends(_Needs(Role.VIEWER))
NEEDS_OPERATOR = Depends(_Needs(Role.OPERATOR))
NEEDS_ADMIN = Depends(_Needs(Role.ADMIN))
