"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from rotator.journal.tables import Instant

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "credentials",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("uid", sa.Text),
        sa.Column("generation", sa.Integer),
        sa.Column("place", sa.Text),
        sa.Column("recovered", sa.Boolean),
        sa.Column("swept_at", Instant),
        sa.Column("orphans", sa.Text),
        sa.Column("adopted", sa.Text),
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
    )
    op.create_index("ix_credentials_due_at", "credentials", ["due_at"])
    op.create_index("ix_credentials_lane_rank_due_at", "credentials", ["lane_rank", "due_at"])
    op.create_table(
        "events",
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
    )
    op.create_index("ix_events_at", "events", ["at"])
    op.create_index("ix_events_credential_seq", "events", ["credential", "seq"])
    op.create_index("ix_events_process_seq", "events", ["process", "seq"])
    op.create_table(
        "held",
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
    )
    op.create_index("ix_held_key_id", "held", ["key_id"])
    op.create_table(
        "meta",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "placements",
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
    op.create_table(
        "retirements",
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
    )
    op.create_index("ix_retirements_credential_opened_at", "retirements", ["credential", "opened_at"])
    op.create_index("ix_retirements_opened_at", "retirements", ["opened_at"])
    op.create_index(
        "ux_retirements_open",
        "retirements",
        ["credential", "key_id"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "rotations",
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
    )
    op.create_index("ix_rotations_credential_opened_at", "rotations", ["credential", "opened_at"])
    op.create_index("ix_rotations_opened_at", "rotations", ["opened_at"])
    op.create_index("ix_rotations_outcome", "rotations", ["credential", "reason", "outcome", "closed_at"])
    op.create_index(
        "ux_rotations_open",
        "rotations",
        ["credential"],
        unique=True,
        sqlite_where=sa.text("closed_at IS NULL"),
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_table(
        "sightings",
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
