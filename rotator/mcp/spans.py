"""The span editor for JSON, JSONC and JSON5: insert one member, replace one value, remove one member; every other byte stays.

It writes in the hand of the file: newline style by majority, indentation from the siblings, the object's trailing-comma habit,
one-line objects on one line, and same-line comments left with their member. What has no safe place is refused (R6). It proves
nothing about its result: `rotator.mcp.documents` does that with an independent parser.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rotator.mcp.edits import Edit, Insertion, Path, Run, Splice, build_edit, build_pieces, hash_seam
from rotator.mcp.errors import UneditableDocument, find_position
from rotator.mcp.scanner import BOM, Dialect, Member, Value, scan

_INDENT = re.compile(r"[ \t]*")
_NEWLINES = ("\n", "\r\n", "\r")
_DEFAULT_UNIT = "  "


def find(text: str, path: Sequence[str], dialect: Dialect) -> Value | None:
    """The value at `path`, None if a member on the way is missing. Duplicate names on the path are refused."""
    root = scan(text, dialect)
    member = _find_member(text, root, path)
    return root if not path else member.value if member else None


def put(text: str, path: Sequence[str], value: object, dialect: Dialect, holes: Sequence[Path] = ()) -> Edit:
    """Insert the member at `path`, with the objects missing above it, or replace exactly its value.

    `value` is what `json.dumps` takes. `holes` are paths below `path` to strings that may change later without making the insert
    unrecognisable to `undo`. Raises `MalformedDocument` and `UneditableDocument`.
    """
    root = scan(text, dialect)
    parent, depth = _walk(text, root, path)
    member = _get_only(text, parent, path[depth])
    if member is not None:
        return build_edit(text, [_replacement(text, member.value, value)])
    for name in reversed(path[depth + 1 :]):
        value = {name: value}
    splices = _Inserter(text, root, parent, dialect).insert(path[depth], value)
    edit = build_edit(text, splices)
    return Edit(edit.text, edit.splices, _record(edit, tuple(path[: depth + 1]), [(*path, *hole) for hole in holes], dialect))


def create(text: str, path: Sequence[str], value: object, dialect: Dialect, holes: Sequence[Path] = (), *, keep_blank: bool) -> Edit:
    """A complete document with the member at `path`, in a text that is blank (R5, R18).

    With `keep_blank` an undo leaves the text blank again, else an empty object: not every client reads a blank file.
    """
    start = 1 if text.startswith(BOM) else 0
    newline = find_style(text).newline
    empty = "{}" if text.startswith(_NEWLINES, start) else "{}" + newline
    edit = put(text[:start] + empty + text[start:], path, value, dialect, holes)
    splice = Splice(start, start, edit.text[start : len(edit.text) - len(text) + start])
    if not keep_blank:
        return Edit(edit.text, (splice,), edit.inserted)
    full_holes = [(*path, *hole) for hole in holes]
    return Edit(edit.text, (splice,), _record(Edit(edit.text, (splice,)), tuple(path[:1]), full_holes, dialect))


def replace(text: str, changes: Mapping[Path, object], dialect: Dialect) -> Edit:
    """Replace the values at several paths, all of which must exist and none of which may lie in another."""
    root = scan(text, dialect)
    splices: list[Splice] = []
    for path, value in changes.items():
        old = _find_member(text, root, path)
        if old is None:
            raise UneditableDocument(f"there is no {'.'.join(path)} to change")
        splices.append(_replacement(text, old.value, value))
    return build_edit(text, splices)


def remove(text: str, path: Sequence[str], dialect: Dialect) -> Edit:
    """Remove the member at `path` with its comma and its line; comments stay. Nothing changes if there is none."""
    root = scan(text, dialect)
    parent, depth = _walk(text, root, path)
    member = _get_only(text, parent, path[depth])
    if member is None or depth < len(path) - 1:
        return Edit(text)
    return build_edit(text, _removal(text, parent, parent.members.index(member)))


def undo(text: str, inserted: Insertion, dialect: Dialect) -> Edit | None:
    """Cut exactly what an insert put in, wherever it stands now. None if it is not there word for word any more."""
    member = _find_member(text, scan(text, dialect), inserted.path)
    cuts = inserted.find_cuts(text, member.start, dialect.string) if member else None
    return None if cuts is None else build_edit(text, cuts)


def _walk(text: str, root: Value, path: Sequence[str]) -> tuple[Value, int]:
    """The deepest existing object on the way to `path`, and the index of the name to look for in it."""
    if not path:
        raise UneditableDocument("the whole document is not ours to change")
    here = _get_object(text, root, "the document")
    for depth, name in enumerate(path[:-1]):
        member = _get_only(text, here, name)
        if member is None:
            return here, depth
        here = _get_object(text, member.value, ".".join(path[: depth + 1]))
    return here, len(path) - 1


def _find_member(text: str, root: Value, path: Sequence[str]) -> Member | None:
    here, member = root, None
    for name in path:
        member = _get_only(text, here, name)
        if member is None:
            return None
        here = member.value
    return member


def _get_only(text: str, parent: Value, name: str) -> Member | None:
    """The member called `name`, None if there is none; two of them are refused, whichever of them the client would take."""
    found = [member for member in parent.members if member.key == name]
    if len(found) > 1:
        line, column = find_position(text, found[1].start)
        raise UneditableDocument(f"{name} stands here a second time: keep one of them", line=line, column=column)
    return found[0] if found else None


def _get_object(text: str, value: Value, what: str) -> Value:
    if value.kind != "{":
        line, column = find_position(text, value.start)
        raise UneditableDocument(f"{what} is not an object: nothing can be added to it", line=line, column=column)
    return value


def _replacement(text: str, old: Value, value: object) -> Splice:
    if old.kind and _has_newline(text[old.start : old.end]):
        return Splice(old.start, old.end, render(value, find_style(text), get_indent(text, old.start)))
    return Splice(old.start, old.end, render_inline(value))


def _record(edit: Edit, path: Path, holes: Sequence[Path], dialect: Dialect) -> Insertion:
    """What `undo` needs, from the text as it is after the insert."""
    root = scan(edit.text, dialect)
    member = _find_member(edit.text, root, path)
    spans = [(found.value.start, found.value.end) for hole in holes if (found := _find_member(edit.text, root, hole))]
    assert member is not None
    runs: list[Run] = []
    ends: list[int] = []
    shift = 0
    for splice in edit.splices:
        start, end = splice.start + shift, splice.start + shift + len(splice.text)
        runs.append(Run(start, build_pieces(edit.text, start, end, [span for span in spans if start <= span[0] < end])))
        ends.append(end)
        shift += len(splice.text)
    seam = hash_seam(edit.text[ends[0] : runs[1].offset]) if len(runs) > 1 else ""
    return Insertion(path, member.start, tuple(runs), seam)


@dataclass(frozen=True, slots=True)
class Style:
    """The hand a file is written in: its newline, one level of indentation, and what stands between a key and its value."""

    newline: str
    unit: str = _DEFAULT_UNIT
    colon: str = ": "

    @property
    def comma(self) -> str:
        """What stands between two members on one line."""
        return "," if self.colon == ":" else ", "


def find_style(text: str, parent: Value | None = None) -> Style:
    """Newline by majority; indentation and colon from the members of `parent`, or from the first indented line of the text."""
    crlf = text.count("\r\n")
    counts = (text.count("\n") - crlf, crlf, text.count("\r") - crlf)
    newline = _NEWLINES[counts.index(max(counts))]
    first = re.search(r"[\r\n]([ \t]+)[^\s/*]", text)
    unit = first.group(1) if first else _DEFAULT_UNIT
    colon = ": "
    if parent and parent.members:
        last = parent.members[-1]
        own, outer = get_indent(text, last.start), get_indent(text, parent.start)
        if own.startswith(outer) and own != outer:
            unit = own[len(outer) :]
        if text[last.key_end : last.value.start] == ":":
            colon = ":"
    return Style(newline, unit, colon)


def get_indent(text: str, offset: int) -> str:
    """The white space at the beginning of the line in which `offset` stands."""
    start = max(text.rfind("\n", 0, offset), text.rfind("\r", 0, offset)) + 1
    if start == 0 and text.startswith(BOM):
        start = 1
    found = _INDENT.match(text, start, max(offset, start))
    return found.group() if found else ""


def render(value: object, style: Style, indent: str) -> str:
    """A value over several lines, its first line not indented."""
    separators = (",", style.colon)
    lines = json.dumps(value, ensure_ascii=False, indent=style.unit, separators=separators).split("\n")
    return (style.newline + indent).join(lines)


def render_inline(value: object, style: Style | None = None) -> str:
    """A value on one line."""
    style = style or Style("\n")
    return json.dumps(value, ensure_ascii=False, separators=(style.comma, style.colon))


class _Inserter:
    """Where and how one new member goes into an object."""

    def __init__(self, text: str, root: Value, parent: Value, dialect: Dialect) -> None:
        self.text = text
        self.root = root
        self.parent = parent
        self.dialect = dialect
        self.style = find_style(text, parent)
        self.close = parent.end - 1

    def insert(self, name: str, value: object) -> list[Splice]:
        return self.append(name, value) if self.parent.members else self.fill(name, value)

    def append(self, name: str, value: object) -> list[Splice]:
        """Behind the last member and the comments on its line."""
        last = self.parent.members[-1]
        after = last.value.end if last.comma is None else last.comma + 1
        place = self.behind_comments(after)
        opened = self.parent.members[-2].comma if len(self.parent.members) > 1 else self.parent.start
        assert opened is not None
        if _has_newline(self.text[opened : last.start]) or _has_newline(self.text[after : self.close]):
            member = self.style.newline + self.on_lines(name, value, self.member_indent(last))
        else:
            member = ("" if self.style.comma == "," else " ") + self.on_one_line(name, value)
        if last.comma is not None:
            return [Splice(place, place, member + ",")]
        if place == after:
            return [Splice(place, place, "," + member)]
        return [Splice(after, after, ","), Splice(place, place, member)]

    def fill(self, name: str, value: object) -> list[Splice]:
        """Into an object that has no member yet, behind its last comment."""
        inner = self.parent.start + 1
        place = self.behind_comments(inner, all_lines=True)
        rest = self.text[place : self.close]
        outer = get_indent(self.text, self.parent.start)
        whole = self.text[self.root.start : self.root.end]
        if not _has_newline(whole) and self.parent is not self.root:
            lead = " " if place > inner or rest else ""
            return [Splice(place, place, lead + self.on_one_line(name, value))]
        indent = get_indent(self.text, place) if place > inner and self.comment_leads(place) else outer + self.style.unit
        tail = "" if _has_newline(rest) else self.style.newline + outer
        return [Splice(place, place, self.style.newline + self.on_lines(name, value, indent) + tail)]

    def behind_comments(self, position: int, *, all_lines: bool = False) -> int:
        """The end of the last comment that follows `position`, on the same line unless told otherwise; else `position`."""
        place, limit = position, self.close
        while position < limit:
            if self.text[position] == "/":
                position = place = self.end_of_comment(position)
            elif self.text[position] in "\r\n" and not all_lines:
                break
            else:
                position += 1
        return place

    def end_of_comment(self, start: int) -> int:
        """The end of the comment at `start`; the newline behind a line comment is not part of it."""
        if self.text.startswith("/*", start):
            return self.text.index("*/", start) + 2
        stop = re.compile(r"[\r\n\u2028\u2029]" if self.dialect.json5 else r"[\r\n]").search(self.text, start)
        return stop.start() if stop else len(self.text)

    def comment_leads(self, place: int) -> bool:
        """Whether the line that ends at `place` begins with a comment."""
        start = max(self.text.rfind("\n", 0, place), self.text.rfind("\r", 0, place)) + 1
        return start > self.parent.start and self.text[start:place].lstrip(" \t").startswith("/")

    def member_indent(self, last: Member) -> str:
        """The last member's indentation if it begins its line, else one level more than the object's line."""
        indent = get_indent(self.text, last.start)
        start = last.start - len(indent)
        if start > 0 and self.text[start - 1] in "\r\n" and start > self.parent.start:
            return indent
        return get_indent(self.text, self.parent.start) + self.style.unit

    def on_lines(self, name: str, value: object, indent: str) -> str:
        return f"{indent}{json.dumps(name, ensure_ascii=False)}{self.style.colon}{render(value, self.style, indent)}"

    def on_one_line(self, name: str, value: object) -> str:
        return f"{json.dumps(name, ensure_ascii=False)}{self.style.colon}{render_inline(value, self.style)}"


def _removal(text: str, parent: Value, index: int) -> list[Splice]:
    """The cuts that take one member out, with the comma that becomes superfluous and, where nothing else stands on it, its line."""
    member = parent.members[index]
    end = member.value.end
    cuts: list[Splice] = []
    if member.comma is not None:
        if text[end : member.comma].strip():
            cuts.append(Splice(member.comma, member.comma + 1, ""))
        else:
            end = member.comma + 1
    elif index:
        comma = parent.members[index - 1].comma
        assert comma is not None
        if not text[comma + 1 : member.start].strip():
            return [Splice(comma, end, "")]
        cuts.append(Splice(comma, comma + 1, ""))
    start, end = _widen(text, parent, member.start, end)
    return [Splice(start, end, ""), *cuts]


def _widen(text: str, parent: Value, start: int, end: int) -> tuple[int, int]:
    """A member's cut, grown over the white space that only it needed."""
    if not text[parent.start + 1 : start].strip() and not text[end : parent.end - 1].strip():
        return parent.start + 1, parent.end - 1
    before = start - len(get_indent(text, start))
    after = end + len(re.match(r"[ \t]*", text[end : parent.end]).group())  # type: ignore[union-attr]
    if before > parent.start and text[before - 1] in "\r\n" and _INDENT.fullmatch(text, before, start) and text[after] in "\r\n":
        before -= 2 if text[before - 2 : before] == "\r\n" else 1
        return before, after
    return start, after


def _has_newline(text: str) -> bool:
    return "\n" in text or "\r" in text
