"""One visit: what failed is tried again later, a lost race is looked at again, and a visit never keeps a worker."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from rotator.domain import record as store
from rotator.domain.errors import Conflict, RateLimited, Refused, Unreachable
from rotator.domain.facts import Verdict
from rotator.domain.ports import Answer, EndRotation, Event, Line
from rotator.domain.reasons import Reason
from rotator.domain.record import Change, Stage
from rotator.domain.secret import Secret
from rotator.domain.timing import Schedule
from rotator.engine import runner
from tests.support.fakes import FakeProber
from tests.unit.engine.conftest import QUICK, Rig, settled

SECOND = timedelta(seconds=1)


def test_a_rotation_from_nothing_to_the_proof_of_death(rig: Rig) -> None:
    rig.add("one")
    assert settled(rig.visit("one"))
    (first,) = rig.service.list_alive()
    rig.operations.rotate("one", emergency=False, who="test")
    outcome = rig.live("one", settled)
    (second,) = rig.service.list_alive()
    assert first != second == outcome.view.keys[0].key_id
    assert rig.target.deliveries == [first, second]


def test_what_fails_is_tried_again_after_longer_and_longer_pauses(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    tried = []

    def refuse(operation: str) -> None:
        if operation == "revoke":
            tried.append(rig.clock.now())
            raise Unreachable("the issuer is away")

    rig.issuer.before = refuse
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", lambda _: len(tried) == 6)
    pauses = [after - before for before, after in pairwise(tried)]
    assert all(longer > shorter for shorter, longer in pairwise(pauses)), pauses
    assert pauses[0] <= 2 * SECOND
    assert pauses[-1] >= 8 * SECOND
    rig.issuer.before = lambda _operation: None
    rig.live("one", settled)


def test_an_emergency_never_pauses_for_long(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    (first,) = rig.service.list_alive()
    tried = []

    def refuse(operation: str) -> None:
        if operation == "revoke":
            tried.append(rig.clock.now())
            raise Unreachable("the issuer is away")

    rig.issuer.before = refuse
    rig.operations.leak(secret=None, key_id=first, who="test")
    rig.live("one", lambda _: len(tried) == 12)
    assert max(after - before for before, after in pairwise(tried)) <= 6 * SECOND, "the leaked key waited for a routine pause"
    rig.issuer.before = lambda _operation: None
    rig.live("one", settled)


def test_the_time_that_a_remote_named_is_kept_to(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    tried = []

    def limit(operation: str) -> None:
        if operation == "revoke":
            tried.append(rig.clock.now())
            if len(tried) == 1:
                raise RateLimited("come back later", after=timedelta(seconds=77))

    rig.issuer.before = limit
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", settled)
    assert tried[1] - tried[0] >= timedelta(seconds=77)


def test_a_revoke_that_was_acknowledged_without_effect_is_asked_for_again(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    rig.issuer.hollow = 2
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", settled)
    assert rig.issuer.calls.count("revoke") == 3
    assert len(rig.service.list_alive()) == 1


def test_who_sees_a_rotation_closed_sees_the_key_that_it_brought_and_the_one_that_must_die(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.add("one")
    rig.visit("one")
    commit, shown = rig.journal.commit, []

    def watch(credential: str, *lines: Line) -> None:
        commit(credential, *lines)
        if any(isinstance(line, EndRotation) for line in lines):
            row = rig.journal.find_credential(credential)
            ending = [r.key_id for r in rig.journal.recall(credential).retirements]
            shown.append(([k.key_id for k in row.view.keys if k.stage == Stage.CURRENT] if row and row.view else [], ending))

    monkeypatch.setattr(rig.journal, "commit", watch)
    rig.operations.rotate("one", emergency=False, who="test")
    rig.visit("one")
    old, new = rig.service.list_alive()
    assert shown == [([new], [old])]


def test_a_refusal_is_not_hammered(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    tried = []

    def refuse(operation: str) -> None:
        if operation == "revoke":
            tried.append(rig.clock.now())
            raise Refused("no")

    rig.issuer.before = refuse
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", lambda _: len(tried) == 3)
    assert min(after - before for before, after in pairwise(tried)) >= timedelta(seconds=30)


def test_other_keys_of_the_credential_go_on_meanwhile(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    (first,) = rig.service.list_alive()

    def refuse(operation: str) -> None:
        if operation == "revoke":
            raise Unreachable("the issuer is away")

    rig.issuer.before = refuse
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", lambda o: any(b == Reason.UNREACHABLE for b, _, _ in o.view.waiting))
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", lambda o: max(k.generation for k in o.view.keys) == 3)
    assert first in rig.service.list_alive()


def test_a_lost_race_is_looked_at_again_at_once(rig: Rig) -> None:
    rig.add("one")
    lost = []

    def race(_path: str, change: Change) -> None:
        if isinstance(change, store.Promote) and len(lost) < 3:
            lost.append(change)
            raise Conflict("someone else wrote")

    rig.store.before_commit = race
    outcome = rig.visit("one")
    assert settled(outcome)
    assert outcome.failed == ()
    assert len(lost) == 3


def test_races_that_never_end_do_not_keep_the_worker(rig: Rig) -> None:
    rig.add("one")

    def race(_path: str, change: Change) -> None:
        if isinstance(change, store.Promote):
            raise Conflict("someone else wrote")

    rig.store.before_commit = race
    outcome = rig.visit("one")
    assert outcome.failed
    assert any(reason is Reason.CONFLICT for reason, _, _ in outcome.view.waiting)
    rig.store.before_commit = None
    rig.live("one", settled)


def test_a_visit_yields_after_most_steps(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "MOST_STEPS", 3)
    rig.add("one")
    outcome = rig.engine.visit("one")
    assert outcome is not None
    assert outcome.again
    assert outcome.view.due_at == rig.clock.now()
    visits = 1
    while outcome is not None and outcome.again:
        outcome = rig.engine.visit("one")
        visits += 1
    assert outcome is not None
    assert settled(outcome)
    assert visits > 2


def test_a_visit_ends_between_two_steps_when_the_daemon_stops(rig: Rig) -> None:
    credential = rig.add("one")
    stopping = threading.Event()
    rig.issuer.after = lambda operation: stopping.set() if operation == "mint" else None
    outcome = rig.engine.runner.visit(credential, stopping)
    assert outcome.again
    held = rig.store.read(credential.path)
    assert held.record is not None
    assert held.record.pending is not None, "the step in hand was cut off: its key is not in the store"
    assert settled(rig.visit("one"))
    assert len(rig.service.keys) == 1


def test_a_clock_that_goes_back_behind_the_journal_stops_routine_revocation(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    (first,) = rig.service.list_alive()
    rig.operations.rotate("one", emergency=False, who="test")
    rig.visit("one")
    rig.journal.commit("one", Event(rig.clock.now() + timedelta(minutes=20), "note", "later", text="written before the clock was set back"))
    outcome = rig.live("one", lambda o: any(reason is Reason.CLOCK_UNTRUSTED for reason, _ in o.view.parked))
    assert first in rig.service.list_alive()
    rig.clock.advance(timedelta(minutes=5))
    outcome = rig.visit("one")
    assert [reason for reason, _ in outcome.view.parked] == [Reason.CLOCK_UNTRUSTED]
    assert first in rig.service.list_alive()
    rig.live("one", settled)
    assert first not in rig.service.list_alive()


def test_a_clock_that_differs_from_the_services_is_measured_again(rig: Rig) -> None:
    prober = FakeProber(rig.service, clock_offset=timedelta(seconds=90))
    rig.add("one", prober=prober)
    rig.visit("one")
    (first,) = rig.service.list_alive()
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", lambda o: any(reason is Reason.CLOCK_UNTRUSTED for reason, _ in o.view.parked))
    rig.clock.advance(timedelta(minutes=30))
    rig.visit("one")
    assert first in rig.service.list_alive(), "revoked by a clock that is known to be wrong"
    prober.clock_offset = timedelta(0)
    rig.live("one", settled, at_most=timedelta(minutes=5))
    assert first not in rig.service.list_alive()


def test_an_untrusted_clock_does_not_hold_an_emergency_back(rig: Rig) -> None:
    rig.add("one", prober=FakeProber(rig.service, clock_offset=timedelta(hours=-2)))
    rig.visit("one")
    (first,) = rig.service.list_alive()
    rig.operations.leak(secret=None, key_id=first, who="test")
    rig.visit("one")
    assert first not in rig.service.list_alive()


def test_targets_that_are_behind_park_and_the_old_key_lives(rig: Rig) -> None:
    rig.add("one", policy=replace(QUICK, overlap_max=timedelta(minutes=5)))
    rig.visit("one")
    (first,) = rig.service.list_alive()
    rig.operations.rotate("one", emergency=False, who="test")
    rig.issuer.after = lambda operation: setattr(rig.target, "away", operation == "mint" or rig.target.away)
    outcome = rig.live("one", lambda o: any(reason is Reason.CONSUMERS_BEHIND for reason, _ in o.view.parked))
    assert "cluster" in next(text for reason, text in outcome.view.parked if reason is Reason.CONSUMERS_BEHIND)
    assert first in rig.service.list_alive()
    rig.issuer.after = lambda _operation: None
    rig.target.away = False
    rig.live("one", settled)
    assert first not in rig.service.list_alive()


class Flickering(FakeProber):
    """An outage of authentication that ends for a moment, twice: each time right after a new key was refused."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(rig.service)
        self.clock = rig.clock
        self.flickers: list[datetime] = []
        self.back_at = datetime.max.replace(tzinfo=UTC)
        self.away = False

    def begin(self) -> None:
        self.away = True
        late = self.clock.now() + 2 * QUICK.verify_for
        self.flickers = [late, late + 2 * QUICK.cache_time]

    def probe(self, secret: Secret) -> Answer:
        now = self.clock.now()
        if now >= self.back_at:
            self.away, self.back_at = bool(self.flickers), datetime.max.replace(tzinfo=UTC)
        answer = super().probe(secret)
        if not self.away:
            return answer
        if self.flickers and now >= self.flickers[0] and secret.key_id == list(self.service.keys)[-1]:
            self.flickers.pop(0)
            self.away, self.back_at = False, now + SECOND / 2
        return replace(answer, verdict=Verdict.DEAD, tools=None)


