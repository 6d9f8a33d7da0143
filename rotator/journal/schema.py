"""Brings a journal's database to the schema that this code works with, all of it or nothing.

Alembic is loaded only where something must change: it costs more time and memory than the rest of the journal.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rotator.domain.errors import Misconfigured
from rotator.journal.tables import HEAD, REVISIONS, version

SCRIPTS = Path(__file__).parent / "migrations"


def ensure_schema(connection: Connection, where: str) -> None:
    """Migrate to the head inside the connection's own transaction, which the caller began and commits.

    `where` names the database in messages. Raises `Misconfigured` for a database of a newer version, or one that is no journal.
    """
    found = _find_version(connection, where)
    if found == HEAD:
        return
    if found is not None and found not in REVISIONS:
        raise Misconfigured(
            f"the journal {where} was written by a newer version of rotator (its schema is {found}, this version knows up to {HEAD}): "
            "run that version, or give this one another journal"
        )
    _migrate(connection)


def _find_version(connection: Connection, where: str) -> str | None:
    names = set(sa.inspect(connection).get_table_names())
    if not names:
        return None
    found: str | None = connection.scalar(sa.select(version.c.version_num)) if version.name in names else None
    if found is None:
        raise Misconfigured(f"{where} is a database, but not a journal of rotator: name another file under `journal.path`")
    return found


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    command.upgrade(config, "head")
