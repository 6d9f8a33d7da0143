"""One path as it was read: the record's secret and the consumers' one together, and the holding that they make. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rotator.domain.keys import KeyId
from rotator.domain.ports import Holding
from rotator.domain.record import Adopt, Promote, Record
from rotator.domain.secret import Secret
from rotator.stores.aws.document import Document
from rotator.stores.aws.places import Moved, Place
from rotator.stores.changes import ABSENT

__all__ = ["Look", "find_left_behind", "names_another"]


@dataclass(frozen=True, slots=True)
class Look:
    """The record's version, what it says together with the labels, and what consumers find."""

    path: str
    version: str | None
    """of the record's secret; None: there is none"""
    document: Document
    """settled; its move is one that is open"""
    moved: Moved
    place: Place
    current: Secret | None = None
    """what consumers find"""
    current_since: datetime | None = None

    @property
    def revision(self) -> str:
        if self.version is None and self.place.current is None:
            return ABSENT
        return f"{self.version or '-'}.{self.place.current or '-'}.{self.moved}"

    @property
    def record(self) -> Record | None:
        return self.document.record

    @property
    def secrets(self) -> dict[KeyId, Secret]:
        """Of the record's keys, and of what consumers find."""
        known = dict(self.document.secrets)
        if self.document.move is not None:
            kept = self.record.key_ids if self.record else frozenset()
            known = {key_id: secret for key_id, secret in known.items() if key_id in kept}
        if self.current is not None and self.current.key_id not in known:
            known[self.current.key_id] = self.current
        return known

    def build_holding(self) -> Holding:
        key_id = self.current.key_id if self.current else None
        entry = self.record.current if self.record else None
        since = entry.promoted_at if entry is not None and entry.key_id == key_id else self.current_since
        return Holding(self.revision, self.record, key_id, since if key_id else None, self.secrets)


def find_left_behind(record: Record | None, current: KeyId | None) -> KeyId | None:
    """The key that consumers seem to find, where the record has left it behind: the labels may lag behind the record.

    Under which version it lies says nothing: a fence makes a copy, and the record then knows that one alone.
    """
    return next((key.key_id for key in record.retiring if key.key_id == current), None) if record is not None else None


def names_another(look: Look, change: Promote | Adopt) -> bool:
    """Whether the change makes a key current that consumers do not find yet."""
    key_id = change.key_id if isinstance(change, Promote) else change.entry.key_id
    return look.current is None or look.current.key_id != key_id
