"""The journal in one SQLite file, held by one process.

Write-ahead log with `synchronous=FULL`: what a lasting commit returned from survives the loss of power. One connection writes, behind the
writers' queue; readers have their own and are never in its way. A connection is kept open and belongs to nobody in particular: threads
come and go, connections stay.
"""

from __future__ import annotations

import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Never, Self

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.dialects import sqlite as dialect
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from rotator.domain.errors import IllegalTransition, Misconfigured, RotatorError, Unreachable
from rotator.journal.lock import ProcessLock
from rotator.journal.schema import ensure_schema
from rotator.journal.sql import SqlJournal
from rotator.journal.statements import build_statements

_STATEMENTS = build_statements(dialect.insert, dialect.dialect())
_BUSY_MS = 5000
_MOST_KEPT = 4096
"""recollections in memory, some 3 kB each"""
_PRIMARY_CODE = 0xFF
"""SQLite's extended codes carry the primary one in the lowest byte"""


class SqliteJournalConfig(BaseModel):
    """A journal in one SQLite file on this machine, for one daemon."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["sqlite"] = Field(default="sqlite", description="The kind of journal.")
    path: Path | None = Field(
        default=None,
        description="The journal's file, on a local disk; default: `journal.db` in the state folder. It holds key ids, never key material.",
    )

    def get_path(self, state_dir: Path) -> Path:
        """Where the journal lies, given the state folder; a relative `path` starts there."""
        return state_dir / (Path("journal.db") if self.path is None else self.path.expanduser())

    def build(self, state_dir: Path, opened_at: datetime) -> SqliteJournal:
        """The journal, opened for this process alone; raises what `SqliteJournal` does."""
        return SqliteJournal(self.get_path(state_dir), opened_at)


class SqliteJournal(SqlJournal):
    """Opened by its making, for this process alone, until `close`.

    Raises `JournalHeld` (exit 1) where another process has it, `Misconfigured` where the file is damaged, newer than this code or no
    journal, or its folder can't be used, `Unreachable` where the disk refuses.
    """

    def __init__(self, path: Path, opened_at: datetime) -> None:
        super().__init__(_STATEMENTS, most_kept=_MOST_KEPT)
        self.path = path.expanduser().resolve()
        self._closed = False
        self._idle: deque[Connection] = deque()
        self._writer: Connection | None = None
        self._is_syncing = True
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = ProcessLock(self.path.with_name(f"{self.path.name}.lock"), self.path, opened_at)
        except OSError as error:
            raise self._explain_folder(error) from error
        try:
            self._open(opened_at)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file. Idempotent; a call under way in another thread ends first, or raises `Unreachable`."""
        with self._writers:
            self._closed = True
            self._kept.clear()
            self._drop_writer()
            self._drop_readers()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self, opened_at: datetime) -> None:
        try:
            # made here, so that it is private from its first byte; SQLite gives its side files the same mode
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self.path.chmod(0o600)
        except OSError as error:
            raise self._explain_folder(error) from error
        self._writing_engine = self._build_engine("BEGIN IMMEDIATE")
        self._reading_engine = self._build_engine("BEGIN")
        with self._writers, self._writing() as connection:
            ensure_schema(connection, str(self.path))
        self._begin(opened_at)

    def _build_engine(self, begin: str) -> sa.Engine:
        engine = sa.create_engine(
            sa.URL.create("sqlite", database=str(self.path)),
            poolclass=sa.NullPool,
            connect_args={"check_same_thread": False, "isolation_level": None, "timeout": _BUSY_MS / 1000},
            hide_parameters=True,
        )

        @sa.event.listens_for(engine, "connect")
        def _set_up(connection: sqlite3.Connection, _record: Any) -> None:
            only = "query_only=ON" if begin == "BEGIN" else "query_only=OFF"
            try:
                for pragma in (f"busy_timeout={_BUSY_MS}", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", only):
                    connection.execute(f"PRAGMA {pragma}")
            except sqlite3.Error:
                connection.close()
                raise

        @sa.event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # the driver's own way of beginning is later than the first read, and never immediate
            connection.exec_driver_sql(begin)

        return engine

    @contextmanager
    def _writing(self, *, lasting: bool = True) -> Iterator[Connection]:
        self._ensure_open()
        try:
            if self._writer is None:
                self._writer, self._is_syncing = self._writing_engine.connect(), True
            if lasting is not self._is_syncing:
                # NORMAL leaves the log's sync to the next FULL commit: a crash loses nothing, the loss of power the latest lines.
                self._writer.connection.cursor().execute(f"PRAGMA synchronous={'FULL' if lasting else 'NORMAL'}").close()
                self._is_syncing = lasting
            with self._writer.begin():
                yield self._writer
        except (DBAPIError, sqlite3.Error) as error:
            self._drop_writer()
            self._raise_explained(error)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        self._ensure_open()
        connection = None
        try:
            connection = self._take_reader()
            yield connection
            connection.rollback()
        except (DBAPIError, sqlite3.Error) as error:
            if connection is not None:
                connection.close()
            self._raise_explained(error)
        except BaseException:
            if connection is not None:
                connection.rollback()
                self._return_reader(connection)
            raise
        else:
            self._return_reader(connection)

    def _take_reader(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._reading_engine.connect()

    def _return_reader(self, connection: Connection) -> None:
        self._idle.append(connection)
        if self._closed:  # closed meanwhile: whoever comes last tidies up
            self._drop_readers()

    def _drop_readers(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _drop_writer(self) -> None:
        """The next transaction starts on a new connection: one that failed may be of any state."""
        connection, self._writer = self._writer, None
        if connection is not None:
            connection.close()

    def _ensure_open(self) -> None:
        if self._closed:
            raise Unreachable(f"the journal {self.path} is closed: the daemon is stopping")

    def _explain_folder(self, error: OSError) -> RotatorError:
        return Misconfigured(
            f"the journal {self.path} can't be opened: {error.strerror or type(error).__name__}; "
            "let this user write in that folder, or name another one with --state-dir or `journal.path`"
        )

    def _raise_explained(self, error: DBAPIError | sqlite3.Error) -> Never:
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, sqlite3.ProgrammingError | sqlite3.InterfaceError):
            raise error  # a fault of this code, not of the disk
        raise self._explain(cause) from error

    def _explain(self, cause: BaseException | None) -> RotatorError:
        """What the driver's error means to the one who reads it. The driver's text names no value."""
        code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & _PRIMARY_CODE
        if code == sqlite3.SQLITE_CONSTRAINT:
            return IllegalTransition(f"the journal's rules forbid this: {_RULES.get(str(cause), cause)}")
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return Misconfigured(
                f"the journal {self.path} is damaged ({cause}): stop the daemon, move the file and its -wal and -shm siblings away, "
                "and start again. The store is the truth about keys: a new journal starts as recovered, until `rotator adopt`"
            )
        what = _REMEDIES.get(code, "look at the system's log for faults of its disk")
        return Unreachable(f"the journal {self.path} can't be read or written ({cause}): {what}")


_RULES = {
    "UNIQUE constraint failed: rotations.credential": "the credential has an open rotation already; end it, or update it under its own id",
    "UNIQUE constraint failed: retirements.credential, retirements.key_id": "the key has an open retirement already; update that one",
}
_REMEDIES = {
    sqlite3.SQLITE_FULL: "its disk is full; make room, everything goes on by itself",
    sqlite3.SQLITE_READONLY: "it is read-only; make file and folder writable to this user, and see whether its disk is mounted read-only",
    sqlite3.SQLITE_BUSY: "another program has it locked; end whatever else has the file open (a backup or an SQL shell)",
    sqlite3.SQLITE_LOCKED: "another program has it locked; end whatever else has the file open (a backup or an SQL shell)",
    sqlite3.SQLITE_CANTOPEN: "it can't be opened; see that its folder exists and is writable to this user, and that file handles are left",
    sqlite3.SQLITE_PERM: "access is denied; make the file and its folder writable to this user",
}
