"""The kinds of journal that the contract suite runs over. A new kind joins by one line in `KINDS`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from rotator.journal.sql import SqlJournal
from rotator.journal.sqlite import SqliteJournal, SqliteJournalConfig

OPENED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Kind:
    """How the suite gets at one kind of journal."""

    name: str
    open: Callable[[Path], SqlJournal]
    """the journal at a place (an own, empty folder at first)"""
    close: Callable[[SqlJournal], None]
    meddle: Callable[[Path, str], None]
    """run an SQL statement behind the journal's back"""

    def __str__(self) -> str:
        return self.name


def _open_sqlite(place: Path) -> SqlJournal:
    return SqliteJournalConfig().build(place, OPENED_AT)


def _close_sqlite(journal: SqlJournal) -> None:
    assert isinstance(journal, SqliteJournal)
    journal.close()


def _meddle_sqlite(place: Path, statement: str) -> None:
    with closing(sqlite3.connect(place / "journal.db")) as connection, connection:
        connection.executescript(statement)


KINDS = {kind.name: kind for kind in (Kind("sqlite", _open_sqlite, _close_sqlite, _meddle_sqlite),)}
