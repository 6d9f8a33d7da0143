"""The API server slow, restarted, or answering 409, 429 and 500: nothing is lost, and Secrets converge."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rotator.domain.errors import AnswerLost, Conflict, RateLimited, RotatorError, Unreachable
from rotator.domain.ports import Target
from rotator.domain.secret import Secret
from tests.contract.targets.kinds import SecretPlace, a_delivery, a_secret
from tests.contract.targets.test_workloads import ENV
from tests.support.daemon import wait_until
from tests.support.weather import Asked, Reply, WeatherProxy


@pytest.fixture
def weather(spot: SecretPlace) -> Iterator[WeatherProxy]:
    with WeatherProxy(spot.cluster.address, spot.cluster.ca_file) as proxy:
        yield proxy


def applies(asked: Asked) -> bool:
    return asked.method == "PATCH" and "/secrets/" in asked.path and "dryRun" not in asked.path


def converge(target: Target, secret: Secret) -> None:
    """Tried again until it goes through, as the engine does: a loaded API server has weather of its own, and what came late conflicts."""
    problems: list[RotatorError] = []

    def settle() -> bool:
        try:
            return target.deliver(a_delivery(secret), target.observe("checkout")).key_id == secret.key_id
        except RotatorError as problem:
            problems.append(problem)
            return False

    try:
        wait_until(settle, what="the Secret to converge, whatever came late")
    except AssertionError as late:
        raise AssertionError(f"{late}; {len(problems)} problems, the last: {problems[-1]!r}") from None


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply(409, "Conflict"), Conflict),
        (Reply(429, "TooManyRequests", {"Retry-After": "7"}), RateLimited),
        (Reply(500, "InternalError"), AnswerLost),
        (Reply(503, "ServiceUnavailable", {"Retry-After": "1"}), Unreachable),
        (Reply(200, lost=True), AnswerLost),
        (Reply(302), Unreachable),
    ],
    ids=["409", "429", "500", "503 with Retry-After", "answer lost", "302"],
)
@pytest.mark.parametrize("when", ["first", "second"])
def test_a_write_that_meets_bad_weather_is_told_as_it_was_and_goes_through_afterwards(
    spot: SecretPlace, weather: WeatherProxy, reply: Reply, error: type[RotatorError], when: str
) -> None:
    """The first write makes an empty Secret, the second fills it."""
    target, secret = spot.build(server=weather.address), a_secret()
    seen, number = target.observe("checkout"), iter(range(1, 100))
    weather.judge = lambda asked: reply if applies(asked) and next(number) == (1 if when == "first" else 2) else None
    with pytest.raises(error) as problem:
        target.deliver(a_delivery(secret), seen)
    assert secret.reveal() not in str(problem.value)
    if isinstance(problem.value, RateLimited):
        assert problem.value.after is not None
        assert problem.value.after.total_seconds() == 7
    converge(target, secret)
    assert spot.read() == secret.reveal()


@pytest.mark.parametrize(
    ("reply", "error"), [(Reply(429, "TooManyRequests", {"Retry-After": "3"}), RateLimited), (Reply(500), Unreachable), (Reply(404), None)]
)
def test_a_look_that_meets_bad_weather_says_nothing_of_the_secret(
    spot: SecretPlace, weather: WeatherProxy, reply: Reply, error: type[RotatorError] | None
) -> None:
    target, secret = spot.build(server=weather.address), a_secret()
    target.deliver(a_delivery(secret), target.observe("checkout"))
    weather.judge = lambda asked: reply if asked.method == "GET" else None
    if error is None:
        assert target.observe("checkout").key_id is None
        return
    with pytest.raises(error):
        target.observe("checkout")
    weather.judge = lambda _asked: None
    assert target.observe("checkout").key_id == secret.key_id


def test_a_create_that_came_late_is_gone_on_with(spot: SecretPlace, weather: WeatherProxy) -> None:
    """It was not there when it was looked for, and is when it is made once more."""
    target, secret = spot.build(server=weather.address), a_secret()
    seen = target.observe("checkout")
    weather.judge = lambda asked: Reply(200, lost=True) if applies(asked) else None
    with pytest.raises(AnswerLost):
        target.deliver(a_delivery(secret), seen)
    weather.judge = lambda _asked: None
    assert target.deliver(a_delivery(secret), seen).key_id == secret.key_id
    assert target.observe("checkout", fresh=True).key_id == secret.key_id


def test_a_slow_server_costs_the_time_limit_and_no_more(spot: SecretPlace, weather: WeatherProxy) -> None:
    import threading

    release = threading.Event()

    def wait(asked: Asked) -> Reply | None:
        if applies(asked):
            release.wait(60)
        return None

    target, secret = spot.build(server=weather.address, timeout="1s"), a_secret()
    seen = target.observe("checkout")
    weather.judge = wait
    started = time.monotonic()
    with pytest.raises(AnswerLost, match="gave no answer"):
        target.deliver(a_delivery(secret), seen)
    assert time.monotonic() - started < 30
    release.set()
    weather.judge = lambda _asked: None
    converge(target, secret)
    assert spot.read() == secret.reveal()


def test_a_restart_that_lost_its_answer_restarts_nobody_twice(spot: SecretPlace, weather: WeatherProxy) -> None:
    path = spot.cluster.workload(spot.namespace, "shop", ENV)
    spot.cluster.wait_ready(path)
    target, secret = spot.build(server=weather.address, restart="auto"), a_secret()
    lose = iter([Reply(200, lost=True)])
    weather.judge = lambda asked: next(lose, None) if asked.method == "PATCH" and "/deployments/" in asked.path else None
    with pytest.raises(AnswerLost):
        target.deliver(a_delivery(secret), target.observe("checkout"))
    generation = spot.cluster.call("GET", path)["metadata"]["generation"]
    for _ in range(3):
        target.deliver(a_delivery(secret), target.observe("checkout"))
    assert spot.cluster.call("GET", path)["metadata"]["generation"] == generation


def test_an_api_server_that_restarts_is_waited_for(spot: SecretPlace) -> None:
    import threading

    target, secret = spot.build(), a_secret()
    target.deliver(a_delivery(secret), target.observe("checkout"))
    told = threading.Event()
    target.follow(told.set)
    wait_until(lambda: target.observe("checkout").remembered, what="a live watch")
    spot.cluster.apiserver.kill()
    with pytest.raises(RotatorError) as problem:
        target.observe("checkout", fresh=True)
    assert isinstance(problem.value, Unreachable)
    spot.cluster.start_apiserver()
    wait_until(lambda: target.observe("checkout").remembered, 60, what="the watch to come back")
    told.clear()
    spot.remove()
    assert told.wait(60)
    target.deliver(a_delivery(secret), target.observe("checkout"))
    assert spot.read() == secret.reveal()
    target.close()


def test_a_stranger_at_the_address_is_no_api_server(spot: SecretPlace, weather: WeatherProxy) -> None:
    class Page(Reply):
        def body(self) -> bytes:
            return b"<html>sign in</html>"

    weather.judge = lambda _asked: Page(200, headers={"Content-Type": "text/html"})
    with pytest.raises(Unreachable, match="no API server"):
        spot.build(server=weather.address).observe("checkout")
