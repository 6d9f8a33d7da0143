"""One client's configuration text, whatever its format: read our entry, set its key, take it out again.

Every edit is proven before it is handed out (R8): an independent parser must read the old data plus our change from the new text, and
the text before the first and behind the last touched span must be the same. An edit that cannot be proven is not made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import pyjson5

from rotator.mcp import spans, toml
from rotator.mcp.clients import Client, Toml, render_entry
from rotator.mcp.edits import Edit, Insertion, Path, is_prefix
from rotator.mcp.errors import ForeignEntry, MalformedDocument, UneditableDocument
from rotator.mcp.scanner import BOM, MAX_DEPTH, Dialect

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Format(Protocol):
    """What the facade needs of a file format."""

    def load(self, text: str) -> dict[str, Any]: ...
    def canonical(self, data: object) -> str: ...
    def check_path(self, text: str, path: Path) -> None: ...
    def put(self, text: str, path: Path, value: Mapping[str, object], holes: Sequence[Path]) -> Edit: ...
    def replace(self, text: str, changes: Mapping[Path, object]) -> Edit: ...
    def remove(self, text: str, path: Path) -> Edit: ...
    def undo(self, text: str, inserted: Insertion) -> Edit | None: ...


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """JSON and its supersets."""

    dialect: Dialect
    blank_is_empty: bool = False

    def load(self, text: str) -> dict[str, Any]:
        """The data, read by a parser that is not ours, of a text that our scanner found good."""
        if _is_blank(text):
            return {}
        spans.find(text, (), self.dialect)
        body = text.removeprefix(BOM)
        try:
            data = self._parse(body)
        except (ValueError, RecursionError, pyjson5.Json5Exception):
            raise UneditableDocument("a second parser cannot read this file: it is left alone") from None
        if not isinstance(data, dict):
            raise UneditableDocument("the document is not an object", line=1, column=1)
        return data

    def canonical(self, data: object) -> str:
        """Equal for equal data in the same order; unlike `==` it tells 1 from 1.0 and true, and NaN equals itself."""
        return repr(data)

    def _parse(self, body: str) -> object:
        if self.dialect.comments or self.dialect.trailing_commas:
            return pyjson5.decode(body, MAX_DEPTH + 1)
        return json.loads(body, parse_constant=_reject_constant)

    def check_path(self, text: str, path: Path) -> None:
        if not _is_blank(text):
            spans.find(text, path, self.dialect)

    def put(self, text: str, path: Path, value: Mapping[str, object], holes: Sequence[Path]) -> Edit:
        if _is_blank(text):
            return spans.create(text, path, value, self.dialect, holes, keep_blank=self.blank_is_empty)
        return spans.put(text, path, value, self.dialect, holes)

    def replace(self, text: str, changes: Mapping[Path, object]) -> Edit:
        return spans.replace(text, changes, self.dialect)

    def remove(self, text: str, path: Path) -> Edit:
        return spans.remove(text, path, self.dialect)

    def undo(self, text: str, inserted: Insertion) -> Edit | None:
        return spans.undo(text, inserted, self.dialect)


class TomlFormat:
    """TOML."""

    def load(self, text: str) -> dict[str, Any]:
        return toml.load(text)

    def canonical(self, data: object) -> str:
        """Equal for equal data; the order of tables has no meaning, and it changes when the first of several goes."""
        return repr(_sorted(data))

    def check_path(self, text: str, path: Path) -> None:
        """Nothing to check: TOML has no duplicate names."""

    def put(self, text: str, path: Path, value: Mapping[str, object], holes: Sequence[Path]) -> Edit:
        return toml.put(text, path, value, holes)

    def replace(self, text: str, changes: Mapping[Path, object]) -> Edit:
        return toml.replace(text, changes)

    def remove(self, text: str, path: Path) -> Edit:
        return toml.remove(text, path)

    def undo(self, text: str, inserted: Insertion) -> Edit | None:
        return toml.undo(text, inserted)


class ClientDocument:
    """The text of one client's configuration file. Raises `MalformedDocument` if it does not parse in the client's dialect.

    A blank text counts as a file that has no entry yet.
    """

    def __init__(self, client: Client, text: str) -> None:
        self.client = client
        self.text = text
        self._format = build_format(client)
        self._data = self._format.load(text)

    def entry(self, server: str) -> Mapping[str, Any] | None:
        """The entry of that name as data, None if there is none.

        Raises `UneditableDocument` if something on the way to it is no object or stands there twice, and `ForeignEntry` if the entry
        itself is no object.
        """
        path = self.client.path_of(server)
        self._format.check_path(self.text, path)
        here: Any = self._data
        for depth, name in enumerate(path):
            if not isinstance(here, dict):
                raise UneditableDocument(f"{'.'.join(path[:depth])} is not an object: it is left alone")
            if name not in here:
                return None
            here = here[name]
        if not isinstance(here, dict):
            raise ForeignEntry(f"{'.'.join(path)} is not an object: it is not ours")
        return here

    def header_value(self, server: str) -> str | None:
        """The literal that stands in the entry's Authorization header; None without entry, header or literal. It holds a key."""
        return self._text_in_entry(server, self.client.header_path)

    def url(self, server: str) -> str | None:
        """The entry's URL, None if there is no entry or none in it."""
        return self._text_in_entry(server, self.client.url_path)

    def has_our_shape(self, server: str) -> bool:
        """Whether the entry is one that `with_key` could have written, whatever its URL and key: same fields, same constants."""
        url, header = self.url(server), self.header_value(server)
        if url is None or header is None:
            return False
        return repr(_sorted(self.entry(server))) == repr(_sorted(render_entry(self.client, url, header)))

    def with_key(self, server: str, url: str, header_value: str) -> Edit:
        """The edit after which the entry carries this URL and header value (`Bearer …`).

        An entry that exists keeps everything but these two values; one that lacks either raises `ForeignEntry`. Whether an existing
        entry is ours to change is the caller's decision (R15). An edit that inserts carries its `Insertion`.
        """
        path = self.client.path_of(server)
        url_path, header_path = (*path, *self.client.url_path), (*path, *self.client.header_path)
        if self.entry(server) is None:
            entry = render_entry(self.client, url, header_value)
            holes = (self.client.url_path, self.client.header_path)
            return self._proven(self._format.put(self.text, path, entry, holes), _with(self._data, path, entry))
        now = {url_path: self.url(server), header_path: self.header_value(server)}
        if None in now.values():
            raise ForeignEntry(f"{'.'.join(path)} stands in the file and has no URL with a literal Authorization header: it is not ours")
        wanted = {url_path: url, header_path: header_value}
        changes: dict[Path, object] = {place: value for place, value in wanted.items() if now[place] != value}
        expected = self._data
        for place, value in changes.items():
            expected = _with(expected, place, value)
        return self._proven(self._format.replace(self.text, changes), expected)

    def without(self, server: str, inserted: Insertion | None = None) -> Edit:
        """The edit that takes the entry out: an exact undo where what was inserted is still intact, else a member's removal.

        The exact undo also takes out the containers that the insert had created, the removal leaves them. Unchanged if there is no entry.
        """
        path = self.client.path_of(server)
        if self.entry(server) is None:
            return Edit(self.text)
        if inserted is not None and is_prefix(inserted.path, path):
            try:
                edit = self._format.undo(self.text, inserted)
                if edit is not None:
                    return self._proven(edit, *_without(self._data, inserted.path))
            except (UneditableDocument, MalformedDocument):
                pass  # others wrote around it: what is left is the removal of the member
        return self._proven(self._format.remove(self.text, path), *_without(self._data, path))

    def _text_in_entry(self, server: str, path: Path) -> str | None:
        here: Any = self.entry(server)
        for name in path:
            here = here.get(name) if isinstance(here, dict) else None
        return here if isinstance(here, str) else None

    def _proven(self, edit: Edit, *expected: Mapping[str, Any]) -> Edit:
        """The edit, if one of the expected data is what the new text says and nothing outside its spans changed."""
        try:
            data = self._format.load(edit.text)
        except MalformedDocument:
            raise UneditableDocument("the edit would have broken the file: it was not made") from None
        if self._format.canonical(data) not in map(self._format.canonical, expected) or not _same_outside(self.text, edit):
            raise UneditableDocument("the edit would have changed more than our entry: it was not made")
        return edit


