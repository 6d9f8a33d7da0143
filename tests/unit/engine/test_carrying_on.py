"""What a step told is carried on in memory. That spares looks and commits; never the look before an effect, nor what justifies it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.domain import record as store
from rotator.domain.errors import Unreachable
from rotator.domain.facts import Verdict
from rotator.domain.ports import Answer, Delivery, Line, Observation, SaveSightings, SaveView
from rotator.domain.reasons import Reason
from rotator.domain.record import Change
from rotator.domain.secret import Secret
from tests.support.fakes import FakeProber, FakeTarget
from tests.unit.engine.conftest import QUICK, Rig, settled

MINUTE = timedelta(minutes=1)


class Interrupted(FakeProber):
    """Something happens while a key is probed."""

    meanwhile: Callable[[Secret], None] = staticmethod(lambda _secret: None)

    def probe(self, secret: Secret) -> Answer:
        answer = super().probe(secret)
        self.meanwhile(secret)
        return answer


def _old_key_comes_back(rig: Rig, prober: Interrupted, old: Secret) -> None:
    """While the current key is probed for the last time before an effect, the consumer gets the old key back."""

    def go_back(secret: Secret) -> None:
        if secret.key_id != old.key_id:
            rig.target.held["one"] = Observation("went back", old.key_id, rig.target.held["one"].generation)

    prober.meanwhile = go_back


def _replaced(rig: Rig, prober: Interrupted) -> Secret:
    """A rotation is through; the old key, which waits for its end."""
    rig.add("one", prober=prober, policy=replace(QUICK, overlap_min=5 * MINUTE))
    rig.visit("one")
    (old,) = rig.service.list_alive()
    rig.operations.rotate("one", emergency=False, who="test")
    rig.visit("one")
    return rig.service.keys[old].secret


def test_a_key_is_doomed_on_a_look_that_was_taken_after_the_last_probe(rig: Rig) -> None:
    prober = Interrupted(rig.service)
    old = _replaced(rig, prober)
    rig.clock.advance(6 * MINUTE)
    _old_key_comes_back(rig, prober, old)
    rig.target.refuses = True
    outcome = rig.visit("one")
    assert ("probe", "ok") in rig.steps
    assert [key.doomed_at for key in outcome.view.keys] == [None, None], "doomed although a consumer holds it"
    assert any(reason is Reason.TARGETS_BEHIND for reason, _, _ in outcome.view.waiting)


def test_a_key_is_revoked_on_a_look_that_was_taken_after_the_last_probe(rig: Rig) -> None:
    prober = Interrupted(rig.service)
    old = _replaced(rig, prober)
    away = iter([True])

    def fail_once(operation: str) -> None:
        if operation == "revoke" and next(away, False):
            raise Unreachable("the issuer is away")

    rig.issuer.before = fail_once
    rig.clock.advance(6 * MINUTE)
    rig.visit("one")
    assert rig.issuer.calls.count("revoke") == 1
    rig.clock.advance(6 * MINUTE)
    _old_key_comes_back(rig, prober, old)
    rig.target.refuses = True
    rig.visit("one")
    assert rig.issuer.calls.count("revoke") == 1, "revoked although a consumer holds it"
    assert old.key_id in rig.service.list_alive()


def test_what_justifies_an_effect_is_written_before_it(rig: Rig) -> None:
    written: dict[type, Verdict | None] = {}

    def look_it_up(_path: str, change: Change) -> None:
        record = rig.store.read("keys/one").record
        subject = record.pending if isinstance(change, store.Promote) and record else record.current if record else None
        known = {s.key_id: s.answer for s in rig.journal._read_recollection("one").sightings}
        written[type(change)] = known.get(subject.key_id) if subject is not None else None

    rig.add("one")
    rig.visit("one")
    rig.store.before_commit = look_it_up
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", settled)
    assert written[store.Promote] is Verdict.ALIVE
    assert written[store.Doom] is Verdict.ALIVE
    assert written[store.Forget] is Verdict.ALIVE


def test_a_key_goes_to_a_target_only_after_its_proof_is_written(rig: Rig) -> None:
    proofs = []

    class Watched(FakeTarget):
        def deliver(self, delivery: Delivery, seen: Observation) -> Observation:
            known = {s.key_id: s.answer for s in rig.journal._read_recollection("one").sightings}
            proofs.append(known.get(delivery.secret.key_id))
            return super().deliver(delivery, seen)

    rig.target = Watched("cluster")
    rig.add("one")
    rig.visit("one")
    assert proofs == [Verdict.ALIVE]


def test_a_probe_of_a_dying_key_costs_one_look_and_one_commit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add("one")
    rig.visit("one")
    rig.operations.rotate("one", emergency=False, who="test")
    rig.live("one", lambda o: any(reason is Reason.CONFIRMING for reason, _, _ in o.view.waiting))
    commit, observe = rig.journal.commit, rig.target.observe
    commits: list[tuple[type, ...]] = []
    looks: list[str] = []

    def count_commit(name: str, *lines: Line) -> None:
        commits.append(tuple(type(line) for line in lines))
        commit(name, *lines)

    def count_look(name: str, *, fresh: bool) -> Observation:
        looks.append(name)
        return observe(name, fresh=fresh)

    rig.clock.advance(5 * QUICK.probe_pause)
    rig.visit("one")  # the first refusal has a note of its own
    rig.clock.advance(QUICK.probe_pause)
    monkeypatch.setattr(rig.journal, "commit", count_commit)
    monkeypatch.setattr(rig.target, "observe", count_look)
    rig.visit("one")
    assert [SaveSightings in kinds and SaveView in kinds for kinds in commits] == [True]
    assert looks == ["one"]


def test_what_an_operator_writes_between_two_steps_is_not_overwritten(rig: Rig) -> None:
    """He waits while a step's lines are in memory only; his own come after them."""
    rig.add("one")
    rig.visit("one")
    rig.operations.rotate("one", emergency=False, who="test")
    abandoning = threading.Thread(target=rig.operations.abandon, args=("one", "test"))

    def begin(operation: str) -> None:
        if operation == "check" and not abandoning.is_alive():
            abandoning.start()

    rig.issuer.before = begin
    stopping = threading.Event()
    rig.issuer.after = lambda _operation: stopping.set()
    rig.engine.runner.visit(rig.credentials["one"], stopping)
    abandoning.join(10.0)
    rotation = rig.journal.recall("one").rotation
    assert rotation is None or rotation.abandon
    rig.visit("one")
    assert len(rig.service.keys) <= 2
    assert {row.outcome for row in rig.journal.find_rotations("one")} == {Reason.DISTRIBUTED, Reason.ABANDONED}


