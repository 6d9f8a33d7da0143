"""The tables of a journal, for every SQL database, and the name of the schema that this code works with.

No column may hold key material. Instants are aware UTC with microseconds. The audit trail keeps its values exactly as they were hashed:
text and numbers, never a type that a database may render differently.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

REVISIONS = ("0001",)
"""Every schema that this code can bring to the head, oldest first; a test holds it against the migrations."""
HEAD = REVISIONS[-1]

LANES = ("emergency", "never-synced", "routine")
"""The order of work; a lane's rank is its place here, and an unknown lane is routine."""


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant. On SQLite a text of fixed width, so that it sorts by time and a person can read it."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(sa.Text() if dialect.name == "sqlite" else sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return render_instant(value) if dialect.name == "sqlite" else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return parse_instant(value) if dialect.name == "sqlite" else value.astimezone(UTC)


def render_instant(value: datetime) -> str:
    """An instant as a text of fixed width. Raises `ValueError` for a naive one: it names no instant."""
    if value.tzinfo is None:
        raise ValueError("an instant must be aware: give it a time zone")
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def parse_instant(text: str) -> datetime:
    """The instant that a text of `render_instant` names."""
    return datetime.fromisoformat(text)


METADATA = sa.MetaData()

meta = sa.Table(
    "meta",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

credentials = sa.Table(
    "credentials",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    # what is remembered; uid is null until a memory was saved
    sa.Column("uid", sa.Text),
    sa.Column("generation", sa.Integer),
    sa.Column("place", sa.Text),
    sa.Column("recovered", sa.Boolean),
    sa.Column("swept_at", Instant),
    sa.Column("orphans", sa.Text),
    sa.Column("adopted", sa.Text),
    # what the last look showed; seen_at is null until there was one
    sa.Column("seen_at", Instant),
    sa.Column("due_at", Instant),
    sa.Column("next_rotation_at", Instant),
    sa.Column("expires_at", Instant),
    sa.Column("phase", sa.Text),
    sa.Column("parked", sa.Text),
    sa.Column("waiting", sa.Text),
    sa.Column("orphan_count", sa.Integer),
    sa.Column("lane", sa.Text),
    sa.Column("lane_rank", sa.SmallInteger),
    sa.Index("ix_credentials_lane_rank_due_at", "lane_rank", "due_at"),
    sa.Index("ix_credentials_due_at", "due_at"),
)

held = sa.Table(
    "held",
    METADATA,
    sa.Column("credential", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("minted_at", Instant, nullable=False),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("promoted_at", Instant),
    sa.Column("retired_at", Instant),
    sa.Column("doomed_at", Instant),
    sa.Column("compromised_at", Instant),
    sa.Index("ix_held_key_id", "key_id"),
)

rotations = sa.Table(
    "rotations",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("credential", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("replaces", sa.Text),
    sa.Column("candidate", sa.Text),
    sa.Column("emergency", sa.Boolean, nullable=False),
    sa.Column("attempt", sa.Text),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("lost_mints", sa.Integer, nullable=False),
    sa.Column("retry_at", Instant),
    sa.Column("preflight_at", Instant),
    sa.Column("abandon", sa.Boolean, nullable=False),
    sa.Column("closed_at", Instant),
    sa.Column("outcome", sa.Text),
    sa.Column("key_id", sa.Text),
    sa.Index("ix_rotations_credential_opened_at", "credential", "opened_at"),
    sa.Index("ix_rotations_opened_at", "opened_at"),
    sa.Index("ix_rotations_outcome", "credential", "reason", "outcome", "closed_at"),
)
sa.Index(
    "ux_rotations_open",
    rotations.c.credential,
    unique=True,
    sqlite_where=rotations.c.closed_at.is_(None),
    postgresql_where=rotations.c.closed_at.is_(None),
)

retirements = sa.Table(
    "retirements",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("credential", sa.Text, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("opened_at", Instant, nullable=False),
    sa.Column("revoked_at", Instant),
    sa.Column("retry_at", Instant),
    sa.Column("closed_at", Instant),
    sa.Column("outcome", sa.Text),
    sa.Column("last_alive", Instant),
    sa.Column("first_refused", Instant),
    sa.Column("confirmed_at", Instant),
    sa.Index("ix_retirements_credential_opened_at", "credential", "opened_at"),
    sa.Index("ix_retirements_opened_at", "opened_at"),
)
sa.Index(
    "ux_retirements_open",
    retirements.c.credential,
    retirements.c.key_id,
    unique=True,
    sqlite_where=retirements.c.closed_at.is_(None),
    postgresql_where=retirements.c.closed_at.is_(None),
)

sightings = sa.Table(
    "sightings",
    METADATA,
    sa.Column("credential", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text, primary_key=True),
    sa.Column("asked_at", Instant),
    sa.Column("answer", sa.Text),
    sa.Column("last_alive", Instant),
    sa.Column("alive_since", Instant),
    sa.Column("first_refused", Instant),
    sa.Column("refusals", sa.Text, nullable=False),
    sa.Column("ever_refused", sa.Boolean, nullable=False),
    sa.Column("unknowns", sa.Integer, nullable=False),
    sa.Column("tools", sa.Text),
)

placements = sa.Table(
    "placements",
    METADATA,
    sa.Column("credential", sa.Text, primary_key=True),
    sa.Column("target", sa.Text, primary_key=True),
    sa.Column("key_id", sa.Text),
    sa.Column("since", Instant, nullable=False),
    sa.Column("generation", sa.Integer),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("retry_at", Instant),
    sa.Column("problem", sa.Text),
    sa.Column("text", sa.Text, nullable=False),
)

events = sa.Table(
    "events",
    METADATA,
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Text, nullable=False),
    sa.Column("credential", sa.Text, nullable=False),
    sa.Column("phase", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("process", sa.Text),
    sa.Column("key_id", sa.Text),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("ok", sa.SmallInteger, nullable=False),
    sa.Column("prev", sa.Text, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Index("ix_events_at", "at"),
    sa.Index("ix_events_credential_seq", "credential", "seq"),
    sa.Index("ix_events_process_seq", "process", "seq"),
)

version = sa.Table("alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True))
"""Alembic's own table, outside the metadata: read to see whether Alembic is needed at all."""
