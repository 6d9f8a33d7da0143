"""One pass over a JSON, JSONC or JSON5 text that records where each key, value and comma stands.

What a dialect forbids is malformed, and named with its place. The scanner decodes keys only, repairs nothing and keeps no comments:
whoever needs the trivia between two tokens reads it from the text with `skip_trivia`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cached_property

import pyjson5

from rotator.mcp.errors import MalformedDocument, find_position

BOM = "\ufeff"
MAX_DEPTH = 200
"""Deeper nesting than any client writes; it bounds the recursion of the parsers that verify."""

_CLOSER = {"{": "}", "[": "]"}
_JSON_STRING = r'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+"'
_JSON_NUMBER = r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?"
_ESCAPE5 = r"\\(?:\r\n|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|0(?![0-9])|[^0-9ux])"
_JSON5_STRING = rf""""(?:[^"\\\r\n]++|{_ESCAPE5})*+"|'(?:[^'\\\r\n]++|{_ESCAPE5})*+'"""
_JSON5_NUMBER = r"[+-]?(?:Infinity|NaN|0[xX][0-9a-fA-F]++|(?:(?:0|[1-9][0-9]*+)(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)"
_IDENTIFIER = r"(?:[$\w]|\\u[0-9a-fA-F]{4})++"
_WORD_END = r"(?![\w$.+\-\"'])"


@dataclass(frozen=True)
class Dialect:
    """Which extensions of JSON a client's parser takes. `json5` adds unquoted keys, single quotes and the rest of JSON5."""

    name: str
    comments: bool = False
    trailing_commas: bool = False
    json5: bool = False
    bom: bool = True

    @cached_property
    def trivia(self) -> re.Pattern[str]:
        """White space, and comments where the dialect has them. Matches everywhere, perhaps nothing."""
        space, line_end = r"[ \t\r\n]++", r"\r\n"
        if self.json5:
            space, line_end = r"[\s\ufeff]++", r"\r\n\u2028\u2029"
        comment = rf"|//[^{line_end}]*+|/\*(?:[^*]++|\*(?!/))*+\*/" if self.comments else ""
        return re.compile(f"(?:{space}{comment})*+")

    @cached_property
    def string(self) -> re.Pattern[str]:
        """A string literal."""
        return re.compile(_JSON5_STRING if self.json5 else _JSON_STRING)

    @cached_property
    def key(self) -> re.Pattern[str]:
        """A member's key as it is written."""
        return re.compile(f"{_JSON5_STRING}|{_IDENTIFIER}" if self.json5 else _JSON_STRING)

    @cached_property
    def scalar(self) -> re.Pattern[str]:
        """A value that is neither object nor array."""
        string, number = (_JSON5_STRING, _JSON5_NUMBER) if self.json5 else (_JSON_STRING, _JSON_NUMBER)
        return re.compile(f"(?:{string})|(?:true|false|null|{number}){_WORD_END}")


JSON = Dialect("JSON")
JSON_WITH_COMMENTS = Dialect("JSON with comments", comments=True, bom=False)
"""Comments are stripped, then strict JSON: no trailing commas, no byte order mark (Gemini CLI and its forks)."""
JSONC = Dialect("JSONC", comments=True, trailing_commas=True)
JSON5 = Dialect("JSON5", comments=True, trailing_commas=True, json5=True)


@dataclass(slots=True)
class Value:
    """One value's span. `kind` is `{`, `[` or empty for a scalar; members are recorded for objects."""

    start: int
    end: int
    kind: str = ""
    members: list[Member] = field(default_factory=list)


@dataclass(slots=True)
class Member:
    """One member of an object: its decoded key, the key's span, its value, and the offset of the comma behind it."""

    key: str
    start: int
    key_end: int
    value: Value
    comma: int | None = None


def scan(text: str, dialect: Dialect) -> Value:
    """The root value with everything below it. Raises `MalformedDocument`."""
    return _Scanner(text, dialect).scan()


def skip_trivia(text: str, position: int, dialect: Dialect) -> int:
    """The offset of the next token at or after `position`."""
    found = dialect.trivia.match(text, position)
    assert found is not None
    return found.end()


