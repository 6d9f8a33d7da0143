"""Credentials that left the configuration while a key of theirs must still die: their processes finish from what was frozen (L5).

The store and path stand in the journal, the issuer in the store's record. Nothing more is minted, promoted or distributed for them. One
that was merely renamed keeps its uid and goes on under its new name (L1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from rotator.domain.credential import Credential
from rotator.domain.errors import RotatorError
from rotator.domain.facts import Memory, Policy
from rotator.domain.keys import Kind
from rotator.domain.ports import Abilities, Clock, EndRetirement, EndRotation, Issuer, Recollection, SaveMemory, SaveRotation, Store
from rotator.domain.reasons import Reason
from rotator.domain.record import Record
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


def carry_renamed(parts: Parts, journal: SqliteJournal, clock: Clock) -> None:
    """Let a credential that has a new name and its old place go on there: what the journal remembers moves, its processes open anew."""
    places = {c.place: name for name, c in parts.credentials.items()}
    for row in journal.list_credentials():
        new = places.get(row.memory.place) if row.memory is not None and row.name not in parts.credentials else None
        if new is None or row.memory is None or journal.recall(new).memory is not None:
            continue
        journal.commit(new, SaveMemory(row.memory))
        known, now = journal.recall(row.name), clock.now()
        ends = [EndRetirement(r.id, Reason.SUPERSEDED, now) for r in known.retirements]
        journal.commit(row.name, *ends, *([EndRotation(known.rotation.id, Reason.SUPERSEDED, now)] if known.rotation else []))
        log.info("a credential goes on under its new name", action="renamed", credential=new, before=row.name)


def build_departed(parts: Parts, journal: SqliteJournal, installation: str, former: Mapping[str, Credential]) -> dict[str, Credential]:
    """By name, those with something left to end whose store is still configured. `former`: as they were driven until now."""
    places = {c.place for c in parts.credentials.values()}
    departed = {}
    for row in journal.list_credentials():
        if row.name in parts.credentials or row.memory is None or row.memory.place in places:
            continue
        known = journal.recall(row.name)
        store_name, _, path = row.memory.place.partition(":")
        store = parts.stores.get(store_name)
        if store is None:
            if _is_unfinished(None, known):
                log.warning("a removed credential's keys cannot be ended", action="departed", credential=row.name, place=row.memory.place)
            continue
        record = _read(store, path)
        if not _is_unfinished(record, known):
            continue
        if known.rotation is not None and not known.rotation.abandon:
            journal.commit(row.name, SaveRotation(replace(known.rotation, abandon=True)))
        built = _build(parts, row.name, row.memory, store, record, installation)
        before = former.get(row.name)
        if before is not None:
            # Its overlap and deadlines go on as they were; after a restart only the defaults are known.
            built = replace(
                built, policy=replace(before.policy, can_mint=False, can_list=built.policy.can_list, can_revoke=built.policy.can_revoke)
            )
        departed[row.name] = built
    return departed


def _read(store: Store, path: str) -> Record | None:
    try:
        return store.read(path).record
    except RotatorError:
        return None


def _is_unfinished(record: Record | None, known: Recollection) -> bool:
    """Whether a key, an attempt or an orphan is left that must come to its end."""
    if known.retirements or known.rotation is not None:
        return True
    return record is not None and bool(record.retiring or record.pending or record.attempt or record.closed or record.orphans)


def _build(parts: Parts, name: str, memory: Memory, store: Store, record: Record | None, installation: str) -> Credential:
    keys = record.keys if record is not None else ()
    kind = keys[0].key_id.kind if keys else Kind.RK
    names = [k.issuer for k in keys if k.issuer is not None]
    issuer_name, issuer = _find_issuer(parts, names)
    store_name, _, path = memory.place.partition(":")
    usual = next((c.policy for c in parts.credentials.values()), Policy("", kind))
    return Credential(
        name=name,
        policy=Policy(
            installation=installation,
            kind=kind,
            cache_time=usual.cache_time,
            can_mint=False,
            can_list=issuer.abilities.list,
            can_revoke=issuer.abilities.revoke,
        ),
        store_name=store_name,
        path=path,
        store=store,
        issuer_name=issuer_name,
        issuer=issuer,
        prober=parts.prober,
        schedule=Schedule(),
    )


def _find_issuer(parts: Parts, names: Iterable[str]) -> tuple[str, Issuer]:
    """The newest key's issuer that is still configured; else one that knows each key's by its entry only."""
    for name in reversed(list(names)):
        if name in parts.issuers:
            return name, parts.issuers[name]
    return "", _Revoker()
