"""What is read: statuses, history, the audit trail, and the API's description of itself."""

from __future__ import annotations

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rotator.domain.errors import Unreachable
from rotator.domain.ports import Event
from tests.integration.server.conftest import World, is_settled, wait_for

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
STATUS = {
    "name", "kind", "store", "path", "issuer", "key_id", "generation", "minted_at", "age_seconds", "expires_at", "next_rotation_at",
    "phase", "lane", "compromised", "recovered", "parked", "waiting", "targets", "retirements", "orphans", "rotation",
    "seen_at", "shared_with",
}  # fmt: skip


def get(world: World, path: str, **params: Any) -> Any:
    answer = world.client("viewer").get(f"/api/v1/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def note(world: World, credential: str, count: int) -> None:
    for number in range(count):
        world.journal.commit(credential, Event(world.clock.now(), "note", "test", process=f"process-{number % 2}", text=f"line {number}"))


def test_a_credential_nobody_looked_at_yet_has_a_status(world: World) -> None:
    world.configure("checkout-read")
    status = get(world, "credentials/checkout-read")

    assert set(status) == STATUS
    assert (status["phase"], status["key_id"], status["seen_at"], status["generation"]) == ("idle", None, None, 0)
    assert [(t["state"], t["text"]) for t in status["targets"]] == [("behind", "not looked at yet")] * 2


def test_the_list_and_the_single_status_agree(running: World) -> None:
    running.settle("checkout-read", is_settled)
    listed, single = get(running, "credentials")["credentials"], get(running, "credentials/checkout-read")
    for status in (*listed, single):
        assert 0 <= status.pop("age_seconds") < 60
    assert listed == [single]


def test_instants_are_utc_with_z(running: World) -> None:
    status = get(running, "credentials/checkout-read")
    for name in ("minted_at", "expires_at", "next_rotation_at", "seen_at"):
        assert INSTANT.fullmatch(status[name]), name


def test_a_target_that_is_away_shows_as_failed_with_its_words(running: World) -> None:
    running.targets["laptops"].away = True
    running.client("operator").post("/api/v1/credentials/checkout-read/sync")
    status = running.settle("checkout-read", lambda s: s["targets"][1]["state"] == "failed")
    assert status["targets"][1]["text"] == "laptops does not answer"
    assert status["targets"][0]["state"] == "current"
    listed = wait_for(lambda: get(running, "credentials")["credentials"][0], lambda s: s["targets"][1]["state"] == "failed")
    assert listed["targets"] == status["targets"]


def test_a_store_that_is_away_shows_as_unreadable(running: World) -> None:
    def fail(_path: str) -> Any:
        raise Unreachable("sealed")

    before = running.settle("checkout-read", lambda s: s["phase"] == "idle")
    running.store.read = fail  # type: ignore[method-assign, assignment]
    running.engine.wake("checkout-read")
    status = running.settle("checkout-read", lambda s: s["phase"] == "unreadable")
    assert status["waiting"][0] == {"reason": "store-unreachable", "until": None, "names": ["sealed"]}
    for known in ("key_id", "generation", "minted_at", "expires_at", "next_rotation_at"):
        assert status[known] == before[known] is not None, "what was seen before is still shown"


def test_an_open_rotation_stands_in_the_status_at_once(world: World) -> None:
    world.configure("checkout-read")
    accepted = world.client("operator").post("/api/v1/credentials/checkout-read/rotate").json()
    status = get(world, "credentials/checkout-read")
    assert status["rotation"]["id"] == accepted["rotation"]
    assert status["phase"] == "opened"
    assert [row["id"] for row in get(world, "rotations", open=True)["rotations"]] == [accepted["rotation"]]


def test_rotations_can_be_narrowed(running: World) -> None:
    assert [row["reason"] for row in get(running, "rotations")["rotations"]] == ["bootstrap"]
    assert get(running, "rotations", open=True)["rotations"] == []
    assert get(running, "rotations", credential="another")["rotations"] == []
    assert len(get(running, "rotations", limit=1)["rotations"]) == 1


def test_an_open_retirement_tells_what_probes_have_told(running: World) -> None:
    running.service.cached_for = timedelta(seconds=1)
    old = running.status("checkout-read")["key_id"]
    running.client("operator").post("/api/v1/leak", json={"key_id": old})

    rows = wait_for(
        lambda: get(running, "retirements", key_id=old)["retirements"],
        lambda rows: bool(rows and rows[0]["revoked_at"] and rows[0]["last_alive"]),
    )
    assert rows[0]["key_id"] == old
    closed = wait_for(lambda: get(running, "retirements", key_id=old)["retirements"], lambda rows: rows[0]["closed_at"] is not None)[0]
    assert closed["outcome"] == "dead"
    assert closed["last_alive"] < closed["first_refused"] <= closed["confirmed_at"]
    assert closed["revoked_at"] <= closed["last_alive"], "the service went on accepting it for a second"
    assert get(running, "retirements", open=True)["retirements"] == []
    assert get(running, "retirements", key_id="rk_live_00000000")["retirements"] == []


def test_events_come_newest_without_after_and_in_order_with_it(world: World) -> None:
    note(world, "checkout-read", 10)
    newest = get(world, "events", limit=3)
    assert [e["text"] for e in newest["events"]] == ["line 7", "line 8", "line 9"]
    assert newest["next"] == newest["events"][-1]["seq"]

    seen, after = [], 0
    while events := (page := get(world, "events", after=after, limit=4))["events"]:
        seen += [e["text"] for e in events]
        after = page["next"]
    assert seen == [f"line {n}" for n in range(10)]
    assert get(world, "events", after=after) == {"events": [], "next": after}


def test_events_can_be_narrowed(running: World) -> None:
    note(running, "another", 4)
    key_id = running.status("checkout-read")["key_id"]
    assert [e["text"] for e in get(running, "events", credential="another")["events"]] == [f"line {n}" for n in range(4)]
    assert [e["text"] for e in get(running, "events", process="process-1")["events"]] == ["line 1", "line 3"]

    of_key = get(running, "events", key_id=key_id)["events"]
    assert {e["key_id"] for e in of_key} == {key_id}
    assert "promote" in [e["action"] for e in of_key]
    paged = get(running, "events", key_id=key_id, after=0, limit=1)
    assert paged["events"] == of_key[:1]
    assert get(running, "events", key_id=key_id, after=paged["next"])["events"] == of_key[1:]
    assert get(running, "events", key_id=key_id, limit=1)["events"] == of_key[-1:]


def test_a_whole_trail_verifies(running: World) -> None:
    audit = get(running, "audit")
    assert audit["problems"] == []
    assert audit["lines"] == int(audit["head"].partition(":")[0]) > 0


def test_a_trail_that_was_cut_off_shows_by_the_head_in_the_store(running: World) -> None:
    kept = running.store.read("keys/checkout-read").record
    assert kept is not None
    assert [journal for journal, _ in kept.audit] == [running.journal.id]
    with sqlite3.connect(running.journal.path) as database:
        database.execute("DELETE FROM events WHERE seq > 3")
    database.close()

    problems = get(running, "audit")["problems"]
    assert any("the record of checkout-read" in problem for problem in problems)


def test_a_record_that_cannot_be_read_is_named(world: World) -> None:
    def fail(_path: str) -> Any:
        raise Unreachable("sealed")

    world.configure("checkout-read")
    world.store.read = fail  # type: ignore[method-assign, assignment]
    assert "record of checkout-read could not be read" in get(world, "audit")["problems"][0]


def test_info(running: World) -> None:
    info = get(running, "info")
    assert (info["installation"], info["journal"], info["credentials"]) == ("test", running.journal.id, 1)
    assert datetime.fromisoformat(info["started_at"]) <= datetime.now(UTC)


def test_the_description_is_whole(world: World) -> None:
    described = get(world, "openapi.json")
    assert described["openapi"].startswith("3.1")
    known = described["components"]["schemas"]
    for reference in set(re.findall(r"#/components/schemas/([^\"']+)", str(described))):
        assert reference in known
    operations = [op for methods in described["paths"].values() for op in methods.values()]
    assert len({op["operationId"] for op in operations}) == len(operations)
    for operation in operations:
        assert operation["summary"]
        assert operation["responses"]["default"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert "422" not in operation["responses"]
    for schema in known.values():
        assert schema.get("additionalProperties") is False or "enum" in schema


def conforms(value: Any, schema: dict[str, Any], known: dict[str, Any]) -> bool:
    """Whether a value fits a schema: the part of JSON Schema that our models use."""
    if "$ref" in schema:
        return conforms(value, known[schema["$ref"].rsplit("/", 1)[1]], known)
    if "anyOf" in schema:
        return any(conforms(value, one, known) for one in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kinds: dict[str, Any] = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        "array": list,
        "object": dict,
    }
    if not isinstance(value, kinds[schema["type"]]) or (isinstance(value, bool) and schema["type"] != "boolean"):
        return False
    if schema["type"] == "array":
        return all(conforms(one, schema["items"], known) for one in value)
    if schema["type"] == "object":
        fields = schema.get("properties", {})
        return set(value) == set(fields) and all(conforms(value[name], fields[name], known) for name in fields)
    return True


@pytest.mark.parametrize(
    "path",
    ["credentials", "credentials/checkout-read", "credentials/checkout-read/plan", "rotations", "retirements", "events", "audit", "info"],
)
def test_answers_are_as_described(running: World, path: str) -> None:
    described = get(running, "openapi.json")
    template = f"/api/v1/{path.replace('checkout-read', '{name}')}"
    schema = described["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert conforms(get(running, path), schema, described["components"]["schemas"])
