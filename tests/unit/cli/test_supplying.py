"""`submit`, `pool add` and `pool list`: keys come from stdin alone, and nothing of them but the key id is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rotator.domain.secret import Secret
from tests.support.fakes import build_secret
from tests.unit.cli.conftest import Call
from tests.unit.cli.stub import Asked, Problem, StubDaemon

SPARES = "/api/v1/pools/spares/spares"
SUBMIT = "/api/v1/credentials/one/submit"


def a_row(key: str, *, accepted: bool = True) -> dict[str, Any]:
    name = str(Secret(key).key_id)
    if accepted:
        return {"key_id": name, "accepted": True, "reason": None, "text": "accepted"}
    return {"key_id": name, "accepted": False, "reason": "not-alive", "text": f"the service refuses {key}"}


def take(asked: Asked) -> dict[str, Any]:
    return {"received": [a_row(key) for key in asked.body["keys"]]}


def test_spares_come_one_a_line(call: Call, stub: StubDaemon) -> None:
    stub.routes[f"POST {SPARES}"] = take
    keys = [build_secret() for _ in range(35)]
    text = "\n".join(f"  Bearer {key.reveal()}  " if number % 2 else f"{key.reveal()}\n" for number, key in enumerate(keys))
    result = call("pool", "add", "spares", "--project", "web", stdin=text)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [f"{key.key_id}: accepted" for key in keys]
    posted = stub.posts(SPARES)
    assert [len(body["keys"]) for body in posted] == [16, 16, 3]
    assert {body["project"] for body in posted} == {"web"}
    assert [key for body in posted for key in body["keys"]] == [key.reveal() for key in keys]


def test_a_line_that_is_no_key_is_told_by_its_number_and_not_repeated(call: Call, stub: StubDaemon) -> None:
    stub.routes[f"POST {SPARES}"] = take
    key = build_secret()
    result = call("pool", "add", "spares", stdin=f"{key.reveal()}\nhidden-rubbish\n")
    assert result.exit_code == 1
    assert result.stdout == f"{key.key_id}: accepted\n"
    assert "refused (malformed-key): line 2: " in result.stderr
    assert "rubbish" not in result.output
    assert "project" not in stub.posts(SPARES)[0]


def test_a_refusal_is_exit_code_1_and_shows_no_key(call: Call, stub: StubDaemon) -> None:
    key = build_secret()
    stub.routes[f"POST {SUBMIT}"] = lambda asked: a_row(asked.body["key"], accepted=False)
    result = call("submit", "one", stdin=key.reveal())
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"{key.key_id}: refused (not-alive): the service refuses {key.key_id}_…")


def test_a_submitted_key_goes_into_the_body(call: Call, stub: StubDaemon) -> None:
    key = build_secret()
    stub.routes[f"POST {SUBMIT}"] = lambda asked: a_row(asked.body["key"])
    result = call("submit", "one", "--json", stdin=f"{key.reveal()}\n")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"received": [a_row(key.reveal())]}
    assert stub.posts(SUBMIT) == [{"key": key.reveal()}]


@pytest.mark.parametrize("arguments", [("submit", "one"), ("pool", "add", "spares")])
def test_nothing_on_stdin_is_a_mistake(arguments: tuple[str, ...], call: Call, stub: StubDaemon) -> None:
    result = call(*arguments, stdin="\n \n")
    assert result.exit_code == 2
    assert "hand it in on stdin" in result.stderr
    assert stub.asked == []


def test_two_keys_for_one_credential_are_a_mistake(call: Call, stub: StubDaemon) -> None:
    result = call("submit", "one", stdin=f"{build_secret().reveal()}\n{build_secret().reveal()}\n")
    assert (result.exit_code, stub.asked) == (2, [])


def test_what_the_daemon_says_no_to_is_told(call: Call, stub: StubDaemon) -> None:
    stub.routes[f"POST {SPARES}"] = Problem(404, "unknown-issuer", "no pool is called 'spares'; configured: none", 2)
    result = call("pool", "add", "spares", stdin=build_secret().reveal())
    assert (result.exit_code, "no pool is called" in result.stderr) == (2, True)


def test_pools_are_listed(call: Call, stub: StubDaemon) -> None:
    spare = {
        "key_id": "rk_live_abcd1234",
        "added_at": "2026-03-01T00:00:00Z",
        "by": "admin",
        "project": None,
        "state": "usable",
        "reserved_at": None,
    }
    full = {"issuer": "spares", "usable": 1, "low_water": 2, "is_low": True, "spares": [spare], "problem": ""}
    away = {"issuer": "other", "usable": 0, "low_water": 0, "is_low": False, "spares": [], "problem": "the store is away"}
    stub.routes["GET /api/v1/pools"] = {"pools": [full, away]}
    stub.routes[f"GET {SPARES}"] = full
    result = call("pool", "list")
    assert result.exit_code == 1, "one of them could not be read"
    for part in ("1 usable, fewer than 2: add some with `rotator pool add spares`", "rk_live_abcd1234", "usable", "the store is away"):
        assert part in result.stdout
    alone = call("pool", "list", "spares")
    assert ("other" in alone.stdout, alone.exit_code) == (False, 0)
    assert json.loads(call("pool", "list", "--json").stdout) == {"pools": [full, away]}


def test_no_pools_are_said_to_be_none(call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/pools"] = {"pools": []}
    assert "no pools are configured" in call("pool", "list").stdout
