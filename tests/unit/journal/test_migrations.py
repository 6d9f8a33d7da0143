"""The migrations lead to the tables that the code works with, whole or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from rotator.domain.errors import Misconfigured
from rotator.domain.ports import Event
from rotator.journal.schema import SCRIPTS
from rotator.journal.sqlite import SqliteJournal
from rotator.journal.tables import HEAD, METADATA, REVISIONS

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


def _schema(path: Path) -> dict[str, str]:
    """Each table and index, as SQLite keeps it, without white space."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'").fetchall()
    return {name: "".join(sql.split()) for name, sql in rows}


def test_the_code_knows_every_revision_in_order() -> None:
    script = ScriptDirectory(str(SCRIPTS))
    assert tuple(revision.revision for revision in reversed(list(script.walk_revisions()))) == REVISIONS
    assert script.get_heads() == [HEAD]


def test_all_migrations_lead_to_the_tables_of_the_code(path: Path, tmp_path: Path) -> None:
    SqliteJournal(path, START).close()
    direct = tmp_path / "direct.db"
    engine = sa.create_engine(f"sqlite:///{direct}", poolclass=sa.NullPool)
    METADATA.create_all(engine)
    assert _schema(path) == _schema(direct)
    with sa.create_engine(f"sqlite:///{path}", poolclass=sa.NullPool).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_alembic_is_loaded_only_where_something_must_change(path: Path) -> None:
    SqliteJournal(path, START).close()
    code = (
        "import sys, datetime, pathlib\n"
        "from rotator.journal.sqlite import SqliteJournal\n"
        "SqliteJournal(pathlib.Path(sys.argv[1]), datetime.datetime.now(datetime.UTC)).close()\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=Path(__file__).parents[3])


def test_a_newer_schema_is_refused_and_left_alone(path: Path) -> None:
    SqliteJournal(path, START).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = _schema(path)
    with pytest.raises(Misconfigured, match="written by a newer version of rotator") as refused:
        SqliteJournal(path, START)
    assert str(path) in str(refused.value)
    assert _schema(path) == before


def _statements_of_a_migration(path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int) -> int:
    """Open a journal whose migration fails after so many statements; how many were run."""
    count = 0
    build = SqliteJournal._build_engine

    def build_failing(self: SqliteJournal, begin: str) -> sa.Engine:
        engine = build(self, begin)

        @sa.event.listens_for(engine, "before_cursor_execute")
        def _count(*args: object) -> None:
            nonlocal count
            if str(args[2]).split()[0] in ("CREATE", "INSERT"):
                if count == stop_after:
                    raise KeyboardInterrupt
                count += 1

        return engine

    with monkeypatch.context() as patch:
        patch.setattr(SqliteJournal, "_build_engine", build_failing)
        with suppress(KeyboardInterrupt):
            SqliteJournal(path, START).close()
    return count


def test_an_interrupted_migration_leaves_nothing_and_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole.db"
    every = _statements_of_a_migration(whole, monkeypatch, stop_after=1000)
    assert every > 20
    for number in range(every):
        path = tmp_path / f"{number}.db"
        assert _statements_of_a_migration(path, monkeypatch, stop_after=number) == number
        with SqliteJournal(path, START) as journal:
            journal.commit("a", Event(START, "note", "x"))
        assert _schema(path) == _schema(whole)


_KILLED = """
import datetime, os, pathlib, signal, sys
import sqlalchemy as sa
from rotator.journal.sqlite import SqliteJournal

left = int(sys.argv[2])

@sa.event.listens_for(sa.Engine, "after_cursor_execute")
def count(*args):
    global left
    left -= str(args[2]).split()[0] == "CREATE"
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

SqliteJournal(pathlib.Path(sys.argv[1]), datetime.datetime.now(datetime.UTC))
"""


@pytest.mark.parametrize("after", [1, 9, 20])
def test_a_migration_that_was_killed_is_done_again(path: Path, after: int) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path), str(after)], check=False, cwd=Path(__file__).parents[3])
    assert killed.returncode == -9
    assert path.exists()
    with SqliteJournal(path, START) as journal:
        journal.commit("a", Event(START, "note", "x"))
        assert journal.verify_audit() == []
