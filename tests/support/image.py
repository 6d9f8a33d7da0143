"""The image, built by `make image` with buildah, and its programs run as an engine would run them: no daemon and no registry needed.

The base is a minimal Debian with Python, made by debootstrap once and kept in the cache; so are the wheels, downloaded by that base's own
pip. buildah keeps what it makes in a folder of the test's (`vfs`, which works everywhere, copies the whole tree for every layer).
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import wait_until
from tests.support.servers import cache_folder, dying, get_system_program, say

ROOT = Path(__file__).parents[2]
BASE = "localhost/rotator-test-base"
UID = 65532
_SUITE = "bookworm"
_RECIPE = 1
"""counts up when the base is made in another way"""
_PACKAGES = ("python3", "python3-venv")
_NOT_NEEDED = ("var/cache/apt", "var/lib/apt/lists", "var/log", "usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man")
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_MINUTES = 600.0

_ENTER = """
set -e
mount --bind "$ROOT" "$ROOT"
mount -o remount,bind,ro "$ROOT"
mount -t proc -o nosuid,nodev,noexec proc "$ROOT/proc"
mount --rbind /dev "$ROOT/dev"
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec tmpfs "$ROOT/tmp"
[ -z "$STATE" ] || mount --bind "$STATE" "$ROOT/var/lib/rotator"
[ -z "$CONFIG" ] || mount --bind -o ro "$CONFIG" "$ROOT/etc/rotator"
uid=$UID_INSIDE
exec setpriv --no-new-privs chroot --userspec "$uid:$uid" --groups= "$ROOT" env -i -C / "$@"
"""
"""What an engine does with `--read-only --tmpfs /tmp --user UID --security-opt no-new-privileges`, in namespaces of its own. The
capabilities go with the change of the user."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A storage of buildah's, in a folder."""

    folder: Path

    @property
    def command(self) -> list[str]:
        """buildah, with this storage."""
        program = get_system_program("buildah", "buildah")
        return [str(program), "--root", f"{self.folder}/root", "--runroot", f"{self.folder}/run", "--storage-driver", "vfs"]

    def run(self, *arguments: str, stdin: Path | None = None) -> str:
        """One command of buildah; what it printed."""
        with (stdin or Path(os.devnull)).open("rb") as given:
            return _run([*self.command, *arguments], stdin=given)

    def make(self, *arguments: str) -> str:
        """`make` in the repository, with this as its engine; what it printed."""
        return _run(["make", "--silent", f"ENGINE={' '.join(self.command)}", *arguments])

    def mount(self, image: str) -> Path:
        """The tree of a container of the image."""
        return Path(self.run("mount", self.run("from", "--pull-never", image).strip()).strip())


@dataclass(frozen=True, slots=True)
class Image:
    """An image whose tree is mounted."""

    name: str
    root: Path
    configuration: Mapping[str, Any]
    """as an engine reads it: User, Env, Entrypoint, …"""
    history: Sequence[Mapping[str, Any]]

    @property
    def environ(self) -> dict[str, str]:
        """The variables that it sets."""
        return dict(entry.split("=", 1) for entry in self.configuration["Env"])

    def command(self, *words: str, run: Run) -> list[str]:
        """The command line that runs a program in it."""
        given = {"ROOT": self.root, "STATE": run.state or "", "CONFIG": run.config or "", "UID_INSIDE": run.uid}
        apart = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"]
        inside = [f"{name}={value}" for name, value in {**self.environ, **run.environ}.items()]
        return dying(["env", *(f"{k}={v}" for k, v in given.items()), *apart, "sh", "-c", _ENTER, "enter", *inside, *words])

    def call(self, *words: str, run: Run | None = None, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """A program, to its end, as the first process."""
        command = self.command(*words, run=run or Run())
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)

    def rotator(self, *arguments: str, run: Run | None = None, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """What `docker run IMAGE ARGUMENTS` starts."""
        return self.call(*self.configuration["Entrypoint"], *arguments, run=run, timeout=timeout)


@dataclass(frozen=True, slots=True)
class Run:
    """How a container is run."""

    uid: int = UID
    state: Path | None = None
    config: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class First:
    """A running program that is the first process of its container."""

    process: subprocess.Popen[bytes]
    log: Path
    pid: int = 0

    def tell(self, number: signal.Signals) -> None:
        """Send a signal, as an engine does."""
        os.kill(self.pid, number)

    def end(self, within: float) -> int:
        """Wait; the exit code."""
        return self.process.wait(within)


@contextlib.contextmanager
def running(image: Image, *words: str, run: Run, log: Path, stdin: int = subprocess.DEVNULL) -> Iterator[First]:
    """A program as the first process, until the end of the block."""
    with log.open("ab") as out:
        process = subprocess.Popen(image.command(*words, run=run), stdin=stdin, stdout=out, stderr=out)
    try:
        first = First(process, log)
        first.pid = wait_until(lambda: _find_program(process.pid, words[0]), what=f"{words[0]} in its container")
        yield first
    finally:
        process.kill()
        process.wait(60)


def _find_program(parent: int, program: str) -> int:
    """The child, once it is the program and not what leads there."""
    with contextlib.suppress(OSError, LookupError):
        child = int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])
        words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        return child if program.encode() in words[:2] else 0
    return 0


