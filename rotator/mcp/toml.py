"""The span editor for TOML (Codex): append, change or remove one table as text; every other byte stays.

`tomllib` judges whether a text is TOML and what it says; the scanner here only finds out where things stand in a text that passed.
Forms that leave no safe place, such as an inline table around our entry, are refused (R6).
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rotator.mcp.edits import Edit, Insertion, Path, Run, Splice, build_edit, build_pieces, is_prefix
from rotator.mcp.errors import MalformedDocument, UneditableDocument, find_position

_BASIC, _LITERAL = r'"(?:[^"\\\n]|\\.)*+"', r"'[^'\n]*+'"
_MULTI = r'"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*+"{3,5}' + r"|'''(?:[^']|'{1,2}(?!'))*+'{3,5}"
STRING = re.compile(f"{_MULTI}|{_BASIC}|{_LITERAL}")
"""Any string literal."""

_BLANK = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_KEY = re.compile(rf"[ \t]*+({_BASIC}|{_LITERAL}|[A-Za-z0-9_-]++)[ \t]*+")
_INSIDE_ARRAY = re.compile(rf"{STRING.pattern}|#[^\n]*+|[^\[\]{{}}\"'#]++")
_SCALAR = re.compile(r"[^\n#,\]}]*+")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLACE = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)")


@dataclass(frozen=True, slots=True)
class Statement:
    """One header or one key with its value: the absolute path, and the span without its comment and newline."""

    path: Path
    start: int
    end: int
    header: bool


def load(text: str) -> dict[str, Any]:
    """What the text says. Raises `MalformedDocument`."""
    if text.startswith("\ufeff"):
        raise MalformedDocument("a byte order mark, which TOML readers reject: save the file without it", line=1, column=1)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        line, column = find_position(text, len(text))
        if place and place.group(1):
            line, column = int(place.group(1)), int(place.group(2))
        raise MalformedDocument("not valid TOML here", line=line, column=column) from None
    except (RecursionError, ValueError):
        raise MalformedDocument("TOML nested too deeply, or with a number or date that cannot be read") from None


def put(text: str, path: Path, value: Mapping[str, object], holes: Sequence[Path] = ()) -> Edit:
    """Append the table `[path]` at the end. Raises `UneditableDocument` if something stands at `path` already.

    `holes` are paths below `path` to strings that may change later without making the insert unrecognisable to `undo`.
    """
    here: Any = load(text)
    for depth, name in enumerate(path):
        if not isinstance(here, dict):
            raise UneditableDocument(f"{'.'.join(path[:depth])} is not a table: nothing can be added to it")
        if name not in here:
            break
        here = here[name]
    else:
        raise UneditableDocument(f"{'.'.join(path)} stands in the file already")
    for statement in _Scanner(text).scan():
        if not statement.header and len(statement.path) < len(path) and is_prefix(statement.path, path):
            line, column = find_position(text, statement.start)
            raise UneditableDocument(
                f"{'.'.join(statement.path)} is an inline table: rewrite it as [{'.'.join(path)}] tables first",
                line=line,
                column=column,
            )
    newline = find_newline(text)
    block = newline.join([f"[{render_key(path)}]", *(f"{render_key((k,))} = {render(v)}" for k, v in value.items())]) + newline
    lead = ""
    if text.strip():
        lead = newline if text.endswith("\n") else newline * 2
    edit = build_edit(text, [Splice(len(text), len(text), lead + block)])
    return Edit(edit.text, edit.splices, _record(edit.text, len(text), len(text) + len(lead), path, holes))


def replace(text: str, changes: Mapping[Path, object]) -> Edit:
    """Replace the values at several paths, each of which must be written out as one value somewhere."""
    load(text)
    scanner = _Scanner(text)
    scanner.scan()
    splices: list[Splice] = []
    for path, value in changes.items():
        span = scanner.values.get(path)
        if span is None:
            raise UneditableDocument(f"there is no single value {'.'.join(path)} to change")
        splices.append(Splice(*span, render(value)))
    return build_edit(text, splices)


def remove(text: str, path: Path) -> Edit:
    """Remove every line that defines something at or below `path`, with the comments between such lines."""
    load(text)
    splices: list[Splice] = []
    group: list[Statement] = []
    for statement in [*_Scanner(text).scan(), None]:
        if statement is not None and is_prefix(path, statement.path):
            group.append(statement)
        elif group:
            splices.append(_removal(text, group))
            group = []
    return build_edit(text, splices)


def undo(text: str, inserted: Insertion) -> Edit | None:
    """Cut exactly what an insert put in, wherever it stands now. None if it is not there word for word any more."""
    load(text)
    headers = [s for s in _Scanner(text).scan() if s.header and s.path == inserted.path]
    cuts = inserted.find_cuts(text, headers[0].start, STRING) if len(headers) == 1 else None
    return None if cuts is None else build_edit(text, cuts)


def find_newline(text: str) -> str:
    """The newline of the majority of lines."""
    crlf = text.count("\r\n")
    return "\r\n" if crlf > text.count("\n") - crlf else "\n"


def render_key(path: Sequence[str]) -> str:
    """A dotted key, its parts quoted where they must be."""
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in path)


def render(value: object) -> str:
    """A value on one line: a scalar, an array of scalars, or an inline table."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{render_key((k,))} = {render(v)}" for k, v in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _record(text: str, start: int, anchor: int, path: Path, holes: Sequence[Path]) -> Insertion:
    """What `undo` needs, from the text as it is after the insert."""
    scanner = _Scanner(text)
    scanner.scan()
    spans = [scanner.values[(*path, *hole)] for hole in holes if (*path, *hole) in scanner.values]
    return Insertion(path, anchor, (Run(start, build_pieces(text, start, len(text), spans)),))


