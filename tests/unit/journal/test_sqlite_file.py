"""The SQLite file: private, held by one, and what its disk's refusals mean."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from rotator.domain.errors import IllegalTransition, Misconfigured, Unreachable
from rotator.domain.facts import Memory
from rotator.domain.ports import Event, SaveMemory
from rotator.journal import sqlite
from rotator.journal.lock import JournalHeld
from rotator.journal.sqlite import SqliteJournal

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOTE = Event(START, "note", "x")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[SqliteJournal]:
    with SqliteJournal(path, START) as opened:
        yield opened


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_folder_and_files_are_private(journal: SqliteJournal, path: Path) -> None:
    journal.commit("a", NOTE)
    journal.recall("a")
    files = {file.name: _mode(file) for file in path.parent.iterdir()}
    assert files == dict.fromkeys(["journal.db", "journal.db-shm", "journal.db-wal", "journal.db.lock"], 0o600)
    assert _mode(path.parent) == 0o700


def test_an_existing_file_that_others_can_read_is_tightened(path: Path) -> None:
    SqliteJournal(path, START).close()
    path.chmod(0o644)
    path.with_name("journal.db.lock").chmod(0o644)
    SqliteJournal(path, START).close()
    assert (_mode(path), _mode(path.with_name("journal.db.lock"))) == (0o600, 0o600)


def test_a_commit_is_synced_to_the_disk(journal: SqliteJournal) -> None:
    with journal._writers, journal._writing() as connection:
        settings = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")}
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_reader_cannot_write(journal: SqliteJournal) -> None:
    with pytest.raises(Unreachable, match="attempt to write a readonly database"), journal._reading() as connection:
        connection.exec_driver_sql("DELETE FROM events")


def test_a_journal_reached_through_a_link_is_the_same_journal(journal: SqliteJournal, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with pytest.raises(JournalHeld):
        SqliteJournal(link, START)


def test_what_is_due_is_found_through_the_index(journal: SqliteJournal) -> None:
    ran: list[tuple[str, tuple[object, ...]]] = []
    sa.event.listen(journal._reading_engine, "before_cursor_execute", lambda *args: ran.append((args[2], args[3])))
    journal.find_due(START, 5)
    statement, parameters = next((text, values) for text, values in ran if text.startswith("SELECT"))
    with journal._reading() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    assert "SEARCH credentials USING INDEX ix_credentials_lane_rank_due_at (lane_rank=? AND due_at<?)" in str(plan)


def test_a_full_disk_is_unreachable_and_is_over_when_there_is_room(journal: SqliteJournal) -> None:
    journal.commit("a", NOTE)
    with journal._writers, journal._writing() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    assert journal._writer is not None
    journal._writer.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    journal._writer.rollback()
    huge = "x" * 100_000
    with pytest.raises(Unreachable, match="disk is full; make room"):
        journal.commit("a", SaveMemory(Memory("u", 1, huge)), NOTE)
    assert journal.recall("a").memory is None
    journal.commit("a", SaveMemory(Memory("u", 2, huge)), NOTE)
    assert [row.seq for row in journal.find_events()] == [1, 2]
    assert journal.verify_audit() == []


def test_a_commit_that_fails_at_its_very_end_leaves_no_gap_in_the_trail(journal: SqliteJournal, path: Path) -> None:
    journal.commit("a", NOTE)
    with closing(sqlite3.connect(path)) as other, other:
        other.executescript(
            "CREATE TABLE one (id INTEGER PRIMARY KEY);"
            "CREATE TABLE two (id INTEGER REFERENCES one (id) DEFERRABLE INITIALLY DEFERRED);"
            "CREATE TRIGGER late AFTER INSERT ON events BEGIN INSERT INTO two VALUES (new.seq); END;"
        )
    with pytest.raises(IllegalTransition, match="FOREIGN KEY"):
        journal.commit("a", NOTE)
    assert journal.audit_head().startswith("1:")
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TRIGGER late")
    journal.commit("a", NOTE)
    assert [row.seq for row in journal.find_events()] == [1, 2]
    assert journal.verify_audit() == []


def test_a_file_that_another_program_has_locked_is_unreachable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_BUSY_MS", 20)
    with SqliteJournal(path, START) as journal:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unreachable, match="another program has it locked"):
                journal.commit("a", NOTE)
            assert journal.find_events() == [], "reading goes on"
            other.execute("ROLLBACK")
        journal.commit("a", NOTE)
        assert journal.verify_audit() == []


def test_a_file_that_is_no_database_is_told_to_be_moved_away(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but long enough to be taken for one " * 100)
    with pytest.raises(Misconfigured, match=r"is damaged .* move the file .* The store is the truth about keys"):
        SqliteJournal(path, START)
    path.unlink()
    SqliteJournal(path, START).close()


def test_a_damaged_page_is_told_to_be_moved_away(path: Path) -> None:
    with SqliteJournal(path, START) as journal:
        journal.commit("a", *[Event(START, "note", "x", text="y" * 500)] * 50)
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(Misconfigured, match="is damaged"), SqliteJournal(path, START) as journal:
        journal.find_events()


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("CREATE TABLE theirs (a)")
    with pytest.raises(Misconfigured, match="not a journal of rotator"):
        SqliteJournal(path, START)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misconfigured, match=r"file/journal\.db can't be opened.*--state-dir"):
        SqliteJournal(tmp_path / "file" / "journal.db", START)
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(Misconfigured, match=r"folder\.db can't be opened"):
        SqliteJournal(tmp_path / "folder.db", START)


def test_a_failed_opening_lets_go_of_the_lock(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"rubbish" * 1000)
    for _ in range(2):
        with pytest.raises(Misconfigured, match="damaged"):
            SqliteJournal(path, START)


def test_a_reason_of_another_version_is_named(journal: SqliteJournal, path: Path) -> None:
    journal.commit("a", NOTE)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE events SET reason = 'from-the-future'")
    with pytest.raises(Misconfigured, match="'from-the-future', which this version does not know"):
        journal.find_events()


def test_readers_do_not_pile_up(journal: SqliteJournal) -> None:
    for _ in range(50):
        journal.recall("a")
        with pytest.raises(Misconfigured), journal._reading():
            raise Misconfigured("while reading")
    assert len(journal._idle) == 1
