"""Rows as the API answers them, each with a default for every field."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 22, 18, 0, 0, tzinfo=UTC)
OLD, NEW = "rk_live_aaaaaaaa", "rk_live_bbbbbbbb"

Row = dict[str, Any]


def at(**after: float) -> str:
    """An instant relative to `NOW`, as the API writes it."""
    return (NOW + timedelta(**after)).isoformat().replace("+00:00", "Z")


def a_full_key(kind: str = "rk") -> str:
    """A key that never existed."""
    return f"{kind}_live_{secrets.token_hex(4)}_{secrets.token_hex(16)}"


def a_target(name: str = "laptop", **fields: Any) -> Row:
    """A consumer that holds the current key."""
    return {
        "name": name,
        "required": True,
        "key_id": NEW,
        "state": "current",
        "since": at(minutes=-5),
        "activation": "reconnect",
        "text": "",
        **fields,
    }


def a_status(name: str = "checkout-read", **fields: Any) -> Row:
    """A credential that is well."""
    return {
        "name": name,
        "kind": "rk",
        "store": "embedded",
        "path": f"millimetric/{name}",
        "issuer": "admin",
        "key_id": NEW,
        "generation": 3,
        "minted_at": at(days=-5, minutes=-7),
        "age_seconds": 432_420.5,
        "expires_at": at(days=40),
        "next_rotation_at": at(days=25, hours=3),
        "phase": "idle",
        "lane": "routine",
        "compromised": False,
        "recovered": False,
        "parked": [],
        "waiting": [{"reason": "not-due", "until": at(days=25, hours=3), "names": []}],
        "targets": [a_target()],
        "retirements": [],
        "orphans": 0,
        "rotation": None,
        "seen_at": at(),
        **fields,
    }


def a_rotation(**fields: Any) -> Row:
    """A rotation that was just opened."""
    return {
        "id": "rot1",
        "credential": "checkout-read",
        "reason": "on-demand",
        "opened_at": at(),
        "closed_at": None,
        "outcome": None,
        "key_id": None,
        "replaces": OLD,
        "emergency": False,
        "failures": 0,
        **fields,
    }


def a_retirement(**fields: Any) -> Row:
    """The retirement of a leaked key, just opened."""
    return {
        "id": "ret1",
        "credential": "checkout-read",
        "key_id": OLD,
        "why": "compromised",
        "opened_at": at(seconds=1),
        "revoked_at": None,
        "closed_at": None,
        "outcome": None,
        "last_alive": None,
        "first_refused": None,
        "confirmed_at": None,
        **fields,
    }


def an_event(seq: int, action: str, **fields: Any) -> Row:
    """A journal line, `seq` seconds after `NOW`."""
    return {
        "seq": seq,
        "at": at(seconds=seq),
        "credential": "checkout-read",
        "phase": "outcome",
        "action": action,
        "reason": None,
        "process": "rot1",
        "key_id": None,
        "text": "",
        "ok": True,
        "hash": f"{seq:064x}",
        **fields,
    }


def a_plan(**fields: Any) -> Row:
    """Nothing to do before the schedule says so."""
    return {
        "credential": "checkout-read",
        "now": [],
        "waiting": [{"reason": "not-due", "until": at(days=2), "names": []}],
        "parked": [],
        "next_rotation_at": at(days=2),
        "affects": [{"target": "laptop", "required": True, "state": "current", "activation": "restart"}],
        **fields,
    }
