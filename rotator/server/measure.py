"""What the metrics say, read from the journal at each scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from rotator.domain.ports import Clock
from rotator.domain.record import Stage
from rotator.metrics import CredentialState, State
from rotator.server.gathering import Gatherer
from rotator.server.statuses import Known, phase_of, retirement_phase, target_states

_NOT_PROMOTED = frozenset({"opened", "staged", "verified", None})


@dataclass(frozen=True, slots=True)
class Measurer:
    """Reads the state; `read_state` is for `Metrics.watch`."""

    gatherer: Gatherer
    clock: Clock
    find_rejected: Callable[[], str]
    count_spares: Callable[[], Mapping[str, int]]
    """issuer → usable spares, as last looked at: a scrape asks no store"""

    def read_state(self) -> State:
        """One reading. Raises `Unreachable` when the journal cannot be read."""
        now = self.clock.now()
        known = self.gatherer.gather_all()
        successes = self.gatherer.queries.last_successes()
        names = {k.credential.name for k in known}
        counts = self.gatherer.queries.count_rotations()
        return State(
            credentials=[build_credential_state(k, successes.get(k.credential.name), now) for k in known],
            rotations={(name, str(why), str(end)): count for (name, why, end), count in counts.items() if name in names},
            orphans=sum(k.view.orphans for k in known if k.view is not None),
            oldest_overdue=oldest_overdue(known, now),
            config_rejected=bool(self.find_rejected()),
            pool_spares=self.count_spares(),
        )


def build_credential_state(known: Known, last_success: datetime | None, now: datetime) -> CredentialState:
    """What the metrics say of one credential. Pure."""
    credential, view, current = known.credential, known.view, known.current
    retired = [k.retired_at or k.minted_at for k in known.keys if k.stage == Stage.RETIRING]
    return CredentialState(
        credential=credential.name,
        kind=str(credential.policy.kind),
        store=credential.store_name,
        issuer=credential.issuer_name,
        phase=phase_of(view, known.rotation),
        key_id=str(current.key_id) if current else None,
        minted_at=current.minted_at if current else None,
        expires_at=view.expires_at if view else None,
        next_rotation_at=view.next_rotation_at if view else None,
        last_success=last_success,
        compromised=known.compromised,
        parked=_count(str(reason) for reason, _ in view.parked) if view else {},
        targets=_count(target_states(known).values()),
        retirements=_count(retirement_phase(row, known.keys) for row in known.retirements),
        old_key_alive=max(0.0, (now - min(retired)).total_seconds()) if retired else None,
    )


def oldest_overdue(known: Iterable[Known], now: datetime) -> float:
    """Seconds since the most overdue rotation was due, or was opened and has no promoted key yet. Pure."""
    since = now
    for one in known:
        if one.view is not None and one.view.next_rotation_at is not None:
            since = min(since, one.view.next_rotation_at)
        if one.rotation is not None and (one.view is None or one.view.phase in _NOT_PROMOTED):
            since = min(since, one.rotation.rotation.opened_at)
    return (now - since).total_seconds()


def _count(words: Iterable[str]) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    return counts
