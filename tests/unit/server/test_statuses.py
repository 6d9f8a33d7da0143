"""From what is known of a credential to its status, its plan and its metrics."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from rotator.domain.facts import Memory, Retirement, Rotation, Sightings
from rotator.domain.keys import KeyId, Kind
from rotator.domain.ports import HeldKey, Placement, Proof, View
from rotator.domain.reasons import Reason
from rotator.server.measure import build_credential_state, oldest_overdue
from rotator.server.statuses import Known, build_retirement, build_status, phase_of, state_of
from rotator.stores.memory import MemoryStore
from tests.support.fakes import FakeClock, FakeService, FakeTarget, build_credential

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
OLD, NEW = KeyId(Kind.RK, "live", "oldoldol"), KeyId(Kind.RK, "live", "newnewne")
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Row:
    credential: str
    rotation: Rotation
    closed_at: datetime | None = None
    outcome: Reason | None = None
    key_id: KeyId | None = None


@dataclass(frozen=True)
class EndRow:
    credential: str
    retirement: Retirement
    closed_at: datetime | None = None
    outcome: Reason | None = None
    proof: Proof | None = None


CREDENTIAL = build_credential(
    "checkout-read", store=MemoryStore(), service=FakeService(FakeClock(NOW)), targets=[FakeTarget("a"), FakeTarget("b")]
)
CURRENT = HeldKey(NEW, "current", NOW - HOUR, 2, NOW - HOUR)
RETIRING = HeldKey(OLD, "retiring", NOW - 9 * HOUR, 1, NOW - 9 * HOUR, NOW - HOUR)
VIEW = View(seen_at=NOW, due_at=NOW, next_rotation_at=NOW + HOUR, expires_at=NOW + 2 * HOUR, keys=(CURRENT, RETIRING))
OPEN = Row("checkout-read", Rotation("r1", Reason.SCHEDULED, NOW - HOUR, OLD))
DYING = Retirement("e1", OLD, Reason.REPLACED, NOW - HOUR)
KNOWN = Known(
    CREDENTIAL,
    VIEW,
    Memory("uid", 2, "store:keys/checkout-read", recovered=True),
    None,
    [DYING],
    [Placement("a", NEW, NOW, 2), Placement("b", OLD, NOW, 1)],
    [Sightings(OLD, last_alive=NOW)],
)


def test_a_status_tells_it_all() -> None:
    status = build_status(KNOWN, NOW)
    assert (status.key_id, status.generation, status.age_seconds) == (str(NEW), 2, 3600)
    assert (status.minted_at, status.expires_at, status.next_rotation_at) == (NOW - HOUR, NOW + 2 * HOUR, NOW + HOUR)
    assert (status.phase, status.recovered, status.compromised) == ("idle", True, False)
    assert [(t.name, t.state, t.key_id) for t in status.targets] == [("a", "current", str(NEW)), ("b", "behind", str(OLD))]
    assert [(r.id, r.phase, r.last_alive) for r in status.retirements] == [("e1", "waiting", NOW)]


def test_the_age_is_never_negative() -> None:
    assert build_status(KNOWN, NOW - 5 * HOUR).age_seconds == 0


@pytest.mark.parametrize(
    ("changes", "rotation", "phase"),
    [
        ({}, None, "idle"),
        ({}, OPEN, "opened"),
        ({"phase": "staged"}, OPEN, "staged"),
        ({"phase": "promoted"}, OPEN, "promoted"),
        ({"phase": "promoted"}, None, "idle"),
        ({"phase": "staged", "parked": ((Reason.MOVED, "look"),)}, OPEN, "parked"),
        ({"parked": ((Reason.MOVED, "look"),), "waiting": ((Reason.STORE_UNREACHABLE, None, ()),)}, OPEN, "unreadable"),
        ({"waiting": ((Reason.NOT_DUE, None, ()),)}, None, "idle"),
    ],
)
def test_where_it_stands(changes: dict[str, object], rotation: Row | None, phase: str) -> None:
    assert phase_of(replace(VIEW, **changes), rotation) == phase  # type: ignore[arg-type]


def test_where_it_stands_before_the_first_look() -> None:
    assert (phase_of(None, None), phase_of(None, OPEN)) == ("idle", "opened")


@pytest.mark.parametrize(
    ("placement", "state"),
    [
        (None, "behind"),
        (Placement("a", NEW, NOW), "current"),
        (Placement("a", NEW, NOW, problem=Reason.FOREIGN_ENTRY), "current"),
        (Placement("a", NEW, NOW, problem=Reason.UNREACHABLE), "failed"),
        (Placement("a", OLD, NOW), "behind"),
        (Placement("a", None, NOW), "behind"),
        (Placement("a", OLD, NOW, failures=1), "failed"),
        (Placement("a", None, NOW, problem=Reason.MALFORMED_FILE), "failed"),
    ],
)
def test_where_a_target_stands(placement: Placement | None, state: str) -> None:
    assert state_of(placement, NEW) == state


def test_without_a_current_key_no_target_is_current() -> None:
    assert state_of(Placement("a", None, NOW), None) == "behind"


@pytest.mark.parametrize(
    ("row", "key", "phase"),
    [
        (DYING, RETIRING, "waiting"),
        (DYING, replace(RETIRING, doomed_at=NOW), "doomed"),
        (replace(DYING, revoked_at=NOW), replace(RETIRING, doomed_at=NOW), "revoked"),
    ],
)
def test_where_the_end_of_a_key_stands(row: Retirement, key: HeldKey, phase: str) -> None:
    known = replace(KNOWN, view=replace(VIEW, keys=(CURRENT, key)), retirements=[row])
    assert build_status(known, NOW).retirements[0].phase == phase
    assert build_credential_state(known, None, NOW).retirements == {phase: 1}


def test_any_leaked_key_compromises_until_it_is_gone() -> None:
    known = replace(KNOWN, view=replace(VIEW, keys=(CURRENT, replace(RETIRING, compromised_at=NOW))))
    assert build_status(known, NOW).compromised
    assert build_credential_state(known, None, NOW).compromised


def test_the_proof_of_a_closed_retirement_beats_what_probes_told_later() -> None:
    proof = Proof(NOW - HOUR, NOW, NOW + HOUR)
    row = build_retirement(EndRow("checkout-read", DYING, NOW, Reason.DEAD, proof), [Sightings(OLD, last_alive=NOW + HOUR)])
    assert (row.last_alive, row.first_refused, row.confirmed_at) == (NOW - HOUR, NOW, NOW + HOUR)


def test_the_metrics_of_a_credential() -> None:
    state = build_credential_state(KNOWN, NOW, NOW)
    assert (state.old_key_alive, state.targets, state.last_success) == (3600, {"current": 1, "behind": 1}, NOW)
    alone = replace(KNOWN, view=replace(VIEW, keys=(CURRENT,)), retirements=[])
    assert build_credential_state(alone, None, NOW).old_key_alive is None


def test_what_is_overdue() -> None:
    assert oldest_overdue([], NOW) == 0
    assert oldest_overdue([KNOWN], NOW) == 0
    assert oldest_overdue([KNOWN, replace(KNOWN, view=replace(VIEW, next_rotation_at=NOW - 2 * HOUR))], NOW) == 7200
    stuck = replace(KNOWN, view=replace(VIEW, next_rotation_at=None, phase="opened"), rotation=OPEN)
    assert oldest_overdue([stuck], NOW) == 3600
    assert oldest_overdue([replace(stuck, view=replace(VIEW, next_rotation_at=None, phase="promoted"))], NOW) == 0
