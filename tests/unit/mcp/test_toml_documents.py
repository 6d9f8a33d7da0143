"""The TOML editor against the standard library's parser: several hundred generated files, and each form that must be refused."""

from __future__ import annotations

import json
import random
import tomllib
from typing import Any

import pytest

from rotator.mcp import toml
from rotator.mcp.clients import get_client
from rotator.mcp.documents import ClientDocument
from rotator.mcp.edits import Insertion
from rotator.mcp.errors import DocumentError, ForeignEntry, MalformedDocument, UneditableDocument

CODEX = get_client("codex")
_VALUES = [
    "1",
    "0x1F",
    "1_000",
    "3.140",
    "1e3",
    "inf",
    "true",
    "1979-05-27T07:32:00Z",
    "1979-05-27 07:32:00",
    '"# not a comment"',
    "'C:\\x'",
    '"""multi\n[mcp_servers.fake]\n# no\n""quoted\\"""" """'.replace(' """', ""),
    "'''\nliteral ] } ' '' \\'''",
    "[1, 2, # note ]\n  3,\n]",
    '[["a", "]"], []]',
    '{ a = 1, "b c" = [1, 2] }',
    '"żółw 🐢"',
    '"esc \\u00e9 \\" \\\\"',
]
_OLD = [
    '[mcp_servers.old-remote]\nurl = "u"\nhttp_headers = { "Authorization" = "Bearer old" } # literal\n',
    "[mcp_servers.old-remote]\nurl = 'u'\n\n[mcp_servers.old-remote.http_headers]\nAuthorization = 'Bearer old'\n",
    '[mcp_servers.old-remote]\nhttp_headers.Authorization = """Bearer old"""\nurl = "u"\n',
    '[mcp_servers."old-remote"]\n"url" = "u"\n\'http_headers\' = {X = "1", Authorization = "Bearer old"}\n',
    '[mcp_servers]\nold-remote = { url = "u", http_headers = { Authorization = "Bearer old" } }\n',
    '[ mcp_servers . "old\\u002dremote" ]\n  url = "u"\n  # between\n  http_headers = {Authorization="Bearer old"}\n',
]


def make_toml(seed: int) -> str:
    """A random file in Codex's style, perhaps with a server called old-remote."""
    rng = random.Random(seed)

    def pairs(prefix: str) -> str:
        lines = []
        for index in range(rng.randrange(4)):
            remark = rng.choice(["", "", " # note", "  # [mcp_servers.no]"])
            lines.append(f"{rng.choice(['', '  '])}{prefix}{index} = {rng.choice(_VALUES)}{remark}\n")
        return rng.choice(["", "# comment\n", "\n"]) + "".join(lines)

    tables = [f'[projects."/home/x/{i}"]\n{pairs("k")}' for i in range(rng.randrange(3))]
    tables += [f"[[profiles]]\n{pairs('p')}[profiles.sub]\n{pairs('q')}" for _ in range(rng.randrange(2))]
    tables += [f'[mcp_servers.other{i}]\ncommand = "x"\n{pairs("o")}' for i in range(rng.randrange(2))]
    if rng.random() < 0.7:
        tables.append(rng.choice(_OLD) + rng.choice(["", "\n", "# behind\n"]))
    rng.shuffle(tables)
    text = pairs("top") + rng.choice(["", "\n"]).join(tables)
    if rng.random() < 0.2:
        text = text.rstrip("\n")
    return text.replace("\n", "\r\n") if rng.random() < 0.3 else text


def parse(text: str) -> Any:
    return tomllib.loads(text)


@pytest.mark.parametrize("start", range(0, 800, 200))
def test_every_edit_is_exact_in_random_files(start: int) -> None:
    for seed in range(start, start + 200):
        text = make_toml(seed)
        try:
            check_insert(text)
            if "old-remote" in parse(text).get("mcp_servers", {}):
                check_change_and_removal(text)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {text!r}") from error


def check_insert(text: str) -> None:
    edit = ClientDocument(CODEX, text).with_key("millimetric", "https://u", "Bearer first")
    assert edit.text.startswith(text)
    expected = parse(text)
    entry = {"url": "https://u", "http_headers": {"Authorization": "Bearer first"}}
    expected.setdefault("mcp_servers", {})["millimetric"] = entry
    assert parse(edit.text) == expected or "inf" in text
    if "\r\n" in text:
        assert "\n" not in edit.text.replace("\r\n", "")
    else:
        assert "\r" not in edit.text
    assert edit.inserted is not None
    kept = Insertion.from_dict(json.loads(json.dumps(edit.inserted.to_dict())))
    rotated = ClientDocument(CODEX, edit.text).with_key("millimetric", "https://other", "Bearer a longer second")
    assert ClientDocument(CODEX, rotated.text).without("millimetric", kept).text == text
    assert ClientDocument(CODEX, "# new\n" + rotated.text).without("millimetric", kept).text == "# new\n" + text


