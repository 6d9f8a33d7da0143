"""Malformed texts: one declared error with line and column, never another exception, never a changed text."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any, NoReturn

import pyjson5
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotator.domain.errors import Misconfigured
from rotator.domain.reasons import Reason
from rotator.mcp import spans
from rotator.mcp.clients import CLIENTS, get_client
from rotator.mcp.documents import ClientDocument, decode_document
from rotator.mcp.errors import DocumentError, MalformedDocument
from rotator.mcp.scanner import JSON, JSON5, JSON_WITH_COMMENTS, JSONC, MAX_DEPTH, Dialect, scan
from tests.unit.mcp.generated import Maker
from tests.unit.mcp.test_toml_documents import make_toml

_NOISE = ["{", "}", "[", "]", ",", ":", '"', "'", "\\", "/", "//", "/*", "*/", "\n", "\r", "\x00", "0", "-", "é", "#", "=", "🐢"]


def mutate(text: str, rng: random.Random) -> str:
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(text) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            text = text[:place]
        elif kind == 1:
            text = text[:place] + text[place + rng.randrange(1, 9) :]
        elif kind == 2:
            text = text[:place] + rng.choice(_NOISE) + text[place:]
        else:
            other = rng.randrange(len(text) + 1)
            text = text[:place] + text[min(place, other) : max(place, other)] + text[place:]
    return text


def refuse(name: str) -> NoReturn:
    raise ValueError(name)


def strictly_parses(text: str) -> bool:
    try:
        json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return True


def scans(text: str, dialect: Dialect) -> bool:
    try:
        scan(text, dialect)
    except MalformedDocument as error:
        if not is_placed(error):
            raise AssertionError("an error without its place") from error
        return False
    return True


def is_placed(error: DocumentError) -> bool:
    return error.line is not None and error.column is not None and error.line >= 1 and error.column >= 1


def test_the_strict_dialect_accepts_exactly_what_the_standard_library_accepts() -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(3_000):
        text = mutate(Maker(seed, JSON).make().text.removeprefix("\ufeff"), random.Random(seed))
        verdict = scans(text, JSON)
        assert verdict == strictly_parses(text), f"seed {seed}: {text!r}"
        verdicts[verdict] += 1
    assert min(verdicts.values()) > 200


@given(st.text(alphabet="{}[],:\"\\/*\n 0123456789.eE+-truefalsn'\u00e9", max_size=40))
def test_short_texts_are_judged_as_the_standard_library_judges_them(text: str) -> None:
    assert scans(text, JSON) == strictly_parses(text)


def test_what_jsonc_accepts_a_second_parser_accepts_too() -> None:
    for seed in range(2_000):
        text = mutate(Maker(seed, JSONC).make().text, random.Random(seed))
        if "\u2028" not in text and scans(text, JSONC):  # JSON5 ends a line comment there, JSONC does not
            pyjson5.decode(text, 300)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_mutated_file_gives_an_exact_edit_or_the_declared_error(client: Any) -> None:
    for seed in range(600):
        is_toml = client.name == "codex"
        base = make_toml(seed) if is_toml else Maker(seed, client.dialect).make().text
        text = mutate(base, random.Random(seed))
        try:
            document = ClientDocument(client, text)
            edit = document.with_key("old-remote" if seed % 2 else "millimetric", "https://u.example.test", "Bearer v")
        except DocumentError:
            continue
        again = ClientDocument(client, edit.text)
        server = "old-remote" if seed % 2 else "millimetric"
        assert again.header_value(server) == "Bearer v"
        again.without(server, edit.inserted)


@settings(max_examples=300)
@given(st.text(max_size=60), st.sampled_from(CLIENTS))
def test_any_text_at_all_raises_nothing_but_the_declared_error(text: str, client: Any) -> None:
    with contextlib.suppress(DocumentError):
        ClientDocument(client, text).with_key("m", "u", "h")


@pytest.mark.parametrize(
    ("text", "dialect", "line", "column", "words"),
    [
        ('{\n  "a": 1, // x\n}', JSON, 2, 11, "a comment, which JSON does not allow"),
        ('{\r\n  "a": 1,\r\n}', JSON, 2, 9, "a trailing comma, which JSON does not allow"),
        ('{\n  "a": [1,]\n}', JSON_WITH_COMMENTS, 2, 10, "a trailing comma, which JSON with comments does not allow"),
        ('\ufeff{"a": }', JSON, 1, 7, "expected a value"),
        ("\ufeff{}", JSON_WITH_COMMENTS, 1, 1, "byte order mark"),
        ('{"a": "x', JSONC, 1, 7, "a string that does not end"),
        ('{"a": "x\ty"}', JSONC, 1, 7, "a string that does not end on its line, or has an escape or control character"),
        ('{"a": 1 /* x', JSONC, 1, 9, "a comment that never ends"),
        ('{"a": 1', JSON, 1, 8, "the file ends where ',' or '}' should stand"),
        ("", JSON, 1, 1, "the file ends where a value should stand"),
        ("{} {}", JSON, 1, 4, "expected the end of the file"),
        ('{"a" 1}', JSON, 1, 6, "expected ':'"),
        ("{a: 1}", JSONC, 1, 2, "expected a member's name"),
        ("[" * (MAX_DEPTH + 1), JSON, 1, MAX_DEPTH + 1, "levels of nesting"),
        ("\r\r{", JSON, 3, 2, "the file ends"),
    ],
)
def test_the_message_names_the_place_and_the_problem(text: str, dialect: Dialect, line: int, column: int, words: str) -> None:
    with pytest.raises(MalformedDocument) as caught:
        scan(text, dialect)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"line {line}, column {column}: ")
    assert isinstance(caught.value, Misconfigured)
    assert caught.value.reason is Reason.MALFORMED_FILE


@pytest.mark.parametrize(
    "text",
    [
        "{a: 1, $b_1: 'it\\'s', \"c\": .5, d: +1., e: 0xFF, f: Infinity, g: -NaN, h: 'x\\\ny',}",
        "{\\u0061: 1}",
        "{größe: [1,], 'x': null,} // end",
        "\u00a0{}\u2028",
    ],
)
def test_json5_texts_take_an_entry(text: str) -> None:
    edit = spans.put(text, ("mcp", "servers", "m"), {"url": "u"}, JSON5)
    assert pyjson5.decode(edit.text)["mcp"] == {"servers": {"m": {"url": "u"}}}
    assert edit.inserted is not None
    undone = spans.undo(edit.text, edit.inserted, JSON5)
    assert undone is not None
    assert undone.text == text


def test_json5_keys_are_compared_decoded() -> None:
    text = "{\\u006dcp: {'serv\\x65rs': {m: {url: 'old'}}}}"
    edit = spans.put(text, ("mcp", "servers", "m", "url"), "new", JSON5)
    assert edit.text == text.replace("'old'", '"new"')


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        ("{}".encode("utf-16"), 1, 1),
        ("{}".encode("utf-16-be"), 1, 1),
        (b'{\n  "a": "\xff"\n}', 2, 9),
    ],
)
def test_bytes_that_are_not_utf8_are_refused(content: bytes, line: int, column: int) -> None:
    with pytest.raises(MalformedDocument, match="UTF-8") as caught:
        decode_document(content)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_no_error_repeats_the_text() -> None:
    secret = "sesame" + "street"
    for text in (f'{{"a": {secret}}}', f'{{"a": "{secret}', f"{{{secret}: 1}}", f'{{"a": 1}} {secret}'):
        with pytest.raises(MalformedDocument) as caught:
            ClientDocument(get_client("vscode"), text)
        assert secret not in str(caught.value)
        assert caught.value.__cause__ is None
    with pytest.raises(MalformedDocument) as caught:
        ClientDocument(get_client("codex"), f"a = {secret}")
    assert secret not in str(caught.value)
