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
    """A heading. `keep`: never wrapped. `right`: numbers."""

    heading: str
    keep: bool = False
    right: bool = False


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
        console.print(Padding(_build_table(block), (0, 0, 0, block.indent), expand=False))


def _print_note(console: Console, note: Note) -> None:
    from rich.text import Text

    room = max(console.width - note.indent - note.hang, 20)
    lines = Text(clean(note.text), style=note.style).wrap(console, room, overflow="fold")
    for number, line in enumerate(lines):
        console.print(Text(" " * (note.indent + (note.hang if number else 0))) + line, no_wrap=True, overflow="ignore", crop=False)


def _build_table(table: Table) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    built = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, header_style=DIM)
    for column in table.columns:
        justify: Literal["left", "right"] = "right" if column.right else "left"
        built.add_column(column.heading, no_wrap=column.keep, overflow="fold", justify=justify)
    for row in table.rows:
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        built.add_row(*[Text(clean(cell.text), style=cell.style) for cell in cells])
    return built
