"""What a command costs before it does anything: `rotator --help` and `rotator status` against an interpreter that does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from bench.figures import Table, median

COMMANDS: dict[str, Sequence[str]] = {
    "python -c pass": ("-c", "pass"),
    "rotator --help": ("-m", "rotator", "--help"),
    "rotator status (no daemon)": ("-m", "rotator", "status"),
}


def measure_startup(runs: int) -> Table:
    """Each command `runs` times, in turns, so that a busy moment hits all of them."""
    walls: dict[str, list[float]] = {name: [] for name in COMMANDS}
    cpus: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory(prefix="rotator-bench-") as state:
        environ = {**os.environ, "ROTATOR_STATE_DIR": state, "NO_COLOR": "1"}
        for name, words in [item for _ in range(runs + 1) for item in COMMANDS.items()]:
            wall, cpu = _run([sys.executable, *words], environ)
            walls[name].append(wall)
            cpus[name].append(cpu)
    # The first of each fills the disk's cache.
    figures = {name: {"wall": median(walls[name][1:]), "cpu": median(cpus[name][1:])} for name in COMMANDS}
    base = figures["python -c pass"]
    return Table(
        title=f"Start-up, median of {runs}",
        columns=["", "wall", "over python", "ratio", "cpu"],
        rows=[
            [
                name,
                f"{one['wall'] * 1000:.0f} ms",
                f"{(one['wall'] - base['wall']) * 1000:+.0f} ms",
                f"{one['wall'] / base['wall']:.1f}",
                f"{one['cpu'] * 1000:.0f} ms",
            ]
            for name, one in figures.items()
        ],
        notes=["goal: `rotator --help` at most 150 ms over `python -c pass`"],
        data=figures,
    )


def _run(command: Sequence[str], environ: dict[str, str]) -> tuple[float, float]:
    before, started = os.times(), time.monotonic()
    subprocess.run(command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    wall, after = time.monotonic() - started, os.times()
    return wall, after.children_user + after.children_system - before.children_user - before.children_system
