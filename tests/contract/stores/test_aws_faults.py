"""A lost answer, a crash, a stale read and a second daemon, at each single call of each change, over the strict fake."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest

from rotator.domain.errors import AnswerLost, Conflict, IllegalTransition, RateLimited, RotatorError, Unreachable
from rotator.domain.ports import Holding
from rotator.domain.record import Change, Retire, apply
from tests.contract.stores.aws_scenes import NEW, PATH, SCENES, Crash, Mortal, Scene, count_calls, expect, see_picture
from tests.contract.stores.build import a_note, at, commit_all
from tests.support.aws import connect_cheaply, get_fake, open_store
from tests.support.aws_fake import Call, Fault, Lost

ANSWERS = {"lost": Lost(), "failed": Fault("InternalServiceError", status=500), "throttled": Fault("ThrottlingException")}


def _paint(scene: Scene) -> dict[str, set[str | None]]:
    """The labels when all went well."""
    store, seen, change = scene.set()
    store.commit(PATH, seen, change)
    commit_all(store, PATH, a_note("end", 1))
    return see_picture(get_fake().fake)


def _settle(seen: Holding, change: Change, where: str) -> None:
    """A fresh client finds the change done or not done, nothing between, does it where it is not, and the labels come right."""
    store = open_store(get_fake().url)
    holding = store.read(PATH)
    assert holding.record in (seen.record, expect(seen, change)), where
    assert holding.record is None or {key.key_id for key in holding.record.keys} <= set(holding.secrets), where
    if holding.record != expect(seen, change):
        holding = store.commit(PATH, holding, change)
    assert holding.record == expect(seen, change), where
    current = holding.record.current if holding.record else None
    assert holding.current == (current.key_id if current else None), where
    assert store.read(PATH) == holding, where
    commit_all(store, PATH, a_note("end", 1))


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_that_never_comes_is_settled_by_looking(name: str, kind: str) -> None:
    scene, fake = SCENES[name], get_fake().fake
    picture, failed = _paint(scene), 0
    for moment in range(1, count_calls(scene) + 1):
        store, seen, change = scene.set()
        fake.calls.clear()

        def fail(_: Call, moment: int = moment) -> None:
            if len(fake.calls) == moment:
                raise ANSWERS[kind]

        fake.before, fake.after = (None, fail) if kind == "lost" else (fail, None)
        try:
            store.commit(PATH, seen, change)
        except (Unreachable, RateLimited):
            failed += 1
        fake.before = fake.after = None
        _settle(seen, change, f"{name}, call {moment} {kind}")
        assert see_picture(fake) == picture, f"{name}, call {moment} {kind}"
    assert failed > 0


@pytest.mark.parametrize("name", SCENES)
def test_a_crash_after_any_call_is_settled_by_the_next_reader(name: str) -> None:
    scene, server = SCENES[name], get_fake()
    picture = _paint(scene)
    for moment in range(1, count_calls(scene) + 1):
        _, seen, change = scene.set()
        dying = open_store(server.url, connect=lambda config, moment=moment: Mortal(connect_cheaply(config), moment))  # type: ignore[misc]
        with pytest.raises(Crash):
            dying.commit(PATH, seen, change)
        _settle(seen, change, f"{name}, crash after call {moment}")
        assert see_picture(server.fake) == picture, f"{name}, crash after call {moment}"


@pytest.mark.parametrize("name", SCENES)
def test_a_commit_on_stale_reads_is_done_or_not_done(name: str) -> None:
    scene, fake = SCENES[name], get_fake().fake
    for lag in (1, 2, 3, 5):
        store, seen, change = scene.set()
        fake.lag = lag
        with contextlib.suppress(RotatorError):
            store.commit(PATH, seen, change)
        fake.lag = 0
        _settle(seen, change, f"{name}, lag {lag}")


@pytest.mark.parametrize("name", SCENES)
def test_a_stale_read_is_never_taken_for_news(name: str) -> None:
    """Who has seen the change done does not see it undone, as long as AWS may lag."""
    scene, server = SCENES[name], get_fake()
    for lag in (1, 2, 3):
        scene.set()
        store = open_store(server.url, patience=timedelta(hours=1))
        seen = store.read(PATH)
        change = scene.change(seen.record)
        done = store.commit(PATH, seen, change)
        server.fake.lag = lag
        try:
            assert store.read(PATH).record == done.record, f"{name}, lag {lag}"
        except Unreachable:
            continue
        finally:
            server.fake.lag = 0


@pytest.mark.parametrize("name", ["promote", "promote-begun", "promote-fenced", "roll-back", "adopt-held"])
def test_labels_that_lag_behind_the_record_are_not_a_strangers_work(name: str) -> None:
    """A second daemon reads the new record beside the old labels: it must not take the former key for one that was put back."""
    scene, server = SCENES[name], get_fake()
    store, seen, change = scene.set()
    done = store.commit(PATH, seen, change)
    for lag in range(1, 45):
        server.fake.lags = {PATH: lag}
        try:
            assert open_store(server.url, patience=timedelta(hours=1)).read(PATH).current == done.current, f"{name}, lag {lag}"
        except Unreachable:
            continue


def test_labels_from_before_a_fence_are_doubted_by_who_made_it() -> None:
    """Key and record fit, but a promotion that is announced onto the former version would look as if it had been made."""
    scene, server = SCENES["retire-begun"], get_fake()
    scene.set()
    store = open_store(server.url, patience=timedelta(hours=1))
    seen = store.read(PATH)
    done = store.commit(PATH, seen, scene.change(seen.record))
    assert store.read(PATH) == done
    doubted = 0
    for lag in range(1, 12):
        server.fake.lags = {PATH: lag}
        try:
            assert store.read(PATH).revision == done.revision, f"lag {lag}"
        except Unreachable:
            doubted += 1
    assert doubted


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("other", ["note", "retire"])
def test_of_two_daemons_at_each_call_no_change_is_lost(name: str, other: str) -> None:
    """One stands still before its n-th call while another one makes a whole change."""
    scene, server = SCENES[name], get_fake()
    fake, second = server.fake, open_store(server.url)
    rival = a_note("rival", 1) if other == "note" else Retire(NEW.key_id, at(8))
    for moment in range(1, count_calls(scene) + 1):
        store, seen, change = scene.set()
        fake.calls.clear()
        order: list[Change] = []

        def interfere(call: Call, moment: int = moment, order: list[Change] = order) -> None:
            if len(fake.calls) == moment:
                fake.before = None
                try:
                    commit_all(second, PATH, rival)
                    order.append(rival)
                except (IllegalTransition, Conflict):
                    pass

        fake.before = interfere
        try:
            store.commit(PATH, seen, change)
            done = True
        except Conflict:
            done = False
        fake.before = None
        _check_order(seen, change if done else None, order, f"{name}, {other} before call {moment}")


def _check_order(seen: Holding, change: Change | None, order: list[Change], where: str) -> None:
    """What stands is what one order of the acknowledged changes gives, and consumers find what it says."""
    holding = open_store(get_fake().url).read(PATH)
    wanted = []
    for changes in ([*order, change], [change, *order]):
        record = seen.record
        try:
            for one in changes:
                record = apply(record, one) if one is not None else record
        except IllegalTransition:
            continue
        wanted.append(record)
    assert holding.record in wanted, where
    current = holding.record.current if holding.record else None
    stranger = seen.record is not None and seen.record.current is not None and seen.current != seen.record.current.key_id
    if change is not None or not stranger:
        assert holding.current == (current.key_id if current else None), where


def test_a_promotion_that_was_given_up_cannot_be_finished_later() -> None:
    """A daemon stands still before it moves AWSCURRENT; another gives the key up; the first one wakes up."""
    scene, server = SCENES["promote"], get_fake()
    fake, second = server.fake, open_store(server.url)
    store, seen, change = scene.set()
    before = fake.text(PATH)

    def interfere(call: Call) -> None:
        if call.name == PATH and call.action == "UpdateSecretVersionStage" and call.body["VersionStage"] == "AWSCURRENT":
            fake.before = None
            commit_all(second, PATH, Retire(NEW.key_id, at(8)))

    fake.before = interfere
    with pytest.raises(Conflict):
        store.commit(PATH, seen, change)
    assert fake.text(PATH) == before
    record = second.read(PATH).record
    assert record is not None
    assert [key.key_id for key in record.retiring][-1] == NEW.key_id


def test_a_lost_commit_point_is_told_as_such() -> None:
    store, seen, change = SCENES["promote"].set()
    fake = get_fake().fake

    def lose(call: Call) -> None:
        if call.name == PATH and call.action == "UpdateSecretVersionStage" and call.body["VersionStage"] == "AWSCURRENT":
            raise Lost

    fake.after = lose
    with pytest.raises(AnswerLost):
        store.commit(PATH, seen, change)
    fake.after = None
    assert store.read(PATH).record == expect(seen, change)
