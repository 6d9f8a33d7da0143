"""Settings: ranges, live changes, plans."""

from __future__ import annotations

from typing import Any

import pytest

from rotator.domain.errors import Misconfigured
from rotator.sandbox.settings import SandboxSettings, build_changed


@pytest.mark.parametrize(
    "wrong",
    [{"workers": 0}, {"workers": 65}, {"cache_time": -1}, {"propagation": -1}, {"session_ttl": 0}, {"plan": "x"}, {"plans": {"a": "x"}}],
)
def test_a_value_out_of_range_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match=next(iter(wrong)).rstrip("s")):
        SandboxSettings(**wrong)


def test_a_change_leaves_the_rest() -> None:
    changed = build_changed(SandboxSettings(workers=3), {"cache_time": 1, "clock_skew": -5.0, "cache_refusals": True})
    assert changed == SandboxSettings(workers=3, cache_time=1, clock_skew=-5.0, cache_refusals=True)


def test_a_projects_plan_comes_before_the_accounts() -> None:
    settings = SandboxSettings(plan="pro", plans={"rich": "business"})
    assert settings.plan_reaches("any", "pro")
    assert not settings.plan_reaches("any", "business")
    assert settings.plan_reaches("rich", "business")
    assert not settings.plan_reaches(None, "business")
