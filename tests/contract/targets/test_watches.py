"""Changes by others are told of: by a watch for each name, by one watch a namespace for all of ours, by looks beyond their number."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rotator.domain.errors import Conflict
from rotator.domain.ports import Target
from rotator.targets.kubernetes.target import KubernetesTarget
from tests.contract.targets.kinds import SecretPlace, a_delivery, a_secret, surround
from tests.support.daemon import wait_until
from tests.support.weather import Reply, WeatherProxy

WITHIN = 30.0
"""seconds: sooner than a poll, which comes after a minute"""


@pytest.fixture
def weather(spot: SecretPlace) -> Iterator[WeatherProxy]:
    with WeatherProxy(spot.cluster.address, spot.cluster.ca_file) as proxy:
        yield proxy


@contextmanager
def following(target: Target) -> Iterator[threading.Event]:
    told = threading.Event()
    target.follow(told.set)
    try:
        yield told
    finally:
        target.close()


def remembers(target: Target) -> bool:
    return target.observe("checkout").remembered


def bring(target: Target, generation: int = 1) -> str:
    secret = a_secret()
    for _ in range(5):  # what is remembered may be behind for a moment
        try:
            target.deliver(a_delivery(secret, generation), target.observe("checkout", fresh=True))
        except Conflict:
            continue
        return secret.reveal()
    raise AssertionError("five conflicts in a row")


def ours(spot: SecretPlace) -> dict[str, object]:
    team = f"team-{spot.namespace}"
    spot.cluster.merge(f"/api/v1/namespaces/{spot.namespace}", {"metadata": {"labels": {"team": team}}})
    return {"namespaces": {"selector": f"team={team}"}}


@pytest.mark.parametrize("mode", ["named", "by label"])
def test_a_target_that_is_closed_leaves_no_thread(spot: SecretPlace, mode: str) -> None:
    """At each reload targets are closed and built anew; an idle watch would hold its thread for a minute."""
    target = spot.build(**(ours(spot) if mode == "by label" else {}))
    bring(target)
    before = set(threading.enumerate())
    with following(target):
        wait_until(lambda: remembers(target), WITHIN, what="a live watch")
        assert any(thread.name.startswith("watch-") for thread in set(threading.enumerate()) - before)
    wait_until(lambda: not any(t.name.startswith("watch-") for t in set(threading.enumerate()) - before), WITHIN, what="the threads' end")


@pytest.mark.parametrize("mode", ["named", "by label"])
def test_a_change_by_somebody_else_is_told_of_and_nothing_is_asked_meanwhile(spot: SecretPlace, weather: WeatherProxy, mode: str) -> None:
    target = spot.build(server=weather.address, **(ours(spot) if mode == "by label" else {}))
    bring(target)
    with following(target) as told:
        wait_until(lambda: remembers(target), WITHIN, what="a live watch")
        told.clear()
        weather.forget()
        assert all(remembers(target) for _ in range(20))
        assert weather.count() == 0
        bring(target, 2)
        assert remembers(target)
        assert weather.count(lambda asked: asked.writes) == 1
        told.clear()
        spot.overwrite("meddled")
        assert told.wait(WITHIN)
        wait_until(lambda: target.observe("checkout").key_id is None, WITHIN, what="the change to be known")
        bring(target, 3)
        told.clear()
        spot.remove()
        assert told.wait(WITHIN)
        wait_until(lambda: target.observe("checkout").key_id is None, WITHIN, what="the removal to be known")
        assert not target.observe("checkout", fresh=True).remembered


def test_beyond_their_number_secrets_are_looked_at_instead(spot: SecretPlace, weather: WeatherProxy) -> None:
    other = spot.cluster.namespace()
    watched, polled = sorted([spot.namespace, other])
    target = spot.build(server=weather.address, namespaces=[watched, polled], watches=1, poll="1s")
    bring(target)
    with following(target) as told:
        wait_until(lambda: weather.count(lambda asked: asked.watches), WITHIN, what="the watch")
        assert not weather.count(lambda asked: asked.watches and f"/{polled}/" in asked.path)
        told.clear()
        spot.cluster.call("DELETE", f"/api/v1/namespaces/{polled}/secrets/{spot.name}")
        assert told.wait(WITHIN)


def test_a_namespace_that_comes_later_is_told_of_and_watched(spot: SecretPlace, weather: WeatherProxy) -> None:
    selector = ours(spot)
    team = f"team-{spot.namespace}"
    target = spot.build(server=weather.address, **selector)
    bring(target)
    with following(target) as told:
        wait_until(lambda: remembers(target), WITHIN, what="a live watch")
        told.clear()
        later = spot.cluster.namespace(team=team)
        assert told.wait(WITHIN)
        bring(target, 2)
        assert spot.cluster.find_secret(later, spot.name) is not None
        wait_until(lambda: remembers(target), WITHIN, what="a watch in the new namespace")
        told.clear()
        spot.cluster.call("DELETE", f"/api/v1/namespaces/{later}")
        assert told.wait(WITHIN)


def test_targets_of_one_cluster_share_a_namespace_s_watch(spot: SecretPlace, weather: WeatherProxy) -> None:
    selector = ours(spot)
    around = surround(spot.folder)
    configs = [spot.config(server=weather.address, **selector)]
    configs += [configs[0].model_copy(update={"name": f"other-{n}"}) for n in range(4)]
    targets: list[KubernetesTarget] = [config.build(around) for config in configs]
    told = [threading.Event() for _ in targets]
    for target, event in zip(targets, told, strict=True):
        bring(target)
        target.follow(event.set)
    for target in targets:
        wait_until(lambda target=target: remembers(target), WITHIN, what="a live watch")
    assert weather.count(lambda asked: asked.watches and "/secrets" in asked.path) == 1
    for event in told:
        event.clear()
    spot.cluster.call("DELETE", f"/api/v1/namespaces/{spot.namespace}/secrets/other-2")
    assert told[3].wait(WITHIN)
    assert [event.is_set() for event in told] == [False, False, False, True, False]
    for target in targets:
        target.close()


@pytest.mark.parametrize("mode", ["named", "by label"])
def test_what_secrets_hold_never_enters_the_process(spot: SecretPlace, weather: WeatherProxy, mode: str) -> None:
    target = spot.build(server=weather.address, **(ours(spot) if mode == "by label" else {}))
    keys = [bring(target)]
    with following(target) as told:
        wait_until(lambda: remembers(target), WITHIN, what="a live watch")
        keys.append(bring(target, 2))
        told.clear()
        spot.overwrite("meddled-with")
        assert told.wait(WITHIN)
        keys.append(bring(target, 3))
    heard = b"".join(weather.heard)
    assert b"PartialObjectMetadata" in heard
    for text in ("meddled-with", *keys):
        assert text.encode() not in heard
        assert base64.b64encode(text.encode()) not in heard


@pytest.mark.parametrize("mode", ["named", "by label"])
def test_a_watch_that_broke_goes_on_where_it_was(spot: SecretPlace, weather: WeatherProxy, mode: str) -> None:
    target = spot.build(server=weather.address, **(ours(spot) if mode == "by label" else {}))
    bring(target)
    with following(target) as told:
        wait_until(lambda: remembers(target), WITHIN, what="a live watch")
        away = threading.Event()
        weather.judge = lambda asked: Reply(503) if asked.watches and not away.is_set() else None
        told.clear()
        weather.cut()
        wait_until(lambda: not remembers(target), WITHIN, what="the loss to be noticed")
        spot.remove()
        away.set()
        assert told.wait(WITHIN), "what happened in the gap is told"
        assert target.observe("checkout").key_id is None


@pytest.mark.parametrize("mode", ["named", "by label"])
def test_a_version_that_the_server_has_forgotten_begins_anew(spot: SecretPlace, weather: WeatherProxy, mode: str) -> None:
    target = spot.build(server=weather.address, **(ours(spot) if mode == "by label" else {}))
    bring(target)
    with following(target) as told:
        wait_until(lambda: remembers(target), WITHIN, what="a live watch")
        # What the server says of a version that was compacted away; its own are kept for five minutes at least.
        gone = lambda asked: asked.watches and "resourceVersion=" in asked.path and "/secrets" in asked.path  # noqa: E731
        once = iter([Reply(410, "Expired")])
        weather.judge = lambda asked: next(once, None) if gone(asked) else None
        told.clear()
        weather.cut()
        spot.remove()
        assert told.wait(WITHIN), "what was deleted in the gap is told"
        assert target.observe("checkout").key_id is None
        wait_until(lambda: weather.count(lambda asked: asked.watches) > 1, WITHIN, what="a new watch")


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (500, "InternalError")])
def test_where_no_watch_is_to_be_had_it_is_looked_at(spot: SecretPlace, weather: WeatherProxy, status: int, reason: str) -> None:
    weather.judge = lambda asked: Reply(status, reason) if asked.watches else None
    target = spot.build(server=weather.address, poll="1s")
    bring(target)
    with following(target) as told:
        wait_until(lambda: weather.count(lambda asked: asked.watches) >= 2, WITHIN, what="two attempts")
        assert not remembers(target)
        told.clear()
        spot.remove()
        assert told.wait(WITHIN)


def test_closed_is_silent_and_everybody_else_goes_on(spot: SecretPlace, weather: WeatherProxy) -> None:
    around = surround(spot.folder)
    config = spot.config(server=weather.address)
    first, second = config.build(around), config.build(around)
    bring(first)
    told = threading.Event(), threading.Event()
    first.follow(told[0].set)
    second.follow(told[1].set)
    wait_until(lambda: remembers(first) and remembers(second), WITHIN, what="a live watch")
    first.close()
    for event in told:
        event.clear()
    spot.remove()
    assert told[1].wait(WITHIN)
    assert not told[0].is_set()
    second.close()
