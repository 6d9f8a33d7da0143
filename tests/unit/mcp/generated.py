"""Random configuration texts for the span editor's tests: legal in their dialect, and as unpleasant as real files get."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rotator.mcp.scanner import JSON, JSONC, Dialect

BOM = "\ufeff"
Writer = Callable[[int], str]
"""Writes a value at an indentation depth; drawn first, written later."""
CONTAINERS = [("mcpServers",), ("servers",), ("mcp", "servers"), ("amp.mcpServers",), ("context_servers",)]
_NUMBERS = ["0", "-0", "12345678901234567890", "0.10", "1.50", "1E3", "-1e-7", "1.0e+10", "42", "-17.25"]
_STRINGS = [
    '"// not a comment"',
    '"/* nor this */"',
    '"a, } ] , { [ :"',
    r'"\u00e9\/\"\\"',
    r'"\ud83d\ude00"',
    '"żółw 🐢 漢字"',
    '"ends with a backslash \\\\"',
    '""',
    '"\u2028 \u00a0 \u200b"',
    r'"C:\\Users\\x"',
    '"https://example.test/a//b"',
]
_WORDS = ["a", "b", "editor.fontSize", "theme", "x y", "größe", "🙂", "__proto__", "", "env", "0", "//", "a.b.c", "null"]
_REMARKS = ["note", ' "quoted": {,', "żółw 🐢", "a * b / c", "}", "mcpServers", ""]


@dataclass(frozen=True)
class Document:
    """A generated text; `container` is the path that an entry goes under, `header` the path of a value that may be changed."""

    text: str
    dialect: Dialect
    container: tuple[str, ...]
    header: tuple[str, ...] | None
    newline: str | None
    """the only newline in the text; None if mixed or none at all"""


class Maker:
    """Writes one random document. The layout (newline, indentation, comments, commas) is drawn once and then followed loosely."""

    def __init__(self, seed: int, dialect: Dialect | None = None) -> None:
        self.rng = rng = random.Random(seed)
        self.dialect = dialect or rng.choice([JSON, JSONC, JSONC])
        self.one_line = rng.random() < 0.2
        self.newlines = rng.choice([["\n"], ["\n"], ["\r\n"], ["\n", "\r\n"]])
        self.unit = rng.choice(["  ", "    ", "\t", " "])
        self.colon = rng.choice([": ", ": ", ":", " : "])
        self.remarks = rng.choice([0.0, 0.1, 0.4]) if self.dialect.comments else 0.0
        self.trailing = rng.choice([0.0, 0.5, 1.0]) if self.dialect.trailing_commas else 0.0
        self.messy = rng.random() < 0.15

    def make(self) -> Document:
        rng = self.rng
        container = rng.choice(CONTAINERS)
        header = None
        servers = [(name, self.value(2)) for name in self.names(rng.randrange(3))]
        if rng.random() < 0.6:
            header = (*container, "old-remote", "headers", "Authorization")
            servers.insert(rng.randrange(len(servers) + 1), ("old-remote", self.remote))
        inner = servers
        for depth, name in reversed(list(enumerate(container))):
            around = [(n, self.value(3)) for n in self.names(rng.randrange(4) if depth == 0 else rng.randrange(2))]
            if header or rng.random() < 0.75:
                around.insert(rng.randrange(len(around) + 1), (name, self.object_of(inner)))
            inner = around
        body = self.object_of(inner)(0)
        bom = BOM if rng.random() < 0.1 and self.dialect.bom else ""
        text = bom + self.gap(0) + body + self.gap(0)
        kinds = [kind for kind in ("\r\n", "\n") if kind in text.replace("\r\n", "" if kind == "\n" else "\r\n")]
        return Document(text, self.dialect, container, header, kinds[0] if len(kinds) == 1 else None)

    def names(self, count: int) -> list[str]:
        return self.rng.sample(_WORDS, count)

    def newline(self) -> str:
        return self.rng.choice(self.newlines)

    def remark(self) -> str:
        """A comment, or nothing; a line comment brings its newline."""
        if self.rng.random() >= self.remarks:
            return ""
        remark = self.rng.choice(_REMARKS)
        if not self.one_line and self.rng.random() < 0.5:
            return f"// {remark}{self.newline()}"
        return f"/* {remark} */"

    def gap(self, depth: int) -> str:
        """Trivia before a line of its own: newline, perhaps a comment line, indentation."""
        if self.one_line:
            return self.remark() + self.rng.choice(["", " "])
        if self.messy and self.rng.random() < 0.3:
            return self.remark() + self.rng.choice([" ", "\t", ""])
        blank = self.newline() if self.rng.random() < 0.1 else ""
        indent = self.unit * depth
        own_line = self.remark()
        if own_line and not own_line.endswith("\n"):
            own_line += self.newline()
        return self.newline() + blank + (indent + own_line if own_line else "") + indent

    def same_line(self) -> str:
        """Trivia behind a value, on its line."""
        remark = self.remark()
        return f" {remark}" if remark else ""

    def key(self, name: str) -> str:
        written = json.dumps(name, ensure_ascii=self.rng.random() < 0.3)
        if name and self.rng.random() < 0.05:
            place = self.rng.randrange(len(name))
            if ord(name[place]) < 0xFFFF and name.isascii():
                head, tail = json.dumps(name[:place])[:-1], json.dumps(name[place + 1 :])[1:]
                written = f"{head}\\u{ord(name[place]):04x}{tail}"
        return written

    def value(self, depth: int) -> Writer:
        kind = self.rng.random()
        if depth and kind < 0.3:
            members = [(name, self.value(depth - 1)) for name in self.names(self.rng.randrange(4))]
            if members and self.rng.random() < 0.05:
                members.append((members[0][0], self.value(0)))
            return self.object_of(members)
        if depth and kind < 0.5:
            return self.array_of([self.value(depth - 1) for _ in range(self.rng.randrange(4))])
        if kind < 0.51:
            return lambda _level: "[" * 60 + "]" * 60
        scalar = self.rng.choice([*_NUMBERS, *_STRINGS, "true", "false", "null"])
        return lambda _level: scalar

    def remote(self, level: int) -> str:
        headers = [("Authorization", lambda _level: self.rng.choice(_STRINGS))]
        if self.rng.random() < 0.4:
            headers.insert(self.rng.randrange(2), ("X-Other", self.value(0)))
        return self.object_of([("url", self.value(0)), ("headers", self.object_of(headers))])(level)

    def object_of(self, members: Sequence[tuple[str, Writer]]) -> Writer:
        return lambda level: self.bracket("{}", [self.member(name, value) for name, value in members], level)

    def array_of(self, values: Sequence[Writer]) -> Writer:
        return lambda level: self.bracket("[]", values, level)

    def member(self, name: str, value: Writer) -> Writer:
        return lambda level: f"{self.key(name)}{self.colon}{value(level)}"

    def bracket(self, pair: str, items: Sequence[Writer], level: int) -> str:
        if not items:
            return pair[0] + self.rng.choice(["", "", " ", self.gap(level)]) + pair[1]
        parts = [pair[0]]
        for index, item in enumerate(items):
            parts += (self.gap(level + 1), item(level + 1))
            last = index == len(items) - 1
            if self.rng.random() < 0.1:
                parts.append(self.same_line())
            if not last or self.rng.random() < self.trailing:
                parts.append(",")
            parts.append(self.same_line())
        return "".join(parts) + self.gap(level) + pair[1]
