"""Fault rules: parsing, matching, counting."""

from __future__ import annotations

from typing import Any

import pytest

from rotator.sandbox.exchange import Denied
from rotator.sandbox.faults import CALM, Effect, FaultBook, parse_rules


def nobody() -> None:
    """A call that shows no key."""


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        (7, "rule"),
        ({"effect": "status", "colour": "red"}, "rule"),
        ({"effect": "explode"}, "effect"),
        ({}, "effect"),
        ({"effect": "status", "operation": "control"}, "operation"),
        ({"effect": "status", "times": -1}, "times"),
        ({"effect": "status", "times": 1.5}, "times"),
        ({"effect": "status", "times": True}, "times"),
        ({"effect": "status", "probability": 1.5}, "probability"),
        ({"effect": "latency", "seconds": -1}, "seconds"),
        ({"effect": "status", "status": 200}, "status"),
        ({"effect": "status", "key_id": 5}, "key_id"),
        ({"effect": "redirect", "location": "a\r\nb"}, "location"),
    ],
)
def test_a_wrong_rule_is_named_with_its_field(rule: Any, field: str) -> None:
    with pytest.raises(Denied) as refusal:
        parse_rules([{"effect": "latency"}, rule])
    assert list(refusal.value.details or {}) == [f"rules[1].{field}"]


def test_the_first_rule_that_fits_strikes_until_its_times_are_used_up() -> None:
    book = FaultBook(1)
    book.replace(parse_rules([{"operation": "mint", "effect": "garbage", "times": 2}, {"effect": "status", "operation": "any"}]))
    struck = [book.strike("mint", nobody).rule for _ in range(3)]
    assert [rule.effect for rule in struck if rule is not None] == [Effect.GARBAGE, Effect.GARBAGE, Effect.STATUS]
    assert [rule.applied for rule in book.rules] == [2, 1]


def test_waits_add_up_and_operations_that_cannot_be_named_are_spared() -> None:
    book = FaultBook(1)
    book.replace(parse_rules([{"effect": "latency", "seconds": 1}, {"effect": "latency", "seconds": 2}]))
    assert book.strike("list", nobody).wait == 3
    assert book.strike("control", nobody) is CALM


def test_null_means_the_default() -> None:
    (rule,) = parse_rules({"rules": [{"effect": "status", "times": None, "key_id": None, "status": None}]})
    assert (rule.times, rule.key_id, rule.status) == (None, None, 500)
