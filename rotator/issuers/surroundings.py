"""What an issuer is built from, beside what the user wrote for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rotator.domain.ports import Clock, Store

__all__ = ["Observe", "Surroundings"]

Observe = Callable[[str, str, str, float], None]
"""(remote, operation, outcome, seconds), for metrics"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the rest of the configuration offers an issuer."""

    clock: Clock
    observe: Observe
    installation: str
    stores: Mapping[str, Store]
    """every configured one, by name"""
    environ: Mapping[str, str]
    credentials: tuple[str, ...]
    """the names of those that use this issuer"""

    def get_store(self, name: str) -> Store:
        """A store by name. Raises `KeyError`: settings that were loaded name none that is not there."""
        return self.stores[name]
