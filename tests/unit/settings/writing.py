"""Configurations as tests write them: `⟦` marks the place that a mistake is reported at."""

from __future__ import annotations

import secrets
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from rotator.settings import ConfigurationProblems, Loaded, Problem, load_settings

MARK = "⟦"

GOOD = """
installation: test
targets:
  laptop: {type: file, client: claude-code}
  dotenv: {type: file, path: /srv/checkout/key, content: key}
credentials:
  checkout-read:
    kind: rk
    path: millimetric/checkout-read
    issuer: none
    targets: [laptop]
"""


def write(folder: Path, text: str) -> tuple[Path, tuple[int, int]]:
    """The file, and line and column of the mark in the text (0, 0 where there is none)."""
    text = textwrap.dedent(text).lstrip("\n")
    before, mark, _ = text.partition(MARK)
    place = (before.count("\n") + 1, len(before) - before.rfind("\n")) if mark else (0, 0)
    path = folder / "rotator.yaml"
    path.write_text(text.replace(MARK, ""), encoding="utf-8")
    return path, place


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """What that text loads as, with nothing in the environment but `environ`."""
    return load_settings(write(folder, text)[0], environ or {})


def find_problems(path: Path | None, environ: Mapping[str, str] | None = None) -> tuple[Problem, ...]:
    """The mistakes in that file."""
    with pytest.raises(ConfigurationProblems) as caught:
        load_settings(path, environ or {})
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    assert caught.value.exit_code == 3
    return caught.value.problems


def make_key() -> str:
    """A full key that nobody has."""
    return f"rk_live_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}"
