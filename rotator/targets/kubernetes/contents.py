"""What stands in the Secret: entries from templates, labels, annotations, and what our record in the annotations says. Pure."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from rotator.domain.errors import MalformedKey, Refused
from rotator.domain.keys import KeyId, parse_key_id
from rotator.domain.ports import Delivery
from rotator.domain.secret import Secret
from rotator.targets.contents import Content

__all__ = [
    "LABEL",
    "MOST_BYTES",
    "NOTE_GENERATION",
    "NOTE_KEY_ID",
    "NOTE_PLACED",
    "Notes",
    "SecretShape",
    "build_placeholder",
    "parse_notes",
]

MOST_BYTES = 1024 * 1024
"""The API server takes no Secret whose entries are larger together."""
LABEL = "rotator/target"
NOTE_KEY_ID = "rotator/key-id"
NOTE_GENERATION = "rotator/generation"
_NOTE_INSTALLATION = "rotator/installation"
_NOTE_CREDENTIAL = "rotator/credential"
_NOTE_ROTATION = "rotator/rotation"
_NOTE_SHAPE = "rotator/shape"
_NOTE_ENTRIES = "rotator/entries"
NOTE_PLACED = "rotator/placed-at"


@dataclass(frozen=True, slots=True)
class Notes:
    """What our annotations say of the Secret that carries them."""

    installation: str
    credential: str
    key_id: KeyId
    generation: int
    shape: str
    entries: frozenset[str]
    """the entries that we wrote"""
    rotation: str | None = None
    placed_at: datetime | None = None
    """when this key was first placed here, by the API server's clock; None: when the Secret was last applied"""


def parse_notes(annotations: Mapping[str, str]) -> Notes | None:
    """None where they are missing or were tampered with."""
    try:
        return Notes(
            installation=annotations[_NOTE_INSTALLATION],
            credential=annotations[_NOTE_CREDENTIAL],
            key_id=parse_key_id(annotations[NOTE_KEY_ID]),
            generation=int(annotations[NOTE_GENERATION]),
            shape=annotations[_NOTE_SHAPE],
            entries=frozenset(annotations[_NOTE_ENTRIES].split(",")),
            rotation=annotations.get(_NOTE_ROTATION),
            placed_at=_parse_placed(annotations.get(NOTE_PLACED)),
        )
    except (KeyError, ValueError, MalformedKey):
        return None


def _parse_placed(text: str | None) -> datetime | None:
    if not text:
        return None
    if (placed := datetime.fromisoformat(text)).tzinfo is None:
        raise ValueError("a time without a zone cannot be compared")
    return placed


@dataclass(frozen=True, slots=True)
class SecretShape:
    """Everything about the Secret but the key."""

    target: str
    installation: str
    contents: Mapping[str, Content]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    described: str
    """the configuration of entries, labels and annotations as text"""

    @property
    def digest(self) -> str:
        """Differs where the configuration does."""
        return hashlib.sha256(self.described.encode()).hexdigest()[:16]

    def render(self, delivery: Delivery) -> dict[str, str]:
        """The entries as text. Raises `Refused` where they are too large."""
        entries = {name: content.write("", delivery).text for name, content in self.contents.items()}
        size = sum(len(text.encode()) for text in entries.values())
        if size > MOST_BYTES:
            raise Refused(f"target {self.target}: the Secret's entries are {size} bytes together; Kubernetes takes {MOST_BYTES} at most")
        return entries

    def build(
        self, name: str, namespace: str, delivery: Delivery, rotation: str | None = None, placed_at: datetime | None = None
    ) -> dict[str, object]:
        """The object to apply. `placed_at`: since when the key is there already."""
        notes = {
            _NOTE_INSTALLATION: self.installation,
            _NOTE_CREDENTIAL: delivery.credential,
            NOTE_KEY_ID: str(delivery.secret.key_id),
            NOTE_GENERATION: str(delivery.generation),
            _NOTE_SHAPE: self.digest,
            _NOTE_ENTRIES: ",".join(sorted(self.contents)),
            **({_NOTE_ROTATION: rotation} if rotation else {}),
            **({NOTE_PLACED: placed_at.isoformat()} if placed_at is not None else {}),
        }
        entries = self.render(delivery)
        return {
            **build_shell(name, namespace, self.target),
            "metadata": {
                "name": name,
                "namespace": namespace,
                "labels": {**self.labels, LABEL: self.target},
                "annotations": {**self.annotations, **notes},
            },
            "data": {entry: base64.b64encode(text.encode()).decode() for entry, text in entries.items()},
        }


def build_shell(name: str, namespace: str, target: str | None) -> dict[str, object]:
    """A Secret with our label (None: not even that) and nothing in it."""
    metadata = {"name": name, "namespace": namespace, **({"labels": {LABEL: target}} if target is not None else {})}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}


def describe(entries: Mapping[str, object], labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    """The configuration of a Secret as one text."""
    return json.dumps([dict(entries), dict(labels), dict(annotations)], sort_keys=True)


def build_placeholder(credential: str) -> Delivery:
    """A delivery of nothing, of a likely size, for a dry run before there is a key."""
    secret = Secret("_".join(("rk", "preflight", "0" * 8, "0" * 64)))
    return Delivery(credential, secret, 0, "https://api.millimetric.invalid/mcp")
