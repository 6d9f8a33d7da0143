"""The MCP clients as data: where each keeps its user-scope file, in which dialect, and what an entry for a remote server looks like.

One frozen row per client; two dozen more fit the same columns. Sources and confidence of each row: the project's reference on MCP
client configuration. Nothing here touches the file system: environment, home and platform are handed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path, PurePosixPath, PureWindowsPath
from string import Formatter
from types import MappingProxyType
from typing import Final

from rotator.domain.errors import Misconfigured
from rotator.mcp.edits import Path as MemberPath
from rotator.mcp.scanner import JSON, JSON_WITH_COMMENTS, JSONC, Dialect


class Slot(Enum):
    """What is filled into an entry's template."""

    URL = "url"
    HEADER = "header"


class Reload(StrEnum):
    """When a client picks up a change of its file (R19)."""

    NOW = "now"
    RECONNECT = "reconnect"
    RESTART = "restart"


class Toml(Enum):
    """TOML has no dialects; the one value stands where other clients have a `Dialect`."""

    TOML = "TOML"


TOML: Final = Toml.TOML

_EVERYWHERE = frozenset({"linux", "darwin", "win32"})


@dataclass(frozen=True, slots=True)
class Place:
    """A template of a file and of the directory whose existence shows that the client is installed (R18).

    Templates are joined by `/` and begin with a variable in braces. A place with `override` counts only where its variable is set,
    and then it alone counts.
    """

    file: str
    installed: str
    platforms: frozenset[str] = _EVERYWHERE
    override: bool = False


@dataclass(frozen=True, slots=True)
class Located:
    """One candidate on a given machine."""

    file: Path
    installed: Path


@dataclass(frozen=True, slots=True)
class Client:
    """One MCP client. `container` is the path of the object that holds the servers; `entry` is the template of one of them."""

    name: str
    title: str
    places: tuple[Place, ...]
    dialect: Dialect | Toml
    container: MemberPath
    entry: Mapping[str, object]
    reload: Reload
    hint: str
    blank_is_empty: bool = False

    @property
    def header_path(self) -> MemberPath:
        """Where, inside an entry, the value of the Authorization header stands."""
        return _find_slot(self.entry, Slot.HEADER)

    @property
    def url_path(self) -> MemberPath:
        """Where, inside an entry, the URL stands."""
        return _find_slot(self.entry, Slot.URL)

    def path_of(self, server: str) -> MemberPath:
        """The path of a server's entry. Raises `Misconfigured` for a name that not every client takes."""
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", server):
            raise Misconfigured(f"{self.title} takes server names of letters, digits, '-' and '_' (64 at most)")
        return (*self.container, server)


def _entry(**fields: object) -> Mapping[str, object]:
    return MappingProxyType(fields)


_HEADERS = MappingProxyType({"Authorization": Slot.HEADER})

CLIENTS: tuple[Client, ...] = (
    Client(
        name="claude-code",
        title="Claude Code",
        places=(
            Place("{CLAUDE_CONFIG_DIR}/.claude.json", "{CLAUDE_CONFIG_DIR}", override=True),
            Place("{HOME}/.claude.json", "{HOME}/.claude"),
        ),
        dialect=JSON,
        container=("mcpServers",),
        entry=_entry(type="http", url=Slot.URL, headers=_HEADERS),
        reload=Reload.RESTART,
        hint="restart the session; `claude mcp get NAME` shows the entry",
    ),
    Client(
        name="cursor",
        title="Cursor",
        places=(Place("{HOME}/.cursor/mcp.json", "{HOME}/.cursor"),),
        dialect=JSON,
        container=("mcpServers",),
        entry=_entry(url=Slot.URL, headers=_HEADERS),
        reload=Reload.RECONNECT,
        hint="Settings, MCP: switch the server off and on",
    ),
    Client(
        name="vscode",
        title="VS Code",
        places=(
            Place("{XDG_CONFIG_HOME}/Code/User/mcp.json", "{XDG_CONFIG_HOME}/Code/User", frozenset({"linux"})),
            Place(
                "{HOME}/Library/Application Support/Code/User/mcp.json",
                "{HOME}/Library/Application Support/Code/User",
                frozenset({"darwin"}),
            ),
            Place("{APPDATA}/Code/User/mcp.json", "{APPDATA}/Code/User", frozenset({"win32"})),
        ),
        dialect=JSONC,
        container=("servers",),
        entry=_entry(type="http", url=Slot.URL, headers=_HEADERS),
        reload=Reload.RECONNECT,
        hint="the file is watched; the chat view offers to restart the server",
        blank_is_empty=True,
    ),
    Client(
        name="gemini-cli",
        title="Gemini CLI",
        places=(
            Place("{GEMINI_CLI_HOME}/.gemini/settings.json", "{GEMINI_CLI_HOME}/.gemini", override=True),
            Place("{HOME}/.gemini/settings.json", "{HOME}/.gemini"),
        ),
        dialect=JSON_WITH_COMMENTS,
        container=("mcpServers",),
        entry=_entry(type="http", url=Slot.URL, headers=_HEADERS),
        reload=Reload.RESTART,
        hint="restart it; a session that saves a setting meanwhile writes its old copy back",
    ),
    Client(
        name="codex",
        title="Codex",
        places=(
            Place("{CODEX_HOME}/config.toml", "{CODEX_HOME}", override=True),
            Place("{HOME}/.codex/config.toml", "{HOME}/.codex"),
        ),
        dialect=TOML,
        container=("mcp_servers",),
        entry=_entry(url=Slot.URL, http_headers=_HEADERS),
        reload=Reload.RESTART,
        hint="restart the CLI, the extension and the app; `/mcp` shows the server",
        blank_is_empty=True,
    ),
)

