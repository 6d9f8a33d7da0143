"""Credentials that left the configuration while a key of theirs must still die: their retirements finish from what was frozen (L5).

The store and path stand in the journal, the issuer in the store's record. Nothing more is minted, promoted or distributed for them.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from rotator.domain.credential import Credential
from rotator.domain.facts import Memory, Policy
from rotator.domain.keys import Kind
from rotator.domain.ports import Abilities, SaveRotation, View
from rotator.domain.timing import Schedule
from rotator.issuers.none import NoIssuer
from rotator.journal.sqlite import SqliteJournal
from rotator.wiring.runtime import Parts

log = structlog.get_logger(__name__)


class _Revoker(NoIssuer):
    """Stands for "whoever minted the key": each entry names its own issuer."""

    @property
    def abilities(self) -> Abilities:
        return Abilities(mint=False, list=False, revoke=True)


def build_departed(parts: Parts, journal: SqliteJournal, installation: str) -> dict[str, Credential]:
    """By name, those with something left to end whose store is still configured."""
    departed = {}
    for row in journal.list_credentials():
        if row.name in parts.credentials or row.memory is None or row.view is None:
            continue
        known = journal.recall(row.name)
        if not known.retirements and known.rotation is None and not any(k.stage == "retiring" for k in row.view.keys):
            continue
        credential = _build(parts, row.name, row.memory, row.view, installation)
        if credential is None:
            log.warning("a removed credential's keys cannot be ended", action="departed", credential=row.name, place=row.memory.place)
            continue
        if known.rotation is not None and not known.rotation.abandon:
            journal.commit(row.name, SaveRotation(replace(known.rotation, abandon=True)))
        departed[row.name] = credential
    return departed


def _build(parts: Parts, name: str, memory: Memory, view: View, installation: str) -> Credential | None:
    store_name, _, path = memory.place.partition(":")
    store = parts.stores.get(store_name)
    if store is None:
        return None
    kind = view.keys[0].key_id.kind if view.keys else Kind.RK
    cache_time = next((c.policy.cache_time for c in parts.credentials.values()), Policy("", kind).cache_time)
    return Credential(
        name=name,
        policy=Policy(installation=installation, kind=kind, cache_time=cache_time, can_mint=False, can_list=False, can_revoke=True),
        store_name=store_name,
        path=path,
        store=store,
        issuer_name="",
        issuer=_Revoker(),
        prober=parts.prober,
        schedule=Schedule(),
    )
