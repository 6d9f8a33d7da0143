"""One file of somebody else's, read once and replaced whole or not at all (rules R3, R4, R9, R13, R18 for client files).

The lock is on the folder, not on a file beside the target, so that nothing is littered; it holds daemons off each other, not clients.
Between the compare and the replace lie microseconds, not zero: no lock exists that an MCP client would honour.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from rotator.domain.errors import Conflict, Refused, Unreachable
from rotator.domain.reasons import Reason

ABSENT = "absent"
PRIVATE = 0o600
LIMIT = 64 * 1024 * 1024
_TEMPORARY = ".rotator-"
_SYNCED = ("onedrive", "dropbox", "icloud drive", "mobile documents", "google drive", "googledrive", "nextcloud", "syncthing", "chezmoi")
_READ_ONE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GIT_LIMIT = 5.0
_LOCK_WITHIN = 5.0
"""seconds; a step in hand ends within 30 (L25)"""


@dataclass(frozen=True, slots=True)
class FileState:
    """A file as it was read: its bytes, and what must be the same when it is replaced."""

    path: Path
    """no link itself: the file that is replaced"""
    content: bytes | None = field(repr=False)
    revision: str
    mode: int | None = None

    @property
    def is_private(self) -> bool:
        """Whether nobody but the owner can read it."""
        return self.mode is None or not self.mode & (stat.S_IRWXG | stat.S_IRWXO)


def read_state(path: Path) -> FileState:
    """The file's bytes and revision; an absent one has no content. Raises `Unreachable`."""
    real = path
    try:
        try:
            descriptor = os.open(path, _READ_ONE)
        except OSError as problem:
            if problem.errno != errno.ELOOP:
                raise
            real = Path(os.path.realpath(path))  # looked up only where it is a link: files are read at every look
            descriptor = os.open(real, _READ_ONE)
    except FileNotFoundError:
        return FileState(real, None, ABSENT)
    except OSError as problem:
        raise Unreachable(f"reading {path}: {problem.strerror}: see that the daemon's user may read it") from problem
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unreachable(f"{path} is not a regular file: name a file")
        if status.st_size > LIMIT:
            raise Unreachable(f"{path} is larger than 64 MiB: that is no configuration file")
        content = _read(descriptor, status.st_size)
    except OSError as problem:
        raise Unreachable(f"reading {path}: {problem.strerror}: look after its disk") from problem
    finally:
        os.close(descriptor)
    revision = hashlib.sha256(content).hexdigest()
    return FileState(real, content, f"{revision}:{stat.S_IMODE(status.st_mode):o}", stat.S_IMODE(status.st_mode))


def _read(descriptor: int, size: int) -> bytes:
    """All of it, in one call unless it grows meanwhile: less than was asked for is the end of a regular file."""
    content = os.read(descriptor, size + 1)
    while len(content) > size and (more := os.read(descriptor, LIMIT)):
        content += more
    return content


def find_objection(path: Path, home: Path | None) -> str:
    """Why no key may be written there, with what to do; empty: nothing speaks against it (R2, R3, R13). Raises `Unreachable`."""
    try:
        return _find_objection(path, home)
    except OSError as problem:
        raise Unreachable(f"looking at {path}: {problem.strerror}: see that the daemon's user may reach it") from problem


def _find_objection(path: Path, home: Path | None) -> str:
    real = Path(os.path.realpath(path))
    if path.is_symlink() and home is not None and not real.is_relative_to(Path(os.path.realpath(home))):
        return f"{path} links to {real}, outside the home folder: name the real file, if that is meant"
    folder = next((part for part in real.parts if part.lower() in _SYNCED or part.lower().startswith("onedrive - ")), None)
    if folder is not None:
        return f"{path} lies in a synced folder ({folder}): a key would leave this machine; keep the file elsewhere"
    if real.exists():
        status = real.stat()
        if status.st_nlink > 1:
            return f"{path} has {status.st_nlink} hard links: replacing it would part them"
        if status.st_uid != os.geteuid():
            return f"{path} belongs to another user (uid {status.st_uid}): run the daemon as its owner, or change the owner"
        if not status.st_mode & stat.S_IWUSR:
            return f"{path} is read-only: make it writable, or take it out of the targets"
    return _tracked(path, real)


def _tracked(path: Path, real: Path) -> str:
    top = next((p for p in real.parents if os.path.exists(f"{p}/.git")), None)  # noqa: PTH110  # at every look
    if top is None:
        return ""
    command = ["git", "-C", str(top), "ls-files", "--error-unmatch", "--", str(real)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_GIT_LIMIT, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return f"{path} lies in a git work tree and git does not tell whether it is tracked: keep the file elsewhere"
    if done.returncode not in (0, 1):
        return f"{path} lies in a git work tree and git does not tell whether it is tracked: keep the file elsewhere"
    if done.returncode == 0:
        return f"{path} is tracked by git: a key would be committed; take it out of the repository (git rm --cached) first"
    return ""


def find_unwritable(path: Path) -> str:
    """Why the folder would not take a replacement; empty if it would."""
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        return f"the folder {folder} does not exist: create it (or install the client that owns it)"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"the folder {folder} cannot be written by this user: change its permissions"
    return ""


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold other daemons off the files of this folder."""
    try:
        descriptor = os.open(Path(os.path.realpath(path)).parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as problem:
        raise Unreachable(f"opening the folder of {path}: {problem.strerror}") from problem
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    deadline = monotonic() + _LOCK_WITHIN
    pause = threading.Event()
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() > deadline:
                raise Unreachable(f"the folder of {path} is locked by another program: see which (`lsof`), or wait") from None
            pause.wait(0.02)


def replace_file(seen: FileState, content: bytes) -> None:
    """Put `content` in the file's place, 0600, if the file still is what was seen. Hold `locked_folder`. Raises `Conflict`, `Refused`."""
    temporary = seen.path.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if read_state(seen.path).revision != seen.revision:
            raise Conflict(f"{seen.path} changed while it was edited")
        temporary.replace(seen.path)
        _sync_folder(seen.path.parent)
    except OSError as problem:
        raise Refused(f"replacing {seen.path}: {problem.strerror}", reason=Reason.UNSAFE_FILE) from problem
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Delete the temporary siblings that a killed daemon left in the file's folder. Hold `locked_folder`."""
    with contextlib.suppress(OSError):
        for leftover in Path(os.path.realpath(path)).parent.glob(f"{_TEMPORARY}????????????????"):
            leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