def build_format(client: Client) -> Format:
    """The format of a client's file."""
    if isinstance(client.dialect, Toml):
        return TomlFormat()
    return JsonFormat(client.dialect, client.blank_is_empty)


def decode_document(content: bytes) -> str:
    """A file's bytes as text: strict UTF-8, byte order mark and newlines as they are. Raises `MalformedDocument`."""
    if content.startswith(_UTF16_MARKS) or b"\x00" in content[:4]:
        raise MalformedDocument("the file is UTF-16 or UTF-32 (old PowerShell writes that): save it as UTF-8", line=1, column=1)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8")
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        raise MalformedDocument("a byte that is not UTF-8", line=line, column=column) from None


def encode_document(text: str) -> bytes:
    """The reverse of `decode_document`."""
    return text.encode("utf-8")


def _is_blank(text: str) -> bool:
    return not text.removeprefix(BOM).strip(" \t\r\n")


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _same_outside(old: str, edit: Edit) -> bool:
    if not edit.splices:
        return old == edit.text
    first, tail = edit.splices[0].start, len(old) - edit.splices[-1].end
    return old[:first] == edit.text[:first] and old[len(old) - tail :] == edit.text[len(edit.text) - tail :]


def _with(data: Mapping[str, Any], path: Path, value: object) -> dict[str, Any]:
    """A copy of the data, as far as it changes, with `value` at `path`."""
    copy = dict(data)
    copy[path[0]] = value if len(path) == 1 else _with(copy.get(path[0], {}), path[1:], value)
    return copy


def _without(data: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """What may be left without the member at `path`: the rest, and the same without its emptied parents (TOML's are implicit)."""
    results: list[dict[str, Any]] = []
    for length in range(len(path), 0, -1):
        copy = here = dict(data)
        for name in path[: length - 1]:
            here[name] = here = dict(here[name])
        del here[path[length - 1]]
        results.append(copy)
        if here:
            break
    return results


def _sorted(value: object) -> object:
    """Data with the members of every object in one order."""
    return {name: _sorted(value[name]) for name in sorted(value)} if isinstance(value, dict) else value
