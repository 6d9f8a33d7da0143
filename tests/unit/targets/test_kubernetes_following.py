"""What is known of Secrets, and how it is kept up to date: watches that end, places that fail, answers that come late. Over a fake API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rotator.domain.errors import Refused, RotatorError, Unreachable
from rotator.domain.facts import Level
from rotator.domain.ports import Delivery
from rotator.domain.secret import Secret
from rotator.targets.kubernetes import KubernetesTargetConfig
from rotator.targets.kubernetes.access import ClusterAccess
from rotator.targets.kubernetes.cluster import Cluster
from rotator.targets.kubernetes.feeds import Feed
from rotator.targets.kubernetes.following import Following
from rotator.targets.kubernetes.namespaces import Namespaces
from rotator.targets.kubernetes.secrets import Secrets
from rotator.targets.kubernetes.target import KubernetesTarget
from rotator.targets.surroundings import TargetSurroundings

WITHIN = 10.0
NAME = "millimetric"


class Clock:
    """A second goes by with each look at it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 23, tzinfo=UTC)

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


def build(api: Api, folder: Path, **settings: object) -> KubernetesTarget:
    usual = {"type": "kubernetes", "namespaces": ["a"], "name": NAME, "restart": "none"}
    target = KubernetesTargetConfig.model_validate({**usual, **settings}).build(TargetSurroundings("place", "test", folder, Clock()))
    asked: Any = api
    return replace(target, secrets=replace(target.secrets, api=asked), workloads=replace(target.workloads, api=asked))


def a_secret(namespace: str, version: str = "7", *, labelled: bool = True) -> dict[str, Any]:
    labels = {"rotator/target": "place"} if labelled else {}
    return {"metadata": {"namespace": namespace, "name": NAME, "uid": "u", "resourceVersion": version, "labels": labels}}


class Api:
    """What stands in each namespace, or why it cannot be looked at; watches that open and tell nothing."""

    name = "place"

    def __init__(self) -> None:
        self.holds: dict[str, dict[str, Any] | RotatorError] = {}
        self.workloads: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.patched: list[str] = []
        self.writes: Callable[[], Any] = lambda: pytest.fail("nothing is to be written")
        self.over = threading.Event()

    def find(self, path: str, _what: str, *, metadata: bool) -> Any:
        assert metadata
        namespace = path.split("/")[4]
        self.asked.append(namespace)
        found = self.holds.get(namespace)
        if isinstance(found, RotatorError):
            raise found
        return found

    def list_all(self, path: str, _what: str, **_: object) -> tuple[list[Any], str]:
        """By label; or Deployments, and the pod that each of them has."""
        if path.endswith(("/deployments", "/pods")):
            return self.workloads, "5"
        found = self.holds.get(path.split("/")[4])
        return [found] if isinstance(found, dict) and found["metadata"]["labels"] else [], "5"

    def patch(self, path: str, _body: object, _what: str, *, manager: str) -> Any:
        assert manager == "rotator"
        self.patched.append(path)

    def apply(self, *_: object, **__: object) -> Any:
        return self.writes(), True

    def watch(
        self, _path: str, _what: str, _params: Mapping[str, str], _version: str, opened: Callable[[Callable[[], None]], None]
    ) -> Iterator[Any]:
        opened(self.over.set)
        assert self.over.wait(WITHIN)
        yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "6"}}}


@pytest.fixture
def api() -> Iterator[Api]:
    made = Api()
    yield made
    made.over.set()


@pytest.fixture
def secrets(api: Api) -> Secrets:
    return Secrets(api, Cluster(ClusterAccess(Path("none"), None)), NAME, None, adopt=False)  # type: ignore[arg-type]


def follow(secrets: Secrets, *places: str, poll: timedelta = timedelta(hours=1)) -> tuple[Following, threading.Event]:
    told = threading.Event()
    namespaces = Namespaces(secrets.api, secrets.cluster, places)
    following = Following(secrets, namespaces, 0, poll.total_seconds(), told.set)
    following.start()
    return following, told


