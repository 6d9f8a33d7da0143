"""L10 over arbitrary answers: dead has one form only, and nothing makes the prober raise."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from rotator.domain.facts import Verdict
from rotator.remote.http import Reply
from rotator.remote.millimetric import CODES, _judge

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*sorted(CODES), "id", "2.0", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "jsonrpc", "id", "result", "tools", "name", "code", "nextCursor"]), inner, max_size=5)
    ),
    max_leaves=12,
)
STATUSES = st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 429, 500, 502, 503])
TYPES = st.sampled_from(["application/json", "text/html", ""])


@given(STATUSES, TYPES, VALUES)
def test_verdicts(status: int, media_type: str, body: object) -> None:
    heard = _judge(Reply(status, media_type, json.dumps(body).encode()), "id")
    code = body.get("error") if isinstance(body, dict) else None
    is_json = media_type == "application/json"
    assert (heard.verdict is Verdict.DEAD) == (is_json and status == 401 and code == "invalid_api_key")
    if heard.verdict is Verdict.ALIVE:
        assert is_json
        assert status in {200, 403}
    assert heard.tools is None or heard.verdict is Verdict.ALIVE
    assert heard.detail == "" or heard.detail.replace("_", "").isalnum()


@given(STATUSES, TYPES, st.binary(max_size=200))
def test_bytes_that_mean_nothing_are_unknown(status: int, media_type: str, body: bytes) -> None:
    assert _judge(Reply(status, media_type, body), "id").verdict is Verdict.UNKNOWN
