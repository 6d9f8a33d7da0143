"""The real MCP clients read what the file target wrote, and connect to the sandbox with the rotated key.

All of them connect. Claude Code, Gemini CLI and the Inspector do from the command line; Codex's `mcp list` only reads, and so its app
server is asked, which connects without an account.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from rotator.mcp.clients import get_client
from rotator.targets.contents import ClientContent
from tests.support.clients import SERVER, ClaudeCode, Codex, GeminiCli, Inspector, RealClient, Workplace, describe, find_key_ids

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OWN_FILE = (ClaudeCode(), GeminiCli(), Codex())
READERS: tuple[RealClient, ...] = (*OWN_FILE, Inspector("claude-code"), Inspector("gemini-cli"))


def name_of(value: object) -> str | None:
    """For the names of parametrized tests."""
    return f"{type(value).__name__}-{value.reads}" if isinstance(value, ClaudeCode | GeminiCli | Codex | Inspector) else None


@pytest.mark.parametrize("client", READERS, ids=name_of)
def test_it_connects_with_the_key_in_its_file_and_after_a_rotation_with_the_new_one(place: Workplace, client: RealClient) -> None:
    old = place.deliver(client.reads)
    bystander = place.control.mint()
    refused = place.refusals()
    seen = client.look(place)
    assert list(seen) == [SERVER]
    assert seen[SERVER].url == place.endpoint
    assert seen[SERVER].connected, describe(seen)
    used = place.uses(old)
    assert used > 0

    file = place.file(client.reads)
    with_old = file.read_bytes()
    new = place.deliver(client.reads)
    place.revoke(old)
    seen = client.look(place)
    assert seen[SERVER].connected, describe(seen)
    assert place.uses(new) > 0
    assert (place.uses(old), place.uses(bystander), place.refusals()) == (used, 0, refused)

    file.write_bytes(with_old)
    seen = client.look(place)
    assert not seen[SERVER].connected, "the client reports success with a revoked key: this test could not fail"
    assert seen[SERVER].url == place.endpoint
    assert place.refusals() > refused


@pytest.mark.parametrize(
    ("program", "arguments", "client"),
    [("claude", ("mcp", "get", SERVER), "claude-code"), ("codex", ("mcp", "get", SERVER, "--json"), "codex")],
    ids=["claude", "codex"],
)
def test_the_header_that_a_client_shows_is_the_key(place: Workplace, program: str, arguments: tuple[str, ...], client: str) -> None:
    for _ in range(2):
        secret = place.deliver(client)
        ran = place.run(program, *arguments)
        assert ran.exit_code == 0
        assert ran.shows(secret)
        assert f"Bearer {secret.key_id}" in ran.text
        assert place.endpoint in ran.text


Change = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.mark.parametrize(
    ("client", "change"),
    [
        (ClaudeCode(), lambda entry: {name: value for name, value in entry.items() if name != "type"}),
        (ClaudeCode(), lambda entry: {**entry, "type": "streamableHttp"}),
        (ClaudeCode(), lambda entry: {"type": "http", "url": entry["url"], "httpHeaders": entry["headers"]}),
        (GeminiCli(), lambda entry: {**entry, "type": "sse"}),
        (GeminiCli(), lambda entry: {"type": "http", "url": entry["url"], "http_headers": entry["headers"]}),
        (Codex(), lambda entry: {"url": entry["url"], "headers": entry["http_headers"]}),
        (Inspector("claude-code"), lambda entry: {"type": "http", "url": entry["url"], "httpHeaders": entry["headers"]}),
    ],
    ids=["claude-no-type", "claude-type", "claude-headers", "gemini-type", "gemini-headers", "codex-headers", "inspector-headers"],
)
def test_a_wrong_word_in_the_table_of_clients_would_be_seen(place: Workplace, client: RealClient, change: Change) -> None:
    row = get_client(client.reads)
    wrong = replace(row, entry=MappingProxyType(change(dict(row.entry))))
    target = place.target(client.reads)
    place.targets[client.reads] = replace(target, content=ClientContent(wrong, SERVER))
    secret = place.deliver(client.reads)
    seen = client.look(place)
    assert SERVER not in seen or not seen[SERVER].connected
    assert place.uses(secret) == 0


def write_claude(place: Workplace) -> None:
    """The state of a Claude Code that was used before: a server for everything, one for this project, counters."""
    server = {"type": "http", "url": place.endpoint}
    projects = {str(place.home / "work"): {"mcpServers": {"local": server}, "allowedTools": ["Bash(ls:*)"]}}
    place.file("claude-code").write_text(
        json.dumps({"note": "é\u2028", "numStartups": 41, "mcpServers": {"other": server}, "projects": projects}, indent=2)
    )


def write_gemini(place: Workplace) -> None:
    """Comments, a server of the user's own, and one that another setting blocks."""
    server = json.dumps({"type": "http", "url": place.endpoint})
    place.file("gemini-cli").write_text(
        "// mine\n"
        '{ "mcp": { "excluded": ["blocked"] }, /* not yet */\n'
        f'  "mcpServers": {{ "other": {server}, "blocked": {server} }}\n'
        "}\n"
    )


