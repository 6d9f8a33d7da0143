from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from rotator.domain.errors import Refused
from rotator.remote.templates import ensure_placeholders, fill_json, fill_path, fill_query, find_at, find_text, gather_at

LABELS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(LABELS)
def test_a_value_stays_one_segment_of_the_path(value: str) -> None:
    if value in {".", ".."}:
        with pytest.raises(Refused):
            fill_path("/keys/{label}/x", {"label": value})
        return
    path = fill_path("/keys/{label}/x", {"label": value})
    assert path.isascii()
    assert path.split("/")[0::3] == ["", "x"]
    assert unquote(urlsplit("http://h" + path).path.split("/")[2]) == value


@given(LABELS)
def test_a_value_stays_one_member_of_the_query(value: str) -> None:
    query = fill_query({"prefix": "{label}", "limit": "5"}, {"label": value})
    assert parse_qs(query[1:], keep_blank_values=True) == {"prefix": [value], "limit": ["5"]}


@given(LABELS)
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    assert fill_json({"a": "{label}|{kind}"}, {"label": value, "kind": "rk"}) == {"a": f"{value}|rk"}


def test_members_without_a_value_are_left_out() -> None:
    values = {"cursor": None, "label": "x"}
    assert fill_query({"cursor": "{cursor}"}, values) == ""
    assert fill_query({"cursor": "{cursor}", "l": "{label}"}, values) == "?l=x"
    body: JsonValue = {"a": {"cursor": "{cursor}", "l": "{label}"}, "n": None, "t": [1, True, "{label}"]}
    assert fill_json(body, values) == {"a": {"l": "x"}, "n": None, "t": [1, True, "x"]}


def test_unknown_placeholders_are_named() -> None:
    with pytest.raises(ValueError, match=r"body: there is no placeholder \{lable\} here; known are \{kind\}, \{label\}"):
        ensure_placeholders({"x": ["{lable}"]}, ("label", "kind"), "body")
    with pytest.raises(ValueError, match=r"no placeholder \{label\.__class__\}"):
        ensure_placeholders("{label.__class__}", ("label",), "path")


DOCUMENT = {"keys": [{"id": 1, "n": {"x": "a"}}, {"id": 2}], "page": {"next": None, "none": "", "yes": True}}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("keys.*.id", [1, 2]),
        ("keys.1.id", [2]),
        ("keys.9.id", []),
        ("keys.-1.id", []),
        ("keys.*.n.x", ["a"]),
        ("nothing.here", []),
        ("page.next", [None]),
        ("page.*", [None, "", True]),
        ("", [DOCUMENT]),
    ],
)
def test_where_things_stand(path: str, found: list[object]) -> None:
    assert gather_at(DOCUMENT, path) == found
    assert find_at(DOCUMENT, path) == (found[0] if found else None)


@pytest.mark.parametrize(
    ("where", "text"),
    [
        ("keys.0.id", "1"),
        ("page.none", None),
        ("page.yes", None),
        ("keys", None),
        ("{keys.0.id}-{keys.1.id}", "1-2"),
        ("{keys.0.id}-{gone}", None),
    ],
)
def test_texts(where: str, text: str | None) -> None:
    assert find_text(DOCUMENT, where) == text