def _removal(text: str, group: Sequence[Statement]) -> Splice:
    """The cut of whole lines; at the end of the file with the blank line before them."""
    start = text.rfind("\n", 0, group[0].start) + 1
    end = text.find("\n", group[-1].end) + 1 or len(text)
    if end == len(text):
        for blank in ("\r\n", "\n"):
            if text.endswith("\n" + blank, 0, start):
                return Splice(start - len(blank), end, "")
    return Splice(start, end, "")


class _Scanner:
    """Where the statements of a valid text stand, and every value that is written out: `values` maps its path to its span."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.values: dict[Path, tuple[int, int]] = {}

    def scan(self) -> list[Statement]:
        statements: list[Statement] = []
        table: Path = ()
        while self.skip_blank() < len(self.text):
            start = self.position
            if self.text[start] == "[":
                self.position += 2 if self.text.startswith("[[", start) else 1
                table = self.read_key()
                self.expect("]")
                if self.text.startswith("[[", start):
                    self.expect("]")
                statements.append(Statement(table, start, self.position, header=True))
            else:
                path = (*table, *self.read_key())
                self.expect("=")
                self.read_value(path)
                statements.append(Statement(path, start, self.position, header=False))
        return statements

    def skip_blank(self) -> int:
        found = _BLANK.match(self.text, self.position)
        assert found is not None
        self.position = found.end()
        return self.position

    def expect(self, character: str) -> None:
        if not self.text.startswith(character, self.position):
            raise self.lost()
        self.position += 1

    def read_key(self) -> Path:
        parts: list[str] = []
        while True:
            found = _KEY.match(self.text, self.position)
            if found is None:
                raise self.lost()
            self.position = found.end()
            parts.append(_decode_key(found.group(1)))
            if not self.text.startswith(".", self.position):
                return tuple(parts)
            self.position += 1

    def read_value(self, path: Path) -> None:
        while self.text[self.position : self.position + 1] in (" ", "\t"):
            self.position += 1
        start = self.position
        first = self.text[start : start + 1]
        if first == "{":
            self.read_inline(path)
        elif first == "[":
            self.skip_array()
        else:
            found = STRING.match(self.text, start) or _SCALAR.match(self.text, start)
            assert found is not None
            self.position = start + len(found.group().rstrip())
        self.values[path] = (start, self.position)

    def read_inline(self, path: Path) -> None:
        self.position += 1
        while not self.text.startswith("}", self.skip_blank()):
            if self.text.startswith(",", self.position):
                self.position += 1
                continue
            name = self.read_key()
            self.expect("=")
            self.read_value((*path, *name))
        self.position += 1

    def skip_array(self) -> None:
        depth = 0
        while True:
            found = _INSIDE_ARRAY.match(self.text, self.position)
            if found is not None:
                self.position = found.end()
                continue
            bracket = self.text[self.position : self.position + 1]
            if not bracket or bracket not in "[]{}":
                raise self.lost()
            depth += 1 if bracket in "[{" else -1
            self.position += 1
            if not depth:
                return

    def lost(self) -> UneditableDocument:
        line, column = find_position(self.text, self.position)
        return UneditableDocument("a form of TOML that cannot be edited safely", line=line, column=column)


def _decode_key(written: str) -> str:
    if "\\" not in written or written[0] == "'":
        return written[1:-1] if written[0] in "\"'" else written
    return str(next(iter(tomllib.loads(f"{written} = 0"))))
