"""What every command has in common: help, examples, options, exit codes, and no secret on the command line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from rotator.cli.lazy import LazyGroup
from rotator.cli.main import cli
from tests.unit.cli.build import a_full_key, a_status
from tests.unit.cli.conftest import Call
from tests.unit.cli.stub import Problem, StubDaemon


def gather_commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with its path."""
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from gather_commands(command, (*path, name))


COMMANDS = dict(gather_commands())
LEAVES = {path: command for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
PRINTING = [("status",), ("plan",), ("history",), ("rotate",), ("leak",), ("sync",), ("retry",), ("abandon",), ("rollback",), ("adopt",)]
LOCAL_PRINTING = [("check",), ("config", "show")]


def gather_examples(command: click.Command) -> list[str]:
    """The lines of the epilog that call rotator."""
    return [line.strip() for line in (command.epilog or "").splitlines() if line.strip().startswith("rotator ")]


def test_the_design_s_commands_are_all_there() -> None:
    names = [
        "demo",
        "run",
        "check",
        "plan",
        "status",
        "rotate",
        "leak",
        "sync",
        "history",
        "health",
        "retry",
        "abandon",
        "rollback",
        "adopt",
        "withdraw",
        "submit",
        "pool",
        "config",
        "sandbox",
    ]
    assert sorted(path[0] for path in COMMANDS if len(path) == 1) == sorted(names)
    assert {path[1] for path in COMMANDS if path[0] == "config" and len(path) == 2} == {"schema", "example", "show"}
    assert {path[1] for path in COMMANDS if path[0] == "pool" and len(path) == 2} == {"add", "strike", "list"}


@pytest.mark.parametrize("path", COMMANDS)
def test_help_works_and_shows_an_example(path: tuple[str, ...], call: Call) -> None:
    result = call(*path, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output
    assert gather_examples(COMMANDS[path])
    assert result.stderr == ""


@pytest.mark.parametrize("example", [e for c in (cli, *COMMANDS.values()) for e in gather_examples(c)])
def test_an_example_parses(example: str) -> None:
    words = shlex.split(example.split("<", maxsplit=1)[0].split("|", maxsplit=1)[0])[1:]
    ctx = cli.make_context("rotator", words)
    with ctx:
        name, command, rest = cli.resolve_command(ctx, ctx._protected_args + ctx.args)
        assert command is not None
        while isinstance(command, click.Group):
            ctx = command.make_context(name, rest, parent=ctx)
            name, command, rest = command.resolve_command(ctx, ctx._protected_args + ctx.args)
        command.make_context(name, rest, parent=ctx)


@pytest.mark.parametrize("name", cli.entries)
def test_the_one_line_help_is_a_sentence_of_the_command_s_own_kind(name: str) -> None:
    assert isinstance(cli, LazyGroup)
    entry = cli.entries[name]
    assert entry.help.endswith(".")
    assert len(entry.help) <= 64
    assert COMMANDS[(name,)].name == name


@pytest.mark.parametrize("path", PRINTING + LOCAL_PRINTING)
def test_what_prints_data_prints_json(path: tuple[str, ...]) -> None:
    assert any("--json" in p.opts for p in COMMANDS[path].params)


@pytest.mark.parametrize("path", LEAVES)
def test_no_command_takes_a_secret_as_an_option(path: tuple[str, ...]) -> None:
    named = {opt for p in LEAVES[path].params for opt in p.opts}
    assert not {o for o in named if any(word in o for word in ("secret", "password", "api-key"))}
    assert not named & {"--key", "--token"}


@pytest.mark.parametrize("arguments", [("leak",), ("rotate",), ("status",), ("leak", "--no-wait"), ("--config",), ("frobnicate",)])
def test_a_full_key_on_the_command_line_is_refused_and_never_repeated(arguments: tuple[str, ...], call: Call, stub: StubDaemon) -> None:
    key = a_full_key()
    result = call(*arguments, key)
    assert result.exit_code == 2
    assert key not in result.output
    assert key.rsplit("_", 1)[1][:8] not in result.output
    assert "history" in result.stderr
    assert f"rotator leak {key.rsplit('_', 1)[0]}" in result.stderr
    assert stub.asked == []


def test_a_short_or_odd_full_key_is_refused_too(call: Call, stub: StubDaemon) -> None:
    for odd in ("rk_live_99887766_tiny", "rk_LIVE_1_hiddenhidden", "hidden"):
        result = call("leak", odd)
        assert result.exit_code == 2
        assert "tiny" not in result.output
        assert "hidden" not in result.output.replace("hidden on a terminal", "")
    assert stub.asked == []


@pytest.mark.parametrize("path", PRINTING)
def test_without_a_daemon_the_exit_code_is_5_and_both_ways_are_named(path: tuple[str, ...], call: Call, tmp_path: Path) -> None:
    arguments = {"rotate": ["x"], "leak": ["rk_live_99887766"], "retry": ["x"], "abandon": ["x"], "rollback": ["x"]}.get(path[0], [])
    result = call(*path, *arguments)
    assert result.exit_code == 5
    assert len(result.stderr.splitlines()) == 1
    for way in ("ROTATOR_URL", "ROTATOR_TOKEN", "rotator run", "--state-dir", str(tmp_path / ".local/state/rotator")):
        assert way in result.stderr


def test_a_daemon_that_is_gone_is_exit_code_5(call: Call, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
    monkeypatch.setenv("ROTATOR_URL", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("ROTATOR_TOKEN", "t")
    result = call("status")
    assert result.exit_code == 5
    assert str(closed_port) in result.stderr


def test_the_state_folder_leads_to_the_daemon(call: Call, stub: StubDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROTATOR_URL")
    monkeypatch.delenv("ROTATOR_TOKEN")
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status()]}
    folder = stub.write_state(tmp_path / "state")
    for arguments in (("--state-dir", str(folder), "status"), ("status", "--state-dir", str(folder))):
        assert call(*arguments).exit_code == 0
    monkeypatch.setenv("ROTATOR_STATE_DIR", str(folder))
    assert "checkout-read" in call("status").output


def test_an_explicit_state_folder_wins_over_the_environment(call: Call, stub: StubDaemon, tmp_path: Path) -> None:
    assert call("status", "--state-dir", str(tmp_path / "none")).exit_code == 5
    assert stub.asked == []


def test_a_refusal_keeps_its_message_and_its_exit_code(call: Call, stub: StubDaemon) -> None:
    stub.routes["POST /api/v1/credentials/x/abandon"] = Problem(409, "refused", "x has no open rotation", 1)
    stub.routes["POST /api/v1/credentials/x/rollback"] = Problem(409, "moved", "x is parked (moved): configure it", 4)
    for verb, code, text in (("abandon", 1, "x has no open rotation"), ("rollback", 4, "x is parked"), ("retry", 2, "no credential")):
        result = call(verb, "x")
        assert result.exit_code == code
        assert text in result.stderr
        assert result.stdout == ""


@pytest.mark.parametrize("verb", ["sync", "retry", "abandon", "rollback", "adopt"])
def test_a_verb_says_what_was_accepted(verb: str, call: Call, stub: StubDaemon) -> None:
    accepted = {"credential": "x", "text": "looking again now", "rotation": None, "key_id": None}
    stub.routes[f"POST /api/v1/credentials/x/{verb}"] = accepted
    assert call(verb, "x").output == "x: looking again now\n"
    assert json.loads(call(verb, "x", "--json").stdout) == {"accepted": [accepted]}


@pytest.mark.parametrize("verb", ["sync", "adopt"])
def test_without_names_a_verb_goes_to_all_and_one_refusal_does_not_stop_it(verb: str, call: Call, stub: StubDaemon) -> None:
    stub.routes["GET /api/v1/credentials"] = {"credentials": [a_status("a"), a_status("b")]}
    stub.routes[f"POST /api/v1/credentials/a/{verb}"] = Problem(409, "refused", "a is read-only", 1)
    stub.routes[f"POST /api/v1/credentials/b/{verb}"] = {"credential": "b", "text": "done", "rotation": None, "key_id": None}
    result = call(verb)
    assert result.exit_code == 1
    assert result.stdout == "b: done\n"
    assert "a is read-only" in result.stderr


def test_a_name_is_quoted_in_the_path(call: Call, stub: StubDaemon) -> None:
    call("retry", "../leak?x")
    assert stub.asked[0].path == "/api/v1/credentials/../leak?x/retry"
    assert stub.asked[0].query == {}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "Usage"),
        (("stauts",), "stauts"),
        (("status", "--bogus"), "--help"),
        (("rotate",), "CREDENTIAL"),
        (("rotate", "x", "--timeout", "soon"), "--timeout"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...], text: str, call: Call) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert text in result.stderr
    assert "Traceback" not in result.stderr
