"""Every verb, from the request to what it brings about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rotator.domain.errors import Misconfigured, NeedsHuman, Unreachable
from rotator.domain.keys import KeyId
from tests.integration.server.conftest import PATIENT, World, is_settled, wait_for
from tests.support.fakes import FakeTarget, build_secret

ONE = "/api/v1/credentials/checkout-read"


def current(world: World) -> KeyId:
    record = world.store.read("keys/checkout-read").record
    assert record is not None
    assert record.current is not None
    return record.current.key_id


def is_dead(world: World, key_id: KeyId) -> bool:
    rows = world.client().get("/api/v1/retirements", params={"key_id": str(key_id)}).json()["retirements"]
    return [row["outcome"] for row in rows] == ["dead"]


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[World]:
    """As `running`, but old keys live for an hour."""
    with World(tmp_path, policy=PATIENT) as world:
        world.configure("checkout-read")
        world.run()
        world.settle("checkout-read", is_settled)
        yield world


def test_rotate_replaces_the_key_and_ends_the_old_one(running: World) -> None:
    old = current(running)
    answer = running.client("operator").post(f"{ONE}/rotate", json={"emergency": False})

    assert answer.status_code == 200
    accepted = answer.json()
    assert accepted == {"credential": "checkout-read", "text": "rotation opened", "rotation": accepted["rotation"], "key_id": str(old)}
    wait_for(lambda: is_dead(running, old), bool)
    status = running.settle("checkout-read", is_settled)
    assert status["generation"] == 2
    assert status["key_id"] != str(old)
    row = running.client("viewer").get(f"/api/v1/rotations/{accepted['rotation']}").json()
    assert (row["reason"], row["outcome"], row["replaces"], row["key_id"]) == ("on-demand", "distributed", str(old), status["key_id"])


def test_rotate_needs_no_body(running: World) -> None:
    assert running.client("operator").post(f"{ONE}/rotate").json()["text"] == "rotation opened"


def test_a_second_rotate_joins_the_open_rotation(world: World) -> None:
    world.configure("checkout-read")
    client = world.client("operator")
    first = client.post(f"{ONE}/rotate").json()
    second = client.post(f"{ONE}/rotate", json={"emergency": True}).json()

    assert second["rotation"] == first["rotation"]
    assert "urgent" in second["text"]
    assert world.status("checkout-read")["rotation"]["emergency"] is True


def test_a_leak_with_the_full_key_replaces_and_ends_it(running: World) -> None:
    old = current(running)
    key = running.service.keys[old].secret.reveal()
    answer = running.client("operator").post("/api/v1/leak", json={"key": key})

    assert answer.status_code == 200
    assert answer.json() == {
        "accepted": [
            {"credential": "checkout-read", "text": f"key {old} (current) is marked compromised", "rotation": None, "key_id": str(old)}
        ]
    }
    wait_for(lambda: is_dead(running, old), bool)
    assert running.settle("checkout-read", is_settled)["compromised"] is False


def test_a_leak_with_a_key_id_does_the_same(running: World) -> None:
    old = current(running)
    assert running.client("operator").post("/api/v1/leak", json={"key_id": str(old)}).status_code == 200
    wait_for(lambda: is_dead(running, old), bool)


def test_a_forged_key_with_a_known_id_does_nothing(running: World) -> None:
    old = current(running)
    forged = f"{old}_{'x' * 32}"
    answer = running.client("operator").post("/api/v1/leak", json={"key": forged})

    assert (answer.status_code, answer.json()["error"]) == (409, "refused")
    assert running.status("checkout-read")["compromised"] is False


def test_sync_repairs_a_target(running: World) -> None:
    target = running.targets["cluster"]
    del target.held["checkout-read"]
    answer = running.client("operator").post(f"{ONE}/sync", json={})

    assert answer.json()["text"] == "looking at its targets now"
    wait_for(lambda: "checkout-read" in target.held, bool)


def test_retry_takes_on_what_is_parked(world: World) -> None:
    world.issuer.before = _refuse_mint
    world.configure("checkout-read")
    world.run()
    parked = world.settle("checkout-read", lambda s: s["phase"] == "parked")
    assert parked["parked"][0]["text"]

    world.issuer.before = lambda _operation: None
    assert world.client("operator").post(f"{ONE}/retry").json()["text"] == "looking again now"
    world.settle("checkout-read", is_settled)


def test_abandon_gives_the_open_rotation_up(running: World) -> None:
    old = current(running)
    running.issuer.before = _lose_mint
    rotation = running.client("operator").post(f"{ONE}/rotate").json()["rotation"]
    answer = running.client("operator").post(f"{ONE}/abandon")

    assert answer.json()["rotation"] == rotation
    closed = wait_for(lambda: running.client().get(f"/api/v1/rotations/{rotation}").json(), lambda row: row["closed_at"] is not None)
    assert closed["outcome"] == "abandoned"
    assert current(running) == old


def test_abandon_without_an_open_rotation_is_refused(running: World) -> None:
    answer = running.client("operator").post(f"{ONE}/abandon")
    assert (answer.status_code, answer.json()["exit_code"]) == (409, 1)
    assert "nothing to abandon" in answer.json()["message"]


def test_rollback_brings_the_former_key_back(patient: World) -> None:
    old = current(patient)
    patient.client("operator").post(f"{ONE}/rotate")
    patient.settle("checkout-read", lambda s: s["generation"] == 2 and s["rotation"] is None and s["retirements"])
    answer = patient.client("operator").post(f"{ONE}/rollback")

    assert answer.json()["key_id"] == str(old)
    status = patient.settle("checkout-read", lambda s: s["generation"] == 3 and s["rotation"] is None)
    assert status["key_id"] == str(old)


def test_rollback_without_a_living_former_key_is_refused(running: World) -> None:
    answer = running.client("operator").post(f"{ONE}/rollback")
    assert (answer.status_code, answer.json()["error"]) == (409, "cannot-roll-back")


def test_a_target_that_is_not_used_any_more_gives_the_key_back(running: World) -> None:
    former, wish = running.targets["cluster"], {"credential": "checkout-read"}
    refused = running.client("operator").post("/api/v1/targets/cluster/withdraw", json=wish)
    assert (refused.status_code, refused.json()["exit_code"]) == (409, 1)
    assert "credentials.checkout-read.targets" in refused.json()["message"]
    running.configure("checkout-read", targets=[])
    running.settle("checkout-read", lambda s: not s["targets"])
    assert former.held
    assert running.client("operator").post("/api/v1/targets/cluster/withdraw", json=wish).json()["text"] == "taken out of cluster"
    assert not former.held
    again = running.client("operator").post("/api/v1/targets/cluster/withdraw", json=wish)
    assert again.json()["text"] == "cluster holds nothing that was written for checkout-read"
    unknown = running.client("operator").post("/api/v1/targets/nowhere/withdraw", json=wish)
    assert (unknown.status_code, unknown.json()["error"]) == (404, "unknown-target")


def test_the_plan_shows_what_a_target_that_lacks_the_key_would_get(running: World) -> None:
    new = FakeTarget("new")
    new.refuses = True
    running.configure("checkout-read", targets=[new, running.targets["cluster"]])
    changes = {a["target"]: a["changes"] for a in running.client("viewer").get(f"{ONE}/plan").json()["affects"]}
    assert changes == {"new": f"+{current(running)}\n", "cluster": ""}


def test_a_hook_has_the_stores_asked_and_may_do_nothing_else(running: World) -> None:
    hook = running.client("hook")
    answer = hook.post("/hooks/store-changed", content=b'{"detail": {"eventName": "PutSecretValue"}}')
    assert (answer.status_code, running.polls.is_set()) == (202, True)
    assert hook.get("/api/v1/credentials").status_code == hook.get("/metrics").status_code == 403


def test_a_configuration_that_is_not_in_force_is_told(running: World) -> None:
    assert running.client().get("/api/v1/info").json()["rejected_configuration"] == ""
    running.rejected = "rotator.yaml:3: no"
    assert running.client().get("/api/v1/info").json()["rejected_configuration"] == "rotator.yaml:3: no"
    assert b"rotator_config_rejected 1.0" in running.client().get("/metrics").content


def test_adopt_has_nothing_to_accept_where_all_is_well(running: World) -> None:
    assert running.client("operator").post(f"{ONE}/adopt").json()["text"] == "there was nothing to accept"


def test_adopt_accepts_a_moved_place(running: World) -> None:
    running.configure("checkout-read", store_name="elsewhere")
    parked = running.settle("checkout-read", lambda s: s["phase"] == "parked")
    assert [p["reason"] for p in parked["parked"]] == ["moved"]
    refused = running.client("operator").post(f"{ONE}/rotate")
    assert (refused.status_code, refused.json()["error"], refused.json()["exit_code"]) == (409, "moved", 4)

    assert running.client("operator").post(f"{ONE}/adopt").status_code == 200
    running.settle("checkout-read", lambda s: s["phase"] == "idle" and not s["parked"])


def test_plan_says_what_would_happen_and_changes_nothing(world: World) -> None:
    world.configure("checkout-read")
    before = world.journal.audit_head()
    plan = world.client("viewer").get(f"{ONE}/plan").json()

    assert [(step["process"], step["does"]) for step in plan["now"]] == [("rotation", "open")]
    assert "bootstrap" in plan["now"][0]["text"]
    assert plan["affects"] == [
        {"target": "cluster", "required": True, "state": "behind", "activation": "restart", "changes": ""},
        {"target": "laptops", "required": True, "state": "behind", "activation": "now", "changes": ""},
    ]
    assert world.journal.audit_head() == before


def test_reload_answers_what_it_found(world: World) -> None:
    world.reloaded = lambda: (True, "3 credentials")
    assert world.client("admin").post("/api/v1/reload").json() == {"changed": True, "message": "3 credentials"}


def test_a_bad_configuration_is_told_and_keeps_the_old(world: World) -> None:
    world.reloaded = _misconfigured
    answer = world.client("admin").post("/api/v1/reload")
    assert (answer.status_code, answer.json()["error"], answer.json()["exit_code"]) == (409, "misconfigured", 3)
    assert "line 7" in answer.json()["message"]


@pytest.mark.parametrize("verb", ["rotate", "sync", "retry", "abandon", "rollback", "adopt"])
def test_a_verb_on_an_unknown_credential_names_the_known_ones(running: World, verb: str) -> None:
    answer = running.client("operator").post(f"/api/v1/credentials/checkout-raed/{verb}")
    assert (answer.status_code, answer.json()["error"], answer.json()["exit_code"]) == (404, "unknown-credential", 2)
    assert "checkout-read" in answer.json()["message"]


def test_a_leak_of_a_key_that_nobody_holds_says_where_to_go(running: World) -> None:
    answer = running.client("operator").post("/api/v1/leak", json={"key": build_secret().reveal()})
    assert answer.status_code == 409
    assert "dashboard" in answer.json()["message"]


def _refuse_mint(operation: str) -> None:
    if operation in ("mint", "check"):
        raise NeedsHuman("the account is closed: open it")


def _lose_mint(operation: str) -> None:
    if operation in ("mint", "check"):
        raise Unreachable("the issuer is away")


def _misconfigured() -> Any:
    raise Misconfigured("rotator.yaml line 7: `every` must be a duration")
