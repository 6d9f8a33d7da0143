"""The Kubernetes target's pure parts: settings, and how far a workload is. The rest runs over a real cluster: tests/contract/targets."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from pydantic import ValidationError

from rotator.domain.errors import RateLimited, RotatorError
from rotator.targets.kubernetes import KubernetesTargetConfig
from rotator.targets.kubernetes.access import Clients
from rotator.targets.kubernetes.api import ClusterApi
from rotator.targets.kubernetes.feeds import Feed
from rotator.targets.kubernetes.memory import Memory
from rotator.targets.kubernetes.ownership import read_view
from rotator.targets.kubernetes.rollouts import Rollout, judge

PLACED = datetime(2026, 11, 23, 5, 0, tzinfo=UTC)
KEY = "rk_live_abcdefgh"
NOTE = "millimetric.rotator/key-id"
GOOD: dict[str, Any] = {"type": "kubernetes", "namespaces": ["shop"], "name": "millimetric"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"namespaces": []}, "must name one at least"),
        ({"namespaces": ["Shop"]}, "must be the name of a namespace"),
        ({"namespaces": ["shop", "shop"]}, "names something twice"),
        ({"namespaces": {"selector": " "}}, "must be a label selector"),
        ({"namespaces": {"selector": "team=a&limit=1"}}, "must be a label selector"),
        ({"name": "Milli_metric"}, "must be the name of a Secret"),
        ({"data": {}}, "at least 1"),
        ({"data": {"a/b": "{key}"}}, "must be the name of an entry"),
        ({"data": {"id": "{key_id}"}}, "at least one entry must hold {key}"),
        ({"data": {"a": "{kye}"}}, "holds {key}"),
        ({"data": {"a": "{key"}}, "not well formed"),
        ({"data": {"a": {"client": "vim"}}}, "no MCP client called 'vim'"),
        ({"restart": "sometimes"}, "'auto' or 'none'"),
        ({"restart": ["pod/shop"]}, "must be a workload such as"),
        ({"labels": {"rotator/target": "x"}}, "one of rotator's own"),
        ({"labels": {"team": "a b"}}, "none that a label may have"),
        ({"annotations": {"a b": "c"}}, "no name of a label or an annotation"),
        ({"context": "live"}, "context is one of a kubeconfig"),
        ({"timeout": "11s"}, "at most 10s"),
        ({"poll": "0s"}, "a second at least"),
        ({"watches": 201}, "200"),
        ({"adopted": True}, "Extra inputs"),
    ],
)
def test_a_wrong_setting_is_one_mistake_and_says_what_is_right(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        KubernetesTargetConfig.model_validate({**GOOD, **settings})
    assert len(caught.value.errors()) == 1
    assert said in str(caught.value)


def pod(made: timedelta, key: str = "", **fields: Any) -> dict[str, Any]:
    when = (PLACED + made).isoformat().replace("+00:00", "Z")
    metadata = {"name": "shop-1", "creationTimestamp": when, "annotations": {NOTE: key} if key else {}, **fields}
    return {"metadata": metadata, "status": {"phase": "Running"}}


def deployment(*, key: str = KEY, status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    template = {"metadata": {"annotations": {NOTE: key} if key else {}}, "spec": {}}
    whole = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, **(status or {})}
    return {"metadata": {"generation": 1}, "spec": {"replicas": 1, "template": template, **spec}, "status": whole}


RESTART = Rollout("w", restart=True, reason="must be restarted")
BEFORE, AFTER = timedelta(minutes=-1), timedelta(minutes=1)
LATE = {"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}


@pytest.mark.parametrize(
    ("found", "pods", "late", "expected"),
    [
        (deployment(), [pod(AFTER, KEY)], False, Rollout("w")),
        (deployment(), [pod(BEFORE, KEY)], False, Rollout("w")),
        (deployment(key=""), [pod(AFTER)], True, Rollout("w")),
        (deployment(key=""), [pod(BEFORE)], False, RESTART),
        (
            deployment(key="rk_live_formerxx"),
            [pod(BEFORE, "rk_live_formerxx")],
            False,
            Rollout("w", restart=True, reason="must be restarted"),
        ),
        (deployment(), [pod(BEFORE), pod(AFTER, KEY)], False, Rollout("w", reason="1 pod of before going")),
        (deployment(), [pod(BEFORE, deletionTimestamp="x"), pod(AFTER, KEY)], False, Rollout("w", reason="1 pod of before going")),
        (deployment(status={"observedGeneration": 0}), [], False, Rollout("w", reason="its controller has not seen the restart yet")),
        (deployment(status={"updatedReplicas": 0}), [], False, Rollout("w", reason="0 of 1 pods updated, 1 ready")),
        (deployment(status={"readyReplicas": 0}), [], False, Rollout("w", reason="1 of 1 pods updated, 0 ready")),
        (deployment(status={"replicas": 2}), [], False, Rollout("w", reason="1 more than the 1 that are wanted")),
        (
            deployment(status={"readyReplicas": 0}),
            [],
            True,
            Rollout("w", reason="1 of 1 pods updated, 0 ready, the rollout deadline has passed", stuck=True),
        ),
        (
            deployment(status={"readyReplicas": 0, **LATE}),
            [],
            False,
            Rollout("w", reason="1 of 1 pods updated, 0 ready, it makes no progress (ProgressDeadlineExceeded)", stuck=True),
        ),
        (deployment(replicas=0, status={"replicas": 0, "updatedReplicas": 0, "readyReplicas": 0}), [], False, Rollout("w")),
        # What is paused, or rolls by hand, and has no pod of before is no problem.
        (deployment(paused=True), [pod(AFTER, KEY)], False, Rollout("w")),
        (deployment(updateStrategy={"type": "OnDelete"}), [pod(AFTER)], False, Rollout("w")),
    ],
)
def test_how_far_a_workload_is(found: Any, pods: Any, late: bool, expected: Rollout) -> None:
    assert judge("w", found, pods, (NOTE, KEY), PLACED, late) == expected


def test_a_pod_of_the_same_second_may_have_read_the_former_key() -> None:
    assert judge("w", deployment(key=""), [pod(timedelta(0))], (NOTE, KEY), PLACED, late=False).restart
    assert not judge("w", deployment(key=""), [pod(timedelta(seconds=1))], (NOTE, KEY), PLACED, late=False).restart


@pytest.mark.parametrize(
    ("text", "manager", "noted", "placed"),
    [
        ("2026-11-23T05:00:00+00:00", "rotator", True, PLACED),
        ("2026-11-23T05:00:00+00:00", "somebody", False, PLACED + timedelta(hours=1)),
        ("2026-11-23T05:00:00", "rotator", False, PLACED + timedelta(hours=1)),
    ],
)
def test_since_when_a_key_is_there_is_nobody_else_s_to_say(text: str, manager: str, noted: bool, placed: datetime) -> None:
    """An earlier time would make pods of before look like pods that have read it."""
    notes = {f"rotator/{name}": "1" for name in ("installation", "credential", "generation", "shape", "entries")}
    notes |= {"rotator/key-id": KEY, "rotator/placed-at": text}

    def managed(manager: str, *names: str) -> dict[str, Any]:
        fields = {"f:metadata": {"f:annotations": {f"f:{name}": {} for name in names}}}
        return {"manager": manager, "operation": "Apply", "time": "2026-11-23T06:00:00Z", "fieldsV1": fields}

    fields = [managed("rotator", *(name for name in notes if name != "rotator/placed-at")), managed(manager, "rotator/placed-at")]
    if manager == "rotator":
        fields = [managed("rotator", *notes)]
    view = read_view({"metadata": {"annotations": notes, "managedFields": fields}})
    assert (view.notes is not None and view.noted, view.placed_at) == (noted, placed)


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_works_with_nothing(phase: str) -> None:
    ended = {**pod(BEFORE), "status": {"phase": phase}}
    assert judge("w", deployment(), [ended], (NOTE, KEY), PLACED, late=False) == Rollout("w")


@pytest.mark.parametrize(
    ("asked_for", "seconds"), [("7", 7), ("Mon, 23 Nov 2026 05:00:20 GMT", 20), ("9" * 5000, None), ("soon", None), ("99999", 3600)]
)
def test_a_pause_that_the_api_server_asks_for_is_honoured_in_either_form(asked_for: str, seconds: int | None) -> None:
    """A proxy before it may send a date."""
    headers = {"Retry-After": asked_for, "Date": "Mon, 23 Nov 2026 05:00:00 GMT"}
    client = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(429, headers=headers)), base_url="https://api")

    class Access:
        def get_clients(self) -> Clients:
            return Clients(client, client)

    with pytest.raises(RateLimited) as told:
        ClusterApi("test", Access(), 1.0).find("/x", "reading")  # type: ignore[arg-type]
    assert told.value.after == (None if seconds is None else timedelta(seconds=seconds))


def test_what_is_remembered_never_gets_older() -> None:
    memory = Memory()

    def view(version: str) -> Any:
        return read_view({"metadata": {"uid": "u", "resourceVersion": version}})

    assert memory.keep("a", "x", view("9"))
    assert not memory.keep("a", "x", view("9"))
    assert memory.keep("a", "x", view("10"))
    assert not memory.keep("a", "x", view("9")), "an event that comes after the answer to a write"
    found = memory.find("a", "x")
    assert found is not None
    assert found.version == "10"
    assert memory.forget("a", "x")
    assert not memory.forget("a", "x")
    assert memory.find("a", "x") is None


def test_an_answer_that_comes_after_the_news_of_its_end_brings_nothing_back() -> None:
    """A look, or a write, and the watch: each has a connection of its own."""
    memory = Memory()

    def view(version: str) -> Any:
        return read_view({"metadata": {"uid": "u", "resourceVersion": version}})

    assert memory.keep("a", "x", view("9"))
    assert memory.forget("a", "x", "11")
    assert not memory.keep("a", "x", view("10"))
    assert memory.find("a", "x") is None
    assert memory.keep("a", "x", view("11")), "it only lost our label"
    assert memory.forget("a", "x", "12")
    assert memory.keep("a", "x", view("13")), "made again"


def test_a_watch_that_ends_goes_on_from_the_last_bookmark() -> None:
    """Where little happens, the version of the last event is soon too old to go on from."""
    begun: list[str] = []
    over = threading.Event()
    told: list[str] = []

    class Api:
        name = "test"

        def list_all(self, *_: object, **__: object) -> tuple[list[Any], str]:
            return [], "5"

        def watch(self, _path: str, _what: str, _params: Mapping[str, str], version: str, *_: object) -> Iterator[Any]:
            begun.append(version)
            if len(begun) == 1:
                yield {"type": "ADDED", "object": {"metadata": {"resourceVersion": "7"}}}
                yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "90"}}}
            else:
                feed.stop()
                over.set()

    feed = Feed(Api(), "/x", "watching", {}, lambda _found: None, lambda kind, _found: told.append(kind))  # type: ignore[arg-type]
    feed.start()
    assert over.wait(10)
    assert begun == ["5", "90"]
    assert told == ["ADDED"]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (200, "ok"),
        (404, "refused"),
        (429, "rate_limited"),
        (503, "failed"),
        (httpx2.ConnectError("no"), "unreachable"),
        (httpx2.ReadError("no"), "answer_lost"),
    ],
    ids=str,
)
def test_a_call_is_counted_in_the_words_of_every_remote(answer: int | Exception, outcome: str) -> None:
    """One alert goes by them, whatever the remote."""

    def respond(_request: httpx2.Request) -> httpx2.Response:
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer, json={})

    client = httpx2.Client(transport=httpx2.MockTransport(respond), base_url="https://cluster.example")
    access = SimpleNamespace(get_clients=lambda: SimpleNamespace(calls=client))
    told: list[tuple[str, str, str]] = []
    api = ClusterApi("cluster", access, 5.0, lambda *what: told.append(what[:3]))  # type: ignore[arg-type]
    with contextlib.suppress(RotatorError):
        api.find("/api/v1/x", "asking")
    assert told == [("cluster", "get", outcome)]
