"""The shapes that output is made of, and how they become text of a given width. Rendering is the only user of rich."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rotator.cli.humane import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

GOOD, BAD, WARN, DIM, PLAIN, STRONG = "green", "bold red", "yellow", "dim", "", "bold"


@dataclass(frozen=True, slots=True)
class Cell:
    """Text with a style."""

    text: str
    style: str = PLAIN


@dataclass(frozen=True, slots=True)
class Column:
    """A heading. `keep`: not wrapped while there is room. `right`: numbers. `drop`: where words would be torn apart, the column with the
    lowest number is left out first; 0: never."""

    heading: str
    keep: bool = False
    right: bool = False
    drop: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings; a bare string is a plain cell."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell | str, ...], ...]
    title: str = ""
    indent: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence. Wrapped lines are indented under the first one's text, `hang` columns deeper."""

    text: str
    style: str = PLAIN
    indent: int = 0
    hang: int = 2


@dataclass(frozen=True, slots=True)
class Gap:
    """An empty line."""


Block = Table | Note | Gap

_GAP = 2
"""Blanks between two columns."""


def render(blocks: Sequence[Block], width: int, *, colour: bool = False) -> str:
    """The blocks as text with a line break at its end, no line wider than `width`, without trailing blanks."""
    from rich.console import Console

    stream = io.StringIO()
    console = Console(
        file=stream,
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    for block in blocks:
        _print(console, block)
    return "".join(f"{line.rstrip()}\n" for line in stream.getvalue().splitlines())


def _print(console: Console, block: Block) -> None:
    from rich.padding import Padding

    if isinstance(block, Gap):
        console.print()
    elif isinstance(block, Note):
        _print_note(console, block)
    else:
        if block.title:
            console.print(f"{'':{block.indent}}{block.title}", style=STRONG if console.is_terminal else None)
        console.print(Padding(_build_table(block, console.width - block.indent), (0, 0, 0, block.indent), expand=False))


def _print_note(console: Console, note: Note) -> None:
    from rich.text import Text

    room = max(console.width - note.indent - note.hang, 20)
    lines = Text(clean(note.text), style=note.style).wrap(console, room, overflow="fold")
    for number, line in enumerate(lines):
        console.print(Text(" " * (note.indent + (note.hang if number else 0))) + line, no_wrap=True, overflow="ignore", crop=False)


def _build_table(table: Table, room: int) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    rows = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in table.rows]
    texts = [[column.heading, *(clean(row[number].text) for row in rows)] for number, column in enumerate(table.columns)]
    shown, widths = _find_widths(table.columns, texts, room)
    built = RichTable(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_edge=False, header_style=DIM)
    for number, width in zip(shown, widths, strict=True):
        column = table.columns[number]
        justify: Literal["left", "right"] = "right" if column.right else "left"
        built.add_column(column.heading, width=width, overflow="fold", justify=justify)
    for line, row in enumerate(rows):
        built.add_row(*[Text(texts[number][line + 1], style=row[number].style) for number in shown])
    return built


def _find_widths(columns: Sequence[Column], texts: Sequence[Sequence[str]], room: int) -> tuple[list[int], list[int | None]]:
    """Which columns are shown and how wide they are, so that no word is torn apart where that can be had; None: as it comes."""
    from rich.cells import cell_len

    whole = [max(map(cell_len, column)) for column in texts]
    words = [max(cell_len(word) for text in column for word in [*text.split(), ""]) for column in texts]
    least = [whole[n] if column.keep else words[n] for n, column in enumerate(columns)]
    shown = list(range(len(columns)))
    for number in sorted((n for n, column in enumerate(columns) if column.drop), key=lambda n: columns[n].drop):
        if _total(least, shown) > room:
            shown.remove(number)
    if _total(least, shown) > room:
        least = words
    spare = room - _total(least, shown)
    if spare < 0:
        return shown, [None] * len(shown)
    widths = dict.fromkeys(shown, 0)
    for left, number in enumerate(sorted(shown, key=lambda n: whole[n] - least[n])):
        more = min(whole[number] - least[number], spare // (len(shown) - left))
        widths[number], spare = least[number] + more, spare - more
    return shown, [widths[number] for number in shown]


def _total(widths: Sequence[int], shown: Sequence[int]) -> int:
    return sum(widths[number] for number in shown) + _GAP * (len(shown) - 1)
