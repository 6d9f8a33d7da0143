"""The table of clients: where each keeps its file on each platform, and what it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from rotator.domain.errors import Misconfigured
from rotator.mcp.clients import CLIENTS, Client, Reload, find_client, get_client, locate, locate_places, render_entry

HOME = Path("/home/ada")


@pytest.mark.parametrize(
    ("name", "platform", "environ", "expected"),
    [
        ("claude-code", "linux", {}, "/home/ada/.claude.json"),
        ("claude-code", "darwin", {"CLAUDE_CONFIG_DIR": "/opt/cc"}, "/opt/cc/.claude.json"),
        ("claude-code", "linux", {"CLAUDE_CONFIG_DIR": ""}, "/home/ada/.claude.json"),
        ("cursor", "linux", {}, "/home/ada/.cursor/mcp.json"),
        ("vscode", "linux", {}, "/home/ada/.config/Code/User/mcp.json"),
        ("vscode", "linux", {"XDG_CONFIG_HOME": "/x"}, "/x/Code/User/mcp.json"),
        ("vscode", "darwin", {"XDG_CONFIG_HOME": "/x"}, "/home/ada/Library/Application Support/Code/User/mcp.json"),
        ("vscode", "win32", {"APPDATA": "C:/A"}, "C:/A/Code/User/mcp.json"),
        ("gemini-cli", "linux", {}, "/home/ada/.gemini/settings.json"),
        ("gemini-cli", "linux", {"GEMINI_CLI_HOME": "/g"}, "/g/.gemini/settings.json"),
        ("codex", "linux", {}, "/home/ada/.codex/config.toml"),
        ("codex", "linux", {"CODEX_HOME": "/c"}, "/c/config.toml"),
    ],
)
def test_each_file_is_found_from_the_clients_own_variables(name: str, platform: str, environ: dict[str, str], expected: str) -> None:
    home = Path("C:/Users/ada") if platform == "win32" else HOME
    assert locate(get_client(name), environ, home, platform) == [Path(expected)]


def test_without_appdata_windows_falls_back_to_the_home_directory() -> None:
    found = locate(get_client("vscode"), {}, Path("C:/Users/ada"), "win32")
    assert found == [Path("C:/Users/ada/AppData/Roaming/Code/User/mcp.json")]


def test_a_relative_variable_is_refused() -> None:
    with pytest.raises(Misconfigured, match="CODEX_HOME must be an absolute path"):
        locate(get_client("codex"), {"CODEX_HOME": "codex"}, HOME, "linux")


def test_the_directory_that_shows_an_installed_client_comes_along() -> None:
    (place,) = locate_places(get_client("claude-code"), {}, HOME, "linux")
    assert place.installed == HOME / ".claude"


def test_an_unknown_client_is_named_with_those_there_are() -> None:
    assert find_client("emacs") is None
    with pytest.raises(Misconfigured, match="'emacs'; known are claude-code, cursor, vscode, gemini-cli, codex"):
        get_client("emacs")


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_every_row_is_complete(client: Client) -> None:
    assert client.header_path[-1] == "Authorization"
    assert client.url_path == ("url",)
    assert isinstance(client.reload, Reload)
    assert client.hint
    assert client.title
    for platform in ("linux", "darwin", "win32"):
        home = Path("C:/Users/ada") if platform == "win32" else HOME
        assert locate(client, {}, home, platform)


def test_the_entries_are_what_each_client_reads() -> None:
    entries = {client.name: render_entry(client, "U", "H") for client in CLIENTS}
    typed = {"type": "http", "url": "U", "headers": {"Authorization": "H"}}
    assert entries == {
        "claude-code": typed,
        "cursor": {"url": "U", "headers": {"Authorization": "H"}},
        "vscode": typed,
        "gemini-cli": typed,
        "codex": {"url": "U", "http_headers": {"Authorization": "H"}},
    }


def test_server_names_that_some_client_refuses_are_refused() -> None:
    assert get_client("codex").path_of("mm-1_x") == ("mcp_servers", "mm-1_x")
    for name in ("", "a.b", "a b", 'a"', "ż", "a" * 65, "a\n"):
        with pytest.raises(Misconfigured):
            get_client("codex").path_of(name)
