"""A store in memory, for unit tests and the sandbox: the semantics of every other kind, durable for as long as the process lives.

The two hooks let a test be the weather: `before_commit` may raise (nothing is applied, `Unreachable`), `after_commit` may raise (applied,
and the answer lost: `AnswerLost`). Neither is called under the store's lock, so a hook may itself write.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence

from rotator.domain.errors import Conflict
from rotator.domain.ports import Access, Holding
from rotator.domain.record import Change
from rotator.stores.changes import ABSENT, build_holding, build_next

Hook = Callable[[str, Change], None]


class MemoryStore:
    """Fulfils `rotator.domain.ports.Store`. Safe to call from several threads."""

    def __init__(self, *, before_commit: Hook | None = None, after_commit: Hook | None = None) -> None:
        self.before_commit = before_commit
        self.after_commit = after_commit
        self._holdings: dict[str, Holding] = {}
        self._revisions = itertools.count(1)
        self._lock = threading.Lock()

    def read(self, path: str) -> Holding:
        """What the path holds. Never raises."""
        return self._holdings.get(path, Holding(ABSENT))

    def commit(self, path: str, seen: Holding, change: Change) -> Holding:
        """As `Store.commit`."""
        if self.before_commit is not None:
            self.before_commit(path, change)
        with self._lock:
            held = self.read(path)
            if held.revision != seen.revision:
                raise Conflict(f"{path}: someone else wrote since it was read: read it again")
            record, secrets = build_next(held.record, held.secrets, change)
            after = build_holding(str(next(self._revisions)), record, secrets)
            self._holdings[path] = after
        if self.after_commit is not None:
            self.after_commit(path, change)
        return after

    def check(self, path: str) -> None:
        """A commit is always possible."""

    def list_marks(self, paths: Sequence[str]) -> Mapping[str, str]:
        """As `Store.list_marks`."""
        return {path: self._holdings[path].revision for path in paths if path in self._holdings}

    def find_access(self, path: str, *, writes: bool) -> Access:  # noqa: ARG002  # the port's signature
        """Everything is allowed."""
        return Access()

    def paths(self) -> tuple[str, ...]:
        """Every path that holds something."""
        return tuple(self._holdings)
