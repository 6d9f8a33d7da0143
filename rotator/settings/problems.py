"""Mistakes in a configuration: where each stands, and which rule it breaks. No text here ever repeats a key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rotator.domain.errors import Misconfigured
from rotator.domain.keys import Kind

__all__ = ["KEY_SHAPED", "ConfigurationProblems", "Origin", "Path", "Problem", "redact", "render_path", "tidy"]

KEY_SHAPED = re.compile(rf"(?<![A-Za-z0-9])((?:{'|'.join(Kind)})_[a-z][a-z0-9]{{0,31}}_[A-Za-z0-9]{{8}})_[A-Za-z0-9_-]{{12,}}")
"""A full key in a text; group 1 is its key id. The secret part's least length keeps paths such as rk_live_checkout_read out."""

Path = tuple[str | int, ...]
"""Where a value stands in the configuration: names of keys, and numbers of list items from 0."""


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """Where a value was written: a file with line and column (from 1), or an environment variable."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake."""

    origin: Origin
    path: str
    """such as `credentials.checkout-read.rotation.every`; empty for a mistake of the whole file"""
    rule: str
    """what is wrong and what to do"""
    leak: bool = False
    """a key stands there"""

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.origin), self.path, self.rule) if part)


class ConfigurationProblems(Misconfigured):
    """Every mistake that was found, one a line, tidied."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(tidy(problems))
        super().__init__("\n".join(map(str, self.problems)))


def render_path(path: Path) -> str:
    """`credentials.checkout-read.targets[1].settle`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def redact(text: str) -> str:
    """The text with `…` in place of each key's secret part."""
    return KEY_SHAPED.sub(r"\1_…", text)


def tidy(problems: Iterable[Problem]) -> list[Problem]:
    """Each mistake once, without keys, files before the environment, by line; of a line with a key in it only that."""
    clean = {replace(problem, path=redact(problem.path), rule=redact(problem.rule)): None for problem in problems}
    leaks = {(problem.origin.source, problem.origin.line) for problem in clean if problem.leak}
    kept = [problem for problem in clean if problem.leak or (problem.origin.source, problem.origin.line) not in leaks]
    return sorted(kept, key=lambda problem: (not problem.origin.line, problem.origin, problem.path))
