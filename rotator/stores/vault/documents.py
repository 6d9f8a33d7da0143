"""The two documents of a credential, and what they mean together. Pure.

`path` is what consumers read: the current key in its field, beside fields that are not ours. The sibling holds the record and every key in
it, the current one too: an outsider who overwrites `path` must not destroy the only copy of a key that has yet to be proven dead. What
changes no current key is one write of the sibling. What does, takes three, each a compare-and-set:

    1  sibling   *announce*: the key that comes, the version of `path` that it replaces, and the record as it will be then
    2  path      the key. The commit point
    3  sibling   *tidy*: the record as announced, no announcement

A writer that dies in between leaves an announcement. What it means follows from the version that `path` has now:

    version of `path`        its key           the announced change
    as announced             any               OPEN: not made, but a stalled writer may still make it. The record is as before
    one more                 the announced     MADE: the record is as announced
    one more                 another           VOID: someone else took the version that it wanted. The record is as before
    one more, deleted        -                 MADE or not, nobody can tell: counts as made, so that no generation is used twice; the key
    more than one more       any               that it replaced was current until now, for all we know
    less                     any               VOID: the document was begun anew

Reading settles this in memory and writes nothing. The next commit writes it down with its own change, in one go. Before a commit that
does not itself make an OPEN change it takes the announced version away (*fence*: `path` is written as it is), so that a stalled writer
cannot make a key current that meanwhile is given up or doomed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from rotator.domain.errors import MalformedKey, Misconfigured
from rotator.domain.keys import KeyId, parse_key_id
from rotator.domain.record import Record, Stage
from rotator.domain.secret import Secret
from rotator.stores.codec import parse_record, parse_secrets, render_record, render_secrets

__all__ = ["Announcement", "Document", "Settled", "Sibling", "find_key", "parse_sibling", "render_sibling", "settle"]


@dataclass(frozen=True, slots=True)
class Document:
    """The newest version of a document."""

    version: int = 0
    """0: there never was one"""
    created: str = ""
    """when the version was written, in the server's words"""
    created_at: datetime | None = None
    data: Mapping[str, Any] | None = field(default=None, repr=False)
    """None: there is none, or it is deleted or destroyed"""
    ends: bool = False
    """the server will delete it by itself"""

    @property
    def mark(self) -> str:
        """Differs after every change, and where the history was begun anew."""
        return f"{self.version}@{self.created}{'' if self.data is not None else '-'}" if self.version else "0"


@dataclass(frozen=True, slots=True)
class Announcement:
    """A key that is about to be laid at `path`."""

    key_id: KeyId
    onto: int
    """the version of `path` that it replaces"""
    record: Record
    """as it stands from then on"""


@dataclass(frozen=True, slots=True)
class Sibling:
    """What the sibling holds."""

    record: Record
    secrets: Mapping[KeyId, Secret]
    """of every key in the record, and of the announced one"""
    announced: Announcement | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What both documents mean."""

    record: Record | None
    open: Announcement | None = None
    """a change that is not made, and that a stalled writer may still make"""


def settle(path: Document, current: KeyId | None, sibling: Sibling | None) -> Settled:
    """The table above. `current` is the key that `path` holds."""
    if sibling is None:
        return Settled(None)
    announced = sibling.announced
    if announced is None:
        return Settled(sibling.record)
    ahead = path.version - announced.onto
    if ahead == 0:
        return Settled(sibling.record, announced)
    if ahead == 1 and path.data is not None:
        return Settled(announced.record if current == announced.key_id else sibling.record)
    if ahead > 0:
        return Settled(_with_late_retirement(announced.record, sibling.record, path.created_at))
    return Settled(sibling.record)


def _with_late_retirement(record: Record, before: Record, until: datetime | None) -> Record:
    """The announced record, where the key that was current before retires no sooner than it may have been found at `path`."""
    former = before.current.key_id if before.current else None
    keys = tuple(
        replace(key, retired_at=max(key.retired_at, until))
        if key.key_id == former and key.stage is Stage.RETIRING and key.retired_at is not None and until is not None
        else key
        for key in record.keys
    )
    return replace(record, keys=keys)


def find_key(data: Mapping[str, Any] | None, name: str, where: str) -> Secret | None:
    """The key in a field of `path`; None where the field is missing or empty. Raises `Misconfigured` for anything else, without it."""
    value = data.get(name) if data is not None else None
    if value is None or value == "":
        return None
    try:
        return Secret(value)
    except MalformedKey as problem:
        failure = Misconfigured(f"{where}: the field {name} holds no Millimetric key ({problem}): write one, or empty the field")
    raise failure


def render_sibling(sibling: Sibling) -> dict[str, Any]:
    """The sibling as JSON values, with key material in it. Records are text: the server would sort their fields and round their numbers."""
    announced = sibling.announced
    return {
        "record": _render_text(sibling.record),
        "secrets": render_secrets(sibling.secrets),
        "announced": None
        if announced is None
        else {"key_id": str(announced.key_id), "onto": announced.onto, "record": _render_text(announced.record)},
    }


def _render_text(record: Record) -> str:
    return json.dumps(render_record(record), separators=(",", ":"), ensure_ascii=False)


def _parse_text(data: object, where: str) -> Record:
    try:
        parsed = json.loads(data) if isinstance(data, str) else None
    except (ValueError, RecursionError):
        parsed = None
    return parse_record(parsed, where)


def parse_sibling(data: Mapping[str, Any] | None, where: str) -> Sibling | None:
    """What the document holds; None where there is none. Raises `Misconfigured` for a document of someone else's."""
    if data is None:
        return None
    if set(data) != {"record", "secrets", "announced"}:
        raise Misconfigured(
            f"{where}: this is no lifecycle record of rotator's, or a newer one wrote it: move the document away, or correct `sibling`"
        )
    return Sibling(
        _parse_text(data["record"], f"{where}: record"),
        parse_secrets(data["secrets"], f"{where}: secrets"),
        _parse_announcement(data["announced"], f"{where}: announced"),
    )


def _parse_announcement(data: object, where: str) -> Announcement | None:
    if data is None:
        return None
    if not isinstance(data, dict) or set(data) != {"key_id", "onto", "record"} or not isinstance(data["onto"], int):
        raise Misconfigured(f"{where}: is of no form that this rotator knows: run the version that wrote it")
    try:
        key_id = parse_key_id(str(data["key_id"]))
    except MalformedKey as problem:
        failure = Misconfigured(f"{where}: {problem}")
    else:
        return Announcement(key_id, data["onto"], _parse_text(data["record"], f"{where}: record"))
    raise failure
