"""Reads of the journal behind the answers: everything about all credentials in a handful of queries, and what has no query of its own."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from rotator.domain.credential import Credential
from rotator.domain.errors import RotatorError
from rotator.domain.facts import Retirement, Sightings
from rotator.domain.keys import KeyId
from rotator.domain.ports import HeldKey, Placement, View
from rotator.domain.reasons import Reason
from rotator.server.ports import CredentialRow, EventRow, Queries, RetirementRow, RotationRow
from rotator.server.statuses import Known

_ALL = 10_000_000
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class _Details:
    """Where a credential's targets stand and what is known of its keys, as of one look."""

    seen_at: datetime | None
    placements: Sequence[Placement]
    sightings: Sequence[Sightings]


@dataclass(slots=True)
class Gatherer:
    """Reads what is known. Safe from any thread."""

    queries: Queries
    list_configured: Callable[[], Mapping[str, Credential]]
    find_away: Callable[[str], str | None] = lambda _store: None
    """why a store cannot be reached, by its name: whoever is idle was not looked at since"""
    _details: dict[str, _Details] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def gather_all(self) -> list[Known]:
        """Every configured credential, by name."""
        configured = self.list_configured()
        # Open rotations first: one that is closed by then was closed in the commit that wrote the key it brought.
        rotations = {row.credential: row for row in self.queries.find_rotations(limit=_ALL, open_only=True)}
        retirements: defaultdict[str, list[Retirement]] = defaultdict(list)
        for row in self.queries.find_retirements(limit=_ALL, open_only=True):
            retirements[row.credential].append(row.retirement)
        rows = {row.name: row for row in self.queries.list_credentials()}
        details = self._gather_details(configured, rows)
        holders: defaultdict[KeyId, list[str]] = defaultdict(list)
        for name in sorted(configured.keys() & rows.keys()):
            for key in _keys_of(rows[name]):
                holders[key.key_id].append(name)
        return [
            Known(
                credential,
                self._show_away(credential, rows[name].view if name in rows else None),
                rows[name].memory if name in rows else None,
                rotations.get(name),
                retirements[name],
                details[name].placements,
                details[name].sightings,
                {key.key_id: holders[key.key_id] for key in _keys_of(rows.get(name))},
            )
            for name, credential in sorted(configured.items())
        ]

    def find_one(self, name: str) -> Known | None:
        """One configured credential."""
        credential = self.list_configured().get(name)
        if credential is None:
            return None
        open_rotations = self.queries.find_rotations(name, limit=1, open_only=True)
        row, recalled = self.queries.find_credential(name), self.queries.recall(name)
        return Known(
            credential,
            self._show_away(credential, row.view if row else None),
            row.memory if row else None,
            open_rotations[0] if open_rotations else None,
            recalled.retirements,
            recalled.placements,
            recalled.sightings,
            {key.key_id: self.queries.find_holders(key.key_id, any_stage=True) for key in _keys_of(row)},
        )

    def find_rotation(self, rotation_id: str) -> RotationRow | None:
        """A rotation by its id: the audit trail says whose it is."""
        lines = self.queries.find_events(process=rotation_id, limit=1)
        credential = lines[0].credential if lines else None
        rows = self.queries.find_rotations(credential, limit=_ALL, open_only=credential is None)
        return next((row for row in rows if row.rotation.id == rotation_id), None)

    def find_retirements(self, credential: str | None, key_id: str | None, limit: int, *, open_only: bool) -> Sequence[RetirementRow]:
        """Retirements, newest first, of one key where it is named."""
        if key_id is None:
            return self.queries.find_retirements(credential, limit=limit, open_only=open_only)
        rows = self.queries.find_retirements(credential, limit=_ALL, open_only=open_only)
        return [row for row in rows if str(row.retirement.key_id) == key_id][:limit]

    def gather_sightings(self, names: Iterable[str]) -> Mapping[str, Sequence[Sightings]]:
        """What probes have told of these credentials' keys."""
        return {name: self.queries.recall(name).sightings for name in set(names)}

    def find_events(
        self, credential: str | None, process: str | None, key_id: str | None, after: int | None, limit: int
    ) -> tuple[Sequence[EventRow], int]:
        """Audit lines, oldest first, and the number to ask after next: the first after `after`, or without it the newest."""
        if key_id is not None:
            return self._find_events_of_key(key_id, credential, process, after, limit)
        newest = after is None
        rows = self.queries.find_events(credential, process=process, after_seq=after or 0, limit=limit, newest_first=newest)
        if newest:
            rows = rows[::-1]
        return rows, rows[-1].seq if rows else after or 0

    def _find_events_of_key(
        self, key_id: str, credential: str | None, process: str | None, after: int | None, limit: int
    ) -> tuple[Sequence[EventRow], int]:
        found: list[EventRow] = []
        seq = after or 0
        while True:
            page = self.queries.find_events(credential, process=process, after_seq=seq, limit=_PAGE)
            for row in page:
                seq = row.seq
                if row.event.key_id is not None and str(row.event.key_id) == key_id:
                    found.append(row)
                    if after is not None and len(found) == limit:
                        return found, seq
            if len(page) < _PAGE:
                return found[-limit:], seq

    def gather_heads(self) -> tuple[Mapping[str, str], list[str]]:
        """The audit heads that the stores' records keep of this journal, and a sentence for each record that could not be read."""
        heads, unread = {}, []
        for name, credential in sorted(self.list_configured().items()):
            try:
                record = credential.store.read(credential.path).record
            except RotatorError as problem:
                unread.append(f"the record of {name} could not be read, so the head in it was not compared: {problem}")
                continue
            kept = dict(record.audit).get(self.queries.id) if record is not None else None
            if kept is not None:
                heads[f"the record of {name}"] = kept
        return heads, unread

    def _show_away(self, credential: Credential, view: View | None) -> View | None:
        away = self.find_away(credential.store_name)
        if away is None or view is None or any(reason is Reason.STORE_UNREACHABLE for reason, _, _ in view.waiting):
            return view
        return replace(view, waiting=(*view.waiting, (Reason.STORE_UNREACHABLE, None, (away,))))

    def _gather_details(self, configured: Mapping[str, Credential], rows: Mapping[str, CredentialRow]) -> Mapping[str, _Details]:
        # One by one, but only those that were looked at since: a visit writes them before it writes that it looked.
        with self._lock:
            for name in [n for n in self._details if n not in configured]:
                del self._details[name]
            known = dict(self._details)
        for name in configured:
            if name not in rows:
                known[name] = _Details(None, (), ())
                continue
            view = rows[name].view
            seen_at = view.seen_at if view is not None else None
            if name not in known or seen_at is None or known[name].seen_at != seen_at:
                recalled = self.queries.recall(name)
                known[name] = _Details(seen_at, recalled.placements, recalled.sightings)
        with self._lock:
            self._details.update(known)
        return known


def _keys_of(row: CredentialRow | None) -> Sequence[HeldKey]:
    return row.view.keys if row is not None and row.view is not None else ()