def wait_until(true: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if true():
            return
        pause.wait(WITHIN / 1000)
    raise AssertionError("it never came true")


@pytest.mark.parametrize("problem", [Refused("not allowed"), Unreachable("no answer")])
def test_a_place_that_cannot_be_looked_at_hides_no_change_of_another(api: Api, secrets: Secrets, problem: RotatorError) -> None:
    api.holds = {"a": problem, "b": a_secret("b")}
    following, told = follow(secrets, "a", "b")
    assert told.wait(WITHIN)
    following.stop()


def test_where_nobody_answers_not_every_place_is_waited_for(api: Api, secrets: Secrets) -> None:
    places = [f"p{n:02}" for n in range(50)]
    api.holds = {place: Unreachable("no answer") for place in places}
    following, _ = follow(secrets, *places, poll=timedelta(milliseconds=50))
    wait_until(lambda: api.asked.count("p00") > 1)
    following.stop()
    assert "p03" not in api.asked


@pytest.mark.parametrize("act", ["observe", "check"])
def test_an_api_server_that_does_not_answer_is_not_waited_for_in_each_of_many_places(api: Api, tmp_path: Path, act: str) -> None:
    """L25: at ten seconds a place, and sixteen at once, a look at a thousand of them would take ten minutes."""
    places = [f"p{n:03}" for n in range(200)]
    api.holds = {place: Unreachable(f"reading in {place}: no answer") for place in places}
    with pytest.raises(Unreachable, match="p000"):
        getattr(build(api, tmp_path, namespaces=places), act)("checkout")
    assert len(api.asked) < 40


def test_one_place_that_does_not_answer_keeps_nobody_from_a_look_at_the_others(api: Api, tmp_path: Path) -> None:
    places = [f"p{n:03}" for n in range(10)]
    api.holds = {"p000": Unreachable("reading in p000: no answer")}
    seen = build(api, tmp_path, namespaces=places).observe("checkout")
    assert sorted(api.asked) == places
    assert (seen.key_id, seen.text) == (None, "reading in p000: no answer")


def test_a_secret_without_our_label_is_looked_at_where_only_labels_are_watched(api: Api, secrets: Secrets) -> None:
    """Else one that is in the way would be remembered for ever, whoever takes it away."""
    api.holds = {"a": a_secret("a", labelled=False), "b": a_secret("b")}
    owner = object()
    for namespace in ("a", "b"):
        secrets.cluster.watch_labelled(secrets.api, namespace, NAME, owner, lambda: None)
        wait_until(lambda namespace=namespace: secrets.cluster.watches(namespace, NAME))
        secrets.look(namespace)
    assert secrets.find_live("a") is None
    assert secrets.find_live("b") is not None
    following, told = follow(secrets, "a", poll=timedelta(milliseconds=50))
    del api.holds["a"]
    assert told.wait(WITHIN)
    following.stop()
    secrets.cluster.leave(owner)


def test_a_watch_that_ends_as_soon_as_it_begins_is_not_begun_without_a_pause(api: Api) -> None:
    pauses: list[float | None] = []

    class Stopping(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            pauses.append(timeout)
            if len(pauses) == 7:
                self.set()
                ended.set()
            return False

    ended = threading.Event()
    api.watch = lambda *_: iter(())  # type: ignore[method-assign]
    feed = Feed(api, "/api/v1/namespaces/a/secrets", "watching", {}, lambda _: None, lambda *_: None, _stopping=Stopping())  # type: ignore[arg-type]
    feed.start()
    assert ended.wait(WITHIN)
    assert pauses == [1, 2, 4, 8, 16, 30, 30]


def a_placed(target: KubernetesTarget, delivery: Delivery) -> dict[str, Any]:
    """The Secret as it stands after the delivery."""
    body: Any = target.secrets.shape.build(NAME, "a", delivery)
    names = {f"f:{name}": {} for name in body["metadata"]["annotations"]}
    fields = {"f:data": {"f:api_key": {}}, "f:metadata": {"f:annotations": names}}
    ours = {"manager": "rotator", "operation": "Apply", "time": "2026-11-23T00:00:00Z", "fieldsV1": fields}
    return {"metadata": {**body["metadata"], "uid": "u", "resourceVersion": "7", "managedFields": [ours]}}


def a_delivery() -> Delivery:
    return Delivery("checkout", Secret("_".join(("rk", "live", "a" * 8, "b" * 24))), 1, "https://api.millimetric.ai/mcp")


def a_deployment(uid: str) -> dict[str, Any]:
    """Whose pod, which the same object stands for, is older than the key."""
    pod = {"volumes": [{"name": "key", "secret": {"secretName": NAME}}]}
    metadata = {"name": "shop", "uid": uid, "generation": 1, "creationTimestamp": "2026-11-22T23:00:00Z"}
    return {"metadata": metadata, "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "shop"}}, "template": {"spec": pod}, **pod}}


def test_a_workload_that_was_made_again_is_no_restart_that_was_undone(api: Api, tmp_path: Path) -> None:
    """A namespace that is deleted and comes back holds the same key, and pods that waited for their Secret."""
    target, delivery = build(api, tmp_path, restart="auto"), a_delivery()
    api.holds, api.workloads = {"a": a_placed(target, delivery)}, [a_deployment("first")]
    seen = target.observe("checkout")
    for _ in range(2):
        assert seen.key_id is None
        assert not seen.stuck
        assert target.deliver(delivery, seen).text == "deployment/shop in a: restarting"
        seen = target.observe("checkout")
        assert seen.stuck
        assert "its restart was undone" in seen.text
        api.workloads = [a_deployment("second")]
        seen = target.observe("checkout")
    assert len(api.patched) == 2


def test_pods_of_a_template_that_used_the_secret_count_and_are_not_restarted(api: Api, tmp_path: Path) -> None:
    """Their successors may never get ready, and until then they serve with the former key."""
    target, delivery = build(api, tmp_path, restart="auto"), a_delivery()
    moved = a_deployment("moved")
    moved["spec"]["template"] = {"spec": {}}
    moved["status"] = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 1, "readyReplicas": 1}
    api.holds, api.workloads = {"a": a_placed(target, delivery)}, [moved]
    seen = target.observe("checkout")
    assert (seen.key_id, seen.level) == (delivery.secret.key_id, Level.PLACED)
    assert seen.text == "deployment/shop in a: 1 pod of before going"
    del moved["spec"]["volumes"]  # the pod, which the same object stands for
    assert target.observe("checkout").level is Level.IN_USE


def test_pods_that_use_another_secret_hold_nobody_up(api: Api, tmp_path: Path) -> None:
    """A selector may fit pods of another workload, such as a canary's; nobody would ever restart them."""
    target, delivery = build(api, tmp_path, restart="auto"), a_delivery()
    canary = a_deployment("canary")
    canary["spec"]["volumes"] = [{"name": "key", "secret": {"secretName": "another"}}]
    api.holds, api.workloads = {"a": a_placed(target, delivery)}, [canary]
    seen = target.observe("checkout")
    assert (seen.key_id, seen.level) == (delivery.secret.key_id, Level.IN_USE)


def test_of_namespaces_that_left_nothing_is_kept(api: Api, tmp_path: Path) -> None:
    """A team's namespaces may come and go with each branch."""
    target, delivery = build(api, tmp_path, namespaces=["a", "b"], restart="auto"), a_delivery()
    placed = a_placed(target, delivery)
    api.writes = lambda: placed
    target.deliver(delivery, target.observe("checkout"))
    assert target.known.written.keys() == target.known.in_use.keys() == {"a", "b"}
    fewer = replace(target, namespaces=replace(target.namespaces, names=["b"]))
    fewer.observe("checkout")
    assert target.known.written.keys() | target.known.in_use.keys() == {"b"}


def test_writes_that_fail_are_no_repairs_and_nobody_else_is_blamed(api: Api, tmp_path: Path) -> None:
    target, delivery = build(api, tmp_path), a_delivery()
    placed = a_placed(target, delivery)
    api.writes = lambda: placed
    target.deliver(delivery, target.observe("checkout"))

    def fail() -> Any:
        raise Unreachable("the API server failed (500)")

    api.writes = fail
    for _ in range(10):
        with pytest.raises(Unreachable, match="500"):
            target.deliver(delivery, target.observe("checkout"))
