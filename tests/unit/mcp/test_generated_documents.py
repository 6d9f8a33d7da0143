"""4,000 random documents, each edited and compared with what an independent parser says: right data, and no other byte touched."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pyjson5
import pytest

from rotator.mcp import spans
from rotator.mcp.edits import Edit, Insertion
from rotator.mcp.scanner import JSON
from tests.unit.mcp.generated import Document, Maker

COUNT = 4_000
BATCH = 500
ENTRY = {"type": "http", "url": "https://api.example.test/mcp", "headers": {"Authorization": "Bearer first"}}
HOLES = (("url",), ("headers", "Authorization"))


def parse(text: str) -> dict[str, Any]:
    data = pyjson5.decode(text, 300)
    assert isinstance(data, dict)
    return data


def with_value(data: Mapping[str, Any], path: tuple[str, ...], value: object) -> dict[str, Any]:
    changed = dict(data)
    changed[path[0]] = value if len(path) == 1 else with_value(changed.get(path[0], {}), path[1:], value)
    return changed


def without_splices(edit: Edit) -> str:
    """The new text with everything that was put in taken out again."""
    text, shift = edit.text, sum(len(splice.text) for splice in edit.splices)
    for splice in reversed(edit.splices):
        shift -= len(splice.text)
        start = splice.start + shift
        assert text[start : start + len(splice.text)] == splice.text
        text = text[:start] + text[start + len(splice.text) :]
    return text


def make(seed: int) -> Document:
    document = Maker(seed).make()
    if document.dialect is JSON:
        json.loads(document.text.removeprefix("\ufeff"))
    return document


def check_insert(document: Document) -> None:
    path = (*document.container, "millimetric")
    before = parse(document.text)
    edit = spans.put(document.text, path, ENTRY, document.dialect, HOLES)
    assert repr(parse(edit.text)) == repr(with_value(before, path, ENTRY))
    assert all(splice.start == splice.end for splice in edit.splices)
    assert len(edit.splices) <= 2
    assert without_splices(edit) == document.text
    if document.dialect is JSON:
        json.loads(edit.text.removeprefix("\ufeff"))
    if document.newline == "\r\n":
        assert not re.search(r"(?<!\r)\n", edit.text)
    if document.newline == "\n":
        assert "\r" not in edit.text
    if document.newline is None and "\n" not in document.text and before:
        assert "\n" not in edit.text
    assert edit.inserted is not None
    undone = spans.undo(edit.text, edit.inserted, document.dialect)
    assert undone is not None
    assert undone.text == document.text
    check_undo_after_rotation(document, edit, path)


def check_undo_after_rotation(document: Document, edit: Edit, path: tuple[str, ...]) -> None:
    """The record of the insert, gone through JSON, still finds it when the key and the text before it have changed."""
    assert edit.inserted is not None
    kept = Insertion.from_dict(json.loads(json.dumps(edit.inserted.to_dict())))
    changes = {(*path, "headers", "Authorization"): 'Bearer "second" \\ longer than the first'}
    rotated = spans.replace(edit.text, changes, document.dialect)
    lead = 1 if document.text.startswith("\ufeff") else 0
    moved = rotated.text[:lead] + "\n  \n" + rotated.text[lead:]
    undone = spans.undo(moved, kept, document.dialect)
    assert undone is not None
    assert undone.text == document.text[:lead] + "\n  \n" + document.text[lead:]


def check_change(document: Document) -> None:
    assert document.header is not None
    value = 'Bearer new "quoted" żółw'
    old = spans.find(document.text, document.header, document.dialect)
    assert old is not None
    edit = spans.put(document.text, document.header, value, document.dialect)
    written = json.dumps(value, ensure_ascii=False)
    assert edit.text == document.text[: old.start] + written + document.text[old.end :]
    assert repr(parse(edit.text)) == repr(with_value(parse(document.text), document.header, value))


def check_removal(document: Document) -> None:
    assert document.header is not None
    path = document.header[: len(document.container) + 1]
    edit = spans.remove(document.text, path, document.dialect)
    expected = parse(document.text)
    holder = expected
    for name in document.container:
        holder = holder[name]
    del holder["old-remote"]
    assert repr(parse(edit.text)) == repr(expected)
    if document.dialect is JSON:
        json.loads(edit.text.removeprefix("\ufeff"))
    removed = spans.find(document.text, path, document.dialect)
    assert removed is not None
    for splice in edit.splices:
        gone = document.text[splice.start : splice.end]
        if gone == ",":
            continue
        assert splice.start <= removed.start < splice.end
        assert not document.text[removed.end : splice.end].strip(" \t\r\n,")
        key = document.text[splice.start : removed.start].lstrip(" \t\r\n,")
        assert re.fullmatch(r'"[^"]*"\s*:\s*', key)


@pytest.mark.parametrize("start", range(0, COUNT, BATCH))
def test_every_edit_is_exact_in_random_documents(start: int) -> None:
    for seed in range(start, start + BATCH):
        document = make(seed)
        try:
            check_insert(document)
            if document.header is not None:
                check_change(document)
                check_removal(document)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {document.text!r}") from error
