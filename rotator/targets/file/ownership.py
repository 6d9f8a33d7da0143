"""What a file target wrote, kept outside the file, in the daemon's own folder (R15). No key: its hash, its key id, its generation."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rotator.domain.errors import Unreachable
from rotator.domain.keys import KeyId, parse_key_id
from rotator.domain.secret import Secret

_A_DAY = timedelta(days=1)
_TEMPORARY = ".ownership-"
_MOST_PARSED = 4096


@dataclass(frozen=True, slots=True)
class Ownership:
    """The record of the last delivery to one file."""

    path: str
    credential: str
    key_id: str
    generation: int
    value_hash: str
    written_at: str
    inserted: Mapping[str, Any] | None = None
    rewritten: tuple[str, ...] = ()
    """when the same key had to be written again because something took it out (R11)"""

    def parsed_key_id(self) -> KeyId:
        return parse_key_id(self.key_id)

    def covers(self, secret: Secret) -> bool:
        """Whether this very key is what we wrote; one that a user edited is theirs."""
        return self.value_hash == hash_value(secret)

    def rewritten_within_a_day(self, now: datetime) -> tuple[str, ...]:
        """The times of the last day at which the same key was written again."""
        return tuple(at for at in self.rewritten if datetime.fromisoformat(at) + _A_DAY > now)


def hash_value(secret: Secret) -> str:
    """SHA-256 of a key: it has too much entropy to be found from its hash."""
    return hashlib.sha256(secret.reveal().encode()).hexdigest()


_Mark = tuple[int, int, int, int]


def _mark(status: os.stat_result) -> _Mark:
    """Differs from that of every other state of a file that is only ever replaced."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _read(file: Path) -> Ownership | None:
    try:
        raw = json.loads(file.read_text("utf-8"))
        raw["rewritten"] = tuple(raw["rewritten"])
        return Ownership(**raw)
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class OwnershipFolder:
    """One small file per target and credential, 0600."""

    folder: Path
    _parsed: dict[Path, tuple[_Mark, Ownership | None]] = field(default_factory=dict, compare=False)
    """what each file said when it was read last: files are asked for at every look, and replaced once a rotation"""

    def find(self, target: str, credential: str) -> Ownership | None:
        """The record, if there is one that can be read; a damaged one counts as none."""
        file = self._file(target, credential)
        try:
            mark = _mark(file.stat())
        except OSError:
            return None
        known = self._parsed.get(file)
        if known is None or known[0] != mark:
            if len(self._parsed) >= _MOST_PARSED:
                self._parsed.clear()
            known = self._parsed[file] = (mark, _read(file))
        return known[1]

    def save(self, target: str, credential: str, ownership: Ownership) -> None:
        """Replace the record, atomically."""
        try:
            self._save(self._file(target, credential), ownership)
        except OSError as problem:
            raise Unreachable(f"writing what was delivered to target {target} down in {self.folder}: {problem.strerror}") from problem

    def _save(self, file: Path, ownership: Ownership) -> None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = file.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(asdict(ownership), stream)
        temporary.replace(file)

    def remove_leftovers(self) -> None:
        """Delete what a killed daemon left half written. At the start only, before anything is delivered."""
        for leftover in self.folder.glob(f"{_TEMPORARY}*"):
            leftover.unlink(missing_ok=True)

    def drop(self, target: str, credential: str) -> None:
        """Forget it."""
        self._file(target, credential).unlink(missing_ok=True)

    def _file(self, target: str, credential: str) -> Path:
        # Names come from the configuration; the hash keeps any of them from leaving the folder.
        return self.folder / f"{hashlib.sha256(f'{target}/{credential}'.encode()).hexdigest()[:32]}.json"
