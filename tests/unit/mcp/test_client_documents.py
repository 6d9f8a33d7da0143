"""The facade: our entry in each client's file, from the blank file to its removal, and what is not ours."""

from __future__ import annotations

import copy
import json
import random
import string
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotator.domain.secret import Secret
from rotator.mcp import spans
from rotator.mcp.clients import CLIENTS, Client, get_client, render_entry
from rotator.mcp.diffs import mask, masked_diff
from rotator.mcp.documents import ClientDocument, decode_document, encode_document
from rotator.mcp.edits import Edit, Insertion, Splice, build_edit
from rotator.mcp.errors import DocumentError, ForeignEntry, MalformedDocument, UneditableDocument

URL = "https://api.example.test/mcp"
EACH_CLIENT = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


def build_key(prefix: str = "AbCd1234") -> Secret:
    tail = "".join(random.choices(string.ascii_letters + string.digits + "_-", k=32))
    return Secret(f"rk_live_{prefix}_{tail}")


def parse(client: Client, text: str) -> Any:
    return tomllib.loads(text) if client.name == "codex" else json.loads(text.removeprefix("\ufeff"))


def nest(client: Client, entry: object) -> Any:
    return {client.container[0]: {"m": entry}}


@EACH_CLIENT
@pytest.mark.parametrize("blank", ["", "\n", "\r\n", "  ", "\n\n"])
def test_a_blank_file_becomes_a_complete_document(client: Client, blank: str) -> None:
    edit = ClientDocument(client, blank).with_key("m", URL, "Bearer a")
    assert parse(client, edit.text) == nest(client, render_entry(client, URL, "Bearer a"))
    assert edit.text.endswith("\n") or blank == "  "
    left = ClientDocument(client, edit.text).without("m", edit.inserted).text
    assert left == blank if client.blank_is_empty else parse(client, left) == {}


def test_a_new_file_is_minimal_and_ends_with_a_newline() -> None:
    edit = ClientDocument(get_client("cursor"), "").with_key("m", "U", "H")
    assert edit.text == json.dumps(nest(get_client("cursor"), render_entry(get_client("cursor"), "U", "H")), indent=2) + "\n"
    edit = ClientDocument(get_client("codex"), "").with_key("m", "U", "H")
    assert edit.text == '[mcp_servers.m]\nurl = "U"\nhttp_headers = { Authorization = "H" }\n'


@EACH_CLIENT
def test_a_rotation_changes_the_header_and_nothing_else(client: Client) -> None:
    first = ClientDocument(client, "").with_key("m", URL, "Bearer first").text
    edit = ClientDocument(client, first).with_key("m", URL, "Bearer second")
    assert edit.text == first.replace("first", "second")
    assert len(edit.splices) == 1
    assert edit.inserted is None
    moved = ClientDocument(client, edit.text).with_key("m", "https://other", "Bearer third")
    assert moved.text == edit.text.replace(URL, "https://other").replace("second", "third")


@EACH_CLIENT
def test_writing_what_is_there_changes_nothing(client: Client) -> None:
    first = ClientDocument(client, "").with_key("m", URL, "Bearer first").text
    edit = ClientDocument(client, first).with_key("m", URL, "Bearer first")
    assert not edit.changed
    assert edit.text == first


@EACH_CLIENT
def test_the_entry_can_be_read_back(client: Client) -> None:
    empty = ClientDocument(client, "")
    assert empty.entry("m") is None
    assert empty.header_value("m") is None
    assert empty.url("m") is None
    assert not empty.has_our_shape("m")
    assert not empty.without("m").changed
    document = ClientDocument(client, empty.with_key("m", URL, "Bearer a").text)
    assert document.header_value("m") == "Bearer a"
    assert document.url("m") == URL
    assert document.has_our_shape("m")