def write_codex(place: Workplace) -> None:
    """Comments, a model, and a server of the user's own."""
    place.file("codex").write_text(f'# mine\nmodel = "my-model" # why\n\n[mcp_servers.other]\nurl = "{place.endpoint}"\nenabled = true\n')


FOREIGN: dict[str, tuple[Callable[[Workplace], None], set[str]]] = {
    "claude-code": (write_claude, {"other", "local"}),
    "gemini-cli": (write_gemini, {"other", "blocked"}),
    "codex": (write_codex, {"other"}),
}


@pytest.mark.parametrize("client", OWN_FILE, ids=name_of)
def test_what_was_in_the_file_before_stays_and_is_still_read(place: Workplace, client: RealClient) -> None:
    write, others = FOREIGN[client.reads]
    write(place)
    file = place.file(client.reads)
    file.chmod(0o600)
    before = file.read_bytes()
    place.deliver(client.reads)
    place.deliver(client.reads)
    assert place.target(client.reads).withdraw("checkout")
    assert file.read_bytes() == before

    place.deliver(client.reads)
    seen = client.look(place)
    assert set(seen) == {SERVER, *others}
    assert seen[SERVER].connected, describe(seen, list(seen))
    # The others carry no key, and so none of ours may reach the sandbox through them.
    assert not any(seen[name].connected for name in others)
    assert_its_own_settings_hold(place, client, seen)

    place.target(client.reads).withdraw("checkout")
    assert set(client.look(place)) == others


def assert_its_own_settings_hold(place: Workplace, client: RealClient, seen: dict[str, Any]) -> None:
    """One setting per client whose effect shows."""
    if isinstance(client, ClaudeCode):
        state = json.loads(place.file(client.reads).read_bytes())
        assert state["numStartups"] >= 41
        assert state["note"] == "é\u2028"
        assert state["projects"][str(place.home / "work")]["allowedTools"] == ["Bash(ls:*)"]
    elif isinstance(client, GeminiCli):
        assert seen["blocked"].state == "Blocked"
    elif isinstance(client, Codex):
        assert client.ask(place, "config/read")["config"]["model"] == "my-model"


@pytest.mark.parametrize(
    ("client", "arguments"),
    [
        (ClaudeCode(), ("mcp", "add", "--scope", "user", "--transport", "http", "added", "URL")),
        (GeminiCli(), ("mcp", "add", "--scope", "user", "--transport", "http", "added", "URL")),
        (Codex(), ("mcp", "add", "added", "--url", "URL")),
    ],
    ids=name_of,
)
def test_a_client_that_rewrites_its_file_and_a_rotation_keep_each_others_entries(
    place: Workplace, client: RealClient, arguments: tuple[str, ...]
) -> None:
    old = place.deliver(client.reads)
    before = place.file(client.reads).read_bytes()
    assert place.run(client.program, *(place.endpoint if word == "URL" else word for word in arguments)).exit_code == 0
    assert place.file(client.reads).read_bytes() != before
    assert place.target(client.reads).observe("checkout").generation == 1
    new = place.deliver(client.reads)
    place.revoke(old)
    seen = client.look(place)
    assert set(seen) == {SERVER, "added"}
    assert seen[SERVER].connected, describe(seen)
    assert place.uses(new) > 0
    assert find_key_ids(place.file(client.reads).read_text()) == {new.key_id}
    assert place.target(client.reads).withdraw("checkout")
    assert set(client.look(place)) == {"added"}
    assert not find_key_ids(place.file(client.reads).read_text())


def test_the_inspector_leaves_the_file_as_it_is(place: Workplace) -> None:
    place.deliver("claude-code")
    file = place.file("claude-code")
    before, status = file.read_bytes(), file.stat()
    assert Inspector("claude-code").look(place)[SERVER].connected
    assert file.read_bytes() == before
    assert (file.stat().st_mtime_ns, file.stat().st_ino, file.stat().st_mode) == (status.st_mtime_ns, status.st_ino, status.st_mode)


def test_claude_code_copies_the_key_into_backups_of_its_own(place: Workplace) -> None:
    """Nothing that rotator could prevent; a rotation makes the copy worthless. If this turns red, docs may promise more."""
    old = place.deliver("claude-code")
    ClaudeCode().look(place)
    new = place.deliver("claude-code")
    place.revoke(old)
    (backup,) = place.find_backups()
    assert backup.stat().st_mode & 0o077 == 0
    assert find_key_ids(backup.read_text()) == {old.key_id}
    assert not place.control.probe(old).alive
    assert place.control.probe(new).alive
