"""What each worker believes of a key, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.sandbox import SandboxControl

Start = Callable[..., SandboxControl]


def test_a_revoked_key_lives_on_where_it_is_cached_until_the_cache_time_has_passed(start: Start) -> None:
    control = start(workers=2, cache_time=300)
    key = control.mint()
    assert control.probe(key, worker=0).alive
    control.advance(100)
    control.revoke(key.key_id)
    assert control.probe(key, worker=0).alive
    assert control.probe(key, worker=1).error == "invalid_api_key"
    control.advance(199.9)
    assert control.probe(key, worker=0).alive
    control.advance(0.2)
    assert control.probe(key, worker=0).error == "invalid_api_key"


def test_use_does_not_lengthen_what_a_worker_believes(start: Start) -> None:
    control = start(workers=1, cache_time=10)
    key = control.mint()
    for _ in range(3):
        control.probe(key)
        control.advance(3)
    control.revoke(key.key_id)
    control.advance(1.5)
    assert not control.probe(key).alive


def test_without_a_cache_time_a_revocation_holds_at_once(start: Start) -> None:
    control = start(cache_time=0)
    key = control.mint()
    assert control.probe(key).alive
    control.revoke(key.key_id)
    assert not control.probe(key).alive


def test_requests_go_to_the_workers_in_turn(start: Start) -> None:
    control = start(workers=3)
    key = control.mint()
    control.probe(key)
    control.probe(key)
    states = [worker["cache"] for worker in control.key(key.key_id)["workers"]]
    assert sorted(states) == ["absent", "verified", "verified"]


def test_a_worker_that_is_not_there_cannot_be_named(start: Start) -> None:
    control = start(workers=2)
    assert control.probe(control.mint(), worker=2).error == "invalid_params"


def test_refusals_are_forgotten_at_once_unless_they_are_cached(start: Start) -> None:
    control = start(workers=2, propagation=10)
    key = control.mint()
    assert not control.probe(key, worker=1).alive
    control.advance(10)
    assert control.probe(key, worker=1).alive


def test_a_cached_refusal_outlives_its_cause(start: Start) -> None:
    control = start(workers=2, propagation=10, cache_refusals=True, cache_time=60)
    key = control.mint()
    assert control.probe(key, worker=0).alive
    assert not control.probe(key, worker=1).alive
    control.advance(59)
    assert not control.probe(key, worker=1).alive
    assert control.accepted_by(key) == {0}
    control.advance(1)
    assert control.probe(key, worker=1).alive


def test_a_new_key_reaches_the_workers_one_after_the_other(start: Start) -> None:
    control = start(workers=3, propagation=5)
    key = control.mint()
    assert control.accepted_by(key) == {0}
    control.advance(5)
    assert control.accepted_by(key) == {0, 1}
    assert [control.probe(key, worker=number).alive for number in range(3)] == [True, True, False]
    control.advance(5)
    assert control.accepted_by(key) == {0, 1, 2}


def test_flushing_makes_every_worker_look_again(start: Start) -> None:
    control = start(workers=2)
    key = control.mint()
    for worker in range(2):
        control.probe(key, worker=worker)
    control.revoke(key.key_id)
    assert control.accepted_by(key) == {0, 1}
    control.flush()
    assert control.accepted_by(key) == set()
    assert not control.probe(key).alive


def test_the_truth_about_a_key(start: Start) -> None:
    control = start(workers=2)
    key = control.mint(label="a/b/c", project="shop")
    assert control.key(key.key_id)["last_used_at"] is None
    control.probe(key, worker=1)
    truth = control.key(key.key_id)
    assert (truth["uses"], truth["label"], truth["project"], truth["revoked_at"]) == (1, "a/b/c", "shop", None)
    assert truth["last_used_at"].endswith("Z")
    assert truth["workers"] == [
        {"worker": 0, "cache": "absent", "expires_in": None, "accepts": True},
        {"worker": 1, "cache": "verified", "expires_in": 300.0, "accepts": True},
    ]


def test_settings_change_while_it_runs(start: Start) -> None:
    control = start(workers=1)
    key = control.mint()
    control.probe(key)
    control.revoke(key.key_id)
    control.advance(20)
    assert control.probe(key).alive
    assert control.settings(cache_time=10)["cache_time"] == 10
    assert not control.probe(key).alive


def test_settings_that_cannot_be_are_refused_by_name(start: Start) -> None:
    control = start()
    changes: list[dict[str, Any]] = [
        {"workers": 3},
        {"cache_time": -1},
        {"cache_time": "1"},
        {"plan": "gold"},
        {"cache_refusals": 1},
        {"plans": []},
    ]
    for change in changes:
        answer = control.http.put("/sandbox/settings", json=change)
        assert answer.status_code == 400
        assert next(iter(change)).rstrip("s") in answer.json()["details"]["settings"]
