"""A rotation is killed (SIGKILL) before and after every effect and every write, and resumed: nobody is locked out, no orphan, nothing lost.

Each scenario runs once unharmed and lists its boundaries; each boundary is then fatal in a run of its own, before and after. CRASH_EVERY=1
also takes those that leave the same state on disk as another does.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.crash.boundaries import SIDES
from tests.crash.program import CACHE_TIME
from tests.crash.runs import GENERATIONS, Forks, Run, running_forks
from tests.support.sandbox import SandboxProcess, start_sandbox_process

CHUNKS = 2
AT_ONCE = 6
REPEATED = ("journal.commit note probe", "journal.commit SaveSightings", "journal.commit SaveView", "journal.defer")
"""What each probe writes. How often that comes depends on the time that a probe takes."""
EVERY = bool(os.environ.get("CRASH_EVERY"))
"""Die at every boundary on both sides, whatever it takes. Else not twice in a state that is the same on disk."""
MOST = 3
"""of one name among `REPEATED`: probes of a revoked key differ in nothing but their number"""
EFFECTS = ("store.", "issuer.", "target.")
"""Their *after* is a state of its own; a write's is what the next boundary's *before* finds."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every run of a module needs."""

    folder: Path
    sandbox: SandboxProcess
    forks: Forks

    def run(self, number: int, scenario: str, fatal: str | None = None, side: str = "") -> Run:
        run = Run(scenario, self.folder / f"{scenario}-{number}", self.sandbox, fatal, side)
        run.go(self.forks)
        return run


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with start_sandbox_process(tmp_path, cache_time=CACHE_TIME.total_seconds()) as sandbox, running_forks(tmp_path) as forks:
        yield Bench(tmp_path, sandbox, forks)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("scenario", sorted(GENERATIONS))
def test_killed_at_every_boundary(bench: Bench, scenario: str, chunk: int) -> None:
    unharmed = bench.run(0, scenario)
    assert not unharmed.problems, unharmed.problems
    points = [point for point in unharmed.points() if EVERY or not point.startswith(REPEATED) or int(point.split()[-1]) <= MOST]
    mine = [point for point in points if (zlib.crc32(point.encode()) >> 8) % CHUNKS == chunk]
    deaths = [(point, side) for point in mine for side in SIDES if side == "before" or EVERY or point.startswith(EFFECTS)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = list(pool.map(lambda death: bench.run(death[0], scenario, *death[1]), enumerate(deaths, start=1)))
    killed = sum(run.killed for run in runs)
    told = f"{scenario}: {killed} of {len(deaths)} deaths at {len(mine)} of {len(points)} boundaries"
    sys.stdout.write(f"{told} ({len(unharmed.points())} with every probe)\n")
    broken = [f"killed {run.side} {run.fatal}: {problem}" for run in runs for problem in run.problems]
    assert not broken, f"{len(broken)} problems:\n" + "\n".join(broken)
    alive = [f"{run.side} {run.fatal}" for run in runs if not run.killed and not (run.fatal or "").startswith(REPEATED)]
    assert not alive, f"never reached: {alive}"
    assert killed > 0.9 * len(deaths)
