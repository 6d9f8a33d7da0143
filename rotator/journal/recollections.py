"""Recollections that a journal keeps in memory while nobody but its own process writes to it.

Kept is only what was read whole, or carried on from that by lines that were surely written. Whoever reads takes the `Page` first and puts
down on it what it read: who wrote tears the page out, and nobody finds again what is put down on a torn-out page.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace

from rotator.domain.ports import Line, Recollection, SavePlacement
from rotator.domain.recalling import carry_on
from rotator.journal.rows import render_text


@dataclass(slots=True, eq=False)
class Page:
    """What is kept of one credential; empty until it is read. Never changed once it is filled."""

    known: Recollection | None = None


class Recollections:
    """At most `most` of them, the least used going first; 0: none is kept. Safe for threads."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._pages: OrderedDict[str, Page] = OrderedDict()

    def open(self, credential: str) -> Page:
        """The page of a credential, empty if nothing is kept. Take it before you read."""
        with self._lock:
            page = self._pages.get(credential)
            if page is None:
                page = Page()
                self._insert(credential, page)
            else:
                self._pages.move_to_end(credential)
            return page

    def find(self, credential: str) -> Recollection | None:
        """What is kept of a credential. Ask before you write, and say what became of it by `put`."""
        with self._lock:
            page = self._pages.get(credential)
        return None if page is None else page.known

    def put(self, credential: str, known: Recollection | None) -> None:
        """After a write: tear the page out, whatever was begun to be read during it. None: nothing is known for sure."""
        with self._lock:
            self._pages.pop(credential, None)
            if known is not None:
                self._insert(credential, Page(known))

    def clear(self) -> None:
        """Keep nothing."""
        with self._lock:
            self._pages.clear()

    def _insert(self, credential: str, page: Page) -> None:
        self._pages[credential] = page
        if len(self._pages) > self._most:
            self._pages.popitem(last=False)


def carry_written(known: Recollection, lines: tuple[Line, ...]) -> Recollection:
    """What a recall would read after these lines were written: `carry_on`, with texts as they stand in rows."""
    return carry_on(known, [_as_written(line) for line in lines])


def _as_written(line: Line) -> Line:
    if not isinstance(line, SavePlacement):
        return line
    return SavePlacement(replace(line.placement, text=render_text(line.placement.text)))
