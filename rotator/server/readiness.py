"""Which parts of the daemon are ready, and why not.

The whole is ready when every part was ready once and no part that it cannot do without has failed since. A store that goes away later
shows in its own part and does not take the API away from the people who come to see why.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rotator.domain.errors import RotatorError, Unreachable
from rotator.domain.ports import Access, Holding, Store
from rotator.domain.record import Change


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How one part stands."""

    ready: bool
    reason: str = ""
    """in words, where it is not ready"""


@dataclass(slots=True)
class _Part:
    vital: bool
    status: PartStatus
    was_ready: bool = False
    away: bool = False
    check: Callable[[], str | None] | None = None


@dataclass(slots=True)
class Readiness:
    """The parts by name: `journal`, `scheduler`, `engine`, `store:NAME`, `issuer:NAME`. Safe from any thread."""

    _parts: dict[str, _Part] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def expect(self, part: str, reason: str = "not looked at yet", *, vital: bool = False) -> None:
        """A part that will say that it is ready. `vital`: the whole is not ready while this part isn't. Keeps what is known of it."""
        with self._lock:
            self._parts.setdefault(part, _Part(vital, PartStatus(ready=False, reason=reason)))

    def watch(self, part: str, check: Callable[[], str | None]) -> None:
        """A vital part that is asked whenever somebody wants to know: None when it is ready, else why not. Must be quick."""
        with self._lock:
            self._parts[part] = _Part(vital=True, status=PartStatus(ready=False), check=check)

    def forget(self, part: str) -> None:
        """A part is no more: it left the configuration. Idempotent."""
        with self._lock:
            self._parts.pop(part, None)

    def mark_ready(self, part: str) -> None:
        """An expected part is ready."""
        with self._lock:
            known = self._parts.get(part)
            if known is not None and not known.status.ready:
                known.status, known.was_ready = PartStatus(ready=True), True

    def mark_failed(self, part: str, reason: str, *, away: bool = False) -> None:
        """An expected part is not ready (any more). `away`: nothing of it can be reached, whatever is asked of it."""
        with self._lock:
            known = self._parts.get(part)
            if known is not None:
                known.status, known.away = PartStatus(ready=False, reason=reason), away

    def find_away(self, part: str) -> str | None:
        """Why nothing of a part can be reached; None: it can, as far as is known."""
        with self._lock:
            known = self._parts.get(part)
            return known.status.reason if known is not None and known.away and not known.status.ready else None

    def find(self, part: str) -> PartStatus | None:
        """One part; None: there is no such part."""
        with self._lock:
            known = self._parts.get(part)
        return None if known is None else _ask(known)

    def report(self) -> tuple[bool, Mapping[str, PartStatus]]:
        """Whether the whole is ready, and every part by name."""
        with self._lock:
            parts = dict(self._parts)
        statuses = {name: _ask(part) for name, part in sorted(parts.items())}
        whole = all(status.ready or (parts[name].was_ready and not parts[name].vital) for name, status in statuses.items())
        return whole, statuses


def _ask(part: _Part) -> PartStatus:
    if part.check is None:
        return part.status
    try:
        problem = part.check()
    except RotatorError as error:
        problem = str(error)
    return PartStatus(ready=problem is None, reason=problem or "")


class WatchedStore:
    """A store whose reads say whether it answers. Fulfils `rotator.domain.ports.Store`."""

    def __init__(self, store: Store, part: str, readiness: Readiness) -> None:
        self._store, self._part, self._readiness = store, part, readiness
        readiness.expect(part, "it was not read yet")

    def read(self, path: str) -> Holding:
        """As `Store.read`."""
        try:
            holding = self._store.read(path)
        except RotatorError as problem:
            self._readiness.mark_failed(self._part, str(problem), away=isinstance(problem, Unreachable))
            raise
        self._readiness.mark_ready(self._part)
        return holding

    def commit(self, path: str, seen: Holding, change: Change) -> Holding:
        """As `Store.commit`."""
        return self._store.commit(path, seen, change)

    def check(self, path: str) -> None:
        """As `Store.check`."""
        self._store.check(path)

    def list_marks(self, paths: Sequence[str]) -> Mapping[str, str]:
        """As `Store.list_marks`. Idle credentials' stores are heard of through it."""
        try:
            marks = self._store.list_marks(paths)
        except RotatorError as problem:
            self._readiness.mark_failed(self._part, str(problem), away=isinstance(problem, Unreachable))
            raise
        self._readiness.mark_ready(self._part)
        return marks

    def find_access(self, path: str, *, writes: bool) -> Access:
        """As `Store.find_access`."""
        return self._store.find_access(path, writes=writes)
