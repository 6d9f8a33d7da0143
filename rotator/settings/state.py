"""The state folder: journal, embedded store and admin token lie in it, so nobody else may look into it."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from rotator.domain.errors import Misconfigured
from rotator.settings.overlay import STATE_DIR

__all__ = ["find_state_dir", "state_dir"]


def find_state_dir(option: Path | None, environ: Mapping[str, str]) -> Path:
    """Where the state folder is: `--state-dir`, ROTATOR_STATE_DIR, $XDG_STATE_HOME/rotator or ~/.local/state/rotator. Makes nothing."""
    if option is not None:
        return option.expanduser().absolute()
    if environ.get(STATE_DIR):
        return Path(environ[STATE_DIR]).expanduser().absolute()
    base = Path(environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():  # as the XDG specification says
        home = environ.get("HOME")
        base = (Path(home) if home else Path.home()) / ".local" / "state"
    return base / "rotator"


def state_dir(option: Path | None = None, environ: Mapping[str, str] = os.environ, *, make: bool = True) -> Path:
    """The state folder; where it is missing it is made, 0700, unless `make` is False.

    Raises `Misconfigured` where others could look into it, or it is another's.
    """
    path = find_state_dir(option, environ)
    try:
        if make:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif not path.exists():
            return path
        status = path.stat()
    except FileExistsError:
        raise Misconfigured(f"the state folder {path} is a file: name a folder with --state-dir or {STATE_DIR}") from None
    except OSError as fault:
        raise Misconfigured(f"the state folder {path} cannot be made or read ({fault.strerror}): see --state-dir and {STATE_DIR}") from None
    if status.st_uid != os.geteuid():
        raise Misconfigured(f"the state folder {path} belongs to another user: name one of your own with --state-dir or {STATE_DIR}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise Misconfigured(
            f"others may look into the state folder {path}: chmod it to 0700, or name another with --state-dir or {STATE_DIR}"
        )
    return path
