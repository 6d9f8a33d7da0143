"""The files on which the published editors were measured: 14 inputs, a change in eight of them, an insert in each."""

from __future__ import annotations

import json
from typing import Any

import pyjson5
import pytest

from rotator.mcp import spans
from rotator.mcp.errors import UneditableDocument
from rotator.mcp.scanner import JSON, JSONC, Dialect

OLD, NEW = "Bearer old", "Bearer new"
ENTRY = {"type": "http", "url": "https://api.example.test/mcp", "headers": {"Authorization": NEW}}

ZED = """// Zed settings
//
// For information on how to configure Zed, see the documentation.
{
  "theme": "One Dark", /* block
     comment */
  "comment": "// not one, /* nor this */",
  "font": "Żółw 🐢",
  "array": [1, 2, 3,],
  "context_servers": {
    // the old one
    "old-remote": {
      "url": "https://old.example.test/mcp",
      "headers": { "Authorization": "Bearer old" },
    },
  },
}
"""
VSCODE = """{
\t"inputs": [], // none yet
\t"servers": {
\t\t"old-remote": { // the old one
\t\t\t"type": "http",
\t\t\t"headers": { "Authorization": "Bearer old" } // literal
\t\t} // last
\t}
}
""".replace("\n", "\r\n")
ONE_LINE = '{"mcpServers":{"old-remote":{"url":"u","headers":{"Authorization":"Bearer old"}}}}'
STATE = r"""{
  "starts": 12345678901234567890,
  "ratio": 0.10,
  "name": "\u00e9\/",
  "mcpServers": {
    "old-remote": {"headers": {"Authorization": "Bearer old"}}
  },
  "tail": 1E3
}"""
AFTER_LAST = """{
  "mcpServers": {
    "old-remote": {"headers": {"Authorization": "Bearer old"}}
    // that was the last, really
  }
}
"""
TWICE_ELSEWHERE = """{
  "theme": "a",
  "mcpServers": {
    "old-remote": {"url": "1", "url": "2", "headers": {"Authorization": "Bearer old"}}
  },
  "theme": "b"
}
"""
ESCAPED = r"""{
  "mcp\u0053ervers": {
    "old\u002dremote": {"headers": {"Authorization": "Bearer old"}}
  }
}
"""
CASES: dict[str, tuple[str, Dialect, str, bool]] = {
    "zed": (ZED, JSONC, "context_servers", True),
    "vscode": (VSCODE, JSONC, "servers", True),
    "vscode with BOM": ("\ufeff" + VSCODE, JSONC, "servers", True),
    "one line": (ONE_LINE, JSON, "mcpServers", True),
    "state": (STATE, JSON, "mcpServers", True),
    "comment after the last": (AFTER_LAST, JSONC, "mcpServers", True),
    "duplicates elsewhere": (TWICE_ELSEWHERE, JSON, "mcpServers", True),
    "escaped key": (ESCAPED, JSON, "mcpServers", True),
    "empty": ('{\n  "mcpServers": {}\n}\n', JSON, "mcpServers", False),
    "empty with space": ('{ "mcpServers": { } }', JSON, "mcpServers", False),
    "empty over lines": ('{\n    "a": 1,\n    "mcpServers": {\n    }\n}\n', JSON, "mcpServers", False),
    "empty but for a comment": ('{\n\t"mcpServers": { // none\n\t}\n}\n', JSONC, "mcpServers", False),
    "no container": ('{\n  "a": 1\n}\n', JSON, "mcpServers", False),
    "nothing": ("{}", JSON, "mcpServers", False),
}


def parse(text: str) -> Any:
    return pyjson5.decode(text)


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case[3]])
def test_changing_a_header_replaces_the_old_value_only(case: str) -> None:
    text, dialect, container, _ = CASES[case]
    edit = spans.put(text, (container, "old-remote", "headers", "Authorization"), NEW, dialect)
    assert edit.text == text.replace(OLD, NEW)
    assert len(edit.splices) == 1


@pytest.mark.parametrize("case", CASES)
def test_inserting_keeps_every_byte_and_can_be_undone(case: str) -> None:
    text, dialect, container, _ = CASES[case]
    edit = spans.put(text, (container, "millimetric"), ENTRY, dialect)
    expected = parse(text)
    expected.setdefault(container, {})["millimetric"] = ENTRY
    assert parse(edit.text) == expected
    assert all(splice.start == splice.end for splice in edit.splices)
    assert edit.inserted is not None
    undone = spans.undo(edit.text, edit.inserted, dialect)
    assert undone is not None
    assert undone.text == text


