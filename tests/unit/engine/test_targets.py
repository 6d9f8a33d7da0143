"""Targets that remember, and targets whose consumers get stuck."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.domain.errors import AnswerLost, Conflict, Permanent, RotatorError, Unreachable
from rotator.domain.facts import AtDeadline, Level
from rotator.domain.ports import Delivery, Observation
from rotator.domain.reasons import Reason
from tests.support.fakes import FakeTarget
from tests.unit.engine.conftest import QUICK, Rig, settled


class Cluster(FakeTarget):
    """Answers from memory unless it is asked for a fresh look; `stuck` says why its consumers do not come to use a key."""

    def __init__(self, *, level: Level = Level.PLACED) -> None:
        super().__init__("cluster", best_level=level)
        self.level, self.stuck, self.lost = level, "", False

    def observe(self, credential: str, *, fresh: bool = False) -> Observation:
        held = super().observe(credential, fresh=fresh)
        if self.lost and fresh:
            held = Observation("absent")
        return replace(held, level=self.level, remembered=not fresh, stuck=bool(self.stuck), text=self.stuck)


def begin(rig: Rig, target: FakeTarget, **policy: object) -> None:
    rig.target = target
    rig.add("one", policy=replace(QUICK, **policy))  # type: ignore[arg-type]
    rig.visit("one")
    rig.operations.rotate("one", emergency=False, who="test")


def test_no_key_ends_on_what_a_target_remembers(rig: Rig) -> None:
    target = Cluster()
    begin(rig, target)
    target.lost = True  # somebody took it away, and the watch has not told
    rig.live("one", lambda o: any(reason is Reason.TARGETS_BEHIND for reason, _, _ in o.view.waiting) or settled(o))
    assert len(rig.visit("one").view.keys) == 2
    assert ("revoke", "ok") not in rig.steps
    target.lost = False
    rig.live("one", settled)
    assert ("revoke", "ok") in rig.steps


def test_only_endings_ask_for_a_fresh_look(rig: Rig) -> None:
    target = Cluster()
    begin(rig, target)
    rig.live("one", settled)
    assert target.looks.count(True) == sum(step in ("doom", "revoke") for step, _ in rig.steps)
    assert target.looks.count(False) > target.looks.count(True)


def test_a_target_that_never_remembers_is_looked_at_once_for_each_ending(rig: Rig) -> None:
    begin(rig, rig.target)
    rig.live("one", settled)
    assert True not in rig.target.looks


def test_a_stuck_consumer_parks_with_its_reason_and_keeps_the_old_key(rig: Rig) -> None:
    target = Cluster(level=Level.PLACED)
    target._best_level = Level.IN_USE
    begin(rig, target)
    target.stuck = "deployment/shop in a: 0 of 1 pods updated, the rollout deadline has passed"
    outcome = rig.live("one", lambda o: bool(o.view.parked))
    assert [reason for reason, _ in outcome.view.parked] == [Reason.CONSUMERS_BEHIND]
    assert "deployment/shop in a" in outcome.view.parked[0][1]
    assert ("doom", "ok") not in rig.steps
    target.stuck, target.level = "", Level.IN_USE
    rig.live("one", settled)


@pytest.mark.parametrize("at_deadline", AtDeadline)
def test_what_is_placed_and_not_in_use_parks_at_the_deadline_or_is_revoked_under(rig: Rig, at_deadline: AtDeadline) -> None:
    target = Cluster(level=Level.PLACED)
    target._best_level = Level.IN_USE
    begin(rig, target, overlap_max=timedelta(minutes=10), at_deadline=at_deadline)
    outcome = rig.live("one", lambda o: bool(o.view.parked) or settled(o))
    if at_deadline is AtDeadline.REVOKE:
        assert settled(outcome)
    else:
        assert [reason for reason, _ in outcome.view.parked] == [Reason.CONSUMERS_BEHIND]


def test_what_is_placed_is_looked_at_again_until_it_is_in_use(rig: Rig) -> None:
    """Nobody tells when the last pod is gone: not before `overlap.max`, and that may be a week."""
    target = Cluster(level=Level.PLACED)
    target._best_level = Level.IN_USE
    begin(rig, target, overlap_max=timedelta(days=7))
    outcome = rig.live("one", lambda o: any(reason is Reason.TARGETS_BEHIND for reason, _, _ in o.view.waiting))
    assert outcome.view.due_at is not None
    assert outcome.view.due_at - rig.clock.now() <= timedelta(seconds=30)


class Hindered(FakeTarget):
    """Fails so many deliveries."""

    hindered: RotatorError | None = None

    def deliver(self, delivery: Delivery, seen: Observation) -> Observation:
        if self.hindered is not None:
            raise self.hindered
        return super().deliver(delivery, seen)


@pytest.mark.parametrize(
    "problem", [Conflict("written meanwhile"), Unreachable("no answer"), AnswerLost("no answer"), Permanent("no")], ids=repr
)
@pytest.mark.parametrize("required", [True, False], ids=["required", "not required"])
def test_what_cannot_be_repaired_at_once_is_tried_again_soon(rig: Rig, problem: RotatorError, required: bool) -> None:
    """Nothing else is under way that would have it looked at before the hourly `resync`."""
    target = Hindered("cluster")
    rig.target = target
    credential = rig.add("one")
    rig.credentials["one"] = replace(credential, targets=tuple(replace(bound, required=required) for bound in credential.targets))
    rig.engine.set_credentials(rig.credentials)
    rig.live("one", settled)
    key_id = target.held.pop("one").key_id
    target.hindered = problem
    for _ in range(4):
        outcome = rig.visit("one")
        assert outcome.view.due_at is not None
        assert timedelta(0) < outcome.view.due_at - rig.clock.now() <= timedelta(seconds=30)
        rig.clock.advance(outcome.view.due_at - rig.clock.now())
    target.hindered = None
    rig.visit("one")
    assert target.held["one"].key_id == key_id


def test_a_target_that_cannot_be_looked_at_is_looked_at_again_soon(rig: Rig) -> None:
    rig.add("one")
    rig.live("one", settled)
    rig.target.away = True
    outcome = rig.visit("one")
    assert outcome.view.due_at is not None
    assert timedelta(0) < outcome.view.due_at - rig.clock.now() <= timedelta(seconds=30)
