"""The state of the stand-in, and the one lock that guards it.

Every call is handled while the lock is held, by functions that do not wait; nothing else touches the state.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter, defaultdict
from typing import Any

from rotator.domain.keys import Kind
from rotator.sandbox.buckets import Buckets
from rotator.sandbox.clock import ServiceClock
from rotator.sandbox.events import Project, Warehouse
from rotator.sandbox.exchange import Call, Denied
from rotator.sandbox.faults import FaultBook
from rotator.sandbox.keyring import KeyRing, MintedKey
from rotator.sandbox.sessions import Sessions
from rotator.sandbox.settings import SandboxSettings


class Service:
    """Keys, caches, sessions, faults, events and counts of one sandbox."""

    def __init__(self, settings: SandboxSettings, admin_token: str, clock: ServiceClock) -> None:
        self.lock = threading.Lock()
        self.clock = clock
        self.keys = KeyRing(settings, clock)
        self.sessions = Sessions(admin_token, clock)
        self.faults = FaultBook(settings.seed)
        self.warehouse = Warehouse(settings.projects, clock.wall())
        self.buckets = Buckets(clock)
        self.counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.methods: Counter[str] = Counter()
        self.elsewhere = {"requests": 0, "with_authorization": 0}
        self._turn = itertools.count()
        self.apply(settings)

    def apply(self, settings: SandboxSettings) -> None:
        """Puts changed settings in force."""
        self.settings = settings
        self.keys.settings = settings
        self.clock.skew = settings.clock_skew

    def choose_worker(self, headers: dict[bytes, bytes]) -> int:
        """Round robin, or the worker that `X-Sandbox-Worker` names. Raises `Denied` 400 invalid_params."""
        pinned = headers.get(b"x-sandbox-worker")
        if pinned is None:
            return next(self._turn) % self.settings.workers
        if not pinned.isdigit() or int(pinned) >= self.settings.workers:
            raise Denied(400, "invalid_params", {"X-Sandbox-Worker": f"must be a number below {self.settings.workers}"})
        return int(pinned)

    def verify(self, call: Call) -> MintedKey:
        """The key of this call, as the call's worker sees it. Raises `Denied` 401."""
        return self.keys.verify(self.keys.present(call.bearer()), call.worker)

    def visible_projects(self, key: MintedKey) -> list[Project]:
        """An ak sees every project, any other key its own."""
        return self.warehouse.all() if key.key_id.kind is Kind.AK else [self.warehouse.ensure(key.project)]

    def count(self, operation: str, outcome: str) -> None:
        """One more answer (or dropped connection) of this operation."""
        self.counts[operation][outcome] += 1

    def stats(self) -> dict[str, Any]:
        """As GET /sandbox/stats answers it."""
        return {
            "requests": sum(sum(counter.values()) for counter in self.counts.values()),
            "operations": {operation: dict(counter) for operation, counter in self.counts.items()},
            "methods": dict(self.methods),
            "elsewhere": dict(self.elsewhere),
        }
