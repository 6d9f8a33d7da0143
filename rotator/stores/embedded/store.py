"""The verbs of the embedded store, over `sealed` (the format) and `files` (the disk).

Every write replaces the file as a whole under a lock that other processes respect, and is conditional on the path's revision as it stands
*then*. Reads take no lock: a replaced file stays whole for whoever has it open. Record and secrets of a path are one blob, so a commit
seals one blob and the index; the other blobs are copied as they are. Decrypted secrets are not cached: opening a blob costs microseconds.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path

from rotator.domain.errors import Conflict, Misconfigured, Unreachable
from rotator.domain.keys import KeyId
from rotator.domain.ports import Access, Holding
from rotator.domain.record import Change, Record
from rotator.domain.secret import Secret
from rotator.stores.changes import ABSENT, build_holding, build_next
from rotator.stores.codec import parse_record, parse_secrets, render_record, render_secrets
from rotator.stores.embedded.files import check_writable, explained, hold_lock, remove_leftovers, replace_file
from rotator.stores.embedded.master_key import MasterKey
from rotator.stores.embedded.sealed import HEADER_LENGTH, Blob, Seal, encode_path, find_offsets, parse_header

_PATIENCE = timedelta(seconds=10)
_CHUNK = 1 << 20
_RECORDS_KEPT = 512
_ROOM = 1 << 20
"""bytes that must be free beyond the file's own size before a key is minted"""


def find_lock(path: Path) -> Path:
    """The lock file of a store."""
    return path.with_name(f"{path.name}.lock")


class _Snapshot:
    """One state of the file, open: as no file is ever written in place, its descriptor goes on giving this state after a replace.

    Holding it open also keeps its inode number from being used again, so an equal `mark` means an equal file.
    """

    def __init__(self, fd: int, seal: Seal, blobs: Mapping[str, Blob], start: int) -> None:
        weakref.finalize(self, os.close, fd)
        self.fd = fd
        self.mark = _mark(os.fstat(fd))
        self.seal = seal
        self.blobs = blobs
        self.offsets = find_offsets(blobs, start)
        self.start = start
        self.end = start + sum(blob.length for blob in blobs.values())

    def read_blob(self, path: str) -> bytes:
        return os.pread(self.fd, self.blobs[path].length, self.offsets[path])

    def copy(self, start: int, end: int) -> Iterator[bytes]:
        """The file's bytes from `start` to `end`, as they are."""
        while start < end:
            chunk = os.pread(self.fd, min(_CHUNK, end - start), start)
            if not chunk:
                raise Unreachable("the store's file was cut short while it was read: do not write to it in place")
            yield chunk
            start += len(chunk)


