"""Whose a Secret is, and whether it still is as we left it, judged by its metadata alone. Pure.

The API server keeps who wrote which field (`managedFields`). As long as we own every entry that we applied, nobody has changed one: whoever
writes another value takes the field away from us.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rotator.targets.kubernetes.contents import LABEL, NOTE_GENERATION, NOTE_KEY_ID, NOTE_PLACED, Notes, parse_notes

__all__ = ["CREATOR", "MANAGER", "SecretView", "parse_time", "read_view"]

MANAGER = "rotator"
CREATOR = "rotator-create"
"""Makes an empty Secret, so that the first key, too, is applied onto a version that was seen."""


@dataclass(frozen=True, slots=True)
class SecretView:
    """One Secret's metadata, read at one moment."""

    uid: str
    version: str
    notes: Notes | None
    owned: frozenset[str]
    """the entries that are ours, by the API server's word"""
    others: Mapping[str, str]
    """entry → who else owns it"""
    noted: bool
    """whether our notes are as we wrote them"""
    labelled: bool
    """whether it carries our label"""
    placed_at: datetime | None
    """since when its key is there, by the API server's clock"""
    is_shell: bool
    """made by us, and nothing in it yet"""

    def is_intact(self, entries: frozenset[str], digest: str) -> bool:
        """Whether everything that we apply is there, and nothing of it was changed since."""
        return self.notes is not None and self.noted and self.labelled and self.notes.shape == digest and self.owned == entries

    def find_foreign(self, entries: frozenset[str]) -> dict[str, str]:
        """Which of these entries somebody else manages, and who; what we once wrote ourselves is drift, and is taken back."""
        ours = self.owned | (self.notes.entries if self.notes is not None else frozenset())
        return {entry: manager for entry, manager in self.others.items() if entry in entries and entry not in ours}


def read_view(found: Mapping[str, Any]) -> SecretView:
    """The view of an object, or of its metadata alone."""
    metadata = found.get("metadata") or {}
    notes = parse_notes(metadata.get("annotations") or {})
    applied = [m for m in _fields(metadata) if m.get("manager") == MANAGER and m.get("operation") == "Apply"]
    rest = [m for m in _fields(metadata) if m not in applied]
    owned = frozenset(entry for m in applied for entry in _entries(m))
    annotated = {name for m in applied for name in _annotations(m)}
    return SecretView(
        uid=str(metadata.get("uid") or ""),
        version=str(metadata.get("resourceVersion") or ""),
        notes=notes,
        owned=owned,
        others={entry: str(m.get("manager") or "somebody") for m in rest for entry in _entries(m)},
        noted=_list_trusted(notes) <= annotated,
        labelled=LABEL in (metadata.get("labels") or {}),
        placed_at=_find_placed_at(notes if NOTE_PLACED in annotated else None, applied),
        is_shell=not applied and bool(rest) and all(m.get("manager") == CREATOR for m in rest),
    )


def _list_trusted(notes: Notes | None) -> set[str]:
    """What nobody else may have written: on it rests which pods work with the key."""
    return {NOTE_KEY_ID, NOTE_GENERATION} | ({NOTE_PLACED} if notes is not None and notes.placed_at is not None else set())


def _find_placed_at(notes: Notes | None, applied: Sequence[Mapping[str, Any]]) -> datetime | None:
    if notes is not None and notes.placed_at is not None:
        return notes.placed_at
    return parse_time(applied[0].get("time")) if applied else None


def parse_time(value: object) -> datetime | None:
    """A time of the API server's; None where there is none."""
    return datetime.fromisoformat(value) if isinstance(value, str) and value else None


def _fields(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [m for m in metadata.get("managedFields") or [] if isinstance(m, dict) and not m.get("subresource")]


def _entries(managed: Mapping[str, Any]) -> Iterator[str]:
    data = (managed.get("fieldsV1") or {}).get("f:data") or {}
    return (name[2:] for name in data if name.startswith("f:"))


def _annotations(managed: Mapping[str, Any]) -> Iterator[str]:
    metadata = (managed.get("fieldsV1") or {}).get("f:metadata") or {}
    return (name[2:] for name in metadata.get("f:annotations") or {} if name.startswith("f:"))
