"""What a benchmark answers with, and how it is shown: every figure beside what it was measured against, in the same run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Table:
    """One benchmark's result: rows for people, `data` for programs, notes on how it was measured."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def median(values: Sequence[float]) -> float:
    """The middle one: one disturbed run does not move it."""
    return statistics.median(values)


def render_table(table: Table) -> str:
    """The table as text, columns aligned, notes below."""
    lines = [list(table.columns), *[list(row) for row in table.rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(table.columns))]
    shown = [table.title, "=" * len(table.title)]
    for number, line in enumerate(lines):
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        shown.append("  ".join(cells).rstrip())
        if number == 0:
            shown.append("  ".join("-" * width for width in widths))
    return "\n".join([*shown, *[f"  {note}" for note in table.notes]]) + "\n"
