"""Where output goes: text or JSON on stdout, progress beside it. Knows the terminal, not what is printed.

Plain (no colour, no live display, no wrapping) is everything that is not a terminal, and any terminal under NO_COLOR or TERM=dumb.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

import click

from rotator.cli.failures import redact
from rotator.cli.humane import clean, render_exact

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

    from rotator.cli.present.blocks import Block

__all__ = ["Progress", "open_progress", "print_blocks", "print_json"]

_UNBOUNDED = 10_000
"""Columns where nobody looks at a screen: no line is ever wrapped, so that `grep` finds what belongs together."""


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(redact(json.dumps(value, indent=2, ensure_ascii=False)))


def print_blocks(blocks: Sequence[Block]) -> None:
    """Text on stdout, as wide as the terminal."""
    from rotator.cli.present.blocks import render

    plain = is_plain(sys.stdout)
    click.echo(redact(render(blocks, find_width(sys.stdout), colour=not plain)), nl=False, color=None if plain else True)


def is_plain(stream: IO[str]) -> bool:
    """Whether the stream wants neither colour nor a display that moves."""
    return not stream.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def find_width(stream: IO[str]) -> int:
    """The columns that a line may have."""
    if stream.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return max(shutil.get_terminal_size().columns, 40)
    return _UNBOUNDED


class Progress(Protocol):
    """Shows what a waiting command sees happen."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None: ...

    def say(self, at: datetime, text: str, *, ok: bool | None = True) -> None:
        """Something happened at that time, and went well or not; None: neither."""

    def wait_for(self, text: str, until: str = "") -> None:
        """What is waited for now, and until when. Where lines stay, it is said again only when the first part changes."""


def open_progress(*, json_follows: bool) -> Progress:
    """Live on a terminal, lines elsewhere. On stderr where JSON is to follow on stdout."""
    stream = sys.stderr if json_follows else sys.stdout
    return _Lines(stream) if is_plain(stream) else _Live(stream)


class _Lines:
    """One timestamped line for each thing."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._waiting = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.flush()

    def say(self, at: datetime, text: str, *, ok: bool | None = True) -> None:
        click.echo(f"{render_exact(at)} {'FAILED ' if ok is False else ''}{redact(clean(text))}", file=self._stream)
        self._stream.flush()

    def wait_for(self, text: str, until: str = "") -> None:
        if text and text != self._waiting:
            click.echo(f"{'':20} ... {redact(clean(_join(text, until)))}", file=self._stream)
            self._stream.flush()
        self._waiting = text


_MARKS = {True: ("  ok ", "green"), False: ("fail ", "bold red"), None: ("     ", "")}


class _Live:
    """Lines that stay, and below them one that moves. Times are UTC, as everywhere on the screen."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console

        self._console: Console = Console(file=stream, highlight=False, markup=False, emoji=False)
        self._status: Status = self._console.status("")

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None) -> None:
        self._status.stop()

    def say(self, at: datetime, text: str, *, ok: bool | None = True) -> None:
        from rich.text import Text

        mark = Text(*_MARKS[ok])
        time = Text(at.astimezone(UTC).strftime("%H:%M:%S"), "dim")
        self._console.print(Text.assemble(time, " ", mark, redact(clean(text))), soft_wrap=True)

    def wait_for(self, text: str, until: str = "") -> None:
        from rich.text import Text

        self._status.update(Text(redact(clean(_join(text, until))), overflow="ellipsis", no_wrap=True))


def _join(text: str, until: str) -> str:
    return f"{text}; {until}" if until else text
