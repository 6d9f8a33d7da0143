"""Between the domain's data and the tables' rows, both ways, and the rows that the API and the CLI read. Pure.

This is also where key material is stopped: no text that contains something key-shaped becomes a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import RowMapping as Row

from rotator.domain.errors import MalformedKey, Misconfigured
from rotator.domain.facts import Adopted, Memory, Retirement, Rotation, Sightings, Verdict
from rotator.domain.keys import KeyId, parse_key_id
from rotator.domain.ports import Event, HeldKey, Placement, Proof, View
from rotator.domain.reasons import Reason
from rotator.domain.record import Orphan
from rotator.journal.tables import LANES, parse_instant, render_instant

Params = dict[str, Any]

_KEY_SHAPED = re.compile(r"(?:rk|sk|ak|pk)_[a-z][a-z0-9]*_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{12,}")


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A credential as the journal knows it; forgotten ones have none."""

    name: str
    view: View | None
    memory: Memory | None


@dataclass(frozen=True, slots=True)
class RotationRow:
    """A rotation, open or closed."""

    credential: str
    rotation: Rotation
    closed_at: datetime | None = None
    outcome: Reason | None = None
    key_id: KeyId | None = None
    """the key that was current at its end"""


@dataclass(frozen=True, slots=True)
class RetirementRow:
    """A retirement, open or closed."""

    credential: str
    retirement: Retirement
    closed_at: datetime | None = None
    outcome: Reason | None = None
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """A line of the audit trail."""

    seq: int
    credential: str
    event: Event
    hash: str


def ensure_fit(where: str, params: Params) -> None:
    """Raise `ValueError`, naming the column and never the value, for a text that contains something key-shaped and for a naive instant."""
    texts = []
    for name, value in params.items():
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, datetime) and value.tzinfo is None:
            raise ValueError(f"{where}.{name}: an instant must be aware: give it a time zone")
    if _KEY_SHAPED.search("\n".join(texts)):
        names = sorted(name for name, value in params.items() if isinstance(value, str) and _KEY_SHAPED.search(value))
        raise ValueError(f"{where}.{', '.join(names)}: the text contains something shaped like a full key; a journal holds key ids only")


def memory_params(credential: str, memory: Memory) -> Params:
    adopted = memory.adopted
    return {
        "name": credential,
        "uid": memory.uid,
        "generation": memory.generation,
        "place": memory.place,
        "recovered": memory.recovered,
        "swept_at": memory.swept_at,
        "orphans": _dump([[str(o.key_id), o.attempt, o.reference] for o in memory.orphans]),
        "adopted": None if adopted is None else _dump([str(adopted.key_id), *map(render_instant, (adopted.minted_at, adopted.at))]),
    }


def memory_of(row: Row) -> Memory | None:
    if row["uid"] is None:
        return None
    return Memory(
        uid=row["uid"],
        generation=row["generation"],
        place=row["place"],
        recovered=row["recovered"],
        swept_at=row["swept_at"],
        orphans=tuple(Orphan(_key_id(key_id), attempt, reference) for key_id, attempt, reference in json.loads(row["orphans"])),
        adopted=None if row["adopted"] is None else _adopted_of(*json.loads(row["adopted"])),
    )


def _adopted_of(key_id: str, minted_at: str, at: str) -> Adopted:
    return Adopted(_key_id(key_id), parse_instant(minted_at), parse_instant(at))


def view_params(credential: str, view: View) -> Params:
    return {
        "name": credential,
        "seen_at": view.seen_at,
        "due_at": view.due_at,
        "next_rotation_at": view.next_rotation_at,
        "expires_at": view.expires_at,
        "phase": view.phase,
        "parked": _dump([[reason, render_text(what)] for reason, what in view.parked]),
        "waiting": _dump([[reason, _at(until), [render_text(n) for n in names]] for reason, until, names in view.waiting]),
        "orphan_count": view.orphans,
        "lane": view.lane,
        "lane_rank": LANES.index(view.lane) if view.lane in LANES else len(LANES) - 1,
    }


