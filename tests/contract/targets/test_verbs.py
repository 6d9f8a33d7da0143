"""What every kind of target does: deliver, read back, refuse what is not ours, never go back."""

from __future__ import annotations

import secrets

import pytest

from rotator.domain.errors import Conflict, Refused, RotatorError
from rotator.domain.ports import Target
from rotator.domain.reasons import Reason
from tests.contract.targets.kinds import Place, a_delivery, a_secret


def test_it_is_a_target(place: Place) -> None:
    assert isinstance(place.build(), Target)


def test_nothing_there_is_no_problem(place: Place) -> None:
    target = place.build()
    seen = target.observe("checkout")
    assert (seen.key_id, seen.problem, seen.text) == (None, None, "")
    target.check("checkout")
    assert place.read() is None
    assert target.find_access("checkout").missing == ()


def test_a_key_and_its_successors_are_delivered_and_read_back(place: Place) -> None:
    target = place.build()
    for generation in (1, 2, 3):
        secret = a_secret()
        after = target.deliver(a_delivery(secret, generation), target.observe("checkout"))
        assert (after.key_id, after.generation, after.problem) == (secret.key_id, generation, None)
        assert place.read() == secret.reveal()
        assert place.build().observe("checkout").key_id == secret.key_id
        assert place.build().observe("checkout").generation == generation


def test_delivering_the_same_again_changes_nothing(place: Place) -> None:
    target, secret = place.build(), a_secret()
    target.deliver(a_delivery(secret), target.observe("checkout"))
    before = target.observe("checkout").revision
    target.deliver(a_delivery(secret), target.observe("checkout"))
    assert target.observe("checkout").revision == before
    assert target.preview(a_delivery(secret)) == ""


def test_a_preview_names_both_keys_and_writes_nothing(place: Place) -> None:
    target, old, new = place.build(), a_secret(), a_secret()
    target.deliver(a_delivery(old), target.observe("checkout"))
    shown = target.preview(a_delivery(new, 2))
    assert str(old.key_id) in shown
    assert str(new.key_id) in shown
    assert old.reveal() not in shown
    assert new.reveal() not in shown
    assert place.read() == old.reveal()


def test_a_delivery_onto_something_else_than_was_seen_is_a_conflict(place: Place) -> None:
    target, secret = place.build(), a_secret()
    seen = target.observe("checkout")
    place.build().deliver(a_delivery(secret), seen)
    with pytest.raises(Conflict):
        target.deliver(a_delivery(a_secret(), 2), seen)
    assert place.read() == secret.reveal()


def test_a_target_never_goes_back_to_an_older_generation(place: Place) -> None:
    target, newer = place.build(), a_secret()
    target.deliver(a_delivery(newer, 5), target.observe("checkout"))
    with pytest.raises(Conflict):
        target.deliver(a_delivery(a_secret(), 4), target.observe("checkout"))
    assert place.read() == newer.reveal()


def test_what_somebody_else_put_there_is_left_alone_unless_it_is_adopted(place: Place) -> None:
    foreign = secrets.token_hex(8)
    place.overwrite(foreign)
    target = place.build()
    seen = target.observe("checkout")
    assert seen.problem is Reason.FOREIGN_ENTRY
    assert "adopt: true" in seen.text
    for attempt in (lambda: target.deliver(a_delivery(a_secret()), seen), lambda: target.check("checkout")):
        with pytest.raises(Refused) as refused:
            attempt()
        assert refused.value.reason is Reason.FOREIGN_ENTRY
    assert place.read() == foreign
    adopting, secret = place.build(adopt=True), a_secret()
    adopting.check("checkout")
    adopting.deliver(a_delivery(secret), adopting.observe("checkout"))
    assert place.read() == secret.reveal()


def test_a_key_that_an_outsider_took_away_comes_back(place: Place) -> None:
    target, secret = place.build(), a_secret()
    target.deliver(a_delivery(secret), target.observe("checkout"))
    place.remove()
    seen = target.observe("checkout")
    assert seen.key_id is None
    assert seen.problem is None
    target.deliver(a_delivery(secret), seen)
    assert place.read() == secret.reveal()


def test_no_error_tells_a_key(place: Place) -> None:
    place.overwrite(secrets.token_hex(8))
    target, secret = place.build(), a_secret()
    with pytest.raises(RotatorError) as problem:
        target.deliver(a_delivery(secret), target.observe("checkout"))
    told: BaseException | None = problem.value
    while told is not None:
        assert secret.reveal() not in repr(told) + str(told)
        told = told.__cause__ or told.__context__
