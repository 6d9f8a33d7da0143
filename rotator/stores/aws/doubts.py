"""What this process knows that AWS may not show: a state that it has seen left behind is a stale answer, until it stays.

Nothing here is needed for a commit to be right: its compare-and-set fails on a stale look. It keeps stale looks from being taken for news.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from rotator.stores.aws.looks import Look, find_left_behind

_REMEMBERED = 8
"""versions of a path: AWS lags by seconds, and a path changes a few times a rotation"""


@dataclass(slots=True)
class Doubts:
    """Remembers what was seen of each path. Safe for threads."""

    patience: float
    """seconds; an older state that stays for so long is no lag: somebody put it there"""
    monotonic: Callable[[], float]
    _guard: threading.Lock = field(default_factory=threading.Lock)
    _newest: dict[str, int] = field(default_factory=dict)
    """path → the number of the newest record"""
    _current: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """path → the versions that consumers found, the newest last"""
    _since: dict[str, tuple[str, float]] = field(default_factory=dict)
    """path → (what looks older than it was, since when)"""

    def find(self, look: Look) -> str | None:
        """What speaks for a stale answer: a state that was left behind, as far as this process or the record knows."""
        with self._guard:
            newest, versions = self._newest.get(look.path, 0), self._current.get(look.path, ())
        if look.document.number < newest:
            return "an older record"
        if look.record is not None and look.record.current is not None and look.place.current is None:
            return "no current version"
        if look.place.current in versions[:-1]:
            return f"the earlier version {look.place.current} current"
        left = find_left_behind(look.record, look.current.key_id if look.current else None)
        return None if left is None else f"the earlier key {left} current"

    def is_over(self, path: str, doubt: str) -> bool:
        """Whether it has stayed for so long that it is to be believed."""
        with self._guard:
            first = self._since.get(path)
            if first is None or first[0] != doubt:
                first = self._since[path] = (doubt, self.monotonic())
            return self.monotonic() - first[1] >= self.patience

    def remember(self, look: Look) -> None:
        """A look that is believed, or the state after a write of ours."""
        version = look.place.current
        with self._guard:
            # An older record that was believed and then written on is the newest one there is.
            newest = 0 if self._since.pop(look.path, None) else self._newest.get(look.path, 0)
            self._newest[look.path] = max(look.document.number, newest)
            if version is not None:
                others = tuple(known for known in self._current.get(look.path, ()) if known != version)
                self._current[look.path] = (*others, version)[-_REMEMBERED:]