def test_a_refusal_that_ended_with_an_outage_is_no_refusal(rig: Rig) -> None:
    """Long after the patience with the new key is over, the outage ends between its probe and that of the witness."""
    prober = Flickering(rig)
    rig.add("one", prober=prober)
    rig.visit("one")
    prober.begin()
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", settled)
    assert not prober.flickers
    assert len(rig.service.keys) == 2, "a good key was given up"


STUCK = timedelta(hours=2)


def test_a_sweep_that_is_held_up_is_not_looked_for_all_the_time(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")

    def refuse(operation: str) -> None:
        if operation == "list":
            raise Refused("the token is not accepted")

    rig.issuer.before = refuse
    rig.clock.advance(STUCK)
    ensure_at_rest(rig)


def test_a_target_that_failed_and_went_away_is_not_looked_at_all_the_time(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    rig.operations.rotate("one", emergency=False, who="test")
    rig.target.refuses = True
    rig.visit("one")
    rig.target.away = True
    rig.clock.advance(STUCK)
    ensure_at_rest(rig)


def test_a_rotation_that_is_overdue_and_parked_is_not_looked_at_all_the_time(rig: Rig) -> None:
    rig.add("one", schedule=Schedule(every=timedelta(hours=1), jitter=timedelta(0)))
    rig.visit("one")
    rig.add("one", schedule=Schedule(every=timedelta(hours=1), jitter=timedelta(0)), path="keys/moved")
    rig.clock.advance(STUCK)
    ensure_at_rest(rig)


def ensure_at_rest(rig: Rig) -> None:
    """Nothing can be done: looks come a second apart or more."""
    outcome = rig.visit("one")
    for _ in range(5):
        outcome = rig.visit("one")
        due = outcome.view.due_at
        assert due is not None
        assert due >= rig.clock.now() + SECOND, f"looked at again at once: {outcome.view}"
        rig.clock.advance(due - rig.clock.now())


def test_a_store_that_is_away_is_told_of_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the open rotation and the old key's retirement wait for it."""
    rig.add("one")
    rig.visit("one")
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", lambda o: len(o.view.keys) == 2)

    def away(_path: str) -> None:
        raise Unreachable("the store is sealed")

    monkeypatch.setattr(rig.store, "read", away)
    waiting = [(reason, names) for reason, _, names in rig.visit("one").view.waiting]
    assert waiting == [(Reason.STORE_UNREACHABLE, ("the store is sealed",))]
