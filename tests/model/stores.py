"""The stores that a world may have, behind one interface. A store says how what a look shows lies in it, and which writes a change takes.

A *layout* is what lies in the store, by number; `doc` is the document (record, and the key that consumers find) that a look at it shows.
The embedded file is its own layout, and each change is one write. The stores of two parts are in `twofold`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tests.model.symbols import ILLEGAL, NONE, Change, Docs, key_id

RECORD, PLACE, WHOLE = 1, 2, 3
"""parts of a store, each with a compare-and-set of its own: the record, what consumers find, both at once"""


FENCE = ("fence",)
"""the operation that writes the place as it is"""


class Seen(NamedTuple):
    """What a replica that commits has seen, and how much of it is still so."""

    doc: int
    record_is_fresh: bool
    behind: int = 0
    """how often the place was written since"""


class Write(NamedTuple):
    """One write of a commit."""

    label: str
    part: int
    op: tuple[Any, ...]
    """for `after`"""
    means: tuple[Any, ...]
    """the change that it makes, for those who look"""
    then: tuple[Any, ...] | None = None
    """how far the commit has come then; None: it is over"""
    aged: tuple[Any, ...] = ()
    """`op` with the instant of a writer who stood still"""
    may_fail: bool = False
    """its failure does not fail the commit"""

    def can_win(self, seen: Seen) -> bool:
        """Whether its compare-and-set holds."""
        return not seen.behind if self.part == PLACE else seen.record_is_fresh


class StaleLook(NamedTuple):
    """A look that shows something else than what is so."""

    doc: int
    record_is_fresh: bool
    behind: int
    """how old the place is that it shows, in writes"""


class Lag(NamedTuple):
    """What a replica's reads may show instead of what is so: the store as it was."""

    layout: int
    behind: int = 0
    """how often the place was written since"""
    newer: int = 0
    """the parts of which its process has seen newer ones: it believes no older ones"""


@dataclass
class EmbeddedStore:
    """One file, replaced atomically."""

    docs: Docs
    planted: frozenset[str] = frozenset()

    def begin(self, doc: int) -> int:
        """The layout of a store that shows `doc`, with nothing under way."""
        return doc

    def doc(self, layout: int) -> int:
        """What a look at a layout shows."""
        return layout

    def next_write(self, layout: int, seen: Seen, step: tuple[Any, ...], change: Change) -> Write | None:
        """The write that a commit does next; None: the change is illegal."""
        del layout, step
        doc = self.docs.apply(seen.doc, change)
        if doc == ILLEGAL:
            return None
        aged: tuple[Any, ...] = ()
        if change[0] in ("promote", "retire", "adopt"):
            aged = ("file", self.docs.apply(seen.doc, (*change[:-1], True)))
        return Write("commits", WHOLE, ("file", doc), change, aged=aged)

    def after(self, layout: int, op: tuple[Any, ...], behind: int = 0) -> int:
        """The layout after a write. `behind`: how often the place was written since its writer looked."""
        del layout, behind
        doc: int = op[1]
        return doc

    def commit_at_once(self, layout: int, change: Change) -> tuple[int, int]:
        """The layout after a whole commit that nothing comes between, and the parts that it wrote."""
        return self.docs.apply(layout, change), WHOLE

    def put(self, layout: int, key: int) -> tuple[int, int]:
        """Someone writes a key into the place: the layout after it, and the part."""
        return self.docs.intern((self.docs.docs[layout][0], key_id(key))), WHOLE

    def wipe(self, layout: int, key: int) -> int:
        """Someone writes over everything."""
        del layout
        return self.docs.intern((None, key_id(key)))

    def restore_record(self, layout: int, backup: int) -> int:
        """The record alone is as it was at a backup; the same layout, where it cannot be."""
        del backup
        return layout

    def delete(self, layout: int) -> int:
        """What consumers read is deleted."""
        raise NotImplementedError

    def find_missing(self, layout: int) -> int:
        """A key of the record whose secret is nowhere; NONE: there is none."""
        del layout
        return NONE

    def stale_looks(self, layout: int, lag: Lag | tuple[()]) -> tuple[StaleLook, ...]:
        """What else a look may show to a replica whose reads lag."""
        del layout, lag
        return ()

    def after_look(self, layout: int, lag: Lag | tuple[()], seen: Seen) -> Lag | tuple[()]:
        """The lag of a replica that has looked."""
        del layout, lag, seen
        return ()

    def retired_before(self, lag: Lag | tuple[()], key: int) -> bool:
        """Whether a key was on its way out already when the reads began to lag."""
        del lag, key
        return True
