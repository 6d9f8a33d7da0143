"""Switchable faults: rules that say which calls go wrong, and how. Pure bookkeeping; `endpoint` carries them out."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rotator.sandbox.exchange import Denied

OPERATIONS = frozenset(
    {"mint", "list", "revoke", "session", "mcp", "mcp_account", "stats", "track", "batch", "identify", "query", "sources", "forget"}
)
"""Calls that rules can name; `any` is all of them. The control API is never faulted."""

_FIELDS = frozenset({"operation", "effect", "times", "probability", "seconds", "status", "key_id", "location"})
_LONGEST = 3600.0


class Effect(StrEnum):
    """What goes wrong."""

    LATENCY = "latency"
    """`seconds` pass before the call is handled; it is handled even if the client has gone. The search for a rule goes on"""
    STATUS = "status"
    """the HTTP status `status`, without the call's effect"""
    RATE_LIMITED = "rate_limited"
    """429 with Retry-After `seconds`, without the call's effect"""
    DROP_BEFORE = "drop_before"
    """the connection is closed without an answer and without the call's effect"""
    DROP_AFTER = "drop_after"
    """the call's effect happens, then the connection is closed without an answer"""
    LATE = "late"
    """the connection is closed now, the call's effect happens `seconds` later"""
    HTML_401 = "html_401"
    """a proxy's 401 with an HTML body"""
    AUTH_OUTAGE = "auth_outage"
    """every key is refused with invalid_api_key (on the admin API: invalid_session)"""
    GARBAGE = "garbage"
    """200 with a body that is not JSON"""
    REDIRECT = "redirect"
    """307 to `location`, by default /elsewhere, which counts who came and whether a token came along"""


@dataclass(slots=True, eq=False)
class FaultRule:
    """One rule; `times` None is for ever. `applied` counts."""

    operation: str
    effect: Effect
    times: int | None = None
    probability: float = 1.0
    seconds: float = 1.0
    status: int = 500
    key_id: str | None = None
    location: str = "/elsewhere"
    applied: int = 0

    def document(self) -> dict[str, Any]:
        """As GET /sandbox/faults shows it."""
        return {name: getattr(self, name) for name in self.__slots__} | {"effect": str(self.effect)}


@dataclass(frozen=True, slots=True)
class Strike:
    """What befalls one call: a wait first, then perhaps an effect."""

    wait: float
    rule: FaultRule | None


CALM = Strike(0.0, None)


class FaultBook:
    """The rules in force. The first that fits a call strikes. Not thread-safe: the service's lock guards every call."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - repeatable faults, not secrets
        self.rules: list[FaultRule] = []
        self.late_pending = 0

    def replace(self, rules: list[FaultRule], seed: int | None = None) -> None:
        """Puts these rules in force instead of the old ones."""
        self.rules = rules
        if seed is not None:
            self._random.seed(seed)

    def strike(self, operation: str, shown_key_id: Callable[[], str | None]) -> Strike:
        """What befalls this call; counts the rules that struck."""
        if not self.rules or operation not in OPERATIONS:
            return CALM
        wait = 0.0
        for rule in self.rules:
            if not self._fits(rule, operation, shown_key_id):
                continue
            rule.applied += 1
            if rule.effect is not Effect.LATENCY:
                return Strike(wait, rule)
            wait += rule.seconds
        return Strike(wait, None) if wait else CALM

    def document(self) -> dict[str, Any]:
        """`{"rules": [...], "late_pending": n}`."""
        return {"rules": [rule.document() for rule in self.rules], "late_pending": self.late_pending}

    def _fits(self, rule: FaultRule, operation: str, shown_key_id: Callable[[], str | None]) -> bool:
        if rule.operation not in (operation, "any") or (rule.times is not None and rule.applied >= rule.times):
            return False
        if rule.key_id is not None and rule.key_id != shown_key_id():
            return False
        return rule.probability >= 1.0 or self._random.random() < rule.probability


def parse_rules(value: object) -> list[FaultRule]:
    """Rules from JSON: a list, or `{"rules": [...]}`. Raises `Denied` 400 invalid_payload naming rule and field."""
    if isinstance(value, Mapping):
        value = value.get("rules")
    if not isinstance(value, list):
        raise Denied(400, "invalid_payload", {"rules": "must be a list of rules"})
    return [_parse_rule(number, item) for number, item in enumerate(value)]


def _parse_rule(number: int, item: object) -> FaultRule:
    if not isinstance(item, Mapping):
        raise _wrong(number, "rule", "must be an object")
    for name in item:
        if name not in _FIELDS:
            raise _wrong(number, "rule", f"has an unknown field; the fields are {', '.join(sorted(_FIELDS))}")
    given = {name: value for name, value in item.items() if value is not None}
    if given.get("operation", "any") not in OPERATIONS | {"any"}:
        raise _wrong(number, "operation", f"must be any or one of {', '.join(sorted(OPERATIONS))}")
    try:
        effect = Effect(str(given.get("effect")))
    except ValueError:
        raise _wrong(number, "effect", f"must be one of {', '.join(Effect)}") from None
    _check_number(number, given, "times", 0, 10**9, whole=True)
    _check_number(number, given, "probability", 0, 1)
    _check_number(number, given, "seconds", 0, _LONGEST)
    _check_number(number, given, "status", 400, 599, whole=True)
    for name in ("key_id", "location"):
        if not isinstance(given.get(name, ""), str) or not given.get(name, "").isprintable():
            raise _wrong(number, name, "must be text in one line")
    return FaultRule(**{"operation": "any", **given, "effect": effect})


def _check_number(number: int, given: Mapping[str, Any], name: str, low: float, high: float, *, whole: bool = False) -> None:
    value = given.get(name, low)
    fits = isinstance(value, int if whole else int | float) and not isinstance(value, bool) and low <= value <= high
    if not fits:
        raise _wrong(number, name, f"must be a {'whole ' if whole else ''}number from {low} to {high}")


def _wrong(number: int, name: str, rule: str) -> Denied:
    return Denied(400, "invalid_payload", {f"rules[{number}].{name}": rule})
