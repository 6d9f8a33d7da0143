"""Who may use the admin and control API: one static admin token, and sessions that expire.

Tokens are kept hashed. The static admin token doubles as the refresh token that `POST /admin/v1/session` takes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path

from rotator.domain.errors import Misconfigured
from rotator.sandbox.clock import ServiceClock
from rotator.sandbox.exchange import Denied

_SHORTEST_TOKEN = 16


class Sessions:
    """Not thread-safe: the service's lock guards every call."""

    def __init__(self, admin_token: str, clock: ServiceClock) -> None:
        self._static = _hash(admin_token)
        self._clock = clock
        self._expiry: dict[bytes, float] = {}

    def open(self, refresh_token: str, ttl: float) -> str:
        """A new access token, good for `ttl` seconds. Raises `Denied` 401 invalid_session for an unknown refresh token."""
        if not secrets.compare_digest(_hash(refresh_token), self._static):
            raise Denied(401, "invalid_session")
        now = self._clock.monotonic()
        self._expiry = {digest: end for digest, end in self._expiry.items() if end > now}
        token = secrets.token_urlsafe(32)
        self._expiry[_hash(token)] = now + ttl
        return token

    def require_session(self, bearer: str | None) -> None:
        """Passes the admin token and living sessions. Raises `Denied` 401 invalid_session."""
        digest = _hash(bearer or "")
        if secrets.compare_digest(digest, self._static):
            return
        if self._expiry.get(digest, 0.0) <= self._clock.monotonic():
            raise Denied(401, "invalid_session")

    def require_admin(self, bearer: str | None) -> None:
        """Passes the static admin token only. Raises `Denied` 401 invalid_session."""
        if not secrets.compare_digest(_hash(bearer or ""), self._static):
            raise Denied(401, "invalid_session")


def ensure_token_file(path: Path) -> str:
    """The admin token in `path`; made (0600, random) where there is no file.

    Raises `Misconfigured` for a file that others can read, that is not a plain file, or that holds no token.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_token(path)
    except OSError as error:
        raise Misconfigured(f"the sandbox's token file {path} cannot be made: {error.strerror}") from error
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
    return token


def _read_token(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            token = file.read(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"the sandbox's token file {path} cannot be read: it must be a plain text file") from error
    if not stat.S_ISREG(mode) or stat.S_IMODE(mode) & 0o077:
        raise Misconfigured(f"the sandbox's token file {path} can be read by others: chmod 600 {path}")
    if len(token) < _SHORTEST_TOKEN:
        raise Misconfigured(f"the sandbox's token file {path} holds no token of at least {_SHORTEST_TOKEN} characters: remove it")
    return token


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
