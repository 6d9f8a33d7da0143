"""What a store of any kind is built from, besides its own configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rotator.domain.ports import Clock


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the process gives to a store. A kind takes from it what it needs."""

    name: str
    """of the store, as the configuration calls it"""
    clock: Clock
    observe: Callable[[str, str, str, float], None] | None = None
    """told of each remote call: (remote, operation, outcome, seconds)"""
