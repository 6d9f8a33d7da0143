"""Walks every state of a world by number of faults, and from each of them two fair schedules to the end.

Safety (I1, I2's order, I3, I5) is checked by the steps themselves. Liveness: from every state that was reached, with no more faults, one
replica alone, and all in lockstep, come to an end without a cycle, and what is then so is checked by `endings`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.model import endings
from tests.model.adversary import Walkable
from tests.model.effects import Label
from tests.model.symbols import MOST_ATTEMPTS
from tests.model.world import UNBORN, Problem, State, World, service_of

LOCKSTEP = -1


@dataclass
class Found:
    """A property that does not hold, and the run that shows it."""

    rule: str
    text: str
    trace: list[Label]

    def __str__(self) -> str:
        steps = "\n".join(f"  {n:3} {' '.join(str(p) for p in label)}" for n, label in enumerate(self.trace, 1))
        return f"{self.text}\n{steps}"


@dataclass
class Result:
    """What a walk came to."""

    world: World
    states: int
    seconds: float
    found: Found | None = None
    by_faults: tuple[int, ...] = ()

    def __str__(self) -> str:
        bounds = f"{self.world.replicas} replica(s), at most {self.world.budget} fault(s)"
        events = ", ".join(f"{n} x {e}" if n > 1 else e for e, n in self.world.events)
        return f"{self.world.name}: {self.states:,} states, {self.seconds:.1f} s; {bounds}{f'; {events}' if events else ''}"


@dataclass
class Explorer:
    """One walk through one world."""

    world: World
    parents: dict[State, State | None] = field(default_factory=dict)
    ended: dict[tuple[State, int], State] = field(default_factory=dict)
    most_states: int = 5_000_000

    def __post_init__(self) -> None:
        self.model = Walkable(self.world)

    def run(self) -> Result:
        """Walk until everything was seen or a property broke."""
        started = time.perf_counter()
        found = None
        counts: list[int] = []
        try:
            self._walk(counts)
        except _Broken as broken:
            found = broken.found
        return Result(self.world, len(self.parents), time.perf_counter() - started, found, tuple(counts))

    def _walk(self, counts: list[int]) -> None:
        start = self._canonical(self.model.start())
        levels: list[list[tuple[State, State | None]]] = [[] for _ in range(self.world.budget + 1)]
        levels[0].append((start, None))
        for level in range(self.world.budget + 1):
            before = len(self.parents)
            stack = levels[level]
            while stack:
                state, parent = stack.pop()
                if state in self.parents:
                    continue
                self.parents[state] = parent
                self._visit(state, level, levels)
            counts.append(len(self.parents) - before)

    def _visit(self, state: State, level: int, levels: list[list[tuple[State, State | None]]]) -> None:
        self._check_minted(state, level)
        label: Label = ()
        try:
            for label, cost, after in self.model.moves(state):
                if level + cost > self.world.budget:
                    continue
                reached = self._canonical(after)
                if reached not in self.parents:
                    levels[level + cost].append((reached, state))
        except Problem as problem:
            raise _Broken(Found(problem.rule, str(problem), [*self._trace(state), (*label, "... then")])) from problem
        if len(self.parents) > self.most_states:
            raise AssertionError(f"{self.world.name}: more than {self.most_states} states")
        if self.world.liveness:
            for schedule in (*range(len(state.reps)), LOCKSTEP) if len(state.reps) > 1 else (0,):
                self._run_to_end(state, schedule)

    def _canonical(self, state: State) -> State:
        """Replicas are alike: their order says nothing."""
        reps = state.reps
        return state if len(reps) < 2 or reps[0] <= reps[1] else state._replace(reps=tuple(sorted(reps)))

    def _check_minted(self, state: State, level: int) -> None:
        minted = sum(service_of(state.service, a) != UNBORN for a in range(1, MOST_ATTEMPTS + 1))
        allowed = self.model.extra(state).used + level
        if minted > allowed:
            raise _Broken(Found("minting", f"minting: {minted} keys are minted where {allowed} are needed", self._trace(state)))

    # Fair schedules

    def _run_to_end(self, state: State, schedule: int) -> None:
        path: list[tuple[State, int]] = []
        on_path: set[tuple[State, int]] = set()
        turn = max(schedule, 0)
        waited = 0
        labels: list[Label] = []
        ghostless = state._replace(ghosts=self.model.ghosts.intern(()))
        while True:
            key = (ghostless, turn if schedule == LOCKSTEP else schedule - 10)
            if not waited and key in self.ended:
                break
            if key in on_path and not waited:
                raise _Broken(Found("I6", f"I6: {_name(schedule)} goes round and round", [*self._trace(state), ("fair schedule",), *labels]))
            if not waited:
                path.append(key)
                on_path.add(key)
            try:
                step = self._progress(ghostless, turn, schedule)
            except Problem as problem:
                raise _Broken(Found(problem.rule, f"{problem} ({_name(schedule)})", [*self._trace(state), ("fair schedule",), *labels])) from problem
            if step is None:
                waited += 1
                if schedule != LOCKSTEP or waited >= len(state.reps):
                    self._check_end(state, ghostless, schedule, labels)
                    break
            else:
                waited = 0
                labels.append(step[0])
                ghostless = step[1]
            if schedule == LOCKSTEP:
                turn = (turn + 1) % len(state.reps)
        for key in path:
            self.ended[key] = ghostless

    def _progress(self, state: State, r: int, schedule: int) -> tuple[Label, State] | None:
        """The next step of a replica that changes anything, faults and resting apart."""
        for label, after in self._changes(state, r, schedule):
            if self.model.rep(after, r).plan[:1] != ("obs",):
                return label, after
            # A look that changes nothing is no step.
            for second in self._changes(after, r, schedule):
                settled = self.model.rep(second[1], r)
                if second[0][0] != "rests" or settled.journal != self.model.rep(state, r).journal:
                    return label, after
            return None
        return None

    def _changes(self, state: State, r: int, schedule: int) -> Iterator[tuple[Label, State]]:
        self.model.alone = schedule != LOCKSTEP
        moves = [(label, after) for label, cost, after in self.model.replica(state, r) if not cost and after != state]
        self.model.alone = False
        # What rests comes last: only what the look taught is new then.
        yield from sorted(moves, key=lambda m: m[0][0] == "rests")

    def _check_end(self, origin: State, state: State, schedule: int, labels: list[Label]) -> None:
        replicas = range(len(state.reps)) if schedule == LOCKSTEP else (schedule,)
        problem = endings.find_problem(self.model, state, replicas)
        if problem is not None:
            raise _Broken(Found(problem.rule, f"{problem} ({_name(schedule)})", [*self._trace(origin), ("fair schedule",), *labels]))

    # Traces

    def _trace(self, state: State) -> list[Label]:
        chain = [state]
        parent = self.parents.get(state)
        while parent is not None:
            chain.append(parent)
            parent = self.parents[parent]
        chain.reverse()
        labels: list[Label] = []
        for before, after in zip(chain, chain[1:], strict=False):
            labels.append(next(label for label, _, s in self.model.moves(before) if self._canonical(s) == after))
        return labels


def _name(schedule: int) -> str:
    return "lockstep" if schedule == LOCKSTEP else f"replica {schedule} alone"


class _Broken(Exception):  # noqa: N818
    def __init__(self, found: Found) -> None:
        super().__init__(found.text)
        self.found = found
