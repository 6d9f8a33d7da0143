"""Keys that other people write into the store: a bad one gets no further, one that was there before is taken over as it is, and credentials
that have no other keys live on them. All of it is noticed by polling.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.support.places import STORE, Place, open_place
from tests.support.scenes import Scene, Stage, ensure_stays, held_by, instant, is_settled, open_stage, wait_until, waiting

pytestmark = pytest.mark.slow

ENGINE = {"catch_up": "1s", "recheck": "1s", "poll": "1s", "lease": "5s", "attempt_base": "1s", "step_base": "1s"}


@pytest.fixture(scope="module", params=["vault", "aws"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with open_place(request.param) as opened:
        yield opened


@pytest.fixture(scope="module")
def stage(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("stage"), config={"engine": ENGINE}, furnish=place.furnish) as opened:
        yield opened


def path_of(scene: Scene) -> str:
    return f"test/{scene.name}"


def measure(stage: Stage, name: str, scene: Scene, **labels: str) -> float:
    """A metric of a credential; 0 for a series that is not there."""
    shown = ",".join(f'{label}="{value}"' for label, value in {"credential": scene.name, **labels}.items())
    found = [line.rpartition(" ")[2] for line in stage.daemon.metrics().splitlines() if line.startswith(f"{name}{{{shown}}} ")]
    return float(found[0]) if found else 0.0


def has_only(scene: Scene, key_id: object) -> bool:
    return [held_by(file) for file in scene.files] == [str(key_id)]


@pytest.mark.parametrize("fault", ["dead", "broad"])
def test_a_bad_key_gets_no_further(fault: str, stage: Stage, place: Place) -> None:
    """It is said, by status and metric, and left where it is; consumers keep what works; the next good key is taken by itself."""
    reason = {"dead": "outsider-dead", "broad": "broader-than-declared"}[fault]
    scene = stage.add(store=STORE)
    former = scene.key_id
    bad = stage.control.mint("ak" if fault == "broad" else "rk")
    if fault == "dead":
        stage.control.revoke(bad.key_id)
    place.write(path_of(scene), bad)
    status = scene.wait_parked(reason)
    assert str(bad.key_id) in next(row["text"] for row in status["parked"] if row["reason"] == reason)
    wait_until(lambda: measure(stage, "rotator_credential_parked", scene, reason=reason) == 1, what="the metric")
    ensure_stays(lambda: has_only(scene, former), 2, "the former key in the target")
    assert place.read(path_of(scene)).same_as(bad), "nobody's key is written over"
    assert former in stage.control.living()
    good = stage.control.mint()
    place.write(path_of(scene), good)
    scene.wait(lambda status: not status["parked"] and is_settled(status, 2))
    assert has_only(scene, good.key_id)
    assert former not in stage.control.living()
    assert measure(stage, "rotator_credential_parked", scene, reason=reason) == 0


def test_a_credential_without_an_issuer(stage: Stage, place: Place) -> None:
    """It lives on keys from outside alone; the one that was replaced is a person's to revoke, and its end is seen."""
    scene = stage.add(generation=0, store=STORE, issuer="none")
    scene.wait_parked("no-issuer")
    first, second = stage.control.mint(), stage.control.mint()
    place.create(path_of(scene), first)
    status = scene.wait(lambda status: not status["parked"] and is_settled(status, 1))
    assert (has_only(scene, first.key_id), status["recovered"]) == (True, False)
    refused = stage.site.run("rotate", scene.name)
    assert refused.returncode == 1
    assert "no issuer that can mint: write a new key into its store" in refused.stderr
    place.write(path_of(scene), second)
    status = scene.wait_parked("revoke-by-hand")
    assert has_only(scene, second.key_id)
    assert str(first.key_id) in next(row["text"] for row in status["parked"])
    assert str(first.key_id) in stage.control.living(), "nobody revokes it but a person"
    stage.control.revoke(first.key_id)
    scene.wait(lambda status: not status["parked"] and is_settled(status, 2))
    assert place.read(path_of(scene)).same_as(second)


def test_a_secret_that_was_there_before(stage: Stage, place: Place) -> None:
    """It is distributed, and not touched until its first rotation; its age is that of the store's version."""
    key, name = stage.control.mint(), "key100"
    begun = datetime.now(UTC)
    place.create(f"test/{name}", key, owner="payments", note="größe")
    ended = datetime.now(UTC)
    before, fields = place.count_writes(f"test/{name}"), place.fields(f"test/{name}")
    stage.numbers = itertools.count(100)
    scene = stage.add(store=STORE, rotation={"every": "30d", "max_age": "45d"})
    status = scene.status
    assert (status["key_id"], status["recovered"]) == (str(key.key_id), False)
    assert begun <= instant(status["minted_at"]) <= ended
    assert measure(stage, "rotator_credential_minted_timestamp_seconds", scene) == pytest.approx(
        instant(status["minted_at"]).timestamp(), abs=0.01
    )
    assert status["age_seconds"] >= (datetime.now(UTC) - ended).total_seconds() - 1
    assert (place.count_writes(f"test/{name}"), place.fields(f"test/{name}")) == (before, fields)
    scene.rotate()
    status = scene.wait_settled(2)
    assert place.count_writes(f"test/{name}") > before
    assert {**place.fields(f"test/{name}"), "api_key": ""} == {**fields, "api_key": ""}, "what is not ours stays"
    assert has_only(scene, status["key_id"])
    assert str(key.key_id) not in stage.control.living(), "it ends as any other"


def test_two_credentials_with_one_key(stage: Stage, place: Place) -> None:
    """The usual legacy: it is said, and the key lives until neither needs it, the consumers of the second one's overlap included (L19)."""
    key = stage.control.mint()
    stage.numbers = itertools.count(201)
    for name in ("key201", "key202"):
        place.create(f"test/{name}", key)
    first, second = stage.add(store=STORE), stage.add(store=STORE, overlap={"min": "6s", "max": "60s"})
    first.wait(lambda status: status["shared_with"] == [second.name])
    assert second.status["shared_with"] == [first.name]
    assert "its key is also that of key202" in stage.site.run("status", first.name).stdout
    first.rotate()
    status = first.wait(lambda status: status["generation"] == 2 and "held-elsewhere" in waiting(status))
    assert [(row["key_id"], row["held_by"]) for row in status["retirements"]] == [(str(key.key_id), [second.name])]
    ensure_stays(lambda: str(key.key_id) in stage.control.living(), 2, "the key that another credential holds")
    second.rotate()
    second.wait(lambda status: status["generation"] == 2)
    ensure_stays(lambda: str(key.key_id) in stage.control.living(), 4, "the key in the overlap of the second")
    for scene in (first, second):
        scene.wait_settled(2)
        assert [row["outcome"] for row in scene.retirements()] == ["dead"]
    assert str(key.key_id) not in stage.control.living()
