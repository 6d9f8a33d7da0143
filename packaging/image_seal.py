"""The last step of the build, as root in the final stage: folders of its own, and no file that lends another user's rights."""

from __future__ import annotations

import os
import stat
from pathlib import Path

CONFIG = Path("/etc/rotator")
STATE = Path("/var/lib/rotator")
USER = 65532
_NOT_OURS = ("/proc", "/sys", "/dev", "/opt/rotator/build")


def main() -> None:
    """Seal it."""
    CONFIG.mkdir(parents=True, exist_ok=True)
    CONFIG.chmod(0o755)
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
