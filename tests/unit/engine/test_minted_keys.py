"""A key that is minted and that the store does not take: kept, staged when the store is back, and never minted a second time meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.domain.errors import AnswerLost, Conflict, RateLimited, Refused, RotatorError, Unreachable
from rotator.domain.reasons import Reason
from rotator.domain.record import Change, StageKey
from rotator.engine.look import Timing
from rotator.engine.runner import Outcome
from tests.unit.engine.conftest import QUICK, Rig, settled

PROBLEMS = [
    Unreachable("the store is sealed"),
    AnswerLost("no answer"),
    RateLimited("come back later", after=timedelta(seconds=5)),
    Refused("not allowed"),
    Conflict("written meanwhile"),
]


def refuse_keys(rig: Rig, problem: RotatorError) -> None:
    def before(_path: str, change: Change) -> None:
        if isinstance(change, StageKey):
            raise problem

    rig.store.before_commit = before


def waits(outcome: Outcome) -> bool:
    return any("is minted and waits to be stored" in " ".join(names) for _, _, names in outcome.view.waiting)


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_it_is_kept_and_stored_when_the_store_is_back(rig: Rig, problem: RotatorError) -> None:
    rig.add("one")
    refuse_keys(rig, problem)
    outcome = rig.visit("one")
    (key_id,) = rig.service.list_alive()
    assert waits(outcome)
    assert str(key_id) in str(outcome.view.waiting)
    rig.clock.advance(timedelta(seconds=20))
    assert waits(rig.visit("one"))
    rig.store.before_commit = None
    rig.live("one", settled)
    assert rig.service.list_alive() == [key_id]
    assert rig.issuer.calls.count("mint") == 1


@pytest.mark.parametrize("problem", PROBLEMS, ids=repr)
def test_it_is_given_up_after_the_lease_and_found_by_the_sweep(rig: Rig, problem: RotatorError) -> None:
    rig.add("one")
    refuse_keys(rig, problem)
    rig.visit("one")
    (lost,) = rig.service.list_alive()
    since = rig.clock.now()
    rig.live("one", lambda _: lost not in rig.service.list_alive())
    assert rig.clock.now() - since >= Timing().lease
    rig.store.before_commit = None
    rig.live("one", settled)
    assert len(rig.service.list_alive()) == 1


def test_an_issuer_that_cannot_list_leaves_word_of_a_key_that_is_given_up(rig: Rig) -> None:
    rig.issuer.abilities = replace(rig.issuer.abilities, list=False)
    rig.add("one", policy=replace(QUICK, can_list=False))
    refuse_keys(rig, Unreachable("the store is sealed"))
    rig.visit("one")
    rig.operations.abandon("one", who="test")
    rig.visit("one")
    assert rig.visit("one").view.orphans == 1


def test_who_parks_after_failed_attempts_leaves_no_key_alive(rig: Rig) -> None:
    rig.add("one")
    rig.visit("one")
    (key_id,) = rig.service.list_alive()
    rig.operations.rotate("one", emergency=False, who="test")

    def lose(operation: str) -> None:
        if operation == "mint":
            rig.clock.advance(timedelta(seconds=1))
            raise AnswerLost("no answer")

    rig.issuer.after = lose
    since = rig.clock.now()
    outcome = rig.live("one", lambda o: bool(o.view.parked))
    assert [reason for reason, _ in outcome.view.parked] == [Reason.ATTEMPTS_FAILED]
    assert rig.clock.now() - since < timedelta(minutes=10)
    assert rig.issuer.calls.count("mint") == 1 + QUICK.max_failures
    assert rig.service.list_alive() == [key_id]
