"""The disk under the embedded store: a lock between processes, an atomic replace, and the errors of both in our words.

Knows nothing of what the bytes mean. A temporary sibling is named so that it is recognised after a crash, and is only ever made, renamed or
removed under the lock: whoever holds the lock may take any that it finds for a leftover.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rotator.domain.errors import AnswerLost, Misconfigured, Refused, RotatorError, Unreachable

_PAUSES = (0.0005, 0.001, 0.002, 0.005)
"""seconds between looks at a lock that another process holds; the last one repeats"""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_MISSING = {errno.ENOENT, errno.ENOTDIR}


@contextmanager
def hold_lock(path: Path, patience: float) -> Iterator[None]:
    """Hold the lock file `path` (made where missing, never removed) against every other process and thread.

    Waits at most `patience` seconds, then raises `Unreachable`. The kernel frees it when its holder dies.
    """
    with explained("locking", path):
        fd = _acquire(path, time.monotonic() + patience)
    try:
        yield
    finally:
        os.close(fd)


def _acquire(path: Path, deadline: float) -> int:
    import fcntl  # POSIX only; configuration must load elsewhere too

    pauses = iter(_PAUSES)
    pause = 0.0
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Someone may have removed the file between our open and our lock: then others lock a new one, and ours excludes nobody.
            if _is_same(fd, path):
                return fd
        except BlockingIOError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        if time.monotonic() >= deadline:
            raise Unreachable(f"locking {path}: another process has held it for too long: find it with `fuser {path}`, end it if it hangs")
        pause = next(pauses, pause)
        time.sleep(pause)


def _is_same(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat(follow_symlinks=False))
    except FileNotFoundError:
        return False


def replace_file(path: Path, chunks: Iterable[bytes]) -> int:
    """Put `chunks` at `path`, all of them or none, durably, mode 0600. Returns a descriptor of the new file, for the caller to close.

    Call it under the lock. Raises `AnswerLost` where the new content is in place and may not outlive a power cut, else `Unreachable` or
    `Refused`, with the old content in place.
    """
    with explained("writing", path):
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            for chunk in chunks:
                _write(fd, chunk)
            os.fsync(fd)
            temporary.replace(path)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                temporary.unlink()
            raise
    try:
        _sync_folder(path.parent)
    except OSError as error:
        os.close(fd)
        raise AnswerLost(
            f"writing {path}: it is in place, but the disk did not confirm it ({error.strerror}): look after the disk"
        ) from error
    return fd


def _write(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def find_leftovers(path: Path) -> list[Path]:
    """Temporary siblings of `path` that a crash (or a writer of this moment) has left."""
    mine = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.tmp\Z")
    try:
        return [sibling for sibling in path.parent.iterdir() if mine.match(sibling.name)]
    except OSError:
        return []


def remove_leftovers(path: Path, lock: Path, patience: float) -> None:
    """Remove what a crash left beside `path`. Takes the lock only where there is something."""
    if not find_leftovers(path):
        return
    with hold_lock(lock, patience), explained("removing the leftovers of a crash beside", path):
        for leftover in find_leftovers(path):
            leftover.unlink(missing_ok=True)


def check_writable(path: Path, needed: int) -> None:
    """Raises what replacing `path` by `needed` bytes would raise now, as far as can be told without writing."""
    with explained("writing", path):
        room = os.statvfs(path.parent)
        if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            raise OSError(errno.EROFS if room.f_flag & os.ST_RDONLY else errno.EACCES, "folder is not writable")
        if room.f_bavail * room.f_frsize < needed:
            raise OSError(errno.ENOSPC, "disk is full")


@contextmanager
def explained(doing: str, path: Path, *, reading: bool = False) -> Iterator[None]:
    """Turn an `OSError` into the error tree, with what to do. What can't be read is `Unreachable`, whatever the cause."""
    try:
        yield
    except OSError as error:
        raise _explain(error, f"{doing} {path}", path.parent, reading=reading) from error


def _explain(error: OSError, doing: str, folder: Path, *, reading: bool) -> RotatorError:
    uid = os.geteuid()
    if error.errno == errno.ELOOP:
        return Misconfigured(f"{doing}: it is a symbolic link, which an atomic replace would cut: configure the path that it points to")
    if error.errno == errno.EISDIR:
        return Misconfigured(f"{doing}: it is a folder: configure the path of a file")
    if error.errno in _FULL:
        return Unreachable(f"{doing}: the disk is full: free some space; nothing was changed")
    kind = Unreachable if reading else Refused
    if error.errno in _FORBIDDEN:
        return kind(
            f"{doing}: not permitted ({error.strerror}): let the user that runs rotator (uid {uid}) read and write the folder {folder}"
        )
    if error.errno in _MISSING:
        return kind(f"{doing}: the folder {folder} does not exist: create it, or configure another path")
    return Unreachable(f"{doing}: {error.strerror or 'the disk failed'}")
