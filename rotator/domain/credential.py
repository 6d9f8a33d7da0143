"""A configured credential, with the ports that it is bound to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from rotator.domain.facts import Policy
from rotator.domain.ports import Issuer, Prober, Store, Target
from rotator.domain.timing import Calendar, Schedule, expires_at, next_due


@dataclass(frozen=True, slots=True)
class BoundTarget:
    """A target as one credential uses it."""

    name: str
    target: Target
    required: bool = True
    settle: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Credential:
    """The named thing that users configure and rotate."""

    name: str
    policy: Policy
    store_name: str
    path: str
    store: Store
    issuer_name: str
    issuer: Issuer
    prober: Prober
    schedule: Schedule
    calendar: Calendar | None = None
    targets: tuple[BoundTarget, ...] = ()
    env: str = "live"
    project: str | None = None
    read_only: bool = False

    @property
    def place(self) -> str:
        """Store and path, as the journal remembers them."""
        return f"{self.store_name}:{self.path}"

    def next_rotation(self, since: datetime, uid: str) -> datetime | None:
        """When a key that is current since then is due."""
        return next_due(self.schedule, since, uid, self.calendar)

    def expiry(self, minted_at: datetime) -> datetime | None:
        """When a key passes its maximum age."""
        return expires_at(self.schedule, minted_at)

    def target(self, name: str) -> BoundTarget:
        """The target of that name. Raises `KeyError`."""
        return next(t for t in self.targets if t.name == name)