def held_params(credential: str, keys: Sequence[HeldKey]) -> list[Params]:
    return [
        {
            "credential": credential,
            "key_id": str(key.key_id),
            "ordinal": ordinal,
            "stage": str(key.stage),
            "minted_at": key.minted_at,
            "generation": key.generation,
            "promoted_at": key.promoted_at,
            "retired_at": key.retired_at,
            "doomed_at": key.doomed_at,
            "compromised_at": key.compromised_at,
        }
        for ordinal, key in enumerate(keys)
    ]


def view_of(row: Row, held: Iterable[Row]) -> View | None:
    if row["seen_at"] is None:
        return None
    return View(
        seen_at=row["seen_at"],
        due_at=row["due_at"],
        next_rotation_at=row["next_rotation_at"],
        expires_at=row["expires_at"],
        keys=tuple(_held_key(k) for k in held),
        phase=row["phase"],
        parked=tuple((_reason(reason), what) for reason, what in json.loads(row["parked"])),
        waiting=tuple(
            (_reason(reason), None if until is None else parse_instant(until), tuple(names))
            for reason, until, names in json.loads(row["waiting"])
        ),
        orphans=row["orphan_count"],
        lane=row["lane"],
    )


def _held_key(row: Row) -> HeldKey:
    return HeldKey(
        key_id=_key_id(row["key_id"]),
        stage=row["stage"],
        minted_at=row["minted_at"],
        generation=row["generation"],
        promoted_at=row["promoted_at"],
        retired_at=row["retired_at"],
        doomed_at=row["doomed_at"],
        compromised_at=row["compromised_at"],
    )


def rotation_params(credential: str, rotation: Rotation) -> Params:
    return {
        "id": rotation.id,
        "credential": credential,
        "reason": str(rotation.reason),
        "opened_at": rotation.opened_at,
        "replaces": _name(rotation.replaces),
        "candidate": _name(rotation.candidate),
        "emergency": rotation.emergency,
        "attempt": rotation.attempt,
        "failures": rotation.failures,
        "lost_mints": rotation.lost_mints,
        "retry_at": rotation.retry_at,
        "preflight_at": rotation.preflight_at,
        "abandon": rotation.abandon,
    }


def rotation_of(row: Row) -> Rotation:
    return Rotation(
        id=row["id"],
        reason=_reason(row["reason"]),
        opened_at=row["opened_at"],
        replaces=_find_key_id(row["replaces"]),
        candidate=_find_key_id(row["candidate"]),
        emergency=row["emergency"],
        attempt=row["attempt"],
        failures=row["failures"],
        lost_mints=row["lost_mints"],
        retry_at=row["retry_at"],
        preflight_at=row["preflight_at"],
        abandon=row["abandon"],
    )


def rotation_row_of(row: Row) -> RotationRow:
    return RotationRow(row["credential"], rotation_of(row), row["closed_at"], _find_reason(row["outcome"]), _find_key_id(row["key_id"]))


def retirement_params(credential: str, retirement: Retirement) -> Params:
    return {
        "id": retirement.id,
        "credential": credential,
        "key_id": str(retirement.key_id),
        "why": str(retirement.why),
        "opened_at": retirement.opened_at,
        "revoked_at": retirement.revoked_at,
        "retry_at": retirement.retry_at,
    }


def retirement_of(row: Row) -> Retirement:
    return Retirement(
        id=row["id"],
        key_id=_key_id(row["key_id"]),
        why=_reason(row["why"]),
        opened_at=row["opened_at"],
        revoked_at=row["revoked_at"],
        retry_at=row["retry_at"],
    )


def retirement_row_of(row: Row) -> RetirementRow:
    proof = None if row["confirmed_at"] is None else Proof(row["last_alive"], row["first_refused"], row["confirmed_at"])
    return RetirementRow(row["credential"], retirement_of(row), row["closed_at"], _find_reason(row["outcome"]), proof)


