"""Copies of files as they were before we changed them, in a folder of the daemon's own (R16).

A client's configuration may hold other people's secrets, so a copy lies 0600 in a folder that is 0700, with every key of ours masked, and
at most `KEPT` of each file: one for each content, the newest last. They are for a person's eyes; nothing reads them back.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from rotator.domain.errors import Unreachable
from rotator.mcp.diffs import mask

KEPT = 3


@dataclass(frozen=True, slots=True)
class BackupFolder:
    """One folder for each target."""

    folder: Path

    def save(self, target: str, file: Path, text: str) -> None:
        """Keep the text of a file. A content that differs from the newest copy in masked parts only is not kept again."""
        try:
            self._save(self.folder / hashlib.sha256(target.encode()).hexdigest()[:16], file.name, mask(text).encode())
        except OSError as problem:
            raise Unreachable(f"keeping a copy of {file} in {self.folder}: {problem.strerror}") from problem

    def _save(self, folder: Path, name: str, content: bytes) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        copies = sorted(folder.glob("[0-9]*-*"))
        if copies and copies[-1].read_bytes() == content:
            return
        number = int(copies[-1].name.partition("-")[0]) + 1 if copies else 1
        temporary = folder / f".{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        temporary.replace(folder / f"{number:06}-{name}")
        for old in copies[: len(copies) + 1 - KEPT]:
            old.unlink(missing_ok=True)
