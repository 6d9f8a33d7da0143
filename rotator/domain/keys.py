"""Kinds, key ids, and the shape of a key: `{kind}_{env}_{prefix}_{secret}`.

The secret part is URL-safe, of unpublished length, and may itself contain `_` and `-`: split on the first three underscores only.
Source of these facts: the service's published setup guide and API reference; `env` is an open set.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from rotator.domain.errors import MalformedKey

_ENV = re.compile(r"[a-z][a-z0-9]{0,31}\Z")
_PREFIX = re.compile(r"[A-Za-z0-9]{8}\Z")
_SECRET = re.compile(r"[A-Za-z0-9_-]{1,512}\Z")
_PARTS = 4


class Kind(StrEnum):
    """What a key may do. The published sets of tools are in `PUBLISHED_TOOLS`."""

    RK = "rk"
    """read one project; the recommended default"""
    SK = "sk"
    """read and write one project, and forget users for good"""
    AK = "ak"
    """read every project of the account"""
    PK = "pk"
    """ingest from allow-listed browser origins; refused at /mcp"""

    @property
    def mcp_path(self) -> str:
        """The path of the MCP endpoint that takes this kind."""
        return "/mcp/account" if self is Kind.AK else "/mcp"


_READ = frozenset({"query_events", "get_stats", "top_sources", "funnel"})
PUBLISHED_TOOLS: dict[Kind, frozenset[str]] = {
    Kind.RK: _READ,
    Kind.SK: _READ | {"track_event"},
    Kind.AK: frozenset({"list_projects", "query_events", "get_stats", "top_sources", "compare_projects"}),
    Kind.PK: frozenset(),
}
"""The tools each kind is published to list (L12)."""


@dataclass(frozen=True, slots=True, order=True)
class KeyId:
    """`{kind}_{env}_{prefix}`: names a key without revealing it."""

    kind: Kind
    env: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.kind}_{self.env}_{self.prefix}"


def parse_key(value: str) -> KeyId:
    """The key id of a full key. The message of `MalformedKey` names the part that is wrong and never repeats it."""
    if value != value.strip():
        raise MalformedKey("the key has white space or a line break around it: remove it")
    parts = value.split("_", _PARTS - 1)
    if len(parts) < _PARTS:
        raise MalformedKey("a key has four parts, kind_env_prefix_secret, joined by underscores; this one has fewer")
    key_id = _key_id(*parts[:3])
    if not parts[3]:
        raise MalformedKey("the key's secret part (after the third underscore) is empty")
    if not _SECRET.match(parts[3]):
        raise MalformedKey(f"the secret part of key {key_id} has characters that are not URL-safe, or is longer than 512")
    return key_id


def parse_key_id(value: str) -> KeyId:
    """A key id from its text. A full key is refused: it must never stand where a key id belongs."""
    parts = value.split("_", _PARTS - 1)
    if len(parts) == _PARTS:
        raise MalformedKey("this looks like a full key, not a key id: never write a full key here; a key id is kind_env_prefix")
    if len(parts) < _PARTS - 1:
        raise MalformedKey("a key id has three parts, kind_env_prefix, joined by underscores; this one has fewer")
    return _key_id(*parts)


def _key_id(kind: str, env: str, prefix: str) -> KeyId:
    try:
        parsed = Kind(kind)
    except ValueError:
        raise MalformedKey(f"the key's kind (before the first underscore) must be one of {', '.join(Kind)}") from None
    if not _ENV.match(env):
        raise MalformedKey(f"the env part of the {kind} key (between the first two underscores) must be lower-case letters and digits")
    if not _PREFIX.match(prefix):
        raise MalformedKey(f"the prefix part of the {kind} key (between the second and third underscore) must be 8 letters or digits")
    return KeyId(parsed, env, prefix)