@pytest.mark.parametrize(
    "entry",
    [
        {"command": "npx", "args": ["x"]},
        {"url": "U"},
        {"url": "U", "headers": {}},
        {"url": "U", "headers": {"Authorization": 1}},
        {"url": 1, "headers": {"Authorization": "H"}},
        {"url": "U", "headers": "Authorization"},
    ],
)
def test_an_entry_of_another_shape_is_not_ours_and_stays(entry: dict[str, Any]) -> None:
    document = ClientDocument(get_client("cursor"), json.dumps({"mcpServers": {"m": entry}}))
    assert document.entry("m") == entry
    assert not document.has_our_shape("m")
    with pytest.raises(ForeignEntry):
        document.with_key("m", "U", "H")


def test_an_entry_that_is_no_object_is_foreign() -> None:
    with pytest.raises(ForeignEntry):
        ClientDocument(get_client("cursor"), '{"mcpServers": {"m": 1}}').entry("m")


def test_extra_fields_show_that_an_entry_is_not_as_we_write_it() -> None:
    entry = {"disabled": True, **render_entry(get_client("cursor"), "U", "H")}
    document = ClientDocument(get_client("cursor"), json.dumps({"mcpServers": {"m": entry}}))
    assert not document.has_our_shape("m")
    assert document.with_key("m", "U", "N").text == document.text.replace('"H"', '"N"')


@pytest.mark.parametrize(
    "text", ['{"mcpServers": []}', '{"mcpServers": {}, "mcpServers": {}}', '{"mcpServers": {"m": {}, "m": {}}}', "[]", "1"]
)
def test_wrong_shapes_are_left_alone(text: str) -> None:
    with pytest.raises(UneditableDocument):
        ClientDocument(get_client("claude-code"), text).with_key("m", "U", "H")


def test_each_dialect_reports_what_its_client_cannot_read() -> None:
    commented = '{\n  // x\n  "mcpServers": {}\n}\n'
    trailing = '{\n  "mcpServers": {},\n}\n'
    verdicts = {}
    for client in CLIENTS[:4]:
        for name, text in (("comment", commented), ("trailing", trailing), ("bom", "\ufeff{}")):
            try:
                ClientDocument(client, text).with_key("m", "U", "H")
                verdicts[client.name, name] = True
            except MalformedDocument:
                verdicts[client.name, name] = False
    assert {key for key, accepted in verdicts.items() if accepted} == {
        ("vscode", "comment"),
        ("vscode", "trailing"),
        ("vscode", "bom"),
        ("gemini-cli", "comment"),
        ("claude-code", "bom"),
        ("cursor", "bom"),
    }


@EACH_CLIENT
def test_a_damaged_or_foreign_record_falls_back_to_the_removal(client: Client) -> None:
    edit = ClientDocument(client, "").with_key("m", URL, "Bearer a")
    assert edit.inserted is not None
    document = ClientDocument(client, edit.text)
    other = Insertion.from_dict({**edit.inserted.to_dict(), "path": ["elsewhere"]})
    assert document.without("m", other).text == document.without("m").text
    with pytest.raises(DocumentError):
        Insertion.from_dict({"path": []})


def test_a_container_that_others_use_meanwhile_survives_the_undo() -> None:
    client = get_client("cursor")
    edit = ClientDocument(client, "{}").with_key("m", "U", "H")
    data = json.loads(edit.text)
    data["mcpServers"]["theirs"] = {"url": "x"}
    left = ClientDocument(client, json.dumps(data, indent=2)).without("m", edit.inserted).text
    assert json.loads(left) == {"mcpServers": {"theirs": {"url": "x"}}}


def test_lone_surrogates_in_a_strict_file_are_no_obstacle() -> None:
    text = '{"title": "\\ud83d", "mcpServers": {}}'
    edit = ClientDocument(get_client("claude-code"), text).with_key("m", "U", "H")
    assert json.loads(edit.text)["title"] == "\ud83d"


