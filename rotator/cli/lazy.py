"""A group whose commands are imported when they are used, and the last line of defence for whatever they raise.

The table of commands holds their one-line help too, so that `rotator --help` imports none of them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from rotator.cli.context import Options
from rotator.cli.failures import exit_code_of, find_key_in, print_failure, refuse_key

__all__ = ["Entry", "LazyGroup"]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a command lives, and what it does in one line."""

    module: str
    name: str
    help: str


class _ReaderGone(Exception):
    """Whoever read the output does so no more."""


class LazyGroup(click.Group):
    """`sections` are headings with the commands below them, in the order of `--help`."""

    def __init__(self, *args: Any, sections: Mapping[str, Mapping[str, Entry]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.sections = sections
        self.entries = {name: entry for section in sections.values() for name, entry in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """The names, in the order of `--help`."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """Imports the command's module."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(entry.module), entry.name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  # click's signature
        """From the table alone."""
        for heading, section in self.sections.items():
            with formatter.section(heading):
                formatter.write_dl([(name, entry.help) for name, entry in section.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Keeps a broken pipe away from click, which would take it for a failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as problem:
            raise _ReaderGone from problem

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As click's, but every failure ends in its sentence on stderr and its exit code."""
        arguments = list(sys.argv[1:] if args is None else args)
        options = extra.setdefault("obj", Options())
        if not standalone_mode:
            return super().main(arguments, prog_name, complete_var, standalone_mode=False, windows_expand_args=windows_expand_args, **extra)
        _tolerate_characters()
        sys.exit(self._run(arguments, options, prog_name, complete_var, extra))

    def _run(self, arguments: list[str], options: Options, prog_name: str | None, complete_var: str | None, extra: dict[str, Any]) -> int:
        try:
            key_id = find_key_in(arguments)
            if key_id is not None:
                refuse_key(key_id)
            outcome: object = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except (BrokenPipeError, _ReaderGone):
            return _hush()
        except (Exception, KeyboardInterrupt) as problem:  # noqa: BLE001  # the last line: everything ends in a sentence and a code
            print_failure(problem, debug=options.debug or "--debug" in arguments or is_debug())
            return exit_code_of(problem)
        return outcome if isinstance(outcome, int) else 0


def is_debug() -> bool:
    """Whether the environment asks for tracebacks."""
    return os.environ.get("ROTATOR_DEBUG", "") not in ("", "0")


def _tolerate_characters() -> None:
    """A terminal that lacks a character shows a question mark, instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


def _hush() -> int:
    """The reader went away, as in `rotator status | head`: the code is the shell's own for it."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141
