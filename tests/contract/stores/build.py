"""Test data for stores: keys that are random at run time, entries and changes around them, and the search for key material on disk."""

from __future__ import annotations

import base64
import itertools
import re
import secrets
import string
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rotator.domain.ports import Holding, Store
from rotator.domain.record import Adopt, Attempt, Change, KeyEntry, NoteAudit, OpenAttempt, Promote, Stage, StageKey
from rotator.domain.secret import Secret

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
UID = "0f" * 16
_KEY_SHAPED = re.compile(rb"\b(?:rk|sk|ak|pk)_[a-z][a-z0-9]{0,31}_[A-Za-z0-9]{8}_")
_attempts = itertools.count(1)


def at(minutes: int) -> datetime:
    """An instant, in minutes after the start of the test's time."""
    return START + timedelta(minutes=minutes)


def a_key(kind: str = "rk") -> Secret:
    """A random key."""
    prefix = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(8))
    return Secret("_".join((kind, "live", prefix, secrets.token_urlsafe(32))))


def an_entry(key: Secret, *, attempt: str | None = None, minutes: int = 0) -> KeyEntry:
    """What the record says of a key that was just minted."""
    return KeyEntry(key.key_id, Stage.PENDING, at(minutes), attempt=attempt)


def an_opening(attempt: str | None = None, *, installation: str = "test") -> OpenAttempt:
    """The lease on minting, which creates the record."""
    return OpenAttempt(Attempt(attempt or f"attempt-{next(_attempts)}", at(0)), UID, installation)


def an_adoption(key: Secret, *, bring_secret: bool = True) -> Adopt:
    """A key from outside."""
    return Adopt(an_entry(key), at(1), UID, "test", key if bring_secret else None)


def commit_all(store: Store, path: str, *changes: Change) -> Holding:
    """Apply changes one after the other, onto what is there."""
    holding = store.read(path)
    for change in changes:
        holding = store.commit(path, holding, change)
    return holding


def hold_current(store: Store, path: str, key: Secret) -> Holding:
    """Bring a key through its attempt to current."""
    opening = an_opening()
    staging = StageKey(an_entry(key, attempt=opening.attempt.id), key)
    current = store.read(path).current
    return commit_all(store, path, opening, staging, Promote(key.key_id, current, at(2)))


def a_note(journal: str, number: int) -> NoteAudit:
    """A change that is always legal, of a length that varies."""
    return NoteAudit(journal, f"{number}." + "x" * (number * 37 % 401))


def noted(holding: Holding, journal: str) -> int:
    """The number of the last `a_note` of a journal, 0 for none."""
    assert holding.record is not None
    return int(dict(holding.record.audit).get(journal, "0.").split(".")[0])


def find_key_material(folder: Path, *keys: Secret) -> list[str]:
    """The names of files in which a key, its secret part in any usual form, or anything of a key's shape stands."""
    needles = [form for key in keys for form in _forms(key)]
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        if _KEY_SHAPED.search(content) or any(needle in content for needle in needles):
            found.append(file.name)
    return found


def _forms(key: Secret) -> list[bytes]:
    whole = key.reveal().encode()
    part = whole.split(b"_", 3)[3]
    return [whole, part, base64.b64encode(whole), base64.b64encode(part).rstrip(b"="), part.hex().encode(), part[::-1]]
