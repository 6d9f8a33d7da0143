"""`rotate --wait` and `leak`: they follow what they started to its end, and say how it ended."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.cli.build import NEW, OLD, a_full_key, a_retirement, a_rotation, a_status, a_target, an_event, at
from tests.unit.cli.conftest import Call
from tests.unit.cli.stub import Problem, StubDaemon, events_after

ACCEPTED = {"credential": "checkout-read", "text": "rotation opened", "rotation": "rot1", "key_id": OLD}
_PARKED = [{"reason": "attempts-failed", "text": "see `rotator history`, then `rotator retry`"}]


@pytest.fixture
def rotation(stub: StubDaemon) -> StubDaemon:
    """A stub that accepts a rotation."""
    stub.routes["POST /api/v1/credentials/checkout-read/rotate"] = ACCEPTED
    stub.routes["GET /api/v1/rotations/rot1"] = a_rotation()
    stub.routes["GET /api/v1/credentials/checkout-read"] = a_status(phase="opened")
    return stub


def test_without_wait_it_returns_at_once(call: Call, rotation: StubDaemon) -> None:
    assert call("rotate", "checkout-read").stdout == "checkout-read: rotation opened\n"
    assert call("rotate", "checkout-read", "--emergency").exit_code == 0
    assert rotation.posts("/api/v1/credentials/checkout-read/rotate") == [{"emergency": False}, {"emergency": True}]
    assert json.loads(call("rotate", "checkout-read", "--json").stdout) == {"accepted": [ACCEPTED]}


@pytest.mark.parametrize(("outcome", "code"), [("distributed", 0), ("superseded", 0), ("abandoned", 1)])
def test_wait_follows_to_the_end(outcome: str, code: int, call: Call, rotation: StubDaemon) -> None:
    closed = a_rotation(closed_at=at(seconds=9), outcome=outcome, key_id=NEW)
    rotation.routes["GET /api/v1/rotations/rot1"] = [a_rotation(), a_rotation(), closed]
    rotation.routes["GET /api/v1/events"] = events_after(
        [an_event(1, "mint", process="another"), an_event(8, "mint", phase="intent"), an_event(9, "promote", key_id=NEW)], before=2
    )
    result = call("rotate", "checkout-read", "--wait")
    assert result.exit_code == code
    assert f"2026-11-22T18:00:09Z checkout-read: promoted {NEW}\n" in result.stdout
    assert "mint" not in result.stdout
    assert outcome in (result.stdout if code == 0 else result.stderr)


def test_wait_in_json_keeps_stdout_for_the_document(call: Call, rotation: StubDaemon) -> None:
    closed = a_rotation(closed_at=at(seconds=9), outcome="distributed", key_id=NEW)
    rotation.routes["GET /api/v1/rotations/rot1"] = [a_rotation(), closed]
    result = call("rotate", "checkout-read", "--wait", "--json")
    assert json.loads(result.stdout) == {"accepted": [ACCEPTED], "rotations": [closed]}
    assert "distributed" in result.stderr


def test_parked_is_exit_code_4_with_what_to_do(call: Call, rotation: StubDaemon) -> None:
    rotation.routes["GET /api/v1/credentials/checkout-read"] = a_status(phase="parked", parked=_PARKED)
    result = call("rotate", "checkout-read", "--wait")
    assert result.exit_code == 4
    assert "attempts-failed" in result.stderr
    assert "rotator retry" in result.stderr


def test_a_park_that_ends_by_itself_is_waited_out(call: Call, rotation: StubDaemon) -> None:
    closed = a_rotation(closed_at=at(seconds=9), outcome="distributed", key_id=NEW)
    rotation.routes["GET /api/v1/credentials/checkout-read"] = [a_status(parked=_PARKED), a_status(parked=_PARKED), a_status()]
    rotation.routes["GET /api/v1/rotations/rot1"] = [a_rotation()] * 5 + [closed]
    assert call("rotate", "checkout-read", "--wait").exit_code == 0


@pytest.mark.parametrize(
    "status",
    [a_status(parked=_PARKED, seen_at=at(seconds=-1)), a_status(parked=[{"reason": "revoke-by-hand", "text": f"revoke key {OLD}"}])],
    ids=["an old look", "another process"],
)
def test_what_is_parked_for_another_cause_does_not_end_it(status: dict[str, Any], call: Call, rotation: StubDaemon) -> None:
    closed = a_rotation(closed_at=at(seconds=9), outcome="distributed", key_id=NEW)
    rotation.routes["GET /api/v1/credentials/checkout-read"] = status
    rotation.routes["GET /api/v1/rotations/rot1"] = [a_rotation()] * 9 + [closed]
    assert call("rotate", "checkout-read", "--wait").exit_code == 0


def test_a_timeout_is_exit_code_1_and_says_that_it_goes_on(call: Call, rotation: StubDaemon) -> None:
    result = call("rotate", "checkout-read", "--wait", "--timeout", "0s")
    assert result.exit_code in (1, 2)
    result = call("rotate", "checkout-read", "--wait", "--timeout", "1s")
    assert result.exit_code == 1
    assert "goes on" in result.stderr


def test_what_is_waited_for_is_said_once_and_not_at_every_look(call: Call, rotation: StubDaemon) -> None:
    closed = a_rotation(closed_at=at(seconds=9), outcome="distributed", key_id=NEW)
    rotation.routes["GET /api/v1/rotations/rot1"] = [a_rotation()] * 9 + [closed]
    rotation.routes["GET /api/v1/credentials/checkout-read"] = [
        a_status(waiting=[{"reason": "verifying", "until": f"2999-01-01T00:00:0{n}Z", "names": []}]) for n in range(9)
    ]
    assert call("rotate", "checkout-read", "--wait").stdout.count("accepted everywhere") == 1


def test_a_daemon_that_is_away_for_a_moment_is_waited_for(call: Call, rotation: StubDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    from rotator.cli import api
    from rotator.remote.daemon import DaemonUnreachable

    closed = a_rotation(closed_at=at(seconds=9), outcome="distributed", key_id=NEW)
    answers: list[Any] = [DaemonUnreachable("away"), DaemonUnreachable("away"), closed]

    def fetch(*_: object) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(api, "fetch_rotation", fetch)
    result = call("rotate", "checkout-read", "--wait")
    assert result.exit_code == 0
    assert "does not answer" in result.stdout
    monkeypatch.setattr("rotator.cli.following._PATIENCE", -1.0)
    answers += [DaemonUnreachable("away")]
    assert call("rotate", "checkout-read", "--wait").exit_code == 5


def test_several_are_followed_together_and_the_worst_code_counts(call: Call, rotation: StubDaemon) -> None:
    rotation.routes["POST /api/v1/credentials/b/rotate"] = Problem(409, "refused", "b is read-only", 1)
    rotation.routes["GET /api/v1/rotations/rot1"] = a_rotation(closed_at=at(seconds=9), outcome="distributed", key_id=NEW)
    result = call("rotate", "b", "checkout-read", "--wait")
    assert result.exit_code == 1
    assert "b is read-only" in result.stderr
    assert "distributed" in result.stdout


@pytest.fixture
def leaked(stub: StubDaemon) -> StubDaemon:
    """A stub that takes a leak report through to the proof of death."""
    revoked = {"revoked_at": at(seconds=8)}
    sighted = {
        "id": "ret1",
        "key_id": OLD,
        "phase": "revoked",
        "why": "compromised",
        "last_alive": at(seconds=200),
        "first_refused": at(seconds=210),
        **revoked,
    }
    proof = {"last_alive": at(seconds=200), "first_refused": at(seconds=210), "confirmed_at": at(seconds=520)}
    stub.routes["POST /api/v1/leak"] = {
        "accepted": [{"credential": "checkout-read", "text": f"key {OLD} (current) is marked compromised", "rotation": None, "key_id": OLD}]
    }
    confirming = [{"reason": "confirming", "until": "2999-01-01T00:00:00Z", "names": []}]
    targets = [a_target(since=at(seconds=7)), a_target("attic", state="behind", key_id=OLD, required=False)]
    stub.routes["GET /api/v1/credentials/checkout-read"] = [
        a_status(key_id=OLD, targets=[], phase="opened", compromised=True),
        a_status(targets=targets, waiting=confirming, retirements=[sighted]),
    ]
    stub.routes["GET /api/v1/retirements"] = [
        {"retirements": []},
        {"retirements": [a_retirement(**revoked)]},
        {"retirements": [a_retirement(**revoked)]},
        {"retirements": [a_retirement(**revoked, **proof, closed_at=at(seconds=520), outcome="dead")]},
    ]
    leak = an_event(3, "leak", phase="note", reason="compromised", key_id=OLD, process=None, text="by on-call")
    stub.routes["GET /api/v1/events"] = events_after(
        [leak, an_event(6, "promote", key_id=NEW), an_event(8, "revoke", key_id=OLD)], before=2
    )
    return stub


def test_leak_prints_the_timeline(call: Call, leaked: StubDaemon) -> None:
    result = call("leak", OLD)
    assert result.exit_code == 0, result.output
    assert leaked.posts("/api/v1/leak") == [{"key_id": OLD}]
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in (
        f"2026-11-22 18:00:03 +0s {OLD} of checkout-read reported as leaked",
        f"2026-11-22 18:00:06 +3s replaced by {NEW}",
        f"2026-11-22 18:00:07 +4s laptop holds {NEW}",
        f"2026-11-22 18:00:08 +5s {OLD} revoked at the service",
        f"2026-11-22 18:03:20 +3m 17s {OLD} last seen alive",
        f"2026-11-22 18:03:30 +3m 27s {OLD} first refused",
        f"2026-11-22 18:08:40 +8m 37s {OLD} confirmed dead",
        "attic (not required) is behind",
    ):
        assert line in lines
    assert "service caches keys" in result.stdout
    assert "last seen alive 3m 17s after the report" in result.stdout


def test_leak_in_json_has_exact_times(call: Call, leaked: StubDaemon) -> None:
    result = call("leak", OLD, "--json")
    story = json.loads(result.stdout)["stories"][0]
    assert [m["what"] for m in story["timeline"]] == ["reported", "replaced", "receipt", "revoked", "last-alive", "first-refused", "dead"]
    assert story["timeline"][-1]["after_seconds"] == 517.0
    assert story["replaced_by"] == NEW
    assert story["outcome"] == "dead"
    assert story["behind"] == ["attic"]


def test_no_wait_returns_after_the_acknowledgment(call: Call, leaked: StubDaemon) -> None:
    result = call("leak", OLD, "--no-wait")
    assert result.exit_code == 0
    assert result.stdout == f"checkout-read: key {OLD} (current) is marked compromised\n"
    assert [a.path for a in leaked.asked] == ["/api/v1/leak"]


def test_a_full_key_comes_in_on_stdin_and_goes_into_the_body_only(call: Call, leaked: StubDaemon) -> None:
    key = a_full_key()
    result = call("leak", "--no-wait", stdin=f"{key}\n")
    assert result.exit_code == 0
    assert leaked.posts("/api/v1/leak") == [{"key": key}]
    assert key not in result.output
    assert not [a for a in leaked.asked if key in a.path or key in str(a.query)]


@pytest.mark.parametrize("stdin", ["", "\n", "hunter2", "two words", "rk_live_99887766", "xx_live_99887766_" + "hidden" * 4])
def test_what_is_no_key_on_stdin_is_refused_without_repeating_it(stdin: str, call: Call, leaked: StubDaemon) -> None:
    result = call("leak", stdin=stdin)
    assert result.exit_code == 2
    assert leaked.asked == []
    for word in ("hunter2", "two words", "hiddenhidden"):
        assert word not in result.output


def test_a_refused_report_ends_with_its_message(call: Call, leaked: StubDaemon) -> None:
    leaked.routes["POST /api/v1/leak"] = Problem(409, "refused", f"no credential holds key {OLD}", 1)
    leaked.routes["GET /api/v1/retirements"] = {"retirements": [a_retirement(outcome="rolled-back")]}
    result = call("leak", OLD)
    assert result.exit_code == 1
    assert "no credential holds" in result.stderr


def test_a_report_is_made_again_while_a_store_does_not_answer(call: Call, leaked: StubDaemon) -> None:
    accepted = leaked.routes["POST /api/v1/leak"]
    away = Problem(503, "store-unreachable", f"no store that answers holds key {OLD}", 1)
    leaked.routes["POST /api/v1/leak"] = [away, away, accepted]
    result = call("leak", OLD)
    assert result.exit_code == 0
    assert result.stderr.count("reported again until they answer") == 1
    assert len(leaked.posts("/api/v1/leak")) == 3


@pytest.mark.parametrize("option", ["--no-wait", "--timeout=1s"])
def test_a_report_is_not_made_again_for_ever(option: str, call: Call, leaked: StubDaemon) -> None:
    leaked.routes["POST /api/v1/leak"] = Problem(503, "store-unreachable", f"no store that answers holds key {OLD}", 1)
    result = call("leak", OLD, option)
    assert result.exit_code == 1
    assert "no store that answers" in result.stderr


@pytest.mark.parametrize(("reason", "code"), [("leak-held", 4), ("preflight-failed", 4)])
def test_a_leak_that_needs_a_person_is_exit_code_4_with_the_timeline_so_far(reason: str, code: int, call: Call, leaked: StubDaemon) -> None:
    leaked.routes["GET /api/v1/retirements"] = {"retirements": [a_retirement()]}
    parked = [{"reason": reason, "text": f"key {OLD} leaked: see why the rotation is stuck"}]
    leaked.routes["GET /api/v1/credentials/checkout-read"] = a_status(key_id=OLD, parked=parked, targets=[], seen_at=at(minutes=1))
    result = call("leak", OLD)
    assert result.exit_code == code
    assert reason in result.stderr
    assert "reported as leaked" in result.stdout


def test_another_key_that_a_person_must_revoke_does_not_end_it(call: Call, leaked: StubDaemon) -> None:
    status = leaked.routes["GET /api/v1/credentials/checkout-read"][-1]
    parked = [{"reason": "revoke-by-hand", "text": "revoke key rk_live_dddddddd in the dashboard"}]
    leaked.routes["GET /api/v1/credentials/checkout-read"] = {**status, "parked": parked, "seen_at": at(minutes=1)}
    leaked.routes["GET /api/v1/retirements"] = [{"retirements": [a_retirement()]}] * 9 + leaked.routes["GET /api/v1/retirements"][-1:]
    assert call("leak", OLD).exit_code == 0


def test_what_became_of_the_key_before_the_report_does_not_end_it(call: Call, leaked: StubDaemon) -> None:
    former = a_retirement(id="ret0", why="replaced", opened_at=at(minutes=-9), closed_at=at(minutes=-5), outcome="rolled-back")
    statuses: Any = leaked.routes["GET /api/v1/credentials/checkout-read"]
    first = statuses[0]
    first["retirements"] = [{"id": "ret0", "key_id": OLD, "phase": "revoked", "why": "replaced", "revoked_at": at(minutes=-7)}]
    then: Any = leaked.routes["GET /api/v1/retirements"]
    answers = [[former], [former], *([*answer["retirements"], former] for answer in then)]
    leaked.routes["GET /api/v1/retirements"] = [{"retirements": rows} for rows in answers]
    result = call("leak", OLD, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["stories"][0]["retirement"]["id"] == "ret1"
    leaked.routes["GET /api/v1/retirements"] = {"retirements": [former]}
    leaked.routes["GET /api/v1/credentials/checkout-read"] = first
    assert call("leak", OLD, "--timeout", "1s").exit_code == 1
    assert "it is not revoked yet" in call("leak", OLD, "--timeout", "1s").stdout


def test_the_wait_says_when_it_can_end(call: Call, leaked: StubDaemon) -> None:
    assert "its death can be proven one cache time after that at the earliest" in call("leak", OLD).stdout


def test_a_key_that_was_proven_dead_already_is_no_failure(call: Call, leaked: StubDaemon) -> None:
    leaked.routes["POST /api/v1/leak"] = Problem(409, "refused", f"no credential holds key {OLD}: revoke it in the dashboard", 1)
    dead = a_retirement(revoked_at=at(), closed_at=at(minutes=9), confirmed_at=at(minutes=8), outcome="dead")
    leaked.routes["GET /api/v1/retirements"] = {"retirements": [a_retirement(outcome="rolled-back"), dead]}
    result = call("leak", OLD)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{OLD} was a key of checkout-read, proven dead at 2026-11-22 18:08:00 UTC\n"
    assert leaked.asked[-1].query["key_id"] == OLD
    assert json.loads(call("leak", OLD, "--json").stdout)["retirements"] == [dead]
    leaked.routes["POST /api/v1/leak"] = Problem(409, "refused", "checkout-read cannot be marked", 1)
    assert call("leak", OLD).exit_code == 1


def test_a_key_as_it_stands_in_a_header_is_taken(call: Call, leaked: StubDaemon) -> None:
    key = a_full_key()
    assert call("leak", "--no-wait", stdin=f"Bearer {key}\n").exit_code == 0
    assert leaked.posts("/api/v1/leak") == [{"key": key}]


def test_the_name_of_a_credential_is_no_key_id(call: Call, leaked: StubDaemon) -> None:
    result = call("leak", "checkout-read")
    assert result.exit_code == 2
    assert "rotator status NAME" in result.stderr
