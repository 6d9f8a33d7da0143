"""The parts of a state, and how the shared ones change: document, service, targets. Most of the safety properties are checked here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rotator.domain.record import Record, Stage
from tests.model import symbols as sym
from tests.model.actor import Decider, TargetView
from tests.model.journal import SEEN_BEFORE, SEEN_SINCE
from tests.model.stores import PLACE, WHOLE, EmbeddedStore, Lag
from tests.model.symbols import FIRST, KEYS, NONE, Docs, number
from tests.model.twofold import MOST_AHEAD, STORES
from tests.model.world import (
    BAD,
    EVENTS,
    GONE,
    LIVES,
    REVOKED,
    UNBORN,
    Extra,
    Problem,
    Rep,
    State,
    Table,
    Target,
    World,
    first_journal,
    service_of,
    with_service,
)

Label = tuple[Any, ...]
Move = tuple[Label, int, State]
"""what happened, the faults that it cost, and what is so afterwards"""


@dataclass
class Parts:
    """A world with its tables."""

    world: World
    docs: Docs = field(default_factory=Docs.empty)
    reps: Table = field(default_factory=Table)
    targets: Table = field(default_factory=Table)
    extras: Table = field(default_factory=Table)
    ghosts: Table = field(default_factory=Table)
    store: EmbeddedStore = field(init=False)
    decider: Decider = field(init=False)
    passive: dict[tuple[int, int], int] = field(default_factory=dict)
    decided: dict[tuple[Any, ...], list[tuple[Any, ...]]] = field(default_factory=dict)
    alone: bool = False
    """one replica runs to its end and the others stand still: every lease of theirs expires, and that is no fault"""

    def __post_init__(self) -> None:
        world = self.world
        self.store = STORES[world.store](self.docs, world.actor)
        self.decider = Decider(self.docs, world.policy, tuple(t.required for t in world.targets), world.clock_jumps)

    def start(self) -> State:
        """The state in which the world begins."""
        world = self.world
        doc = self.docs.intern((None, None) if world.empty else (sym.first_record(), KEYS[FIRST]))
        left = tuple(dict(world.events).get(e, 0) for e in EVENTS)
        held = Target(NONE, 0) if world.empty or world.new_targets else Target(FIRST, 1)
        rep = self.reps.intern(Rep(self.decider.intern(first_journal(world))))
        return State(
            doc,
            0 if world.empty else LIVES,
            self.targets.intern((held,) * len(world.targets)),
            0 if world.empty else 1 << FIRST,
            self.extras.intern(Extra(left, backup=self.store.begin(doc), used=int(world.empty))),
            self.ghosts.intern(()),
            (rep,) * world.replicas,
            self.store.begin(doc),
        )

    def rep(self, state: State, r: int) -> Rep:
        """A replica."""
        found: Rep = self.reps.items[state.reps[r]]
        return found

    def extra(self, state: State) -> Extra:
        """What is true of everything else."""
        found: Extra = self.extras.items[state.extra]
        return found

    def record(self, state: State) -> Record | None:
        """The store's record."""
        return self.docs.docs[state.doc][0]

    def with_rep(self, state: State, r: int, rep: Rep) -> State:
        reps = state.reps
        parts = (*state[:6], (*reps[:r], self.reps.intern(rep), *reps[r + 1 :]), state.store)
        found: State = tuple.__new__(State, parts)
        return found

    def _haunted(self, state: State, ghost: tuple[Any, ...]) -> State:
        ghosts = tuple(sorted((*self.ghosts.items[state.ghosts], ghost), key=repr))
        return state._replace(ghosts=self.ghosts.intern(ghosts))

    def _views(self, state: State) -> tuple[TargetView, ...]:
        record = self.docs.docs[state.doc][0]
        views = []
        for spec, target in zip(self.world.targets, self.targets.items[state.targets], strict=True):
            key, generation = target.key, target.generation
            if target.lies and record is not None and record.current is not None:
                key, generation = number(record.current.key_id), record.generation
            if target.away:
                views.append(TargetView(False, NONE, NONE))
            else:
                views.append(TargetView(True, key, generation or NONE if spec.keeps_generation else NONE))
        return tuple(views)

    def _dated(self, views: tuple[TargetView, ...], doc: int) -> tuple[TargetView, ...]:
        """The generations of targets that keep none are those of the record that was read."""
        record = self.docs.docs[doc][0]
        dated = []
        for spec, view in zip(self.world.targets, views, strict=True):
            entry = record.find(KEYS[view.key]) if record is not None and view.key != NONE and not spec.keeps_generation else None
            dated.append(view if entry is None else view._replace(generation=entry.generation))
        return tuple(dated)

    def is_open(self, doc: int) -> bool:
        """Whether somebody holds the lease on minting."""
        record = self.docs.docs[doc][0]
        return record is not None and record.attempt is not None

    def _written(self, state: State, layout: int, change: tuple[Any, ...], skip: int = NONE, part: int = WHOLE) -> State:
        """The state after a part of the store was written: plans that wanted to write it are stale, and its readers find what it holds."""
        doc = self.store.doc(layout)
        if change[0] == "claim":
            state = self._seen_before(state, number(self.docs.docs[doc][1]))
        if change[0] in ("promote", "lay") and service_of(state.service, change[1]) != LIVES:
            raise Problem("I1", f"key {change[1]} is promoted and does not work")
        if change[0] in ("promote", "adopt", "announce"):
            state = self._seen_before(state, change[1])
        if change[0] in ("promote", "adopt", "lay"):
            state = state._replace(extra=self.extras.intern(self.extra(state)._replace(due=NONE)))
        if change[0] == "forget" and service_of(state.service, change[1]) not in (GONE, UNBORN):
            raise Problem("I3", f"key {change[1]} is dropped from the store and is not dead")
        lost = self.store.find_missing(layout)
        if lost != NONE and not self.extra(state).wiped:
            raise Problem("I3", f"key {lost} is in the record and its secret is nowhere")
        current = self.docs.docs[doc][1]
        readers = state.readers | (1 << number(current) if current is not None else 0)
        reps = tuple(self._stale(i, part, state.doc, own=n == skip) for n, i in enumerate(state.reps))
        ghosts = tuple(kept for g in self.ghosts.items[state.ghosts] if (kept := _still_late(g, part)))
        return state._replace(doc=doc, store=layout, readers=readers, reps=reps, ghosts=self.ghosts.intern(ghosts))

    def _stale(self, rep_number: int, part: int, seen: int, *, own: bool) -> int:
        """A replica after a part was written: a compare-and-set that it was about to try can only lose, so it is over at once."""
        rep: Rep = self.reps.items[rep_number]
        lagging = lagged(rep.lag, part, own=own)
        if lagging != rep.lag:
            rep = rep._replace(lag=lagging)
            rep_number = self.reps.intern(rep)
        if own or not (rep.fresh or rep.step):
            return rep_number
        if part & PLACE and (part == PLACE or rep.step):
            rep = self._overtaken(rep, seen)
        if part == PLACE or not rep.plan:
            return self.reps.intern(rep)
        kind = rep.plan[0]
        if self._is_blind(kind) or kind in ("read", "revoke-orphan") or rep.step[:1] in {("announced",), ("laid",)}:
            return self.reps.intern(rep._replace(fresh=False))
        if kind == "open":
            return self.reps.intern(self._idle(rep, journal=self._never_opened(rep.journal)))
        if kind == "stage":
            return self.reps.intern(self._idle(rep, plan=("hand", *rep.plan[1:])))
        return self.reps.intern(self._idle(rep))

    def _is_blind(self, kind: str) -> bool:
        """Planted: this change is committed to a record that was written since."""
        return kind in self.world.blind or "blind-record" in self.world.actor

    def _overtaken(self, rep: Rep, seen: int) -> Rep:
        """A replica that is about to commit, after someone else wrote the place."""
        if rep.step[:1] == ("announced",) and "blind-place" not in self.world.actor:
            return self._idle(rep)
        if rep.step[:1] in {("announced",), ("laid",), ("refused",)}:
            return rep
        return rep._replace(behind=min(rep.behind + 1, MOST_AHEAD), seen=seen if rep.seen == NONE else rep.seen)

    def _never_opened(self, journal: int) -> int:
        """The attempt of this journal's rotation was not committed and never will be: its id may serve again."""
        known = self.decider.journals[journal]
        if known.rotation is None:
            return journal
        return self.decider.intern(known._replace(rotation=known.rotation._replace(attempt=NONE)))

    def _seen_before(self, state: State, key: int) -> State:
        """Every alive answer of the key is older than its becoming current."""
        return state._replace(reps=tuple(self.reps.intern(self._aged_sight(self.reps.items[i], key)) for i in state.reps))

    def _aged_sight(self, rep: Rep, key: int) -> Rep:
        journal = self.decider.journals[rep.journal]
        sight = journal.sight(key)
        if sight.alive != SEEN_SINCE:
            return rep
        return rep._replace(journal=self.decider.intern(journal.saw(sight._replace(alive=SEEN_BEFORE))))

    def _idle(self, rep: Rep, **changes: Any) -> Rep:
        return rep._replace(**{"plan": (), "fresh": False, "tfresh": 0, "seen": NONE, "step": (), "behind": 0, **changes})

    def _revoked(self, state: State, key: int) -> State:
        """The issuer ends a key; here I1 is at stake."""
        truth = service_of(state.service, key)
        if truth == LIVES:
            self._check_revoke(state, key)
        after = REVOKED if truth == LIVES else GONE if truth == BAD else truth
        ghosts = tuple(g for g in self.ghosts.items[state.ghosts] if g != ("revoke", key))
        return state._replace(service=with_service(state.service, key, after), ghosts=self.ghosts.intern(ghosts))

    def _check_revoke(self, state: State, key: int) -> None:
        record, current = self.docs.docs[state.doc]
        entry = record.find(KEYS[key]) if record is not None else None
        extra = self.extra(state)
        if extra.leaked >> key & 1 and entry is not None and entry.compromised_at is not None:
            return  # an emergency
        if extra.wiped == 1:
            return  # a plan from before; what is planned afterwards is checked when it is planned
        if current == KEYS[key]:
            raise Problem("I1", f"key {key} is revoked and is the one in the store's place")
        if entry is not None and entry.stage is not Stage.RETIRING:
            raise Problem("I1", f"key {key} is revoked and is {entry.stage}")
        if state.readers >> key & 1:
            raise Problem("I1", f"key {key} is revoked while consumers that read the store may work with it")
        at_deadline = self.world.policy.at_deadline == "revoke"
        for spec, target in zip(self.world.targets, self.targets.items[state.targets], strict=True):
            if spec.required and not target.lies and not at_deadline and (target.key == key or target.lag >> key & 1):
                raise Problem("I1", f"key {key} is revoked while a required target works with it")

    def _takes(self, state: State, n: int, generation: int, fresh: int | bool) -> bool:
        """A target takes what is conditional on what was read, and refuses a lower generation (L2)."""
        if "blind-target" in self.world.actor:
            return True
        target = self.targets.items[state.targets][n]
        return bool(fresh) and not (self.world.targets[n].keeps_generation and target.generation > generation)

    def _delivered(self, state: State, n: int, key: int, generation: int, skip: int = NONE) -> State:
        targets = self.targets.items[state.targets]
        target, spec = targets[n], self.world.targets[n]
        if target.lies:
            return state
        if generation < target.generation:
            raise Problem("I5", f"target {n} goes from generation {target.generation} back to {generation}")
        record = self.docs.docs[state.doc][0]
        lives = service_of(state.service, key) == LIVES
        if lives and not self.extra(state).wiped and (record is None or record.find(KEYS[key]) is None):
            raise Problem("I3", f"target {n} gets key {key}, which the store does not hold")
        had = target.key != NONE and service_of(state.service, target.key) == LIVES
        if spec.required and had and not lives and not self.extra(state).leaked >> key & 1:
            raise Problem("I1", f"target {n} gets key {key}, which does not work, over one that does")
        lag = target.lag | (1 << target.key if target.key not in (NONE, key) else 0)
        return self._target_changed(state, n, target._replace(key=key, generation=generation, lag=lag & ~(1 << key)), skip)

    def _target_changed(self, state: State, n: int, target: Target, skip: int = NONE) -> State:
        """The target's revision changes: every look at it but the writer's own is stale."""
        targets = self.targets.items[state.targets]
        reps = tuple(
            self.reps.intern(rep._replace(tfresh=rep.tfresh & ~(1 << n)))
            if (rep := self.reps.items[i]).tfresh >> n & 1 and m != skip
            else i
            for m, i in enumerate(state.reps)
        )
        ghosts = tuple((*g[:-1], False) if g[0] == "deliver" and g[1] == n else g for g in self.ghosts.items[state.ghosts])
        changed = self.targets.intern((*targets[:n], target, *targets[n + 1 :]))
        return state._replace(targets=changed, reps=reps, ghosts=self.ghosts.intern(ghosts))


def lagged(lag: Lag | tuple[()], part: int, *, own: bool) -> Lag | tuple[()]:
    """A replica's lag after a part was written."""
    if not lag:
        return lag
    behind = min(lag.behind + 1, MOST_AHEAD) if part & PLACE else lag.behind
    return lag._replace(behind=behind, newer=lag.newer | part if own else lag.newer)


def _still_late(ghost: tuple[Any, ...], part: int) -> tuple[Any, ...]:
    """What is left of an effect that has yet to come, after a part of the store was written; nothing, if it can only lose."""
    if ghost[0] != "commit":
        return ghost
    kind, change, means, of, op, behind = ghost
    if of & part:
        return ()
    return (kind, change, means, of, op, min(behind + 1, MOST_AHEAD) if part == PLACE else behind)