_BY_NAME = {client.name: client for client in CLIENTS}
_DEFAULTS = {"XDG_CONFIG_HOME": "{HOME}/.config", "APPDATA": "{HOME}/AppData/Roaming"}


def find_client(name: str) -> Client | None:
    """The client of that name."""
    return _BY_NAME.get(name)


def get_client(name: str) -> Client:
    """The client of that name. Raises `Misconfigured`, naming those there are."""
    client = find_client(name)
    if client is None:
        raise Misconfigured(f"there is no MCP client called {name!r}; known are {', '.join(_BY_NAME)}")
    return client


def render_entry(client: Client, url: str, header_value: str) -> dict[str, object]:
    """The whole entry for a remote server, the header's value (`Bearer …`) a literal in it."""
    return _fill(client.entry, {Slot.URL: url, Slot.HEADER: header_value})


def locate(client: Client, environ: Mapping[str, str], home: Path, platform: str) -> list[Path]:
    """The candidates for the client's user-scope file, existing or not. With several, the user must say which (R1).

    `platform` is `sys.platform`. Raises `Misconfigured` if one of the client's variables is not an absolute path.
    """
    return [located.file for located in locate_places(client, environ, home, platform)]


def locate_places(client: Client, environ: Mapping[str, str], home: Path, platform: str) -> list[Located]:
    """As `locate`, each file with the directory that shows that the client is installed (R18)."""
    here = [place for place in client.places if platform in place.platforms]
    for place in here:
        if place.override and all(environ.get(name) for name in _variables(place.file)):
            return [_resolve(place, environ, home, platform)]
    return [_resolve(place, environ, home, platform) for place in here if not place.override]


def _resolve(place: Place, environ: Mapping[str, str], home: Path, platform: str) -> Located:
    def expand(template: str) -> str:
        values = {}
        for name in _variables(template):
            set_value = str(home) if name == "HOME" else environ.get(name, "")
            if set_value and not _is_absolute(set_value, platform):
                raise Misconfigured(f"{name} must be an absolute path for its client's file to be found")
            values[name] = set_value or expand(_DEFAULTS[name])
        return template.format_map(values)

    return Located(Path(expand(place.file)), Path(expand(place.installed)))


def _is_absolute(value: str, platform: str) -> bool:
    return (PureWindowsPath if platform == "win32" else PurePosixPath)(value).is_absolute()


def _variables(template: str) -> Iterator[str]:
    return (name for _, name, _, _ in Formatter().parse(template) if name)


def _fill(template: Mapping[str, object], values: Mapping[Slot, str]) -> dict[str, object]:
    filled: dict[str, object] = {}
    for name, value in template.items():
        if isinstance(value, Mapping):
            filled[name] = _fill(value, values)
        else:
            filled[name] = values[value] if isinstance(value, Slot) else value
    return filled


def _find_slot(template: Mapping[str, object], slot: Slot) -> MemberPath:
    for name, value in template.items():
        if value is slot:
            return (name,)
        if isinstance(value, Mapping) and (below := _find_slot(value, slot)):
            return (name, *below)
    return ()
