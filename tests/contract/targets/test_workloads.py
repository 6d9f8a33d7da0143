"""Workloads that use the Secret: found, restarted once a key, followed until no pod of before is left; those that cannot are named."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

from rotator.domain.facts import Level
from rotator.domain.ports import Observation, Target
from tests.contract.targets.kinds import SecretPlace, a_delivery, a_secret
from tests.support.daemon import wait_until

WITHIN = 60.0
IMAGE = {"name": "main", "image": "made-up"}
ENV: Any = {"containers": [{**IMAGE, "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "millimetric", "key": "api_key"}}}]}]}
ENV_FROM: Any = {"containers": [{**IMAGE, "envFrom": [{"secretRef": {"name": "millimetric"}}]}]}
INIT: Any = {"initContainers": [{**IMAGE, "name": "init", "envFrom": [{"secretRef": {"name": "millimetric"}}]}], "containers": [IMAGE]}
VOLUME: Any = {
    "containers": [{**IMAGE, "volumeMounts": [{"name": "keys", "mountPath": "/keys"}]}],
    "volumes": [{"name": "keys", "secret": {"secretName": "millimetric"}}],
}
SUB_PATH: Any = {
    "containers": [{**IMAGE, "volumeMounts": [{"name": "keys", "mountPath": "/keys/api_key", "subPath": "api_key"}]}],
    "volumes": [{"name": "keys", "secret": {"secretName": "millimetric"}}],
}
PROJECTED: Any = {
    "containers": [{**IMAGE, "volumeMounts": [{"name": "keys", "mountPath": "/keys"}]}],
    "volumes": [{"name": "keys", "projected": {"sources": [{"secret": {"name": "millimetric"}}]}}],
}
NOTHING: Any = {"containers": [IMAGE]}
NOTE = "millimetric.rotator/key-id"


def bring(target: Target, generation: int = 1, credential: str = "checkout") -> Any:
    """A new key, delivered as often as there is something to deliver: the engine does the same."""
    secret = a_secret()
    target.deliver(a_delivery(secret, generation), target.observe(credential))
    return secret


def drive(target: Target, secret: Any, generation: int, until: Callable[[Observation], Any]) -> Observation:
    """Look, and deliver whatever is behind, until the receipt says so."""

    def look() -> Observation | None:
        seen = target.observe("checkout", fresh=True)
        if seen.key_id != secret.key_id:
            seen = target.deliver(a_delivery(secret, generation), seen)
        return seen if until(seen) else None

    found: Observation = wait_until(look, WITHIN, every=0.2, what="the receipt")
    return found


def template(spot: SecretPlace, path: str) -> dict[str, str]:
    found: dict[str, str] = spot.cluster.call("GET", path)["spec"]["template"]["metadata"].get("annotations", {})
    return found


@pytest.mark.parametrize(
    ("kind", "pod"),
    [
        ("Deployment", ENV),
        ("Deployment", ENV_FROM),
        ("Deployment", INIT),
        ("Deployment", SUB_PATH),
        ("StatefulSet", VOLUME),
        ("DaemonSet", PROJECTED),
    ],
    ids=["env", "envFrom", "init container", "subPath", "StatefulSet volume", "DaemonSet projected"],
)
def test_what_uses_the_secret_is_restarted_and_followed_until_no_pod_of_before_is_left(spot: SecretPlace, kind: str, pod: Any) -> None:
    target = spot.build(restart="auto")
    bring(target)
    path = spot.cluster.workload(spot.namespace, "shop", pod, kind, **({"replicas": 2} if kind != "DaemonSet" else {}))
    other = spot.cluster.workload(spot.namespace, "other", NOTHING)
    spot.cluster.wait_ready(path)
    secret = a_secret()
    at_once = target.deliver(a_delivery(secret, 2), target.observe("checkout"))
    assert (at_once.key_id, at_once.level) == (secret.key_id, Level.PLACED)
    assert "shop" in at_once.text
    seen = drive(target, secret, 2, lambda seen: seen.level is Level.IN_USE and seen.key_id == secret.key_id)
    assert seen.text == ""
    assert {pod["metadata"]["annotations"][NOTE] for pod in spot.cluster.pods(spot.namespace, "shop")} == {str(secret.key_id)}
    assert NOTE not in template(spot, other)


def test_the_same_key_never_restarts_twice_nor_does_a_new_process(spot: SecretPlace) -> None:
    path = spot.cluster.workload(spot.namespace, "shop", ENV)
    spot.cluster.wait_ready(path)
    target = spot.build(restart="auto")
    secret = bring(target)
    drive(target, secret, 1, lambda seen: seen.level is Level.IN_USE)
    generation = spot.cluster.call("GET", path)["metadata"]["generation"]
    for again in (target, spot.build(restart="auto"), spot.build(restart="auto", labels={"team": "new"})):
        again.deliver(a_delivery(secret), again.observe("checkout"))
        drive(again, secret, 1, lambda seen: seen.level is Level.IN_USE)
    spot.remove()
    drive(target, secret, 1, lambda seen: seen.level is Level.IN_USE)
    assert spot.cluster.call("GET", path)["metadata"]["generation"] == generation


def test_two_secrets_of_one_workload_that_are_renewed_at_once_do_not_restart_it_in_turns(spot: SecretPlace) -> None:
    other = {"name": "OTHER", "valueFrom": {"secretKeyRef": {"name": "other", "key": "api_key"}}}
    pod = {"containers": [{**ENV["containers"][0], "env": [*ENV["containers"][0]["env"], other]}]}
    path = spot.cluster.workload(spot.namespace, "shop", pod, minReadySeconds=2)
    spot.cluster.wait_ready(path)
    targets = [spot.build(restart="auto"), spot.build(restart="auto", name="other")]
    keys = [a_secret(), a_secret()]
    texts: set[str] = set()

    def all_in_use() -> bool:
        seen = [target.observe("checkout", fresh=True) for target in targets]
        for number, (target, key) in enumerate(zip(targets, keys, strict=True)):
            if seen[number].key_id != key.key_id:
                target.deliver(a_delivery(key), seen[number])
        texts.update(one.text for one in seen)
        return all(one.key_id == key.key_id and one.level is Level.IN_USE for one, key in zip(seen, keys, strict=True))

    wait_until(all_in_use, WITHIN, every=0.2, what="both in use")
    assert "undone" not in "".join(texts)
    assert spot.cluster.call("GET", path)["metadata"]["generation"] <= 3, "once for each, at most"


def test_pods_that_were_made_after_the_key_are_left_alone(spot: SecretPlace) -> None:
    target = spot.build(restart="auto")
    secret = bring(target)
    placed = spot.find()["metadata"]["creationTimestamp"]

    def made_later() -> bool:
        spot.cluster.merge(f"/api/v1/namespaces/{spot.namespace}", {"metadata": {"labels": {"tick": "now"}}})
        probe = spot.cluster.call("POST", f"/api/v1/namespaces/{spot.namespace}/configmaps", {"metadata": {"generateName": "tick-"}})
        return bool(probe["metadata"]["creationTimestamp"] > placed)

    wait_until(made_later, WITHIN, every=0.3, what="the next second by the API server's clock")
    path = spot.cluster.workload(spot.namespace, "shop", ENV)
    spot.cluster.wait_ready(path)
    for one in (target, spot.build(restart="auto")):
        assert one.observe("checkout", fresh=True).level is Level.IN_USE
        one.deliver(a_delivery(secret), one.observe("checkout"))
    spot.build(restart="auto", labels={"team": "new"}).deliver(a_delivery(secret), target.observe("checkout", fresh=True))
    drive(spot.build(restart="auto", labels={"team": "new"}), secret, 1, lambda seen: seen.level is Level.IN_USE)
    assert NOTE not in template(spot, path)


def test_a_named_list_restarts_these_and_no_other(spot: SecretPlace) -> None:
    one, two = (spot.cluster.workload(spot.namespace, name, ENV) for name in ("one", "two"))
    for path in (one, two):
        spot.cluster.wait_ready(path)
    target = spot.build(restart=["deployment/one"])
    secret = bring(target)
    drive(target, secret, 1, lambda seen: seen.level is Level.IN_USE)
    assert template(spot, one)[NOTE] == str(secret.key_id)
    assert NOTE not in template(spot, two)


def test_none_is_placed_and_names_who_must_be_restarted(spot: SecretPlace) -> None:
    for name, pod in (("env", ENV), ("sub-path", SUB_PATH), ("volume", VOLUME)):
        spot.cluster.wait_ready(spot.cluster.workload(spot.namespace, name, pod))
    target = spot.build(restart="none")
    plan = target.preview(a_delivery(a_secret()))
    assert "deployment/env reads it as an environment variable" in plan
    assert "deployment/sub-path reads it as a subPath mount" in plan
    assert "deployment/volume" not in plan
    secret = bring(target)
    seen = target.observe("checkout")
    assert (seen.key_id, seen.level) == (secret.key_id, Level.PLACED)
    assert target.best_level is Level.PLACED
    assert "deployment/env is restarted" in spot.build(restart="auto").preview(a_delivery(a_secret(), 2))


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("Deployment", {"paused": True}, "paused"),
        ("StatefulSet", {"updateStrategy": {"type": "OnDelete"}}, "OnDelete"),
        ("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, "OnDelete"),
        ("StatefulSet", {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}}, "partitioned at 1"),
    ],
    ids=["paused", "StatefulSet OnDelete", "DaemonSet OnDelete", "partitioned"],
)
def test_what_does_not_roll_is_behind_and_says_why(spot: SecretPlace, kind: str, fields: Any, said: str) -> None:
    replicas = {} if kind == "DaemonSet" else {"replicas": 2}
    path = spot.cluster.workload(spot.namespace, "shop", ENV, kind, **{k: v for k, v in fields.items() if k != "paused"}, **replicas)
    spot.cluster.wait_ready(path)
    if "paused" in fields:
        spot.cluster.merge(path, {"spec": {"paused": True}})
    target = spot.build(restart="auto")
    secret = bring(target)
    seen = drive(target, secret, 1, lambda seen: seen.key_id == secret.key_id and seen.stuck)
    assert seen.level is Level.PLACED
    assert said in seen.text
    spot.cluster.merge(
        path, {"spec": {"paused": False} if "paused" in fields else {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": None}}}
    )
    drive(target, secret, 1, lambda seen: seen.level is Level.IN_USE)


def test_a_rollout_that_does_not_get_ready_is_stuck_after_the_deadline(spot: SecretPlace) -> None:
    path = spot.cluster.workload(spot.namespace, "shop", ENV)
    spot.cluster.wait_ready(path)
    # No node by that name: its pods wait for ever.
    spot.cluster.merge(path, {"spec": {"paused": True}})
    spot.cluster.merge(path, {"spec": {"template": {"spec": {"nodeName": "not-there"}}}})
    spot.cluster.merge(path, {"spec": {"paused": False}})
    target = spot.build(restart="auto", rollout_deadline="3s")
    secret = bring(target)
    seen = drive(target, secret, 1, lambda seen: seen.stuck)
    assert (seen.key_id, seen.level) == (secret.key_id, Level.PLACED)
    assert "deployment/shop" in seen.text
    assert "deadline" in seen.text


def test_a_pod_of_before_that_is_still_ending_counts(spot: SecretPlace) -> None:
    path = spot.cluster.workload(spot.namespace, "shop", ENV)
    spot.cluster.wait_ready(path)
    pod = spot.cluster.pods(spot.namespace, "shop")[0]["metadata"]["name"]
    where = f"/api/v1/namespaces/{spot.namespace}/pods/{pod}"
    spot.cluster.merge(where, {"metadata": {"finalizers": ["example.com/hold"]}})
    target = spot.build(restart="auto")
    secret = bring(target)
    seen = drive(target, secret, 1, lambda seen: seen.key_id == secret.key_id and "going" in seen.text)
    assert seen.level is Level.PLACED
    spot.cluster.merge(where, {"metadata": {"finalizers": None}})
    drive(target, secret, 1, lambda seen: seen.level is Level.IN_USE)


def test_a_restart_that_somebody_undoes_is_not_repeated(spot: SecretPlace) -> None:
    path = spot.cluster.workload(spot.namespace, "shop", ENV)
    spot.cluster.wait_ready(path)
    target = spot.build(restart="auto")
    assert spot.cluster.controllers.process is not None
    spot.cluster.controllers.process.send_signal(signal.SIGSTOP)  # nothing rolls meanwhile
    try:
        secret = bring(target)
        assert template(spot, path)[NOTE] == str(secret.key_id)
        for _ in range(3):
            spot.cluster.merge(path, {"spec": {"template": {"metadata": {"annotations": {NOTE: None}}}}})
            seen = target.deliver(a_delivery(secret), target.observe("checkout", fresh=True))
            assert (seen.key_id, seen.level, seen.stuck) == (secret.key_id, Level.PLACED, True)
            assert "undone" in seen.text
            assert NOTE not in template(spot, path)
    finally:
        spot.cluster.controllers.process.send_signal(signal.SIGCONT)


def test_a_workload_that_is_not_there_is_refused_before_a_key_is_minted(spot: SecretPlace) -> None:
    from rotator.domain.errors import Refused

    with pytest.raises(Refused, match="no deployment/missing"):
        spot.build(restart=["deployment/missing"]).check("checkout")
