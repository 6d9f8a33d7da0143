"""The JSON form of a `Record` and of the secrets beside it, shared by the stores that keep them as documents.

Strict both ways: a field that this version doesn't know is an error, not something to drop at the next write. Instants are ISO 8601 in UTC,
key ids are text. `render_secrets` is one of the few places where key material leaves its `Secret`: what it returns goes into a store's own
sealed field and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from rotator.domain.errors import MalformedKey, Misconfigured
from rotator.domain.keys import KeyId, parse_key_id
from rotator.domain.record import Attempt, KeyEntry, Orphan, Record, Spare, Stage
from rotator.domain.secret import Secret

VERSION = 1
"""of the record's form; raised whenever an older rotator could not keep all of it"""

_T = TypeVar("_T")


def render_record(record: Record) -> dict[str, Any]:
    """The record as JSON values. Fields at their defaults are left out of keys, orphans and spares; so are spares where there are none."""
    shown = {
        "version": VERSION,
        "uid": record.uid,
        "installation": record.installation,
        "generation": record.generation,
        "keys": [_render_key(key) for key in record.keys],
        "attempt": _render_attempt(record.attempt) if record.attempt else None,
        "closed": [_render_attempt(attempt) for attempt in record.closed],
        "orphans": [_render_orphan(orphan) for orphan in record.orphans],
        "lost": [_render_attempt(attempt) for attempt in record.lost],
        "audit": dict(record.audit),
        "vacant": record.vacant,
    }
    return {**shown, "spares": [_render_spare(spare) for spare in record.spares]} if record.spares else shown


def parse_record(data: object, where: str) -> Record:
    """The record of a JSON value. `where` names the place in the messages of `Misconfigured`."""
    fields = _Fields(data, where)
    version = fields.take("version", _integer)
    if version != VERSION:
        raise Misconfigured(f"{where}: the record is of form {version}, this rotator reads form {VERSION}: run the version that wrote it")
    record = Record(
        uid=fields.take("uid", _text),
        installation=fields.take("installation", _text),
        generation=fields.take("generation", _integer),
        keys=fields.take("keys", _tuple_of(_parse_key)),
        attempt=fields.take("attempt", _optional(_parse_attempt)),
        closed=fields.take("closed", _tuple_of(_parse_attempt)),
        orphans=fields.take("orphans", _tuple_of(_parse_orphan)),
        lost=fields.take("lost", _tuple_of(_parse_attempt)),
        audit=fields.take("audit", _parse_audit),
        vacant=fields.take("vacant", _flag),
        spares=fields.take_optional("spares", _tuple_of(_parse_spare)) or (),
    )
    fields.finish()
    return record


def render_secrets(secrets: Mapping[KeyId, Secret]) -> dict[str, str]:
    """Key id to full key. Key material in the open: seal it at once."""
    return {str(key_id): secret.reveal() for key_id, secret in secrets.items()}


def parse_secrets(data: object, where: str) -> dict[KeyId, Secret]:
    """The secrets of a JSON value, each under its own key id. The messages of `Misconfigured` never repeat a value."""
    secrets: dict[KeyId, Secret] = {}
    for name, value in _mapping(data, where).items():
        key_id = _key_id(name, where)
        try:
            secret = Secret(value)
        except MalformedKey as error:
            raise Misconfigured(f"{where}: what is stored for {key_id} is not a key: {error}") from None
        if secret.key_id != key_id:
            raise Misconfigured(f"{where}: the key stored for {key_id} is {secret.key_id}")
        secrets[key_id] = secret
    return secrets


def _render_key(key: KeyEntry) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "key_id": str(key.key_id),
        "stage": key.stage.value,
        "minted_at": _render_instant(key.minted_at),
        "attempt": key.attempt,
        "reference": key.reference,
        "issuer": key.issuer,
        "staged_at": _render_optional(key.staged_at),
        "replaces": str(key.replaces) if key.replaces else None,
        "generation": key.generation or None,
        "promoted_at": _render_optional(key.promoted_at),
        "retired_at": _render_optional(key.retired_at),
        "doomed_at": _render_optional(key.doomed_at),
        "compromised_at": _render_optional(key.compromised_at),
        "tools": list(key.tools) if key.tools is not None else None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _parse_key(data: object, where: str) -> KeyEntry:
    fields = _Fields(data, where)
    key = KeyEntry(
        key_id=fields.take("key_id", _key_id),
        stage=fields.take("stage", _stage),
        minted_at=fields.take("minted_at", _instant),
        attempt=fields.take_optional("attempt", _text),
        reference=fields.take_optional("reference", _text),
        issuer=fields.take_optional("issuer", _text),
        staged_at=fields.take_optional("staged_at", _instant),
        replaces=fields.take_optional("replaces", _key_id),
        generation=fields.take_optional("generation", _integer) or 0,
        promoted_at=fields.take_optional("promoted_at", _instant),
        retired_at=fields.take_optional("retired_at", _instant),
        doomed_at=fields.take_optional("doomed_at", _instant),
        compromised_at=fields.take_optional("compromised_at", _instant),
        tools=fields.take_optional("tools", _tuple_of(_text)),
    )
    fields.finish()
    return key


