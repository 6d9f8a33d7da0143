"""Notices what others write into stores: each store is asked for its cheap marks, and who is behind a mark that changed is looked at."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog

from rotator.domain.credential import Credential
from rotator.domain.errors import Retry, RotatorError
from rotator.engine.engine import Engine

log = structlog.get_logger(__name__)

_Place = tuple[str, str]
"""store and path"""


@dataclass(slots=True)
class ChangeWatch:
    """Compares marks between two rounds. The first round teaches marks and wakes nobody: a start looks at all anyway. A mark that comes
    later (a new credential, a store that was away) may be younger than the look before it."""

    engine: Engine
    _marks: dict[_Place, str | None] = field(default_factory=dict)
    _silent: set[str] = field(default_factory=set)
    """stores that did not answer the last round: said once, not every minute"""
    _begun: bool = False
    """whether there was a first round"""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def poll(self) -> int:
        """One round over all stores; how many credentials are looked at for it. Never raises for a store's sake."""
        with self._lock:
            by_store: defaultdict[str, list[Credential]] = defaultdict(list)
            for credential in self.engine.credentials.values():
                by_store[credential.store_name].append(credential)
            self._marks = {place: mark for place, mark in self._marks.items() if place[0] in by_store}
            changed = sum(self._poll_store(name, credentials) for name, credentials in by_store.items())
            self._begun = True
            return changed

    def _poll_store(self, store: str, credentials: list[Credential]) -> int:
        try:
            marks = credentials[0].store.list_marks([credential.path for credential in credentials])
        except RotatorError as problem:
            if store not in self._silent:
                log.warning("the store does not tell what changed", action="poll", store=store, problem=str(problem))
            refused = store not in self._silent and not isinstance(problem, Retry)
            self._silent.add(store)
            return self._wake(credentials) if refused else 0  # a look shows whether it refuses to be read as well
        self._silent.discard(store)
        changed = [credential for credential in credentials if self._has_changed((store, credential.path), marks)]
        if changed:
            log.info("changes in the store", action="poll", store=store, credentials=len(changed))
        return self._wake(changed)

    def _wake(self, credentials: list[Credential]) -> int:
        for credential in credentials:
            self.engine.wake(credential.name)
        return len(credentials)

    def _has_changed(self, place: _Place, marks: Mapping[str, str]) -> bool:
        mark = marks.get(place[1])
        changed = self._marks[place] != mark if place in self._marks else self._begun and mark is not None
        self._marks[place] = mark
        return changed
