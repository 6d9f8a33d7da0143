"""Generated requests, a bounded number of them: whatever is sent, the answer is one of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.integration.server.conftest import World

BOUNDED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
NAMES = st.sampled_from(["key", "key_id", "emergency", "credential", "limit", "after", "open", "process"]) | st.text(max_size=8)
ATOMS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
BODIES = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8)
POSTS = ["/api/v1/leak", "/api/v1/credentials/checkout-read/rotate", "/api/v1/credentials/checkout-read/sync", "/api/v1/reload"]
READS = ["/api/v1/rotations", "/api/v1/retirements", "/api/v1/events"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("generated")) as world:
        world.configure("checkout-read")
        yield world


def assert_is_ours(answer: Any) -> None:
    assert answer.status_code in (200, 400, 404, 405, 409), answer.text
    if answer.status_code != 200:
        assert set(answer.json()) == {"error", "message", "exit_code"}


@BOUNDED
@given(path=st.sampled_from(POSTS), body=BODIES)
def test_any_json_body(shared: World, path: str, body: Any) -> None:
    assert_is_ours(shared.client().post(path, json=body))


@BOUNDED
@given(path=st.sampled_from(READS), query=st.dictionaries(NAMES, st.text(max_size=20) | st.integers().map(str), max_size=3))
def test_any_query(shared: World, path: str, query: dict[str, str]) -> None:
    assert_is_ours(shared.client().get(path, params=query))


@BOUNDED
@given(
    part=st.text(min_size=1, max_size=30),
    verb=st.sampled_from(["", "/plan", "/rotate"]),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD"]),
)
def test_any_path(shared: World, part: str, verb: str, method: str) -> None:
    answer = shared.client().request(method, f"/api/v1/credentials/{quote(part, safe='')}{verb}")
    assert answer.status_code in (200, 404, 405)
