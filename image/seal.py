"""The last step of the image's build, as root in the final stage: the state folder, and no file left that lends another user's rights."""

from __future__ import annotations

import os
import stat
from pathlib import Path

STATE = Path("/var/lib/rotator")
USER = 65532
_NOT_OURS = ("/proc", "/sys", "/dev", "/mnt")


def main() -> None:
    """Seal it."""
    STATE.mkdir(parents=True, exist_ok=True)
    STATE.chmod(0o700)
    os.chown(STATE, USER, USER)
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in _NOT_OURS]  # noqa: PTH118
        for path in (Path(folder, name) for name in files):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(status.st_mode) & ~(stat.S_ISUID | stat.S_ISGID))


if __name__ == "__main__":
    main()
