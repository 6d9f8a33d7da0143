"""The least that a store must be allowed for one credential: what is missing, and the policy to paste. Pure.

A policy is written for one path at a time. Lines are the same whether the documents exist yet or not, since `create` is asked for the first
version and `update` for every other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Needs", "find_missing", "gather_needs", "render_policy"]

Needs = Mapping[str, tuple[str, ...]]
"""path of the API → capabilities"""

OWN_TOKEN: Needs = {
    "sys/capabilities-self": ("update",),
    "auth/token/lookup-self": ("read",),
    "auth/token/renew-self": ("update",),
}
"""Every token may do this by the policy `default`, unless it was made without."""

_EVERYTHING = "root"


def gather_needs(mount: str, path: str, sibling: str, *, writes: bool) -> Needs:
    """What is asked of the server for one credential."""
    return {
        f"{mount}/data/{path}": ("create", "patch", "read", "update") if writes else ("read",),
        f"{mount}/metadata/{path}": ("read",),
        f"{mount}/data/{sibling}": ("create", "read", "update") if writes else ("read",),
    }


def find_missing(needs: Needs, granted: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """`CAPABILITY on PATH` for all that is needed and not granted."""
    for path, capabilities in needs.items():
        held = granted.get(path, ())
        if _EVERYTHING not in held:
            yield from (f"{capability} on {path}" for capability in capabilities if capability not in held)


def render_policy(needs: Needs) -> str:
    """The policy in HCL."""
    lines = [
        f"path {json.dumps(path, ensure_ascii=False)} {{\n  capabilities = {json.dumps(list(kinds))}\n}}\n" for path, kinds in needs.items()
    ]
    return "".join(lines)
