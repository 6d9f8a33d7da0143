"""Runs the migrations on the connection, and in the transaction, that it is given: all of them or none. Run by Alembic."""

from __future__ import annotations

from alembic import context

from rotator.journal.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=True,  # Alembic doubts it of SQLite; it holds where the driver is told to begin, as ours is
)
with context.begin_transaction():
    context.run_migrations()
