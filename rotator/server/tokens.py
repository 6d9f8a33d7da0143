"""Who may do what: roles, bearer tokens (known by their hashes only), and the two files that the local CLI finds the daemon by."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import structlog

from rotator.domain.errors import Misconfigured

ADMIN_TOKEN_FILE = "admin.token"  # noqa: S105
DAEMON_FILE = "daemon.json"
LOCAL_ADMIN = "local-admin"
"""The name under which the state folder's token acts."""
_HASH = re.compile(r"[0-9a-f]{64}\Z")
_WELL_FORMED = re.compile(r"[A-Za-z0-9_-]{32,256}\Z")
_LONGEST = 512

log = structlog.get_logger(__name__)


class Role(IntEnum):
    """What a token may do; each includes the ones before it."""

    HOOK = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class _Entry:
    caller: Caller
    digest: bytes


class TokenBook:
    """The tokens that are accepted. Holds hashes; a token itself is never kept."""

    def __init__(self, entries: Iterable[_Entry] = ()) -> None:
        self._entries = tuple(entries)

    @classmethod
    def from_config(cls, tokens: Iterable[tuple[str, str, str]]) -> TokenBook:
        """From (name, role, SHA-256 of the token in hexadecimal). Raises `Misconfigured`, naming the token's name and the rule."""
        entries = []
        for name, role, digest in tokens:
            if role.upper() not in Role.__members__:
                raise Misconfigured(f"server.tokens: {name}: role must be one of hook, viewer, operator, admin")
            if not _HASH.match(digest.lower()):
                raise Misconfigured(f"server.tokens: {name}: sha256 must be 64 hexadecimal digits, the SHA-256 of the token")
            entries.append(_Entry(Caller(name, Role[role.upper()]), bytes.fromhex(digest)))
        return cls(entries)

    def with_admin(self, token: str) -> TokenBook:
        """These tokens, and one more that may do everything."""
        return TokenBook((*self._entries, _Entry(Caller(LOCAL_ADMIN, Role.ADMIN), _hash(token))))

    def find(self, token: str) -> Caller | None:
        """Who holds this token. Takes as long whether and wherever it is found."""
        digest = _hash(token[:_LONGEST])
        found = None
        for entry in self._entries:
            if hmac.compare_digest(entry.digest, digest):
                found = entry.caller
        return found


def write_admin_token(state_dir: Path) -> str:
    """The token of the state folder, made (0600) where there is none that can be trusted. Raises `Misconfigured` where it can't be."""
    path = state_dir / ADMIN_TOKEN_FILE
    kept = _read_private(path)
    if kept is not None:
        return kept
    token = secrets.token_urlsafe(32)
    _write_private(path, token + "\n")
    return token


def write_daemon_file(state_dir: Path, url: str) -> Path:
    """Say where this daemon serves, 0600."""
    path = state_dir / DAEMON_FILE
    _write_private(path, json.dumps({"url": url, "pid": os.getpid()}) + "\n")
    return path


def remove_daemon_file(state_dir: Path) -> None:
    """Take the notice down, if it is this process's. Idempotent."""
    path = state_dir / DAEMON_FILE
    with contextlib.suppress(OSError, ValueError):
        notice = json.loads(path.read_text())
        if isinstance(notice, dict) and notice.get("pid") == os.getpid():
            path.unlink()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _read_private(path: Path) -> str | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        known = os.fstat(file.fileno())
        if not stat.S_ISREG(known.st_mode) or known.st_uid != os.getuid() or known.st_mode & 0o077:
            log.warning("the admin token could be read by others: a new one is made", action="admin-token", path=str(path))
            return None
        token = file.read(_LONGEST).decode("ascii", "replace").strip()
    return token if _WELL_FORMED.match(token) else None


def _write_private(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(fd, "w") as file:
                file.write(text)
            fresh.replace(path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise Misconfigured(
            f"{path} can't be written: {error.strerror or type(error).__name__}; let this user write there, or name another --state-dir"
        ) from error
