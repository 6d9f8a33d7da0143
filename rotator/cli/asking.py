"""Asks the daemon for the same thing for several credentials: one that is refused doesn't keep the others from being asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from rotator.cli.failures import exit_code_of, print_failure, redact
from rotator.cli.humane import clean
from rotator.domain.errors import RotatorError

if TYPE_CHECKING:
    from rotator.cli.api import Row
    from rotator.cli.following import Ending

_UNREACHABLE = 5


@dataclass(frozen=True, slots=True)
class Asked:
    """What was accepted, and the worst exit code of what was not."""

    accepted: list[Row]
    code: int


def ask_each(names: Iterable[str], ask: Callable[[str], Row]) -> Asked:
    """Ask for each once, in order. Refusals are told on stderr; only a daemon that is away ends it at once."""
    accepted, code = [], 0
    for name in dict.fromkeys(names):
        try:
            accepted.append(ask(name))
        except RotatorError as problem:
            if problem.exit_code == _UNREACHABLE:
                raise
            print_failure(problem, debug=False)
            code = max(code, exit_code_of(problem))
    return Asked(accepted, code)


def print_endings(endings: Sequence[Ending], *, json_follows: bool) -> None:
    """How each ended: what went well on stdout, the rest on stderr."""
    for ending in endings:
        bad = ending.code != 0
        click.echo(redact(clean(f"{'rotator: ' if bad else ''}{ending.credential}: {ending.text}")), err=bad or json_follows)
