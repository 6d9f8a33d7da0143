"""A rotation is killed (SIGKILL) before and after every effect and every write, and resumed: nobody is locked out, no orphan, nothing lost.

Over each kind of store, on its real server, each scenario runs once unharmed and lists its boundaries; each boundary is then fatal in a run
of its own, before and after. On servers these are the writes to the store and all effects; what lies between them in the journal and on
this disk is the same as over the embedded store, and left to that. CRASH_EVERY=1 takes everything everywhere.
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
from tests.support.stores import SITES, StoreSite

CHUNKS = 2
AT_ONCE = 6
REPEATED = ("journal.commit note probe", "journal.commit SaveSightings", "journal.commit SaveView", "journal.defer")
"""What each probe writes. How often that comes depends on the time that a probe takes."""
EVERY = bool(os.environ.get("CRASH_EVERY"))
"""Die at every boundary on both sides, whatever it takes. Else not twice in a state that is the same on disk."""
MOST = 3
"""of one name among `REPEATED`: probes of a revoked key differ in nothing but their number"""
WRITES = ("vault.", "aws.")
EFFECTS = ("store.", "issuer.", "target.")
"""Their *after* is a state of its own; a write's is what the next boundary's *before* finds."""


STORES = ("embedded", "vault", "aws-fake")
"""moto does not follow AWS in what a crash between two moves of a label leaves behind: the strict fake does."""


def is_of_its_own(store: str, point: str, side: str) -> bool:
    """Whether no other death in the suite leaves the same state behind."""
    if side == "after":
        return point.startswith(EFFECTS)
    # On a server a commit begins with its first write, which is a boundary itself.
    return store == "embedded" or point.startswith(WRITES)


@dataclass(frozen=True, slots=True)
class Bench:
    """What every run of a module needs."""

    folder: Path
    sandbox: SandboxProcess
    forks: Forks
    store: StoreSite

    def run(self, number: int, scenario: str, fatal: str | None = None, side: str = "") -> Run:
        run = Run(scenario, self.folder / f"{scenario}-{number}", self.sandbox, self.store, fatal, side)
        run.go(self.forks)
        return run


@pytest.fixture
def bench(tmp_path: Path, store: str) -> Iterator[Bench]:
    site = SITES[store]()
    with (
        start_sandbox_process(tmp_path, cache_time=CACHE_TIME.total_seconds()) as sandbox,
        running_forks(tmp_path, site.environ) as forks,
    ):
        yield Bench(tmp_path, sandbox, forks, site)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("chunk", range(CHUNKS))
@pytest.mark.parametrize("scenario", sorted(GENERATIONS))
@pytest.mark.parametrize("store", STORES)
def test_killed_at_every_boundary(bench: Bench, store: str, scenario: str, chunk: int) -> None:
    unharmed = bench.run(0, scenario)
    assert not unharmed.problems, unharmed.problems
    points = [point for point in unharmed.points() if EVERY or not point.startswith(REPEATED) or int(point.split()[-1]) <= MOST]
    mine = [point for point in points if (zlib.crc32(point.encode()) >> 8) % CHUNKS == chunk]
    deaths = [(point, side) for point in mine for side in SIDES if EVERY or is_of_its_own(store, point, side)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = list(pool.map(lambda death: bench.run(death[0], scenario, *death[1]), enumerate(deaths, start=1)))
    killed = sum(run.killed for run in runs)
    told = f"{store}, {scenario}: {killed} of {len(deaths)} deaths at {len(mine)} of {len(points)} boundaries"
    sys.stdout.write(f"{told} ({len(unharmed.points())} with every probe)\n")
    broken = [f"killed {run.side} {run.fatal}: {problem}" for run in runs for problem in run.problems]
    assert not broken, f"{len(broken)} problems:\n" + "\n".join(broken)
    alive = [f"{run.side} {run.fatal}" for run in runs if not run.killed and not (run.fatal or "").startswith(REPEATED)]
    assert not alive, f"never reached: {alive}"
    assert killed > 0.9 * len(deaths)
