"""What a failed command says on stderr, and with which code it exits. Knows no command.

A key on the command line is refused before anything else looks at it: by then it stands in the shell's history and in the process list,
so it counts as leaked, and the message says so without repeating it.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from typing import Never

import click

from rotator.cli.humane import ERRNO
from rotator.domain.errors import RotatorError

_KEY = re.compile(r"\b((?:rk|sk|ak|pk)_[a-z][a-z0-9]{0,31}_[A-Za-z0-9]{8})_[A-Za-z0-9_-]{12,}")
"""Twelve characters: no published key is that short, and credentials may be called `rk_eu_checkout_read`."""

INTERRUPTED = 130


def find_key_in(arguments: Iterable[str]) -> str | None:
    """The key id of a full key that stands in an argument."""
    found = (_KEY.search(argument) for argument in arguments)
    return next((match.group(1) for match in found if match), None)


def refuse_key(key_id: str) -> Never:
    """Raises the refusal of a full key on the command line."""
    raise click.UsageError(
        f"a full key stands on the command line ({key_id}_…): it is in your shell's history and was in the process list, so take it for "
        f"leaked and report it with `rotator leak {key_id}`. Keys are only ever read from stdin"
    )


def redact(text: str) -> str:
    """The text with every key cut down to its key id. A second fence: messages are not supposed to hold keys."""
    return _KEY.sub(r"\1_…", text)


def exit_code_of(problem: BaseException) -> int:
    """The contract's exit code for what was raised."""
    if isinstance(problem, click.Abort | KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(problem, RotatorError | click.ClickException):
        return problem.exit_code
    return 1


def print_failure(problem: BaseException, *, debug: bool) -> None:
    """Say on stderr what failed, with its causes; with a traceback only for `debug`."""
    if debug and not isinstance(problem, click.ClickException | click.Abort):
        click.echo(redact("".join(traceback.format_exception(problem))), err=True, nl=False)
    for line in render_failure(problem):
        click.echo(redact(line), err=True)


def render_failure(problem: BaseException) -> Iterator[str]:
    """The lines for a person: the failure, then its causes."""
    if isinstance(problem, click.Abort | KeyboardInterrupt):
        yield "rotator: interrupted"
        return
    if isinstance(problem, click.exceptions.NoArgsIsHelpError):
        yield problem.message
        return
    yield from (f"rotator: {line}" for line in _sentence(problem).splitlines())
    said = _sentence(problem)
    cause = problem.__cause__
    while cause is not None:
        text = _sentence(cause, foreign=type(cause).__name__)
        if text not in said:
            yield f"  because: {text}"
        said, cause = said + text, cause.__cause__


def _sentence(problem: BaseException, foreign: str | None = None) -> str:
    if isinstance(problem, click.UsageError):
        path = problem.ctx.command_path if problem.ctx is not None else "rotator"
        return f"{problem.format_message()} (see `{path} --help`)"
    if isinstance(problem, click.ClickException):
        return problem.format_message()
    if isinstance(problem, OSError) and problem.strerror:
        return f"{problem.filename}: {problem.strerror}" if problem.filename is not None else problem.strerror
    if isinstance(problem, RotatorError | OSError):
        return ERRNO.sub("", str(problem))
    # The text of an error that is not ours may carry anything, so it is told with --debug only.
    return (
        foreign
        or f"this is a fault of rotator, not of yours ({type(problem).__name__}): run it again with --debug and report what it shows"
    )


def print_warning(text: str) -> None:
    """One line on stderr."""
    click.echo(redact(f"rotator: {text}"), err=True)
    sys.stderr.flush()
