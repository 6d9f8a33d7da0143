"""Unified diffs of configuration files with every key masked (R20).

A mask keeps the key id, so that a reader sees which key goes and which comes, and never the secret part.
"""

from __future__ import annotations

import difflib
import re

from rotator.domain.keys import Kind

_KEY_ID = rf"(?:{'|'.join(Kind)})_[a-z][a-z0-9]{{0,31}}_[A-Za-z0-9]{{8}}"
_MASK = "…"
_KEY = re.compile(rf"({_KEY_ID})_[A-Za-z0-9_-]+")
_BEARER = re.compile(rf"(?i:(\bBearer\s+))(?!\$?\{{|{_KEY_ID}_{_MASK})[^\s\"'\\,;]+")


def mask(text: str) -> str:
    """The text with the secret part of every key, and every other literal bearer token, replaced by an ellipsis."""
    return _BEARER.sub(rf"\1{_MASK}", _KEY.sub(rf"\1_{_MASK}", text))


def masked_diff(old: str, new: str, name: str = "file") -> str:
    """A unified diff of two texts, masked; empty if they are equal. `name` stands in the diff's head."""
    before, after = mask(old), mask(new)
    if before == after and old != new:
        return f"--- {name}\n+++ {name}\n(a masked value changed)\n"
    lines = difflib.unified_diff(before.splitlines(keepends=True), after.splitlines(keepends=True), fromfile=name, tofile=name, n=1)
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
