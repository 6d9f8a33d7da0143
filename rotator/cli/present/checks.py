"""`check`: one line for each part that was looked at."""

from __future__ import annotations

from collections.abc import Iterable

from rotator.cli.present.blocks import BAD, GOOD, Block, Cell, Column, Note, Table

_COLUMNS = (Column("PART"), Column("", keep=True), Column(""))


def build_checks(lines: Iterable[tuple[str, bool, str]], *, ok: bool) -> list[Block]:
    """(part, ok, text) in a table, and what it comes to."""
    rows = tuple((part, Cell("ok" if good else "FAILED", GOOD if good else BAD), text) for part, good, text in lines)
    end = Note("all is well", GOOD) if ok else Note("not all is well: see the lines marked FAILED", BAD)
    return [Table(_COLUMNS, rows), end] if rows else [end]