def build_image(storage: Storage, name: str) -> Image:
    """`make image`, from the kept wheels, on the kept base."""
    wheels = _get_wheels(storage)
    # /media: a folder that is there anyway, so that mounting it leaves nothing behind.
    flags = f"--quiet --pull-never --volume {wheels}:/media:ro --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/media"
    storage.make("image", f"IMAGE={name}", f"BASE={BASE}", f"BUILD_FLAGS={flags}")
    described = json.loads(storage.run("inspect", "--type", "image", name))
    return Image(name, storage.mount(name), described["Docker"]["config"], described["OCIv1"]["history"])


@contextlib.contextmanager
def open_storage(folder: Path) -> Iterator[Storage]:
    """A storage with the base in it; nothing of it is left afterwards."""
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("ROTATOR_REQUIRE_REAL") == "1" else pytest.skip)("mounting what an image holds takes root")
    storage = Storage(folder)
    try:
        made = storage.run("from", "scratch").strip()
        storage.run("add", "--quiet", made, str(get_base()), "/")
        storage.run("commit", "--quiet", "--rm", made, BASE)
        yield storage
    finally:
        with contextlib.suppress(AssertionError):
            storage.run("rm", "--all")
        shutil.rmtree(folder, ignore_errors=True)


@functools.cache
def get_base() -> Path:
    """The base's tree as a tar file; made once, in a minute or so."""
    debootstrap = get_system_program("debootstrap", "debootstrap")
    kept = cache_folder() / f"image-base-{_SUITE}-{_RECIPE}.tar"
    with _alone():
        if not kept.exists():
            say("making the base of the test image with debootstrap: a minute, once")
            with _scratch(kept) as folder:
                _run([str(debootstrap), "--variant=minbase", f"--include={','.join(_PACKAGES)}", _SUITE, str(folder)])
                for name in _NOT_NEEDED:
                    shutil.rmtree(folder / name)
                (folder / "etc/hosts").write_text("127.0.0.1 localhost\n")
                half = kept.with_suffix(".half")
                _run(["tar", "--directory", str(folder), "--numeric-owner", "--sort=name", "--create", "--file", str(half), "."])
            half.replace(kept)
    return kept


def _get_wheels(storage: Storage) -> Path:
    """What the image's requirements name, for the base's Python; downloaded once, from where this Python's pip takes them."""
    files = [ROOT / "requirements" / name for name in ("build.txt", "runtime.txt")]
    digest = hashlib.sha256(b"".join(f.read_bytes() for f in files) + f"{_SUITE}-{_RECIPE}".encode()).hexdigest()[:16]
    kept = cache_folder() / f"image-wheels-{digest}"
    with _alone():
        if not kept.exists():
            say("downloading the wheels of the test image: seconds, once")
            with _scratch(kept) as folder:
                _download(storage, folder, files)
                folder.chmod(0o755)
                folder.rename(kept)
            for other in kept.parent.glob("image-wheels-*"):
                if other.is_dir() and other != kept:
                    shutil.rmtree(other, ignore_errors=True)
    return kept


def _download(storage: Storage, folder: Path, files: Sequence[Path]) -> None:
    """Fill a folder, with the pip of the base."""
    script = "python3 -m venv /tmp/pip && /tmp/pip/bin/pip download --quiet --disable-pip-version-check --no-cache-dir --dest /wheels"
    wanted = " ".join(f"--requirement /requirements/{file.name}" for file in files)
    volumes = [f"{folder}:/wheels", f"{files[0].parent}:/requirements:ro"]
    environ = _gather_index()
    if _AUTHORITIES.exists():
        volumes.append(f"{_AUTHORITIES}:/authorities.crt:ro")
        environ["PIP_CERT"] = "/authorities.crt"
    options = [*(f"--volume={v}" for v in volumes), *(f"--env={n}={v}" for n, v in environ.items())]
    made = storage.run("from", "--pull-never", BASE).strip()
    try:
        storage.run("run", *options, made, "--", "sh", "-c", f"{script} --require-hashes --only-binary :all: {wanted}")
    finally:
        storage.run("rm", made)


def _gather_index() -> dict[str, str]:
    """Where the pip of this Python takes packages from, as variables for another one."""
    listed = _run([sys.executable, "-m", "pip", "config", "list"])
    entries = dict(line.partition("=")[::2] for line in listed.splitlines())
    names = {key.rpartition(".")[2]: value.strip("'") for key, value in entries.items()}
    return {f"PIP_{n.upper().replace('-', '_')}": names[n] for n in ("index-url", "extra-index-url", "trusted-host", "proxy") if n in names}


def _run(command: Sequence[str], **options: Any) -> str:
    given = {"stdin": subprocess.DEVNULL, "cwd": ROOT, "timeout": _MINUTES, "env": {**os.environ, "BUILDAH_ISOLATION": "chroot"}, **options}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **given)
    assert done.returncode == 0, f"{' '.join(command)[:300]}: {done.stderr[-2000:]}"
    return str(done.stdout)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _scratch(kept: Path) -> Iterator[Path]:
    """A folder beside what becomes of it; gone afterwards, and from a run that was cut off before."""
    folder = kept.with_name(f"{kept.name}.making")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
