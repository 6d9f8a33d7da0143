"""Credentials that left the configuration while a key of theirs must still die: their retirements finish from what was frozen (L5)."""

from __future__ import annotations

from rotator.domain.credential import Credential
from rotator.journal.sqlite import SqliteJournal
from rotator.settings import Settings
from rotator.wiring.runtime import Parts


def build_departed(parts: Parts, journal: SqliteJournal, settings: Settings) -> dict[str, Credential]:
    """By name, those whose store and issuer are still configured."""
    return {}
