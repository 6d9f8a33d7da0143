"""`status`, `plan`, `history` against a stub of the daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.build import a_plan, a_retirement, a_rotation, a_status, a_target, an_event
from tests.unit.cli.conftest import Call
from tests.unit.cli.stub import Problem, StubDaemon


def test_status_of_all_and_of_one(call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status("a"), a_status("b")]}
    stub.routes["GET /api/v1/credentials/b"] = a_status("b", targets=[a_target("attic", state="behind")])
    assert call("status").stdout.splitlines()[0].startswith("CREDENTIAL")
    assert "2 credentials, all well" in call("status").stdout
    one = call("status", "b").stdout
    assert "attic is behind" in one
    assert "\na " not in one


def test_status_in_json_is_what_the_api_said(call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status()]}
    expected = {"credentials": [a_status()], "rejected_configuration": ""}
    assert json.loads(call("status", "--json").stdout) == expected
    assert json.loads(call("--json", "status").stdout) == expected


def test_status_tells_that_the_configuration_on_disk_is_not_in_force(call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status()]}
    stub.routes["GET /api/v1/info"] = {"rejected_configuration": "rotator.yaml:3: installation: unknown"}
    shown = call("status").stdout
    assert "an older one is in force" in shown
    assert "rotator.yaml:3" in shown


def test_exit_code_4_for_what_is_parked_only_when_asked_for(call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status(parked=[{"reason": "moved", "text": "configure it"}])]}
    assert call("status").exit_code == 0
    assert call("status", "--exit-code").exit_code == 4


def test_an_unknown_credential_is_exit_code_2(call: Call, stub: StubDaemon) -> None:
    for command in ("status", "plan", "history"):
        result = call(command, "nobody")
        assert result.exit_code == 2
        assert "no credential" in result.stderr


def test_plan_of_all(call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status()]}
    stub.routes["GET /api/v1/credentials/checkout-read/plan"] = a_plan()
    assert "after its restart" in call("plan").stdout
    assert json.loads(call("plan", "--json").stdout) == {"plans": [a_plan()]}


def test_history_asks_for_what_was_named(call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials/checkout-read"] = a_status()
    stub.routes["GET /api/v1/rotations"] = {"rotations": [a_rotation()]}
    stub.routes["GET /api/v1/retirements"] = {"retirements": [a_retirement()]}
    stub.routes["GET /api/v1/events"] = {"events": [an_event(2, "promote", key_id="rk_live_bbbbbbbb"), an_event(1, "probe")], "next": 2}
    shown = call("history", "checkout-read", "-n", "3").stdout
    assert "promoted rk_live_bbbbbbbb" in shown
    assert "probed" not in shown
    assert "probed" in call("history", "checkout-read", "-v").stdout
    assert {a.query["credential"] for a in stub.asked if a.query} == {"checkout-read"}
    answer = json.loads(call("history", "--json").stdout)
    assert [e["seq"] for e in answer["events"]] == [1, 2]
    assert set(answer) == {"rotations", "retirements", "events"}


def test_verify_says_whether_the_trail_is_whole(call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/audit"] = {"lines": 12, "head": "ab", "problems": []}
    assert call("history", "--verify").exit_code == 0
    stub.routes["GET /api/v1/audit"] = {"lines": 12, "head": "ab", "problems": ["line 3 was removed"]}
    broken = call("history", "--verify")
    assert broken.exit_code == 1
    assert "line 3 was removed" in broken.stdout
    assert call("history", "--verify", "--json").exit_code == 1
    assert call("history", "--verify", "checkout-read").exit_code == 2


def test_what_was_recovered_from_a_lost_journal_waits_for_a_person(call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status("a", recovered=True), a_status("b")]}
    result = call("status", "--exit-code")
    assert "2 credentials, 1 waiting for a person" in result.stdout
    assert result.exit_code == 4


def test_health_asks_without_a_token_and_says_5_where_nothing_healthy_answers(
    call: Call, stub: StubDaemon, closed_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    stub.open_paths.add("/healthz")
    stub.routes["GET /healthz"] = {"alive": True}
    assert json.loads(call("health", "--json").stdout) == {"alive": True, "url": stub.url}
    assert [asked.token for asked in stub.asked] == [""]
    assert call("health", "--state-dir", str(stub.write_state(tmp_path / "state"))).stdout == f"alive at {stub.url}\n"
    stub.routes["GET /healthz"] = Problem(503, "unavailable", "no", 1)
    assert call("health").exit_code == 5
    monkeypatch.setenv("ROTATOR_URL", f"http://127.0.0.1:{closed_port}")
    assert call("health").exit_code == 5
    monkeypatch.delenv("ROTATOR_URL")
    assert call("health").exit_code == 5