def check_change_and_removal(text: str) -> None:
    document = ClientDocument(CODEX, text)
    assert document.header_value("old-remote") == "Bearer old"
    edit = document.with_key("old-remote", "u", 'Bearer "new"')
    splice = edit.splices[0]
    assert len(edit.splices) == 1
    assert "Bearer old" in text[splice.start : splice.end]
    assert edit.text == text[: splice.start] + '"Bearer \\"new\\""' + text[splice.end :]
    removed = document.without("old-remote")
    expected = parse(text)
    del expected["mcp_servers"]["old-remote"]
    actual = parse(removed.text)
    assert repr(actual.get("mcp_servers", {})) == repr(expected["mcp_servers"])
    assert "Bearer old" not in removed.text
    kept = text
    for splice in reversed(removed.splices):
        kept = kept[: splice.start] + kept[splice.end :]
    assert removed.text == kept


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("mcp_servers = {}\n", UneditableDocument),
        ("mcp_servers = { a = { url = 'u' } }\n", UneditableDocument),
        ("mcp_servers = 1\n", UneditableDocument),
        ("[[mcp_servers]]\na = 1\n", UneditableDocument),
        ("[mcp_servers]\nm = 1\n", ForeignEntry),
        ("[mcp_servers.m]\ncommand = 'x'\n", ForeignEntry),
        ("[mcp_servers.m]\nurl = 'u'\nbearer_token_env_var = 'X'\n", ForeignEntry),
        ("[mcp_servers.m]\nurl = 'u'\nhttp_headers = { Authorization = 1 }\n", ForeignEntry),
        ("a = 1\na = 2\n", MalformedDocument),
        ("\ufeffa = 1\n", MalformedDocument),
        ("a = " + "[" * 2000 + "]" * 2000, MalformedDocument),
    ],
)
def test_forms_that_cannot_be_edited_are_refused(text: str, error: type[DocumentError]) -> None:
    with pytest.raises(error):
        ClientDocument(CODEX, text).with_key("m", "u", "h")


def test_a_malformed_file_is_named_with_its_place() -> None:
    with pytest.raises(MalformedDocument) as caught:
        ClientDocument(CODEX, 'a = 1\nb = "x\n')
    assert caught.value.line == 2
    with pytest.raises(MalformedDocument) as caught:
        ClientDocument(CODEX, 'a = 1\nb = """x\n')
    assert caught.value.line == 3


def test_an_entry_inside_an_inline_table_is_changed_but_not_removed() -> None:
    text = "mcp_servers = { m = { url = 'u', http_headers = { Authorization = 'h' } }, n = {} }\n"
    document = ClientDocument(CODEX, text)
    assert document.with_key("m", "u", "new").text == text.replace("'h'", '"new"')
    with pytest.raises(UneditableDocument):
        document.without("m")


def test_what_others_append_behind_our_table_survives_its_removal() -> None:
    edit = ClientDocument(CODEX, "a = 1").with_key("m", "u", "h")
    appended = edit.text + "[b]\nc = 1\n"
    left = ClientDocument(CODEX, appended).without("m", edit.inserted).text
    assert parse(left) == {"a": 1, "b": {"c": 1}}
    grown = edit.text + "enabled = true\n"
    assert parse(ClientDocument(CODEX, grown).without("m", edit.inserted).text) == {"a": 1}


def test_names_that_need_quotes_get_them() -> None:
    edit = toml.put("", ("a b", "ż"), {"x.y": True, "z": ["q"]})
    assert parse(edit.text) == {"a b": {"ż": {"x.y": True, "z": ["q"]}}}


@pytest.mark.parametrize(
    ("text", "lead"), [("a = 1", "\n\n"), ("a = 1\n", "\n"), ("# x\r\n", "\r\n"), ("# x\r\na = 1", "\r\n\r\n"), ("\n", "")]
)
def test_a_blank_line_stands_before_our_table(text: str, lead: str) -> None:
    assert toml.put(text, ("m",), {"url": "u"}).text.startswith(f"{text}{lead}[m]")
