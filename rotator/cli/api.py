"""The daemon's API as calls that give rows. Knows paths and the outer shape of answers, not what is done with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from rotator.domain.errors import RotatorError

if TYPE_CHECKING:
    from rotator.remote.daemon import DaemonClient

Row = Mapping[str, Any]

_ROOT = "/api/v1"


def fetch_statuses(client: DaemonClient, names: Iterable[str]) -> list[Row]:
    """The status of each named credential, or of all."""
    wanted = tuple(names)
    if not wanted:
        return _rows(client.get(f"{_ROOT}/credentials"), "credentials")
    return [fetch_status(client, name) for name in wanted]


def fetch_status(client: DaemonClient, name: str) -> Row:
    """The status of one credential."""
    return _row(client.get(f"{_ROOT}/credentials/{quote(name, safe='')}"))


def fetch_info(client: DaemonClient) -> Row:
    """What runs there."""
    return _row(client.get(f"{_ROOT}/info"))


def fetch_names(client: DaemonClient) -> list[str]:
    """The names of all credentials."""
    return [str(row["name"]) for row in fetch_statuses(client, ())]


def fetch_plan(client: DaemonClient, name: str) -> Row:
    """What would happen to one credential now and next."""
    return _row(client.get(f"{_ROOT}/credentials/{quote(name, safe='')}/plan"))


def post_verb(client: DaemonClient, name: str, verb: str, body: dict[str, Any] | None = None) -> Row:
    """Ask for rotate, sync, retry, abandon, rollback or adopt. What was accepted."""
    return _row(client.post(f"{_ROOT}/credentials/{quote(name, safe='')}/{verb}", {} if body is None else body))


def post_withdraw(client: DaemonClient, target: str, credential: str) -> Row:
    """Take a credential's key out of a former target. What was done."""
    return _row(client.post(f"{_ROOT}/targets/{quote(target, safe='')}/withdraw", {"credential": credential}))


def post_leak(client: DaemonClient, report: dict[str, Any]) -> list[Row]:
    """Report a leak: `{"key_id": …}` or `{"key": …}`. What was accepted, one row for each credential that held the key."""
    return _rows(client.post(f"{_ROOT}/leak", report), "accepted")


def post_key(client: DaemonClient, credential: str, body: dict[str, Any]) -> Row:
    """Hand a key in for a credential: `{"key": …}`. What became of it."""
    try:
        return _row(client.post(f"{_ROOT}/credentials/{quote(credential, safe='')}/submit", body))
    finally:
        body.clear()


def post_spares(client: DaemonClient, issuer: str, body: dict[str, Any]) -> list[Row]:
    """Add keys to a pool: `{"keys": […], "project": …}`. What became of each."""
    return _rows(client.post(f"{_ROOT}/pools/{quote(issuer, safe='')}/spares", body), "received")


def post_strike(client: DaemonClient, issuer: str, key_id: str) -> Row:
    """Strike a spare key off a pool."""
    return _row(client.post(f"{_ROOT}/pools/{quote(issuer, safe='')}/strike", {"key_id": key_id}))


def fetch_pools(client: DaemonClient, issuer: str | None) -> list[Row]:
    """The spare keys of one pool, or of all."""
    if issuer is None:
        return _rows(client.get(f"{_ROOT}/pools"), "pools")
    return [_row(client.get(f"{_ROOT}/pools/{quote(issuer, safe='')}/spares"))]


def fetch_rotation(client: DaemonClient, rotation: str) -> Row:
    """One rotation."""
    return _row(client.get(f"{_ROOT}/rotations/{quote(rotation, safe='')}"))


def fetch_rotations(client: DaemonClient, credential: str | None, limit: int) -> list[Row]:
    """Rotations, newest first."""
    return _rows(client.get(f"{_ROOT}/rotations", _query(credential=credential, limit=limit)), "rotations")


def fetch_retirements(client: DaemonClient, credential: str | None, limit: int, key_id: str | None = None) -> list[Row]:
    """Retirements, newest first."""
    return _rows(client.get(f"{_ROOT}/retirements", _query(credential=credential, limit=limit, key_id=key_id)), "retirements")


def fetch_events(client: DaemonClient, credential: str | None, limit: int = 200, after: int | None = None) -> tuple[list[Row], int]:
    """Journal lines, oldest first, and what to hand in as `after` next."""
    answer = _row(client.get(f"{_ROOT}/events", _query(credential=credential, limit=limit, after=after)))
    following = answer.get("next")
    return _rows(answer, "events"), following if isinstance(following, int) else 0


def fetch_audit(client: DaemonClient) -> Row:
    """What the check of the audit trail found."""
    return _row(client.get(f"{_ROOT}/audit"))


def _query(**members: str | int | None) -> dict[str, str]:
    return {name: str(value) for name, value in members.items() if value is not None}


def _row(answer: object) -> Row:
    if not isinstance(answer, dict):
        raise RotatorError("the daemon answers in a shape that this version does not know: use the version that the daemon runs")
    return answer


def _rows(answer: object, name: str) -> list[Row]:
    rows = _row(answer).get(name)
    if not isinstance(rows, list):
        raise RotatorError(f"the daemon's answer has no {name}: use the version that the daemon runs")
    return [_row(row) for row in rows]