def test_an_edit_that_changes_more_than_our_entry_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    document = ClientDocument(get_client("cursor"), '{"a": 1, "mcpServers": {}}')
    honest = spans.put

    def careless(*args: Any, **kwargs: Any) -> Edit:
        edit = honest(*args, **kwargs)
        return Edit(edit.text.replace("1", "2", 1), edit.splices, edit.inserted)

    def broken(*args: Any, **kwargs: Any) -> Edit:
        return build_edit(args[0], [Splice(0, 1, "")])

    def spaced(*args: Any, **kwargs: Any) -> Edit:
        edit = honest(*args, **kwargs)
        return Edit(edit.text + " ", edit.splices, edit.inserted)

    for fault in (careless, broken, spaced):
        monkeypatch.setattr(spans, "put", fault)
        with pytest.raises(UneditableDocument, match="it was not made"):
            document.with_key("m", "U", "H")


def test_bytes_survive_the_round_trip() -> None:
    content = b'\xef\xbb\xbf{\r\n  "a": "\xf0\x9f\x90\xa2"\r\n}'
    assert encode_document(decode_document(content)) == content


@EACH_CLIENT
def test_no_record_repr_or_diff_carries_the_key(client: Client) -> None:
    old, new = build_key("OldOld11"), build_key("NewNew22")
    edit = ClientDocument(client, "").with_key("m", URL, f"Bearer {old.reveal()}")
    again = ClientDocument(client, edit.text).with_key("m", URL, f"Bearer {new.reveal()}")
    diff = masked_diff(edit.text, again.text, "mcp.json")
    shown = [repr(edit), repr(again), repr(edit.splices), json.dumps(edit.inserted.to_dict() if edit.inserted else None), diff]
    for key in (old, new):
        tail = key.reveal().split("_", 3)[3]
        assert not any(tail in text for text in shown)
        assert f"{key.key_id}_…" in diff
    assert diff.startswith("--- mcp.json\n+++ mcp.json\n@@")


def test_the_diff_masks_other_bearer_tokens_and_keeps_references() -> None:
    tail = "abc" * 9
    assert tail not in mask(f'"Authorization": "Bearer {tail}"')
    assert tail not in mask(f"Bearer rk_odd_{tail}")
    assert tail not in mask(f"xsk_test_{tail[:8]}_{tail}_more")
    assert mask('"Bearer ${env:X}"') == '"Bearer ${env:X}"'
    assert mask('"Bearer {file:~/k}"') == '"Bearer {file:~/k}"'


def test_the_diff_says_when_only_a_masked_part_changed() -> None:
    first, second = build_key(), build_key()
    assert "a masked value changed" in masked_diff(first.reveal(), second.reveal())
    assert masked_diff("same", "same") == ""
    assert masked_diff("a", "b").endswith("-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.text(), _JSON, max_size=5),
    st.dictionaries(st.text(max_size=8), _JSON, max_size=3) | st.none(),
    st.sampled_from([None, 0, 1, 2, "\t"]),
    st.booleans(),
    st.text(max_size=30),
)
def test_any_dumped_file_takes_the_entry_and_gives_it_back(
    data: dict[str, Any], servers: dict[str, Any] | None, indent: int | str | None, escaped: bool, value: str
) -> None:
    client = get_client("claude-code")
    data.pop("mcpServers", None)
    if servers is not None:
        servers.pop("m", None)
        data["mcpServers"] = servers
    text = json.dumps(data, indent=indent, ensure_ascii=escaped)
    edit = ClientDocument(client, text).with_key("m", URL, value)
    expected = copy.deepcopy(data)
    expected.setdefault("mcpServers", {})["m"] = render_entry(client, URL, value)
    assert json.loads(edit.text) == expected
    document = ClientDocument(client, edit.text)
    assert document.header_value("m") == value
    assert document.without("m", edit.inserted).text == text
    removed = json.loads(document.without("m").text)
    assert removed == {**data, "mcpServers": data.get("mcpServers", {})}
