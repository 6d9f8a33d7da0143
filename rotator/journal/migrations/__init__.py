"""The journal's schema, step by step. Read by Alembic, at the start of a daemon whose journal isn't at the head; imported by nobody."""

from __future__ import annotations
