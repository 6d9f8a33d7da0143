"""A rotation is killed (SIGKILL) before and after every effect and every write, and resumed: nobody is locked out, no orphan, nothing lost.

Over each kind of store, on its real server, each scenario runs once unharmed and lists the moments before and after its boundaries; in each
state that lies between them a run of its own dies (`tests.crash.boundaries`). On servers these are the states around the writes to the
store and after each effect; what lies between them in the journal and on this disk is the same as over the embedded store, and left to
that. CRASH_EVERY=1 dies at both sides of everything everywhere.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import find_files, holds_key
from tests.crash.boundaries import Moment, find_states
from tests.crash.program import CACHE_TIME
from tests.crash.runs import GENERATIONS, Forks, Run, running_forks
from tests.support.sandbox import SandboxProcess, start_sandbox_process
from tests.support.stores import SITES, StoreSite

AT_ONCE = 4
REPEATED = ("journal.commit note probe", "journal.commit SaveSightings", "journal.commit SaveView", "journal.defer")
"""What each probe writes. How often that comes depends on the time that a probe takes."""
EVERY = bool(os.environ.get("CRASH_EVERY"))
"""Die at every boundary on both sides, whatever it takes. Else once in each state."""
MOST = 3
"""of one name among `REPEATED`: probes of a revoked key differ in nothing but their number"""
WRITES = ("before vault.", "before aws.")
EFFECTS = ("after store.", "after issuer.", "after target.")
STORES = ("embedded", "vault", "aws-fake")
"""moto does not follow AWS in what a crash between two moves of a label leaves behind: the strict fake does."""


def find_deaths(store: str, moments: Sequence[Moment]) -> list[Moment]:
    """The moments at which a run of its own dies."""
    if EVERY:
        return list(moments)
    telling = (moment for moment in moments if not moment.point.startswith(REPEATED) or int(moment.point.split()[-1]) <= MOST)
    # An `after` in the journal is what the next boundary's `before` finds.
    sides = ("before", *EFFECTS) if store == "embedded" else (*WRITES, *EFFECTS)
    wanted = {moment for moment in telling if str(moment).startswith(sides)}
    states = ([moment for moment in state if moment in wanted] for state in find_states(moments))
    # What comes as often as time allows comes at another number in another run: any other moment of the state is surer.
    return [min(state, key=lambda moment: moment.point.startswith(REPEATED)) for state in states if state]


@dataclass(frozen=True, slots=True)
class Bench:
    """What every run of a module needs."""

    folder: Path
    sandbox: SandboxProcess
    forks: Forks
    store: StoreSite

    def run(self, number: int, scenario: str, death: Moment | None = None) -> Run:
        run = Run(scenario, self.folder / f"{self.folder.name}-{number}", self.sandbox, self.store, death)
        run.go(self.forks)
        return run


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SandboxProcess, Forks]]:
    """What all runs share: the service, in which each has an installation of its own, and the program that forks."""
    folder = tmp_path_factory.mktemp("service")
    with start_sandbox_process(folder, cache_time=CACHE_TIME.total_seconds()) as sandbox, running_forks(folder) as forks:
        yield sandbox, forks
    leaked = [path.name for path in find_files(folder) if holds_key(path)]
    assert not leaked, f"key material in {leaked}"


@pytest.fixture
def bench(tmp_path: Path, store: str, scenario: str, service: tuple[SandboxProcess, Forks]) -> Bench:
    folder = tmp_path / f"{store}-{scenario}"
    folder.mkdir()
    return Bench(folder, *service, SITES[store]())


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scenario", sorted(GENERATIONS))
@pytest.mark.parametrize("store", STORES)
def test_killed_in_every_state(bench: Bench, store: str, scenario: str) -> None:
    unharmed = bench.run(0, scenario)
    assert not unharmed.problems, unharmed.problems
    moments = unharmed.moments()
    points = {moment.point for moment in moments}
    deaths = find_deaths(store, moments)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        runs = list(pool.map(lambda numbered: bench.run(numbered[0], scenario, numbered[1]), enumerate(deaths, start=1)))
    killed = sum(run.killed for run in runs)
    told = f"{store}, {scenario}: {killed} of {len(deaths)} deaths at {len(points)} boundaries"
    sys.stdout.write(f"{told}\n")
    broken = [f"killed {run.death}: {problem}" for run in runs for problem in run.problems]
    assert not broken, f"{len(broken)} problems:\n" + "\n".join(broken)
    alive = [str(run.death) for run in runs if run.death and not run.killed and not run.death.point.startswith(REPEATED)]
    assert not alive, f"never reached: {alive}"
    assert killed > 0.9 * len(deaths)
