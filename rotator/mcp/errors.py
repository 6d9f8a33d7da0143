"""What can be wrong with a client's configuration text, with line and column.

The messages never repeat the text: a configuration file holds other people's secrets. The caller adds the file's path.
"""

from __future__ import annotations

import re

from rotator.domain.errors import Misconfigured
from rotator.domain.reasons import Reason

_LINE_BREAK = re.compile(r"\r\n|\n|\r")


class DocumentError(Misconfigured):
    """A configuration text cannot be edited. `line` and `column` count from 1; None where no place can be named."""

    def __init__(self, problem: str, *, line: int | None = None, column: int | None = None) -> None:
        place = "" if line is None else f"line {line}, column {column}: "
        super().__init__(place + problem)
        self.problem = problem
        self.line = line
        self.column = column


class MalformedDocument(DocumentError):
    """The text does not parse in its client's dialect. It is left alone until somebody repairs it (R5)."""

    reason = Reason.MALFORMED_FILE


class UneditableDocument(DocumentError):
    """The text parses, but its shape leaves no safe place for the edit, or the edit did not prove exact (R6, R8)."""

    reason = Reason.UNSAFE_FILE


class ForeignEntry(DocumentError):
    """An entry stands under our name that is not of the shape we write (R15)."""

    reason = Reason.FOREIGN_ENTRY


def find_position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a character offset. A byte order mark takes no column."""
    line, start = 1, 1 if text.startswith("\ufeff") else 0
    for found in _LINE_BREAK.finditer(text, 0, offset):
        line, start = line + 1, found.end()
    return line, offset - start + 1
