"""Puts the program together in the image's build stage: a virtual environment with every dependency at its locked hash, and no pip.

The same sources give the same bytes: compiled in one order, under one hash seed, checked by nothing that a clock decides, and every file
with one time and the mode of its kind. Runs on the base's own Python, from the repository's root:
`python3 packaging/image_assemble.py /opt/rotator`.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

_INSTALL = (
    "install",
    "--no-cache-dir",
    "--no-compile",
    "--disable-pip-version-check",
    "--no-input",
    "--no-warn-script-location",
    "--quiet",
)
_LOCKED = ("--require-hashes", "--only-binary", ":all:", "--requirement")
_AWS = ("secretsmanager", "sts", "sso", "sso-oidc", "signin")
"""the descriptions of AWS services that stay: the store's own, and those that hand out credentials"""
_OLDEST = 315532800
"""1980: what a wheel, which is a ZIP file, can tell at the earliest"""


def main(root: Path) -> None:
    """Make the environment at `root`."""
    if sys.version_info < (3, 11):  # noqa: UP036  # it is the base's Python, whatever that is
        sys.exit(f"the base has Python {sys.version.split()[0]}, and rotator needs 3.11 or later: name another with --build-arg PYTHON=…")
    moment = max(int(os.environ.get("SOURCE_DATE_EPOCH") or 0), _OLDEST)
    os.environ |= {"SOURCE_DATE_EPOCH": str(moment), "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        fill(root, Path(folder))
    prune(root)
    run(root / "bin/python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", root / "lib")
    settle(root, moment)


def fill(root: Path, folder: Path) -> None:
    """Install what is locked, then rotator itself as a wheel."""
    tools = folder / "tools"
    run(sys.executable, "-m", "venv", tools)
    run(sys.executable, "-m", "venv", "--without-pip", root)
    pip = tools / "bin/pip"
    run(pip, *_INSTALL, *_LOCKED, "requirements/build.txt")
    run(pip, "--python", root / "bin/python", *_INSTALL, *_LOCKED, "requirements/runtime.txt")
    run(tools / "bin/hatchling", "build", "--target", "wheel", "--directory", folder / "dist")
    # By name and not by path, which pip would write down.
    run(pip, "--python", root / "bin/python", *_INSTALL, "--no-deps", "--no-index", "--find-links", folder / "dist", "rotator")


def prune(root: Path) -> None:
    """Take out what serves shells, compilers and other programs than ours."""
    for path in (root / "bin").iterdir():
        if path.name != "rotator" and not path.name.startswith("python"):
            path.unlink()
    for name in ("include", "share"):
        shutil.rmtree(root / name, ignore_errors=True)
    for service in root.glob("lib/python3*/site-packages/botocore/data/*/"):
        if service.name not in _AWS:
            shutil.rmtree(service)


def settle(root: Path, moment: int) -> None:
    """Give every file the same time, and the mode that is its kind's."""
    for path in [*root.rglob("*"), root]:
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if runs else 0o644)
        os.utime(path, (moment, moment), follow_symlinks=False)


def run(*command: object) -> None:
    """Run it, or end with its exit code."""
    done = subprocess.run([str(word) for word in command], check=False)  # noqa: S603
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