def _mark(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


class EmbeddedStore:
    """All credentials of one store in one encrypted file. Fulfils `rotator.domain.ports.Store`; safe for threads and processes.

    Opening removes what a crash left, and raises `Misconfigured` for a file that is damaged, foreign, too new or sealed with another master
    key. A missing file holds nothing; the first commit makes it.
    """

    def __init__(self, path: Path, master_key: MasterKey, *, patience: timedelta = _PATIENCE) -> None:
        self.path = path
        self._master_key = master_key
        self._lock_path = find_lock(path)
        self._patience = patience.total_seconds()
        self._writer = threading.Lock()
        self._snapshot: _Snapshot | None = None
        self._records: dict[str, tuple[bytes, Record]] = {}
        """parsed lately, by path, with the revision that it was parsed of; no secrets"""
        remove_leftovers(path, self._lock_path, self._patience)
        self._look()

    def __repr__(self) -> str:
        return f"<EmbeddedStore {self.path}>"

    def read(self, path: str) -> Holding:
        """What the path holds. Raises `Unreachable`, and `Misconfigured` where the file is damaged or sealed with another key."""
        return self._read_from(self._look(), path)

    def commit(self, path: str, seen: Holding, change: Change) -> Holding:
        """As `Store.commit`; `Refused` and `Unreachable` say what the disk needs, and then nothing was written."""
        encode_path(path)
        with self._writing():
            snapshot = self._look()
            held = self._read_from(snapshot, path)
            if held.revision != seen.revision:
                raise Conflict(f"{self.path}: someone else wrote {path} since it was read: read it again")
            record, secrets = build_next(held.record, held.secrets, change)
            revision = self._write(snapshot, path, _render(record, secrets))
        return build_holding(revision, record, secrets)

    def check(self, path: str) -> None:
        """Preflight: the path can be read, the folder written, the disk has room, and the lock is to be had."""
        encode_path(path)
        snapshot = self._look()
        self._read_from(snapshot, path)
        check_writable(self.path, (snapshot.end if snapshot else 0) + _ROOM)
        if self._lock_path.exists():
            with self._writing():
                pass

    def list_marks(self, paths: Sequence[str]) -> Mapping[str, str]:
        """As `Store.list_marks`: the revisions, from the file's index."""
        snapshot = self._look()
        blobs: Mapping[str, Blob] = snapshot.blobs if snapshot else {}
        return {path: blobs[path].revision.hex() for path in paths if path in blobs}

    def find_access(self, path: str, *, writes: bool) -> Access:  # noqa: ARG002  # the port's signature
        """Whoever reads the file may do everything: what the disk forbids, `check` tells."""
        return Access()

    def paths(self) -> tuple[str, ...]:
        """Every path that holds something, sorted."""
        snapshot = self._look()
        return tuple(sorted(snapshot.blobs)) if snapshot else ()

    def rekey(self, master_key: MasterKey) -> None:
        """Wrap the data key by another master key; what is stored stays sealed as it is. Older copies of the file keep the older key."""
        with self._writing():
            snapshot = self._look()
            if snapshot is not None:
                self._replace(snapshot.seal.under(master_key), snapshot.blobs, snapshot.copy(snapshot.start, snapshot.end))
            self._master_key = master_key

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if not self._writer.acquire(timeout=self._patience):
            raise Unreachable(f"{self.path}: another thread has been writing for too long: look after the disk")
        try:
            with hold_lock(self._lock_path, self._patience):
                yield
        finally:
            self._writer.release()

    def _look(self) -> _Snapshot | None:
        """The file as it stands: the snapshot in hand where nobody replaced it, else a new one; None where there is no file."""
        snapshot = self._snapshot
        with explained("reading", self.path, reading=True):
            try:
                if snapshot is not None and snapshot.mark == _mark(self.path.stat(follow_symlinks=False)):
                    return snapshot
                fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                self._snapshot = None
                return None
            try:
                snapshot = self._open(fd)
            except BaseException:
                os.close(fd)
                raise
        self._snapshot = snapshot
        return snapshot

    def _open(self, fd: int) -> _Snapshot:
        where = str(self.path)
        header = parse_header(os.pread(fd, HEADER_LENGTH, 0), where)
        seal = Seal.open(header, self._master_key, where)
        sealed = os.pread(fd, header.index_length, HEADER_LENGTH)
        size = os.fstat(fd).st_size
        if len(sealed) < header.index_length:
            raise Misconfigured(f"{where}: the file is cut short ({size} bytes): put it back from a backup")
        blobs = seal.open_index(header, sealed, where)
        start = HEADER_LENGTH + header.index_length
        expected = start + sum(blob.length for blob in blobs.values())
        if size != expected:
            raise Misconfigured(f"{where}: the file has {size} bytes and should have {expected}: put it back from a backup")
        return _Snapshot(fd, seal, blobs, start)

    def _read_from(self, snapshot: _Snapshot | None, path: str) -> Holding:
        if snapshot is None or path not in snapshot.blobs:
            return Holding(ABSENT)
        blob = snapshot.blobs[path]
        with explained("reading", self.path, reading=True):
            sealed = snapshot.read_blob(path)
        document = json.loads(snapshot.seal.open_blob(path, blob, sealed, str(self.path)))
        where = f"{self.path}: {path}"
        record = self._parse(path, blob.revision, document["record"], where)
        return build_holding(blob.revision.hex(), record, parse_secrets(document["secrets"], where))

    def _parse(self, path: str, revision: bytes, data: object, where: str) -> Record:
        """A revision says the same for ever, and a record is read some thirty times in a rotation."""
        known = self._records.get(path)
        if known is not None and known[0] == revision:
            return known[1]
        record = parse_record(data, where)
        if len(self._records) >= _RECORDS_KEPT:
            self._records.clear()
        self._records[path] = (revision, record)
        return record

    def _write(self, snapshot: _Snapshot | None, path: str, plain: bytes) -> str:
        seal = snapshot.seal if snapshot else Seal.generate(self._master_key)
        blob, sealed = seal.seal_blob(path, plain)
        blobs = {**snapshot.blobs, path: blob} if snapshot else {path: blob}
        self._replace(seal, blobs, _splice(snapshot, path, sealed))
        return blob.revision.hex()

    def _replace(self, seal: Seal, blobs: Mapping[str, Blob], body: Iterator[bytes]) -> None:
        head = seal.seal_index(blobs)
        fd = replace_file(self.path, chain([head], body))
        self._snapshot = _Snapshot(fd, seal, blobs, len(head))


def _splice(snapshot: _Snapshot | None, path: str, sealed: bytes) -> Iterator[bytes]:
    """The blobs of a snapshot as they are, with `sealed` in the place of the path's; a new path comes last."""
    if snapshot is None:
        yield sealed
        return
    gap = snapshot.offsets.get(path, snapshot.end)
    yield from snapshot.copy(snapshot.start, gap)
    yield sealed
    yield from snapshot.copy(gap + (snapshot.blobs[path].length if path in snapshot.blobs else 0), snapshot.end)


def _render(record: Record, secrets: Mapping[KeyId, Secret]) -> bytes:
    document = {"record": render_record(record), "secrets": render_secrets(secrets)}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