def test_a_new_member_follows_the_hand_of_the_zed_file() -> None:
    edit = spans.put(ZED, ("context_servers", "m"), {"url": "u"}, JSONC)
    assert '    },\n    "m": {\n      "url": "u"\n    },\n  },\n}\n' in edit.text


def test_same_line_comments_stay_with_their_member() -> None:
    edit = spans.put(VSCODE, ("servers", "m"), {"url": "u"}, JSONC)
    expected = '\t\t}, // last\n\t\t"m": {\n\t\t\t"url": "u"\n\t\t}\n\t}\n}\n'
    assert expected.replace("\n", "\r\n") in edit.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"mcpServers":{"a":1}}', '{"mcpServers":{"a":1,"m":{"url":"u"}}}'),
        ('{ "mcpServers": { "a": 1 } }', '{ "mcpServers": { "a": 1, "m": {"url": "u"} } }'),
        ('{"mcpServers": {}}', '{"mcpServers": {"m": {"url": "u"}}}'),
        ('{"a": 1}', '{"a": 1, "mcpServers": {"m": {"url": "u"}}}'),
        ('{"mcpServers": {"a": 1,}}', '{"mcpServers": {"a": 1, "m": {"url": "u"},}}'),
        ('{"mcpServers": {"a": 1 /* x */}}', '{"mcpServers": {"a": 1, /* x */ "m": {"url": "u"}}}'),
    ],
)
def test_one_line_objects_stay_on_one_line(text: str, expected: str) -> None:
    assert spans.put(text, ("mcpServers", "m"), {"url": "u"}, JSONC).text == expected


@pytest.mark.parametrize(
    "text",
    [
        '{"mcpServers": {}, "mcpServers": {}}',
        '{"mcpServers": {}, "mcp\\u0053ervers": {}}',
        '{"mcpServers": {"m": {}, "m": {}}}',
        '{"mcpServers": []}',
        '{"mcpServers": null}',
        "[]",
        '"text"',
    ],
)
def test_shapes_without_a_safe_place_are_refused_with_their_place(text: str) -> None:
    with pytest.raises(UneditableDocument) as caught:
        spans.put(text, ("mcpServers", "m"), {}, JSONC)
    assert caught.value.line == 1
    assert caught.value.column is not None


@pytest.mark.parametrize("case", CASES)
def test_removing_an_untouched_insert_as_a_member_leaves_the_right_data(case: str) -> None:
    text, dialect, container, _ = CASES[case]
    edit = spans.put(text, (container, "millimetric"), ENTRY, dialect)
    removed = spans.remove(edit.text, (container, "millimetric"), dialect)
    expected = parse(text)
    expected.setdefault(container, {})
    assert parse(removed.text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{\n  "a": 1,\n  "m": 2,\n  "b": 3\n}', '{\n  "a": 1,\n  "b": 3\n}'),
        ('{\n  "m": 2, // ours\n  "b": 3\n}', '{\n  // ours\n  "b": 3\n}'),
        ('{\n  "a": 1, // one\n  "m": 2\n}', '{\n  "a": 1 // one\n}'),
        ('{\r\n  "a": 1,\r\n  "m": 2,\r\n}', '{\r\n  "a": 1,\r\n}'),
        ('{"m": 2, "b": 3}', '{"b": 3}'),
        ('{"a": 1, "m": 2}', '{"a": 1}'),
        ('{ "m": 2 }', "{}"),
        ('{\n  "m": 2\n}', "{}"),
        ('{"a": 1, /* x */ "m": 2 /* y */, "b": 3}', '{"a": 1, /* x */ /* y */ "b": 3}'),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_removing_a_member_takes_its_comma_and_line_and_no_comment(text: str, expected: str) -> None:
    assert spans.remove(text, ("m",), JSONC).text == expected


def test_an_insert_that_somebody_wrote_into_is_not_undone_blindly() -> None:
    text = '{\n  "a": 1 // one\n}\n'
    edit = spans.put(text, ("m",), {"url": "u"}, JSONC)
    assert edit.inserted is not None
    foreign = edit.text.replace('"url": "u"', '"url": "u", "mine": 1')
    assert spans.undo(foreign, edit.inserted, JSONC) is None
    reworded = edit.text.replace("// one", "// 1,2")
    assert spans.undo(reworded, edit.inserted, JSONC) is None


def test_a_large_file_is_scanned_in_one_pass() -> None:
    text = json.dumps({"projects": {f"/p/{i}": {"history": ["x" * 50] * 20} for i in range(400)}}, indent=2)
    edit = spans.put(text, ("mcpServers", "m"), ENTRY, JSON)
    assert len(edit.text) > len(text) > 500_000
