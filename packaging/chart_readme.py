#!/usr/bin/env python3
"""Writes helm/README.md from the comments of helm/values.yaml and of the scenarios. `make chart-readme` runs it.

Every value must have a comment of its own, or stand below one that has: an undocumented value is an error.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "helm"
_KEY = re.compile(r"^( *)([A-Za-z][A-Za-z0-9]*):")


class Undocumented(Exception):
    """Values without a comment."""


def gather_comments(text: str) -> dict[tuple[str, ...], str]:
    """The path of each value that has a comment right above it → the comment, in one line."""
    found: dict[tuple[str, ...], str] = {}
    path: list[str] = []
    above: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("#"):
            above.append(line.strip().removeprefix("#").strip())
            continue
        if key := _KEY.match(line):
            path[len(key[1]) // 2 :] = [key[2]]
            if above:
                found[tuple(path)] = " ".join(above)
        above = []
    return found


def gather_rows(
    values: Mapping[str, Any], comments: Mapping[tuple[str, ...], str], path: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """Each documented value with its default, in the file's order. Raises `Undocumented`."""
    for name, value in values.items():
        here = (*path, name)
        if here in comments:
            yield ".".join(here), value
        elif isinstance(value, dict) and value:
            yield from gather_rows(value, comments, here)
        else:
            raise Undocumented(f"helm/values.yaml: {'.'.join(here)} has no comment: say in a line above it what it is for")


def render(chart: Path) -> str:
    """The README. Raises `Undocumented`."""
    text = (chart / "values.yaml").read_text(encoding="utf-8")
    about = yaml.safe_load((chart / "Chart.yaml").read_text(encoding="utf-8"))
    comments = gather_comments(text)
    rows = [
        f"| `{name}` | `{json.dumps(default, ensure_ascii=False)}` | {comments[tuple(name.split('.'))]} |"
        for name, default in gather_rows(yaml.safe_load(text), comments)
    ]
    scenarios = [f"- [scenarios/{file.name}](scenarios/{file.name}): {read_head(file)}" for file in sorted((chart / "scenarios").iterdir())]
    return "\n".join(
        [
            f"# {about['name']}",
            "",
            f"{about['description']}. How to install it, and what it is allowed to do: `docs/kubernetes-install.md` in the source tree.",
            "",
            "```sh",
            "helm install rotator ./helm -f values.yaml",
            "```",
            "",
            "This page is made from the comments of `values.yaml` by `make chart-readme`.",
            "",
            "## Scenarios",
            "",
            "Values to begin with:",
            "",
            *scenarios,
            "",
            "## Values",
            "",
            "| value | default | what it is |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


def read_head(file: Path) -> str:
    """The comment that a file begins with, in one line."""
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line.removeprefix("# "))
    return " ".join(lines)


def main() -> int:
    """Write it; 1 where a value has no comment."""
    try:
        text = render(CHART)
    except Undocumented as problem:
        sys.stderr.write(f"{problem}\n")
        return 1
    (CHART / "README.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
