"""Edits of a text as data: what changed, where, and what an exact undo has to find again.

An `Insertion` is kept in the ownership record (R15), so it holds no key: where the inserted text carried a value that may change
later (the header, the URL), the run has a hole, and any string literal may stand there when the run is looked for.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rotator.mcp.errors import DocumentError

Path = tuple[str, ...]
"""The member names from the root to a value. A literal dotted key is one name."""


@dataclass(frozen=True, slots=True)
class Splice:
    """`[start:end]` of the old text gives way to `text`."""

    start: int
    end: int
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Run:
    """One inserted stretch of text: the pieces around its holes, and its offset in the text that the edit produced."""

    offset: int
    pieces: tuple[str, ...]

    def find_end(self, text: str, start: int, literal: re.Pattern[str]) -> int | None:
        """The end of the run in `text` if it stands at `start` word for word, holes filled by any string literal."""
        position = start
        for index, piece in enumerate(self.pieces):
            if index:
                filled = literal.match(text, position)
                if filled is None:
                    return None
                position = filled.end()
            if start < 0 or not text.startswith(piece, position):
                return None
            position += len(piece)
        return position


@dataclass(frozen=True, slots=True)
class Insertion:
    """The record of an insert, enough to cut exactly it again.

    `path` is the topmost thing that the insert created and `anchor` the offset at which it began in the new text: the runs are looked
    for relative to it. `seam` is the hash of what lay between two runs (the comment that stayed with its member).
    """

    path: Path
    anchor: int
    runs: tuple[Run, ...]
    seam: str = ""

    def find_cuts(self, text: str, anchor: int, literal: re.Pattern[str]) -> list[Splice] | None:
        """The cuts that take the insert out of `text`, in which it now begins at `anchor`. None if anything in it changed."""
        cuts: list[Splice] = []
        for run in self.runs:
            start = run.offset + anchor - self.anchor
            end = run.find_end(text, start, literal)
            if end is None:
                return None
            cuts.append(Splice(start, end, ""))
        if len(cuts) > 1 and hash_seam(text[cuts[0].end : cuts[1].start]) != self.seam:
            return None
        return cuts

    def to_dict(self) -> dict[str, Any]:
        """A form that goes through JSON. It holds no key material."""
        runs = [{"offset": run.offset, "pieces": list(run.pieces)} for run in self.runs]
        return {"path": list(self.path), "anchor": self.anchor, "runs": runs, "seam": self.seam}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Insertion:
        """The reverse of `to_dict`. Raises `DocumentError` if the record is damaged."""
        try:
            runs = tuple(Run(int(run["offset"]), tuple(map(str, run["pieces"]))) for run in raw["runs"])
            return cls(tuple(map(str, raw["path"])), int(raw["anchor"]), runs, str(raw["seam"]))
        except (KeyError, TypeError, ValueError):
            raise DocumentError("the record of what was inserted is damaged: the entry can only be removed as a member") from None


@dataclass(frozen=True, slots=True)
class Edit:
    """A new text, the splices that made it from the old one, and for an insert what an exact undo needs.

    The text is not shown by `repr`: it holds keys.
    """

    text: str = field(repr=False)
    splices: tuple[Splice, ...] = ()
    inserted: Insertion | None = None

    @property
    def changed(self) -> bool:
        """Whether the new text differs from the old one."""
        return bool(self.splices)


def build_edit(text: str, splices: Iterable[Splice], inserted: Insertion | None = None) -> Edit:
    """Apply splices, which must not overlap, to `text`. Splices that change nothing are left out."""
    kept = tuple(sorted((s for s in splices if text[s.start : s.end] != s.text), key=lambda s: (s.start, s.end)))
    parts: list[str] = []
    position = 0
    for splice in kept:
        parts += (text[position : splice.start], splice.text)
        position = splice.end
    parts.append(text[position:])
    return Edit("".join(parts), kept, inserted)


def build_pieces(text: str, start: int, end: int, holes: Iterable[tuple[int, int]]) -> tuple[str, ...]:
    """`text[start:end]` without the spans in `holes`, which lie inside it."""
    pieces: list[str] = []
    for hole_start, hole_end in sorted(holes):
        pieces.append(text[start:hole_start])
        start = hole_end
    pieces.append(text[start:end])
    return tuple(pieces)


def hash_seam(text: str) -> str:
    """SHA-256 of foreign text between two runs; hashed since it is not ours to keep."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_prefix(path: Sequence[str], of: Sequence[str]) -> bool:
    """Whether `of` is `path` or lies below it."""
    return tuple(of[: len(path)]) == tuple(path)
