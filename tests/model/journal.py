"""One replica's journal, as far as decisions ask for it: small tuples without instants."""

from __future__ import annotations

from typing import NamedTuple

from tests.model.symbols import NONE

NEVER, ALIVE, DEAD, UNKNOWN = range(4)
"""the last answer of a key"""
NOT_SEEN, SEEN_BEFORE, SEEN_SINCE = range(3)
"""when it was last alive: never, before it became current, since then"""
NO_REFUSAL, FEW, FEW_SPREAD, ENOUGH = range(4)
"""the witnessed refusals: none, less than ten within the cache time, less than ten over more than it, ten over the cache time"""


class Sight(NamedTuple):
    """What a journal has seen of a key."""

    key: int
    answer: int = NEVER
    alive: int = NOT_SEEN
    spread: bool = False
    """the unbroken run of alive answers is as long as the cache time"""
    ever: bool = False
    """it was refused once"""
    refusals: int = NO_REFUSAL
    beside: bool = False
    """the last refusal was witnessed"""


class Mem(NamedTuple):
    """What a journal remembers of the credential."""

    generation: int
    recovered: bool = False
    swept: tuple[int, ...] | None = None
    """the attempts that were closed when it was last swept; None: never"""
    orphans: tuple[int, ...] = ()


class Rot(NamedTuple):
    """The open rotation."""

    replaces: int
    candidate: int = NONE
    emergency: bool = False
    attempt: int = NONE
    failures: int = 0
    abandon: bool = False


class Journal(NamedTuple):
    """One replica's journal."""

    memory: Mem | None = None
    rotation: Rot | None = None
    rows: tuple[tuple[int, bool], ...] = ()
    """(key, revoke acknowledged) of the open retirements"""
    sights: tuple[Sight, ...] = ()

    def sight(self, key: int) -> Sight:
        """What was seen of a key."""
        for s in self.sights:
            if s.key == key:
                return s
        return Sight(key)

    def saw(self, sight: Sight) -> Journal:
        """With this sight in the place of the former."""
        rest = [s for s in self.sights if s.key != sight.key]
        return self._replace(sights=tuple(sorted((*rest, sight))))

    def revoked(self, key: int) -> bool | None:
        """Whether its revoke was acknowledged; None: no retirement is open."""
        return next((r for k, r in self.rows if k == key), None)

    def row(self, key: int, revoked: bool) -> Journal:
        """With this retirement open."""
        return self._replace(rows=tuple(sorted((*((k, r) for k, r in self.rows if k != key), (key, revoked)))))

    def without(self, key: int) -> Journal:
        """With the retirement of the key closed."""
        return self._replace(rows=tuple(r for r in self.rows if r[0] != key))