class _Scanner:
    """The state of one scan. Open containers are a stack of our own, so that depth is bounded by a rule and not by a crash."""

    def __init__(self, text: str, dialect: Dialect) -> None:
        self.text = text
        self.dialect = dialect
        self.open: list[Value] = []
        self.position = 0

    def scan(self) -> Value:
        if self.text.startswith(BOM):
            if not self.dialect.bom:
                raise MalformedDocument("a byte order mark, which the client cannot read: save the file without it", line=1, column=1)
            self.position = 1
        self.position = skip_trivia(self.text, self.position, self.dialect)
        while True:
            value = self.begin_value()
            while value is not None:
                if not self.open:
                    return self.finish(value)
                value = self.end_value()

    def finish(self, root: Value) -> Value:
        end = skip_trivia(self.text, self.position, self.dialect)
        if end < len(self.text):
            raise self.malformed(end, "the end of the file")
        return root

    def begin_value(self) -> Value | None:
        """The scalar or empty container at the position; None when a container was opened and its first value stands next."""
        start = self.position
        kind = self.text[start : start + 1]
        if kind not in _CLOSER:
            found = self.dialect.scalar.match(self.text, start)
            if found is None:
                raise self.malformed(start, "a value")
            self.position = found.end()
            return self.attach(Value(start, self.position))
        if len(self.open) >= MAX_DEPTH:
            raise self.malformed(start, f"at most {MAX_DEPTH} levels of nesting")
        container = self.attach(Value(start, start, kind))
        self.open.append(container)
        self.position = skip_trivia(self.text, start + 1, self.dialect)
        if self.text.startswith(_CLOSER[kind], self.position):
            return self.close()
        if kind == "{":
            self.read_key(container)
        return None

    def end_value(self) -> Value | None:
        """What follows a value: a comma gives None, the next value standing next; a closing bracket gives its container."""
        container = self.open[-1]
        closer = _CLOSER[container.kind]
        here = self.position = skip_trivia(self.text, self.position, self.dialect)
        if self.text.startswith(closer, here):
            return self.close()
        if not self.text.startswith(",", here):
            raise self.malformed(here, f"',' or '{closer}'")
        if container.members:
            container.members[-1].comma = here
        self.position = skip_trivia(self.text, here + 1, self.dialect)
        if self.text.startswith(closer, self.position):
            if not self.dialect.trailing_commas:
                raise self.problem(here, f"a trailing comma, which {self.dialect.name} does not allow: remove it")
            return self.close()
        if container.kind == "{":
            self.read_key(container)
        return None

    def read_key(self, container: Value) -> None:
        """A key and its colon; the position moves to the value."""
        found = self.dialect.key.match(self.text, self.position)
        if found is None:
            raise self.malformed(self.position, "a member's name")
        colon = skip_trivia(self.text, found.end(), self.dialect)
        if not self.text.startswith(":", colon):
            raise self.malformed(colon, "':'")
        container.members.append(Member(self.decode(found), found.start(), found.end(), _UNREAD))
        self.position = skip_trivia(self.text, colon + 1, self.dialect)

    def attach(self, value: Value) -> Value:
        if self.open and self.open[-1].kind == "{":
            self.open[-1].members[-1].value = value
        return value

    def close(self) -> Value:
        container = self.open.pop()
        self.position += 1
        container.end = self.position
        return container

    def decode(self, key: re.Match[str]) -> str:
        written = key.group()
        quoted = written[0] in "\"'"
        if "\\" not in written:
            return written[1:-1] if quoted else written
        try:
            if not self.dialect.json5:
                return str(json.loads(written))
            return str(pyjson5.decode(written)) if quoted else str(next(iter(pyjson5.decode(f"{{{written}:0}}"))))
        except (ValueError, pyjson5.Json5Exception):
            raise self.problem(key.start(), "a member's name that cannot be read") from None

    def malformed(self, offset: int, expected: str) -> MalformedDocument:
        """The error for something else standing where `expected` should."""
        rest = self.text[offset : offset + 2]
        if not rest:
            return self.problem(offset, f"the file ends where {expected} should stand")
        if rest in ("//", "/*"):
            if not self.dialect.comments:
                return self.problem(offset, f"a comment, which {self.dialect.name} does not allow: remove it")
            return self.problem(offset, "a comment that never ends")
        if rest[0] == '"' and self.dialect.string.match(self.text, offset) is None:
            return self.problem(
                offset,
                "a string that does not end on its line, or has an escape or control character that is not allowed",
            )
        return self.problem(offset, f"expected {expected}")

    def problem(self, offset: int, problem: str) -> MalformedDocument:
        line, column = find_position(self.text, offset)
        return MalformedDocument(problem, line=line, column=column)


_UNREAD = Value(0, 0)