def _render_attempt(attempt: Attempt) -> dict[str, Any]:
    return {"id": attempt.id, "at": _render_instant(attempt.at)}


def _parse_attempt(data: object, where: str) -> Attempt:
    fields = _Fields(data, where)
    attempt = Attempt(id=fields.take("id", _text), at=fields.take("at", _instant))
    fields.finish()
    return attempt


def _render_orphan(orphan: Orphan) -> dict[str, Any]:
    shown = {"key_id": str(orphan.key_id), "attempt": orphan.attempt, "reference": orphan.reference}
    return {name: value for name, value in shown.items() if value is not None}


def _parse_orphan(data: object, where: str) -> Orphan:
    fields = _Fields(data, where)
    orphan = Orphan(fields.take("key_id", _key_id), fields.take("attempt", _text), fields.take_optional("reference", _text))
    fields.finish()
    return orphan


def _render_spare(spare: Spare) -> dict[str, Any]:
    shown = {
        "key_id": str(spare.key_id),
        "added_at": _render_instant(spare.added_at),
        "by": spare.by,
        "project": spare.project,
        "label": spare.label,
        "reserved_at": _render_optional(spare.reserved_at),
    }
    return {name: value for name, value in shown.items() if value is not None}


def _parse_spare(data: object, where: str) -> Spare:
    fields = _Fields(data, where)
    spare = Spare(
        key_id=fields.take("key_id", _key_id),
        added_at=fields.take("added_at", _instant),
        by=fields.take("by", _text),
        project=fields.take_optional("project", _text),
        label=fields.take_optional("label", _text),
        reserved_at=fields.take_optional("reserved_at", _instant),
    )
    fields.finish()
    return spare


def _parse_audit(data: object, where: str) -> tuple[tuple[str, str], ...]:
    return tuple((journal, _text(head, f"{where}.{journal}")) for journal, head in _mapping(data, where).items())


class _Fields:
    """The fields of one JSON object, each taken once; what is left over at the end is an error."""

    def __init__(self, data: object, where: str) -> None:
        self._left = dict(_mapping(data, where))
        self._where = where

    def take(self, name: str, parse: Callable[[object, str], _T]) -> _T:
        if name not in self._left:
            raise Misconfigured(f"{self._where}: the field {name} is missing")
        return parse(self._left.pop(name), f"{self._where}.{name}")

    def take_optional(self, name: str, parse: Callable[[object, str], _T]) -> _T | None:
        return self.take(name, parse) if name in self._left else None

    def finish(self) -> None:
        if self._left:
            raise Misconfigured(f"{self._where}: unknown fields {', '.join(sorted(self._left))}: a newer rotator may have written them")


def _optional(parse: Callable[[object, str], _T]) -> Callable[[object, str], _T | None]:
    return lambda data, where: None if data is None else parse(data, where)


def _tuple_of(parse: Callable[[object, str], _T]) -> Callable[[object, str], tuple[_T, ...]]:
    def parse_all(data: object, where: str) -> tuple[_T, ...]:
        if not isinstance(data, list):
            raise Misconfigured(f"{where}: must be a list")
        return tuple(parse(item, f"{where}.{number}") for number, item in enumerate(data))

    return parse_all


def _mapping(data: object, where: str) -> Mapping[str, Any]:
    if not isinstance(data, dict):
        raise Misconfigured(f"{where}: must be an object")
    return data


def _text(data: object, where: str) -> str:
    if not isinstance(data, str):
        raise Misconfigured(f"{where}: must be text")
    return data


def _integer(data: object, where: str) -> int:
    if not isinstance(data, int) or isinstance(data, bool) or data < 0:
        raise Misconfigured(f"{where}: must be a whole number, 0 or more")
    return data


def _flag(data: object, where: str) -> bool:
    if not isinstance(data, bool):
        raise Misconfigured(f"{where}: must be true or false")
    return data


def _stage(data: object, where: str) -> Stage:
    try:
        return Stage(_text(data, where))
    except ValueError:
        raise Misconfigured(f"{where}: must be one of {', '.join(Stage)}") from None


def _key_id(data: object, where: str) -> KeyId:
    try:
        return parse_key_id(_text(data, where))
    except MalformedKey as error:
        raise Misconfigured(f"{where}: {error}") from None


def _render_instant(instant: datetime) -> str:
    if instant.tzinfo is None:
        raise TypeError("an instant of a record must be aware")
    return instant.astimezone(UTC).isoformat()


def _render_optional(instant: datetime | None) -> str | None:
    return None if instant is None else _render_instant(instant)


def _instant(data: object, where: str) -> datetime:
    try:
        instant = datetime.fromisoformat(_text(data, where))
    except ValueError:
        raise Misconfigured(f"{where}: must be an instant in ISO 8601") from None
    if instant.tzinfo is None:
        raise Misconfigured(f"{where}: must name its time zone")
    return instant.astimezone(UTC)
