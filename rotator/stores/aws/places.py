"""What the labels of the consumers' secret say, and which ones they should be. Pure.

AWSCURRENT, AWSPREVIOUS   as everywhere in AWS
AWSPENDING                the version of a staged key, unless someone else's version has it
ROTATOR-PENDING           the same, set in the put that makes the version: what carries it is ours
ROTATOR-FENCE             a copy of the current version, made so that nobody can finish a move that was given up
ROTATOR-RETIRING-n        the version of an old key that is not proven dead, so that AWS does not drop it
ROTATOR-DRAFT             on the record's secret: the version that was written last
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import count

from rotator.domain.keys import KeyId
from rotator.stores.aws.document import Document, Move

__all__ = [
    "CURRENT",
    "DRAFT",
    "FENCE",
    "PENDING",
    "PREVIOUS",
    "STAGED",
    "Moved",
    "Place",
    "Relabel",
    "find_stranger",
    "judge",
    "plan_labels",
    "settle",
    "version_for",
]

CURRENT, PREVIOUS, PENDING = "AWSCURRENT", "AWSPREVIOUS", "AWSPENDING"
_OURS = "ROTATOR-"
STAGED, FENCE, DRAFT = f"{_OURS}PENDING", f"{_OURS}FENCE", f"{_OURS}DRAFT"
_RETIRING = f"{_OURS}RETIRING-"
_NAMESPACE = uuid.UUID("6b0c9a52-5d3e-5f0e-9a55-0d6f4a1f7c11")


@dataclass(frozen=True, slots=True)
class Place:
    """The consumers' secret as AWS describes it, without its values. Empty: it is not there."""

    exists: bool = False
    arn: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    """label → version id; a label stands at one version"""
    deleted: bool = False
    """scheduled for deletion"""
    rotated: bool = False
    """AWS rotates it by itself"""
    primary: str = ""
    """the region of the original, where this is a replica, or has some"""

    @property
    def current(self) -> str | None:
        """The version that consumers get."""
        return self.labels.get(CURRENT)

    @property
    def versions(self) -> frozenset[str]:
        """Those with a label: AWS drops the others."""
        return frozenset(self.labels.values())

    def moved(self, label: str, to: str | None) -> Place:
        """After a label was moved; AWSPREVIOUS follows AWSCURRENT by itself."""
        labels = {name: version for name, version in self.labels.items() if name != label}
        if to is not None:
            labels[label] = to
        if label == CURRENT and self.current is not None and self.current != to:
            labels[PREVIOUS] = self.current
        return replace(self, exists=True, labels=labels)


class Moved(StrEnum):
    """Whether the move that a document announces took place."""

    NONE = ""
    """none is announced"""
    OPEN = "open"
    """not yet, but whoever announced it may still do it"""
    DONE = "done"
    VOID = "void"
    """someone else moved AWSCURRENT first: it never will"""


def judge(move: Move | None, place: Place) -> Moved:
    """What the labels say of a move.

    Where they can't tell (someone else moved AWSCURRENT twice since), it counts as done: a generation that somebody may have seen never
    goes back, and the stranger's key is found beside it either way.
    """
    if move is None:
        return Moved.NONE
    current, previous = place.current, place.labels.get(PREVIOUS)
    if move.to in (current, previous):
        return Moved.DONE
    if current == move.source:
        return Moved.OPEN
    return Moved.VOID if previous == move.source else Moved.DONE


def find_stranger(document: Document | None, place: Place) -> str | None:
    """The version of someone else's rotation that was begun and not ended: AWSPENDING on a version that is neither ours nor current."""
    pending = place.labels.get(PENDING)
    return None if pending is None or pending == place.current or _is_ours(document, place, pending) else pending


def _is_ours(document: Document | None, place: Place, version: str) -> bool:
    labelled = any(held == version and label.startswith(_OURS) for label, held in place.labels.items())
    return labelled or (document is not None and version in document.versions.values())


def settle(document: Document, moved: Moved) -> Document:
    """What is true by document and labels together; an announced move stays in it while it is open."""
    move = document.move
    if move is None or moved is Moved.OPEN:
        return document
    if moved is Moved.VOID:
        return replace(document, move=None)
    versions = {**document.versions, move.key_id: move.to}
    kept = move.record.key_ids
    return replace(
        document,
        record=move.record,
        secrets={key_id: secret for key_id, secret in document.secrets.items() if key_id in kept},
        versions={key_id: version for key_id, version in versions.items() if key_id in kept},
        move=None,
    )


def version_for(uid: str, generation: int, key_id: KeyId, base: str | None, key_field: str | None) -> str:
    """The id (ClientRequestToken) of the version that makes a key current in place of the version `base`. The same step has the same id,
    and by it the same content, whoever takes it; the generation makes it one that was never current."""
    return str(uuid.uuid5(_NAMESPACE, "\n".join((uid, str(generation), str(key_id), base or "-", key_field or "-"))))


@dataclass(frozen=True, slots=True)
class Relabel:
    """A label's move. Refused by AWS if the label does not stand at `source`."""

    label: str
    source: str | None
    to: str | None


def plan_labels(document: Document, place: Place) -> tuple[Relabel, ...]:
    """The moves that make the labels say what the document says. Retiring keys get theirs first; strangers' labels stay."""
    return (*_hold_retiring(document, place), *_show_pending(document, place), *_let_go(document, place))


def _hold_retiring(document: Document, place: Place) -> Iterator[Relabel]:
    free = (label for label in (f"{_RETIRING}{number}" for number in count(1)) if label not in place.labels)
    for version in _gather_retiring(document, place):
        if not any(held == version and label.startswith(_RETIRING) for label, held in place.labels.items()):
            yield Relabel(next(free), None, version)


def _show_pending(document: Document, place: Place) -> Iterator[Relabel]:
    staged, shown = _find_pending(document, place), place.labels.get(PENDING)
    if staged is not None and shown != staged and find_stranger(document, place) is None:
        yield Relabel(PENDING, shown, staged)
    elif staged is None and shown is not None and shown in (place.labels.get(STAGED), *_gather_retiring(document, place)):
        yield Relabel(PENDING, shown, None)


def _let_go(document: Document, place: Place) -> Iterator[Relabel]:
    staged, retiring = _find_pending(document, place), set(_gather_retiring(document, place))
    for label, version in sorted(place.labels.items()):
        if label == FENCE or (label == STAGED and version != staged) or (label.startswith(_RETIRING) and version not in retiring):
            yield Relabel(label, version, None)


def _find_pending(document: Document, place: Place) -> str | None:
    entry = document.record.pending if document.record else None
    version = document.versions.get(entry.key_id) if entry else None
    return version if version in place.versions else None


def _gather_retiring(document: Document, place: Place) -> list[str]:
    entries = document.record.retiring if document.record else ()
    versions = [document.versions[entry.key_id] for entry in entries if entry.key_id in document.versions]
    return [version for version in versions if version in place.versions and version != place.current]
