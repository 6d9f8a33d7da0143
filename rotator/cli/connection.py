"""Finds the running daemon: `ROTATOR_URL` and `ROTATOR_TOKEN`, else what it wrote into its state folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rotator.domain.errors import RotatorError
from rotator.domain.reasons import Reason

if TYPE_CHECKING:
    from rotator.remote.daemon import DaemonClient

__all__ = ["Address", "NoDaemon", "daemon", "fetch_plainly", "find_address", "find_state_dir"]


class NoDaemon(RotatorError):
    """Nothing says where a daemon is."""

    exit_code = 5
    reason = Reason.UNREACHABLE


@dataclass(frozen=True, slots=True)
class Address:
    """Where a daemon answers, and with which token."""

    url: str
    token: str = field(repr=False)
    source: str
    """where the URL came from, for messages"""


def find_state_dir(option: Path | None, environ: Mapping[str, str]) -> Path:
    """Where the daemon's state folder is; as `rotator.settings` finds it, without the cost of importing that."""
    if option is not None:
        return option.expanduser().absolute()
    if environ.get("ROTATOR_STATE_DIR"):
        return Path(environ["ROTATOR_STATE_DIR"]).expanduser().absolute()
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():  # as the XDG specification says
        home = environ.get("HOME")
        base = (Path(home) if home else Path.home()) / ".local" / "state"
    return base / "rotator"


def find_address(option: Path | None, environ: Mapping[str, str]) -> Address:
    """Where the daemon is. An explicit `--state-dir` wins over the environment. Raises `NoDaemon`."""
    folder = find_state_dir(option, environ)
    url, token = environ.get("ROTATOR_URL", ""), environ.get("ROTATOR_TOKEN", "")
    if option is None and url:
        if not token:
            raise NoDaemon("ROTATOR_URL is set and ROTATOR_TOKEN is not: set both, or neither to use the daemon's state folder")
        return Address(url, token, "ROTATOR_URL")
    try:
        written = json.loads((folder / "daemon.json").read_text(encoding="utf-8"))
        found = written["url"] if isinstance(written, dict) else None
        token = (option is None and token) or (folder / "admin.token").read_text(encoding="utf-8").strip()
    except PermissionError as problem:
        raise NoDaemon(f"the daemon's state folder {folder} is not yours to read ({problem.strerror}): {_ways(folder)}") from None
    except (OSError, KeyError, ValueError):
        raise NoDaemon(f"no daemon found: {_ways(folder)}") from None
    if not isinstance(found, str) or not found or not token:
        raise NoDaemon(f"{folder} does not say where the daemon is: {_ways(folder)}")
    return Address(found, token, f"the state folder {folder}")


def fetch_plainly(url: str, path: str, headers: Mapping[str, str], within: float) -> tuple[int, bytes]:
    """GET with the standard library alone, where importing the client that commands use would take longer than the answer may.

    `within`: seconds for each read. The status and at most 4 MB. Raises `OSError` and `http.client.HTTPException`.
    """
    from http.client import HTTPConnection, HTTPSConnection
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=within)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}{path}", headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read(4_000_000)
    finally:
        connection.close()


def _ways(folder: Path) -> str:
    return (
        f"start one with `rotator run` (its state folder {folder} then says where it is; --state-dir or ROTATOR_STATE_DIR names another), "
        "or set ROTATOR_URL and ROTATOR_TOKEN"
    )


@contextmanager
def daemon(state_dir: Path | None) -> Iterator[DaemonClient]:
    """A client of the daemon that the environment and the option name; closed at the end."""
    address = find_address(state_dir, os.environ)
    from rotator.remote.daemon import DaemonClient

    client = DaemonClient(address.url, address.token, where=address.source)
    try:
        yield client
    finally:
        client.close()