def sightings_params(credential: str, sightings: Sightings) -> Params:
    return {
        "credential": credential,
        "key_id": str(sightings.key_id),
        "asked_at": sightings.asked_at,
        "answer": None if sightings.answer is None else str(sightings.answer),
        "last_alive": sightings.last_alive,
        "alive_since": sightings.alive_since,
        "first_refused": sightings.first_refused,
        "refusals": _dump([render_instant(at) for at in sightings.refusals]),
        "ever_refused": sightings.ever_refused,
        "unknowns": sightings.unknowns,
        "tools": None if sightings.tools is None else _dump(sightings.tools),
    }


def sightings_of(row: Row) -> Sightings:
    return Sightings(
        key_id=_key_id(row["key_id"]),
        asked_at=row["asked_at"],
        answer=None if row["answer"] is None else Verdict(row["answer"]),
        last_alive=row["last_alive"],
        alive_since=row["alive_since"],
        first_refused=row["first_refused"],
        refusals=tuple(parse_instant(at) for at in json.loads(row["refusals"])),
        ever_refused=row["ever_refused"],
        unknowns=row["unknowns"],
        tools=None if row["tools"] is None else tuple(json.loads(row["tools"])),
    )


def placement_params(credential: str, placement: Placement) -> Params:
    return {
        "credential": credential,
        "target": placement.target,
        "key_id": _name(placement.key_id),
        "since": placement.since,
        "generation": placement.generation,
        "failures": placement.failures,
        "retry_at": placement.retry_at,
        "problem": _name(placement.problem),
        "text": render_text(placement.text),
    }


def placement_of(row: Row) -> Placement:
    return Placement(
        target=row["target"],
        key_id=_find_key_id(row["key_id"]),
        since=row["since"],
        generation=row["generation"],
        failures=row["failures"],
        retry_at=row["retry_at"],
        problem=_find_reason(row["problem"]),
        text=row["text"],
    )


def event_params(credential: str, event: Event, seq: int) -> Params:
    return {
        "seq": seq,
        "at": render_instant(event.at),
        "credential": credential,
        "phase": event.phase,
        "action": event.action,
        "reason": _name(event.reason),
        "process": event.process,
        "key_id": _name(event.key_id),
        "text": render_text(event.text),
        "ok": int(event.ok),
    }


def event_row_of(row: Row) -> EventRow:
    event = Event(
        at=parse_instant(row["at"]),
        phase=row["phase"],
        action=row["action"],
        reason=_find_reason(row["reason"]),
        process=row["process"],
        key_id=_find_key_id(row["key_id"]),
        text=row["text"],
        ok=bool(row["ok"]),
    )
    return EventRow(row["seq"], row["credential"], event, row["hash"])


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def render_text(text: str) -> str:
    """Free text as any database takes it: what is no Unicode character (from a file's name, say) and NUL are written as escapes."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _at(instant: datetime | None) -> str | None:
    return None if instant is None else render_instant(instant)


def _name(value: KeyId | Reason | None) -> str | None:
    return None if value is None else str(value)


@lru_cache(maxsize=65536)
def _key_id(text: str) -> KeyId:
    try:
        return parse_key_id(text)
    except MalformedKey as error:
        raise Misconfigured(
            "the journal holds a key id that is none: its file was altered. Restore it, or move it away and start again; "
            "the store is the truth about keys"
        ) from error


def _find_key_id(text: str | None) -> KeyId | None:
    return None if text is None else _key_id(text)


def _reason(text: str) -> Reason:
    try:
        return Reason(text)
    except ValueError:
        raise Misconfigured(
            f"the journal holds the reason {text!r}, which this version does not know: run the version that wrote it, or a newer one"
        ) from None


def _find_reason(text: str | None) -> Reason | None:
    return None if text is None else _reason(text)
