"""From a credential's path to a secret's name, and the filters that find many names in few calls. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rotator.domain.errors import Misconfigured

__all__ = ["build_name", "gather_prefixes"]

_LONGEST = 512
_FOREIGN = re.compile(rb"[^A-Za-z0-9/_+.@-]")
_MOST_VALUES = 10
"""of one filter of ListSecrets"""


def build_name(path: str) -> str:
    """The path itself where AWS takes it (letters, digits, / _ + = . @ -), else with each other byte as =XX."""
    name = path
    if re.search(r"[^A-Za-z0-9/_+=.@-]", path):
        name = _FOREIGN.sub(lambda found: f"={found.group()[0]:02X}".encode(), path.encode()).decode()
    if len(name) > _LONGEST:
        raise Misconfigured(f"the path {path[:40]}… is longer than a name of an AWS secret may be ({_LONGEST} characters)")
    return name


def gather_prefixes(names: Iterable[str]) -> tuple[str, ...]:
    """Prefixes that cover all names, so many as one filter takes, as long as they can be; none where there is nothing in common."""
    prefixes = set(names)
    while len(prefixes) > _MOST_VALUES:
        depth = max(prefix.rstrip("/").count("/") for prefix in prefixes)
        if depth == 0:
            return ()
        prefixes = {_shorten(prefix, depth) for prefix in prefixes}
    return tuple(sorted(prefixes))


def _shorten(prefix: str, depth: int) -> str:
    parts = prefix.rstrip("/").split("/")
    return prefix if len(parts) - 1 < depth else "/".join(parts[:depth]) + "/"
