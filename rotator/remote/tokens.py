"""Tokens of ours towards other services: read from a file or the environment at each use, never from the configuration itself.

A token is not a Millimetric key, but it can make them. Errors name the field and the file, never the content.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rotator.domain.errors import Misconfigured
from rotator.remote.http import ensure_header_value

__all__ = ["read_token", "write_token"]

_LONGEST = 16_384


def read_token(file: Path | None, env: str | None, field: str, *, private: bool = True) -> str:
    """The token. `field` is the pair's place in the configuration, such as `issuers.admin.auth.token`. Raises `Misconfigured`.

    `private`: a file that everybody may read is refused.
    """
    if file is not None:
        return ensure_header_value(_read(file, f"{field}_file: {file}", private=private).strip(), f"{field}_file: the token in {file}")
    assert env is not None
    value = os.environ.get(env)
    if value is None:
        raise Misconfigured(f"{field}_env: the environment variable {env} is not set")
    return ensure_header_value(value.strip(), f"{field}_env: the token in {env}")


def write_token(file: Path, token: str, field: str) -> None:
    """Replace the file's content, atomically and 0600. Raises `Misconfigured`."""
    sibling = file.with_name(f".{file.name}.new")
    try:
        sibling.unlink(missing_ok=True)
        handle = os.open(sibling, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(token + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        sibling.replace(file)
    except OSError as problem:
        sibling.unlink(missing_ok=True)
        raise Misconfigured(f"{field}_file: {file} cannot be written ({problem.strerror}); the service gave a new token to keep") from None


def _read(file: Path, what: str, *, private: bool) -> str:
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            if private and stat.S_ISREG(mode) and mode & stat.S_IROTH:
                raise Misconfigured(f"{what} can be read by everybody on this machine: chmod it to 0600 (or 0640)")
            content = stream.read(_LONGEST + 1)
    except OSError as problem:
        raise Misconfigured(f"{what} cannot be read ({problem.strerror})") from None
    if len(content) > _LONGEST:
        raise Misconfigured(f"{what} is too long to hold a token")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        pass
    raise Misconfigured(f"{what} does not hold a token: it has characters outside of ASCII")
