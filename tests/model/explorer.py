"""Walks every state of a world by number of faults, and from each of them two fair schedules to the end.

Safety (I1, I2's order, I3, I5) is checked by the steps themselves. Liveness: from every state that was reached, with no more faults, one
replica alone, and all in lockstep, come to an end without a cycle, and what is then so is checked by `endings`.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, field

from tests.model import endings
from tests.model.adversary import Model
from tests.model.parts import Label, Move
from tests.model.symbols import MOST_ATTEMPTS, NONE
from tests.model.world import LIVES, UNBORN, Problem, State, World, service_of

LOCKSTEP = -1
Step = tuple[Label, State]


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
    next: dict[tuple[State, int, bool], Step | None] = field(default_factory=dict)
    ended: set[tuple[State, int, bool]] = field(default_factory=set)
    most_states: int = 5_000_000

    def __post_init__(self) -> None:
        self.model = Model(self.world)

    def run(self) -> Result:
        """Walk until everything was seen or a property broke."""
        started = time.perf_counter()
        found = None
        counts: list[int] = []
        try:
            self._walk(counts)
            if self.world.liveness:
                self._run_all_to_end()
        except _Broken as broken:
            found = broken.found
        return Result(self.world, len(self.parents), time.perf_counter() - started, found, tuple(counts))

    def _walk(self, counts: list[int]) -> None:
        start = _canonical(self.model.start())
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
        parents, budget, model = self.parents, self.world.budget, self.model
        try:
            for r in range(len(state.reps)):
                moves = list(model.replica(state, r))
                self.next[state, r, False] = self._first_change(state, r, moves)
                for _, cost, after in moves:
                    if level + cost <= budget and (reached := _canonical(after)) not in parents:
                        levels[level + cost].append((reached, state))
            for _, cost, after in model.weather(state):
                if level + cost <= budget and (reached := _canonical(after)) not in parents:
                    levels[level + cost].append((reached, state))
        except Problem as problem:
            raise _Broken(Found(problem.rule, str(problem), [*self._trace(state), ("and then",)])) from problem
        if len(self.parents) > self.most_states:
            raise AssertionError(f"{self.world.name}: more than {self.most_states} states")

    def _check_minted(self, state: State, level: int) -> None:
        minted = sum(service_of(state.service, a) != UNBORN for a in range(1, MOST_ATTEMPTS + 1))
        allowed = self.model.extra(state).used + level
        if minted > allowed:
            raise _Broken(Found("minting", f"minting: {minted} keys are minted where {allowed} are needed", self._trace(state)))

    # Fair schedules

    def _run_all_to_end(self) -> None:
        schedules = (*range(self.world.replicas), LOCKSTEP) if self.world.replicas > 1 else (0,)
        for state in list(self.parents):
            for schedule in schedules:
                self._run_to_end(state, schedule)

    def _run_to_end(self, origin: State, schedule: int) -> None:
        """Follow one fair schedule until nothing moves any more. What was late until now never comes: that it comes is another run."""
        state = _canonical(self._settled(origin))
        turn, waited = max(schedule, 0), 0
        path: list[tuple[State, int, bool]] = []
        on_path: set[tuple[State, int, bool]] = set()
        labels: list[Label] = []
        alone = schedule != LOCKSTEP
        while True:
            key = (state, turn, alone)
            if not waited:
                if key in self.ended:
                    break
                if key in on_path:
                    raise self._broken(origin, schedule, labels, Problem("I6", "the schedule goes round and round"))
                path.append(key)
                on_path.add(key)
            try:
                step = self._progress(state, turn, alone)
            except Problem as problem:
                raise self._broken(origin, schedule, labels, problem) from problem
            if step is None:
                waited += 1
                if alone or waited >= len(state.reps):
                    left = endings.find_problem(self.model, state, (turn,) if alone else range(len(state.reps)))
                    if left is not None:
                        raise self._broken(origin, schedule, labels, left)
                    break
            else:
                waited = 0
                labels.append(step[0])
                after = _canonical(step[1])
                turn = turn if after.reps == step[1].reps else 1 - turn
                state = after
            if not alone:
                turn = (turn + 1) % len(state.reps)
        self.ended.update(path)

    def _settled(self, state: State) -> State:
        """Without what is late, and without looks that were begun: they may be stale, and looking again is always possible."""
        for r in range(len(state.reps)):
            rep = self.model.rep(state, r)
            if rep.plan[:1] in {("obs",), ("read",)}:
                rep = rep._replace(plan=(), fresh=False, tfresh=0, seen=NONE)
            state = self.model.with_rep(state, r, rep._replace(lag=()))
        return state._replace(ghosts=self.model.ghosts.intern(()))

    def _broken(self, origin: State, schedule: int, labels: list[Label], problem: Problem) -> _Broken:
        name = "lockstep" if schedule == LOCKSTEP else "one replica alone"
        return _Broken(Found(problem.rule, f"{problem} ({name})", [*self._trace(origin), ("fair schedule",), *labels]))

    def _progress(self, state: State, r: int, alone: bool) -> Step | None:
        """The next step of a replica that changes anything, faults and resting apart."""
        step = self._change(state, r, alone)
        if step is None or self.model.rep(step[1], r).plan[:1] != ("obs",):
            return step
        second = self._change(step[1], r, alone)  # a look at the targets; one that teaches nothing is no step
        return None if second is None else step

    def _change(self, state: State, r: int, alone: bool) -> Step | None:
        alone = alone and len(state.reps) > 1 and self.model.is_open(state.doc)
        key = (state, r, alone)
        if key not in self.next:
            self.model.alone = alone
            try:
                self.next[key] = self._first_change(state, r, list(self.model.replica(state, r)))
            finally:
                self.model.alone = False
        return self.next[key]

    def _first_change(self, state: State, r: int, moves: list[Move]) -> Step | None:
        """The first move without a fault that changes anything; a revoked key that still answers is not counted on to go on so."""
        model = self.model
        before = state
        if model.rep(state, r).plan[:1] == ("obs",):
            before = model.with_rep(state, r, model.rep(state, r)._replace(plan=(), tfresh=0))
        resting = None
        for label, cost, after in moves:
            if cost or after in (state, before):
                continue
            if label[0] == "rests":
                resting = (label, after)
            elif label[-1] != "alive" or service_of(state.service, label[2][1]) == LIVES:
                return label, after
        return resting

    # Traces

    def _trace(self, state: State) -> list[Label]:
        chain = [state]
        parent = self.parents.get(state)
        while parent is not None:
            chain.append(parent)
            parent = self.parents[parent]
        chain.reverse()
        labels: list[Label] = []
        for before, after in itertools.pairwise(chain):
            labels.append(next(label for label, _, s in self.model.moves(before) if _canonical(s) == after))
        return labels


def _canonical(state: State) -> State:
    """Replicas are alike: their order says nothing."""
    reps = state.reps
    return state if len(reps) < 2 or reps[0] <= reps[1] else state._replace(reps=(reps[1], reps[0]))


class _Broken(Exception):
    def __init__(self, found: Found) -> None:
        super().__init__(found.text)
        self.found = found
