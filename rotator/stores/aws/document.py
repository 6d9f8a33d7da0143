"""The JSON of a record's secret: record and keys in one version, as in the other stores, with what only AWS needs.

`versions` says under which version of the consumers' secret a key lies. `move` is written before AWSCURRENT is moved: whoever reads it
knows from the labels whether the move took place (`rotator.stores.aws.places`), and then `move.record` is the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rotator.domain.errors import MalformedKey, Misconfigured
from rotator.domain.keys import KeyId, parse_key_id
from rotator.domain.record import Record
from rotator.domain.secret import Secret
from rotator.stores.codec import parse_record, parse_secrets, render_record, render_secrets

__all__ = ["Document", "Move", "parse_document", "render_document"]

_FORM = 1
_LARGEST = 65_536
"""bytes that AWS takes as a value"""


@dataclass(frozen=True, slots=True)
class Move:
    """AWSCURRENT goes from one version of the consumers' secret to another, and with it the record changes."""

    key_id: KeyId
    source: str | None
    """the version that it must leave; None: no version has it yet"""
    to: str
    """never current before: a version id is made for one move"""
    record: Record
    """as it is once the move took place"""


@dataclass(frozen=True, slots=True)
class Document:
    """What one version of a record's secret says."""

    number: int
    """one more with each version: tells an older state from a newer"""
    record: Record | None = None
    secrets: Mapping[KeyId, Secret] = field(default_factory=dict)
    versions: Mapping[KeyId, str] = field(default_factory=dict)
    move: Move | None = None

    def find_key(self, version: str | None) -> KeyId | None:
        """The key that lies under a version of the consumers' secret, as far as it is known."""
        return next((key_id for key_id, known in self.versions.items() if known == version and key_id in self.secrets), None)


def render_document(document: Document, where: str) -> str:
    """The document as JSON. Key material in the open: it goes into the record's secret and nowhere else."""
    move = document.move
    text = json.dumps(
        {
            "rotator": _FORM,
            "number": document.number,
            "record": render_record(document.record) if document.record else None,
            "secrets": render_secrets(document.secrets),
            "versions": {str(key_id): version for key_id, version in document.versions.items()},
            "move": _render_move(move) if move else None,
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )
    if len(text.encode()) > _LARGEST:
        raise Misconfigured(
            f"{where}: the record would be larger than AWS takes ({_LARGEST} bytes): too many keys are kept, see `rotator status`"
        )
    return text


def parse_document(text: str | None, where: str) -> Document:
    """The document of a record's secret. Raises `Misconfigured` for anything else, and never repeats what stands there."""
    try:
        data = json.loads(text or "")
    except ValueError:
        raise Misconfigured(f"{where} is not a record of rotator: delete that secret, or set another `record_prefix`") from None
    if not isinstance(data, dict) or data.get("rotator") != _FORM:
        raise Misconfigured(f"{where} is not a record that this rotator reads: it was written by another version, or by something else")
    try:
        record, move = data["record"], data["move"]
        return Document(
            number=int(data["number"]),
            record=None if record is None else parse_record(record, where),
            secrets=parse_secrets(data["secrets"], where),
            versions={parse_key_id(key_id): str(version) for key_id, version in data["versions"].items()},
            move=None if move is None else _parse_move(move, where),
        )
    except (KeyError, TypeError, ValueError, AttributeError, MalformedKey):
        raise Misconfigured(f"{where}: the record is damaged: put an older version back (AWSPREVIOUS of that secret)") from None


def _render_move(move: Move) -> dict[str, Any]:
    return {"key_id": str(move.key_id), "source": move.source, "to": move.to, "record": render_record(move.record)}


def _parse_move(data: Mapping[str, Any], where: str) -> Move:
    source = data["source"]
    return Move(parse_key_id(data["key_id"]), None if source is None else str(source), str(data["to"]), parse_record(data["record"], where))
