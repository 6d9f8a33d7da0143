"""The verbs of the embedded store, over `sealed` (the format) and `files` (the disk).

Every write replaces the file as a whole under a lock that other processes respect, and is conditional on the path's revision as it stands
*then*. Reads take no lock: a replaced file stays whole for whoever has it open. Record and secrets of a path are one blob, so a commit
seals one blob and the index; the other blobs are copied as they are. Decrypted secrets are not cached: opening a blob costs microseconds.

Writers stand in one queue. Whoever is first writes for all who wait, in one replace of the file, as a disk confirms some hundred of them a
second; each has a fate of its own all the same, as if one had been written after the other.
"""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import chain
from pathlib import Path

from rotator.domain.errors import AnswerLost, Conflict, Misconfigured, Unreachable
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


@dataclass(slots=True, eq=False)
class _Order:
    """One caller's change, waiting to be written by whoever holds the queue."""

    path: str
    seen: Holding
    change: Change = field(repr=False)
    done: bool = False
    holding: Holding | None = None
    problem: Exception | None = None


@dataclass(slots=True)
class _Draft:
    """What the file is to hold: blobs that were sealed anew, over those of the snapshot."""

    seal: Seal
    blobs: dict[str, Blob]
    sealed: dict[str, bytes] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)


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
        self._orders: deque[_Order] = deque()
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
        order = _Order(path, seen, change)
        self._orders.append(order)
        try:
            with self._queueing():
                if not order.done:
                    self._write_orders()
        except Unreachable as problem:
            if self._withdraw(order):
                raise
            if not order.done:
                raise AnswerLost(f"{problem}; it may yet be written") from None
        if order.problem is not None:
            raise order.problem
        assert order.holding is not None
        return order.holding

    def _withdraw(self, order: _Order) -> bool:
        """It waits no longer. False: somebody has taken it already."""
        try:
            self._orders.remove(order)
        except ValueError:
            return False
        return True

    def _write_orders(self) -> None:
        """Write what everybody waits for, in one replace. Raises nothing of theirs: each caller finds its fate in its order."""
        orders = []
        with suppress(IndexError):
            while True:
                orders.append(self._orders.popleft())
        fate: Exception | None = AnswerLost(f"writing {self.path} was interrupted: look again")
        try:
            with hold_lock(self._lock_path, self._patience):
                self._write_together(orders)
            fate = None
        except Exception as problem:  # noqa: BLE001  # it belongs to the threads whose changes they are
            fate = problem
        finally:
            for order in orders:
                order.problem = order.problem or fate
                order.done = True

    def _write_together(self, orders: Sequence[_Order]) -> None:
        snapshot = self._look()
        draft = _Draft(snapshot.seal if snapshot else Seal.generate(self._master_key), dict(snapshot.blobs) if snapshot else {})
        for order in orders:
            try:
                order.holding = self._apply(snapshot, draft, order)
            except Exception as problem:  # noqa: BLE001  # it belongs to the thread whose change it is
                order.problem = problem
        if draft.sealed:
            self._replace(draft.seal, draft.blobs, _splice(snapshot, draft))

    def _apply(self, snapshot: _Snapshot | None, draft: _Draft, order: _Order) -> Holding:
        """Lay one change into the draft, over what an earlier one left there. Raises `Conflict`, `IllegalTransition`."""
        path = order.path
        held = draft.holdings.get(path) or self._read_from(snapshot, path)
        if held.revision != order.seen.revision:
            raise Conflict(f"{self.path}: someone else wrote {path} since it was read: read it again")
        record, secrets = build_next(held.record, held.secrets, order.change)
        draft.blobs[path], draft.sealed[path] = draft.seal.seal_blob(path, _render(record, secrets))
        draft.holdings[path] = build_holding(draft.blobs[path].revision.hex(), record, secrets)
        return draft.holdings[path]

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
    def _queueing(self) -> Iterator[None]:
        if not self._writer.acquire(timeout=self._patience):
            raise Unreachable(f"{self.path}: another thread has been writing for too long: look after the disk")
        try:
            yield
        finally:
            self._writer.release()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._queueing(), hold_lock(self._lock_path, self._patience):
            yield

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

    def _replace(self, seal: Seal, blobs: Mapping[str, Blob], body: Iterator[bytes]) -> None:
        head = seal.seal_index(blobs)
        fd = replace_file(self.path, chain([head], body))
        self._snapshot = _Snapshot(fd, seal, blobs, len(head))


def _splice(snapshot: _Snapshot | None, draft: _Draft) -> Iterator[bytes]:
    """The blobs of a draft in their order: those of the snapshot as they are, in runs, and the sealed ones in their places."""
    start = end = snapshot.start if snapshot else 0
    for path, blob in draft.blobs.items():
        old = snapshot.blobs.get(path) if snapshot else None
        if path not in draft.sealed:
            end += blob.length
            continue
        if snapshot is not None and end > start:
            yield from snapshot.copy(start, end)
        yield draft.sealed[path]
        start = end = end + (old.length if old else 0)
    if snapshot is not None:
        yield from snapshot.copy(start, end)


def _render(record: Record, secrets: Mapping[KeyId, Secret]) -> bytes:
    document = {"record": render_record(record), "secrets": render_secrets(secrets)}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