def test_a_visit_that_yields_in_the_middle_leaves_nothing_unwritten(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    rig.operations.rotate("one", emergency=False, who="test")
    stopping = threading.Event()
    rig.issuer.before = lambda operation: stopping.set() if operation == "check" else None
    outcome = rig.engine.runner.visit(rig.credentials["one"], stopping)
    assert outcome.again
    rotation = rig.journal._read_recollection("one").rotation
    assert rotation is not None
    assert rotation.preflight_at == rig.clock.now()


def test_a_step_that_fails_takes_nothing_along_that_was_learnt_before_it(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")

    def refuse(operation: str) -> None:
        if operation == "check":
            raise Unreachable("the issuer is away")

    rig.issuer.before = refuse
    rig.clock.advance(timedelta(days=31))
    rig.visit("one")
    row = rig.journal._read_recollection("one").rotation
    assert row is not None, "the rotation that was opened right before is not on record"
    assert [e.event.action for e in rig.journal.find_events("one", limit=2, newest_first=True)] == ["preflight", "open"]


def test_what_can_be_put_nowhere_is_parked_for_as_long_as_it_lasts(rig: Rig) -> None:
    """Also while the next try is put off: an alert on parked credentials would never fire otherwise."""
    rig.add("one")
    rig.visit("one")

    def refuse(operation: str) -> None:
        if operation == "check":
            raise Unreachable("the issuer is away")

    rig.issuer.before = refuse
    rig.clock.advance(timedelta(days=31))
    began, seen = rig.clock.now(), []
    while rig.clock.now() < began + timedelta(hours=1):
        rig.visit("one")
        view = rig.journal.find_credential("one").view  # type: ignore[union-attr]
        assert view is not None
        assert view.due_at is not None
        seen.append((rig.clock.now() - began, [reason for reason, _ in view.parked]))
        rig.clock.advance(max(view.due_at - rig.clock.now(), timedelta(milliseconds=1)))
    patient = [parked for after, parked in seen if after > timedelta(minutes=10)]
    assert len(patient) > 10
    assert all(parked == [Reason.PREFLIGHT_FAILED] for parked in patient), seen
    rig.issuer.before = lambda _operation: None
    rig.clock.advance(timedelta(minutes=5))
    rig.visit("one")
    assert rig.journal._read_recollection("one").rotation is None
