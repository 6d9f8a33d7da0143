"""The disk's part: the order of a replace, what a lock excludes, and every error in our words."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rotator.domain.errors import AnswerLost, Misconfigured, Refused, RotatorError, Unreachable
from rotator.stores.embedded.files import check_writable, explained, find_leftovers, hold_lock, remove_leftovers, replace_file


def test_a_replaced_file_is_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o644)
    os.close(replace_file(path, [b"new", b"", b" content"]))
    assert path.read_bytes() == b"new content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def _record(monkeypatch: pytest.MonkeyPatch, calls: list[str], owner: Any, name: str, tell: Callable[..., str]) -> None:
    real = getattr(owner, name)

    def recorded(*args: Any, **kwargs: Any) -> Any:
        calls.append(tell(*args))
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, name, recorded)


def test_content_is_on_the_disk_before_it_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    _record(monkeypatch, calls, os, "fsync", lambda fd: "sync folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "sync file")
    _record(monkeypatch, calls, os, "write", lambda *_: "write")
    _record(monkeypatch, calls, Path, "replace", lambda *_: "replace")
    os.close(replace_file(tmp_path / "file", [b"content"]))
    assert calls == ["write", "sync file", "replace", "sync folder"]


def test_the_temporary_sibling_is_private_while_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    real = os.fsync

    def look(fd: int) -> None:
        seen.extend((file.name, stat.S_IMODE(file.stat().st_mode)) for file in tmp_path.iterdir())
        real(fd)

    monkeypatch.setattr(os, "fsync", look)
    before = os.umask(0)
    try:
        os.close(replace_file(tmp_path / "file", [b"content"]))
    finally:
        os.umask(before)
    name, mode = seen[0]
    assert (name.startswith(".file."), name.endswith(".tmp"), mode) == (True, True, 0o600)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    os.close(replace_file(tmp_path / "file", [b"0123456789" * 5]))
    assert (tmp_path / "file").read_bytes() == b"0123456789" * 5


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, Unreachable, "disk is full: free some space"),
        (errno.EDQUOT, Unreachable, "disk is full"),
        (errno.EIO, Unreachable, "Input/output error"),
        (errno.EROFS, Refused, "not permitted .Read-only file system.: let the user that runs rotator"),
        (errno.EACCES, Refused, "not permitted"),
        (errno.ENOENT, Refused, "does not exist: create it"),
        (errno.ELOOP, Misconfigured, "symbolic link"),
        (errno.EISDIR, Misconfigured, "it is a folder"),
    ],
)
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_failed_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, kind: type[RotatorError], message: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def failing(*_: Any) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, failing)
    with pytest.raises(kind, match=f"writing {path}: .*{message}"):
        replace_file(path, [b"new"])
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_file_that_outgrows_its_limit_leaves_the_old_one_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(Unreachable, match="File too large"):
            replace_file(path, [b"x" * 900, b"x" * 900])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_replace_that_the_disk_does_not_confirm_is_an_answer_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def failing(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(AnswerLost, match="in place, but the disk did not confirm"):
        replace_file(tmp_path / "file", [b"new"])
    assert (tmp_path / "file").read_bytes() == b"new"


def test_what_cannot_be_read_is_unreachable() -> None:
    for code in (errno.EACCES, errno.EIO, errno.ENOENT):
        with pytest.raises(Unreachable, match=r"^reading /x/file: "), explained("reading", Path("/x/file"), reading=True):
            raise OSError(code, os.strerror(code))


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    """A folder that this process, whoever runs the tests, may read and not write."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(user)
            folder.chmod(0o700)


def test_a_folder_that_is_not_ours_to_write_is_refused(closed_folder: Path) -> None:
    path = closed_folder / "file"
    for attempt in (lambda: check_writable(path, 0), lambda: replace_file(path, [b"new"]), lambda: _lock(path)):
        with pytest.raises(Refused, match=f"not permitted .*let the user that runs rotator .uid {os.geteuid()}. .*{closed_folder}"):
            attempt()
    assert list(closed_folder.iterdir()) == []


def _lock(path: Path) -> None:
    with hold_lock(path, 0.02):
        pass


def test_a_disk_without_room_is_told_before_anything_is_minted(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="disk is full"):
        check_writable(tmp_path / "file", 1 << 60)
    check_writable(tmp_path / "file", 1)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=f"the folder {tmp_path / 'none'} does not exist: create it"):
        check_writable(tmp_path / "none" / "file", 1)


def test_a_lock_excludes_others_until_it_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with hold_lock(path, 1):
            held.set()
            let_go.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(10)
    with pytest.raises(Unreachable, match=f"another process has held it for too long: find it with `fuser {path}`"):
        _lock(path)
    let_go.set()
    with hold_lock(path, 10):
        thread.join(10)


def test_a_lock_on_a_file_that_is_gone_by_then_is_not_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    locked: list[int] = []
    real = fcntl.flock

    def removed_in_between(fd: int, operation: int) -> None:
        if not locked:
            path.unlink()
        locked.append(os.fstat(fd).st_ino)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", removed_in_between)
    with hold_lock(path, 5):
        assert locked[-1] == path.stat().st_ino
        with pytest.raises(Unreachable):
            _lock(path)


def test_only_our_own_leftovers_are_removed(tmp_path: Path) -> None:
    ours = tmp_path / f".file.{'0' * 16}.tmp"
    others = [tmp_path / name for name in (f".other.{'0' * 16}.tmp", ".file.tmp", f"file.{'0' * 16}.tmp", f".file.{'0' * 15}.tmp")]
    for path in (ours, *others):
        path.write_bytes(b"left")
    assert find_leftovers(tmp_path / "file") == [ours]
    remove_leftovers(tmp_path / "file", tmp_path / "lock", 1)
    assert not ours.exists()
    assert all(path.exists() for path in others)


def test_a_writer_of_this_moment_keeps_its_temporary_file(tmp_path: Path) -> None:
    left = tmp_path / f".file.{'0' * 16}.tmp"
    left.write_bytes(b"being written")
    with hold_lock(tmp_path / "lock", 1), pytest.raises(Unreachable):
        remove_leftovers(tmp_path / "file", tmp_path / "lock", 0.01)
    assert left.exists()
