"""A writing process as a test holds it: a line in, a line out, ended with the test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.contract.stores.kinds import Kind

_ROOT = Path(__file__).parents[3]


class Writer:
    """A running `tests.contract.stores.writer`. Use as a context manager."""

    def __init__(self, kind: Kind, place: Path) -> None:
        command = [sys.executable, "-m", "tests.contract.stores.writer", kind.name, str(place)]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def hear(self) -> str:
        """The next line; empty when the process has ended."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def hear_until(self, last: str) -> list[str]:
        """The lines up to `last`, which is left out."""
        lines = []
        while (line := self.hear()) != last:
            assert line, f"the writer ended before it said {last!r}"
            lines.append(line)
        return lines

    def __enter__(self) -> Self:
        assert self.hear() == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
