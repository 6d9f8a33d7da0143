"""The file that says which process holds a journal, locked for as long as that process lives.

The operating system drops the lock with the process, however it ends, so no lock is ever stale. The file is never removed: a second
process could lock one that has no name any more.
"""

from __future__ import annotations

import fcntl
import os
from datetime import datetime
from pathlib import Path

from rotator.domain.errors import Refused

_MOST = 200


class JournalHeld(Refused):
    """Another process holds the journal."""


class ProcessLock:
    """Held from its making until `release`. Raises `JournalHeld`, naming the holder; `OSError` where the file can't be made."""

    def __init__(self, path: Path, journal: Path, since: datetime) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._fd, _MOST, 0).decode("utf-8", "replace").strip() or "another process"
            os.close(self._fd)
            raise JournalHeld(
                f"the journal {journal} is held by {holder}: a journal on SQLite serves one daemon. "
                "Stop that process, or give this daemon its own --state-dir"
            ) from None
        except OSError:
            os.close(self._fd)
            raise
        os.fchmod(self._fd, 0o600)
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"process {os.getpid()}, which opened it at {since.isoformat(timespec='seconds')}\n".encode(), 0)

    def release(self) -> None:
        """Let another process have the journal. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
