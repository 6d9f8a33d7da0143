"""Every step that a replica, the adversary or the world can take from a state. Raises `Problem` where a step breaks a property.

The actor is the engine's visit, step by step: look at the targets, look at the store and decide, write the intent, do, write the outcome.
What only the replica's own journal can see is done together with the look that it follows from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from rotator.domain.keys import KeyId
from rotator.domain.record import Record, Stage

from tests.model import symbols as sym
from tests.model.actor import (
    ALIVE,
    DEAD,
    ENOUGH,
    FEW,
    FEW_SPREAD,
    NO_REFUSAL,
    SEEN_BEFORE,
    SEEN_SINCE,
    UNKNOWN,
    Choice,
    Choices,
    Decider,
    Journal,
    Look,
    Mem,
    Rot,
    Sight,
    TargetView,
)
from tests.model.symbols import FIRST, ILLEGAL, KEYS, NONE, OUTSIDER, Docs, attempt_number, number
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
class Model:
    """A world with its tables."""

    world: World
    docs: Docs = field(default_factory=Docs.empty)
    reps: Table = field(default_factory=Table)
    targets: Table = field(default_factory=Table)
    extras: Table = field(default_factory=Table)
    ghosts: Table = field(default_factory=Table)
    decider: Decider = field(init=False)
    passive: dict[tuple[int, int], int] = field(default_factory=dict)
    decided: dict[tuple[Any, ...], list[tuple[Any, ...]]] = field(default_factory=dict)
    alone: bool = False
    """one replica runs to its end and the others stand still: every lease of theirs expires, and that is no fault"""

    def __post_init__(self) -> None:
        world = self.world
        self.decider = Decider(self.docs, world.policy, tuple(t.required for t in world.targets), world.clock_jumps)

    def start(self) -> State:
        """The state in which the world begins."""
        world = self.world
        doc = self.docs.intern((None, None) if world.empty else (sym.first_record(), KEYS[FIRST]))
        left = tuple(dict(world.events).get(e, 0) for e in EVENTS)
        held = Target(NONE, 0) if world.empty else Target(FIRST, 1)
        rep = self.reps.intern(Rep(self.decider.intern(first_journal(world))))
        return State(
            doc,
            0 if world.empty else LIVES,
            self.targets.intern((held,) * len(world.targets)),
            0 if world.empty else 1 << FIRST,
            self.extras.intern(Extra(left, backup=doc, used=int(world.empty))),
            self.ghosts.intern(()),
            (rep,) * world.replicas,
        )

    # What a replica does

    def replica(self, state: State, r: int) -> Iterator[Move]:
        """The next step of one replica."""
        rep = self.rep(state, r)
        if not rep.plan:
            if not self.world.targets:
                yield from self._decide(state, r, state.doc, ())
            elif "store-first" in self.world.actor:
                yield ("reads", r), 0, self._with(state, r, rep._replace(plan=("read", state.doc), fresh=True))
            else:
                views = self._views(state)
                yield ("observes", r), 0, self._with(state, r, rep._replace(plan=("obs", views), tfresh=(1 << len(views)) - 1))
        elif rep.plan[0] == "obs":
            yield from self._decide(state, r, state.doc, rep.plan[1])
        elif rep.plan[0] == "read":
            views = self._views(state)
            yield from self._decide(self._with(state, r, rep._replace(tfresh=(1 << len(views)) - 1)), r, rep.plan[1], views)
        else:
            yield from getattr(self, "_do_" + rep.plan[0].replace("-", "_"))(state, r, rep)

    def look(self, state: State, r: int, doc: int, views: tuple[TargetView, ...]) -> Look:
        """What a replica's look shows."""
        rep = self.rep(state, r)
        record = self.docs.docs[doc][0]
        current = number(record.current.key_id) if record is not None and record.current is not None else NONE
        extra = self.extra(state)
        alive = sum(1 << k for k in range(len(KEYS)) if service_of(state.service, k) == LIVES)
        journal = self._passive(rep.journal, doc)
        return Look(doc, journal, views, rep.hand, extra.due != NONE and extra.due == current, alive)

    def _passive(self, journal: int, doc: int) -> int:
        """What the look itself teaches the journal: the highest generation. What no decision asks for any more is forgotten."""
        found = self.passive.get((journal, doc))
        if found is None:
            found = self.passive[journal, doc] = self._learn(journal, doc)
        return found

    def _learn(self, journal: int, doc: int) -> int:
        known = self.decider.journals[journal]
        record, current = self.docs.docs[doc]
        if record is None:
            return journal
        memory, rotation, rows = known.memory, known.rotation, known.rows
        closed = {attempt_number(a.id) for a in record.closed}
        if memory is not None:
            swept = None if memory.swept is None else tuple(a for a in memory.swept if a in closed)
            memory = memory._replace(generation=max(memory.generation, record.generation), swept=swept)
        if rotation is not None and rotation.attempt in closed:
            rotation = rotation._replace(attempt=NONE)
        candidate = rotation.candidate if rotation is not None else NONE
        if self.world.coarse and memory is not None:
            ending = {number(k.key_id) for k in record.keys if k.stage is Stage.RETIRING or k.compromised_at and k.stage is Stage.CURRENT}
            rows = tuple((k, dict(rows).get(k, False)) for k in sorted(ending))
        sights = tuple(kept for s in known.sights if (kept := self._kept(s, record, current, candidate)) is not None)
        return self.decider.intern(Journal(memory, rotation, rows, sights))

    def _kept(self, sight: Sight, record: Record, current: KeyId | None, candidate: int) -> Sight | None:
        """What decisions may still ask of a sighting, by the stage of its key."""
        entry = record.find(KEYS[sight.key])
        if entry is None:
            return sight if current == KEYS[sight.key] else None
        if entry.stage is Stage.PENDING:
            return sight
        sight = sight._replace(ever=False, spread=False)
        if entry.stage is Stage.CURRENT or candidate == sight.key:
            return sight
        if sight.answer != DEAD and sight.refusals == NO_REFUSAL:
            return None
        return sight._replace(alive=min(sight.alive, SEEN_BEFORE))

    def _views(self, state: State) -> tuple[TargetView, ...]:
        record = self.docs.docs[state.doc][0]
        views = []
        for spec, target in zip(self.world.targets, self.targets.items[state.targets], strict=True):
            key, generation = target.key, target.generation
            if target.lies and record is not None and record.current is not None:
                key, generation = number(record.current.key_id), record.generation
            if target.away:
                views.append(TargetView(False, NONE, NONE))
            elif spec.keeps_generation:
                views.append(TargetView(True, key, generation or NONE))
            else:
                entry = record.find(KEYS[key]) if record is not None and key != NONE else None
                views.append(TargetView(True, key, entry.generation if entry is not None else NONE))
        return tuple(views)

    def _decide(self, state: State, r: int, doc: int, views: tuple[TargetView, ...]) -> Iterator[Move]:
        """Look at the store and take up one of the possible decisions; worked out once for everything that they can depend on."""
        reps = state.reps
        others: tuple[int, ...] = ()
        if self.decider.journals[self.reps.items[reps[r]].journal].rotation is not None or self.is_open(state.doc):
            others = (*reps, state.ghosts)  # the number of the next attempt, and whether an open one has a living owner
        key = (r, reps[r], doc, state.doc, views, state.service, state.extra, state.readers, state.targets, others, self.alone)
        found = self.decided.get(key)
        if found is None:
            moves = self._work_out(state, r, doc, views)
            found = self.decided[key] = [(label, cost, s.service, s.targets, s.readers, s.reps[r]) for label, cost, s in moves]
        before, after = reps[:r], reps[r + 1 :]
        for label, cost, service, targets, readers, rep in found:
            parts = (state.doc, service, targets, readers, state.extra, state.ghosts, (*before, rep, *after))
            yield label, cost, tuple.__new__(State, parts)

    def is_open(self, doc: int) -> bool:
        """Whether somebody holds the lease on minting."""
        record = self.docs.docs[doc][0]
        return record is not None and record.attempt is not None

    def _work_out(self, state: State, r: int, doc: int, views: tuple[TargetView, ...]) -> Iterator[Move]:
        rep = self.rep(state, r)
        look = self.look(state, r, doc, views)
        choices = self.decider.choices(look)
        rep = rep._replace(journal=look.journal, plan=(), fresh=doc == state.doc, seen=doc if self.world.blind else NONE)
        blocked = False
        for choice in choices.rotation:
            if choice.action == rep.blocked:
                blocked = True
                continue
            cost = self._lease_cost(state, r, choice)
            if cost <= self.world.budget:
                yield from self._take_up(state, r, rep, choice, cost, doc)
        if choices.rotation_rests or blocked or not choices.rotation:
            for choice in choices.retirements:
                if choice.action != rep.blocked:
                    yield from self._take_up(state, r, rep, choice, 0, doc)
        yield ("rests", r), 0, self._with(state, r, rep._replace(fresh=False, tfresh=0, seen=NONE, blocked=()))

    def _lease_cost(self, state: State, r: int, choice: Choice) -> int:
        """A lease that expires under a living owner is a stall, and a fault; under a dead one it is only time."""
        if not choice.passed.lease or self.alone:
            return 0
        record = self.docs.docs[state.doc][0]
        attempt = attempt_number(record.attempt.id) if record is not None and record.attempt is not None else NONE
        for n in range(len(state.reps)):
            rep = self.rep(state, n)
            if n != r and (rep.hand == attempt or rep.plan[:2] in {("hand", attempt), ("stage", attempt), ("mint", attempt)}):
                return 1 if "stall" in self.world.faults else self.world.budget + 1
        return 0

    def _take_up(self, state: State, r: int, rep: Rep, choice: Choice, cost: int, doc: int) -> Iterator[Move]:
        action, passed = choice.action, choice.passed
        if not passed.jumped:
            for key, level in passed.overlap:
                if level and key != number(self.docs.docs[state.doc][1]):
                    state = state._replace(readers=state.readers & ~(1 << key))
            if passed.settled:
                state = state._replace(targets=self.targets.intern(tuple(t._replace(lag=0) for t in self.targets.items[state.targets])))
        journal = self.decider.journals[rep.journal]
        rep = rep._replace(blocked=())
        label = ("decides", r, action)
        if action[0] == "probe":
            for outcome, probe_cost, after in self._probe(state, r, rep, journal, action):
                yield (*label, outcome), cost + probe_cost, after
            return
        written = self._journal_only(state, journal, action, doc)
        if written is not None:
            yield label, cost, self._with(state, r, rep._replace(journal=self.decider.intern(written), fresh=False, tfresh=0, seen=NONE))
            return
        self._check_plan(state, action)
        yield label, cost, self._with(state, r, self._planned(state, rep, journal, action, doc))

    def _journal_only(self, state: State, journal: Journal, action: tuple[Any, ...], doc: int) -> Journal | None:
        """Actions that nobody but this replica can see."""
        record = self.docs.docs[doc][0]
        match action:
            case ("recognise", recovered):
                return journal._replace(memory=Mem(record.generation if record is not None else 0, recovered))
            case ("rotation", emergency, replaces, candidate):
                return journal._replace(rotation=Rot(replaces, candidate, emergency))
            case ("close-rotation", _):
                return journal._replace(rotation=None)
            case ("row", key):
                return journal.row(key, revoked=False)
            case ("close-row", key):
                return journal.without(key)
            case ("sweep",):
                return self._swept(state, journal, doc)
        return None

    def _swept(self, state: State, journal: Journal, doc: int) -> Journal:
        """A sweep only reads: what the issuer lists now, against the record that was looked at."""
        record = self.docs.docs[doc][0]
        assert record is not None
        assert journal.memory is not None
        held = {k.key_id for k in record.keys}
        closed = [attempt_number(a.id) for a in record.closed]
        orphans = tuple(a for a in closed if KEYS[a] not in held and service_of(state.service, a) in (LIVES, BAD))
        return journal._replace(memory=journal.memory._replace(swept=tuple(closed), orphans=orphans))

    def _planned(self, state: State, rep: Rep, journal: Journal, action: tuple[Any, ...], doc: int) -> Rep:
        """The intent: what the replica will do, with what it needs from its look."""
        record = self.docs.docs[doc][0]
        match action[0]:
            case "open":
                attempt = self._new_attempt(state)
                assert journal.rotation is not None
                journal = journal._replace(rotation=journal.rotation._replace(attempt=attempt))
                return rep._replace(journal=self.decider.intern(journal), plan=("open", attempt))
            case "mint":
                assert record is not None
                fresh = rep.fresh and not self.world.policy.can_list
                return rep._replace(plan=(*action, number(record.current.key_id) if record.current else NONE), fresh=fresh, tfresh=0)
            case "distribute":
                assert record is not None
                assert record.current is not None
                plan = ("deliver", number(record.current.key_id), record.current.generation, action[1], action)
                return rep._replace(plan=plan, fresh=False, seen=NONE)
            case "revoke":
                return rep._replace(plan=action, fresh=False, tfresh=0, seen=NONE)
        return rep._replace(plan=action, tfresh=0)

    def _new_attempt(self, state: State) -> int:
        used = set()
        record = self.docs.docs[state.doc][0]
        if record is not None:
            used |= {attempt_number(a.id) for a in (*record.closed, *record.lost)} | {number(k.key_id) for k in record.keys}
            used |= {attempt_number(record.attempt.id)} if record.attempt is not None else set()
        for n in range(len(state.reps)):
            rep = self.rep(state, n)
            journal = self.decider.journals[rep.journal]
            used |= {journal.rotation.attempt} if journal.rotation is not None else set()
            used |= {rep.plan[1]} if rep.plan[:1] in {("open",), ("hand",), ("stage",), ("mint",), ("note",)} else set()
            used.add(rep.hand)
        for ghost in self.ghosts.items[state.ghosts]:
            used |= {ghost[1]} if ghost[0] == "mint" else {ghost[1][1]} if ghost[0] == "commit" else set()
        for a in range(1, sym.MOST_ATTEMPTS + 1):
            if a not in used and service_of(state.service, a) == UNBORN:
                return a
        raise Problem("minting", "attempts are opened without end")

    def _check_plan(self, state: State, action: tuple[Any, ...]) -> None:
        if action[0] not in ("doom", "revoke", "doom-orphan", "revoke-orphan"):
            return
        if self.extra(state).wiped == 1:
            raise Problem("I1", "a key is condemned although the only document was overwritten")
        record = self.docs.docs[state.doc][0]
        entry = record.find(KEYS[action[1]]) if record is not None else None
        if record is None or entry is None or entry.generation == 0 or entry.compromised_at is not None:
            return
        current = record.current
        if current is None or service_of(state.service, number(current.key_id)) != LIVES:
            raise Problem("I1", f"key {action[1]} is condemned although the current key does not work")

    # Probes

    def _probe(self, state: State, r: int, rep: Rep, journal: Journal, action: tuple[Any, ...]) -> Iterator[tuple[str, int, State]]:
        _, key, witness = action
        sight = journal.sight(key)
        truth = service_of(state.service, key)
        beside = witness != NONE and service_of(state.service, witness) == LIVES
        faults = self.world.faults

        def saw(answer: Sight, *, also: bool = False) -> Rep:
            after = journal.saw(answer)
            if also and witness != NONE:
                after = after.saw(alive(after.sight(witness)))
            return rep._replace(journal=self._passive(self.decider.intern(after), state.doc), fresh=False, tfresh=0, seen=NONE)

        if truth in (REVOKED, GONE, BAD):
            if beside:
                dead = state._replace(service=with_service(state.service, key, GONE)) if truth == REVOKED else state
                yield "dead for long", 0, self._with(dead, r, saw(refused(sight, ENOUGH, beside=True), also=True))
            if not (beside and self.world.coarse and journal.revoked(key) is not None):
                yield "dead", 0, self._with(state, r, saw(refused(sight, FEW, beside=beside), also=beside))
        if truth in (LIVES, REVOKED):
            yield "alive", 0, self._with(state, r, saw(alive(sight)))
            if sight.ever and sight.answer != DEAD:
                yield "alive for long", 0, self._with(state, r, saw(alive(sight)._replace(spread=True)))
        if truth == LIVES and "refuse" in faults:
            yield "refused", 1, self._with(state, r, saw(refused(sight, FEW, beside=beside), also=beside))
            if beside:
                yield "refused late", 1, self._with(state, r, saw(refused(sight, FEW_SPREAD, beside=True), also=True))
        if truth == LIVES and "outage" in faults:
            yield "outage", 1, self._with(state, r, saw(refused(sight, FEW, beside=False)))
        if "unknown" in faults:
            yield "unknown", 1, self._with(state, r, saw(sight._replace(answer=UNKNOWN, beside=False)))

    # Effects

    def _commit(self, state: State, r: int, rep: Rep, change: tuple[Any, ...], ok: Rep, lost: Rep | None = None) -> Iterator[Move]:
        """One compare-and-set on the document. `ok`: the replica when it is told so; `lost`: when it never hears."""
        kind = change[0]
        lost = lost if lost is not None else rep._replace(plan=(), fresh=False, seen=NONE)
        blind = kind in self.world.blind
        if not rep.fresh and not blind:
            yield ("conflict", r, kind), 0, self._with(state, r, lost)
            return
        base = rep.seen if blind else state.doc
        doc = self.docs.apply(base, change)
        if doc == ILLEGAL:
            yield ("illegal", r, kind), 0, self._with(state, r, self._illegal(state, rep, lost, change))
            return
        after = self._written(state, doc, change, skip=r)
        faults = self.world.faults
        yield ("commits", r, change), 0, self._with(after, r, self._promoted(ok, change))
        if "fail" in faults:
            failed = lost._replace(blocked=self._blocked(state, rep.plan))
            if kind == "open" and lost.hand == NONE:
                failed = failed._replace(journal=self._never_opened(failed.journal))
            yield ("fails", r, change), 1, self._with(state, r, failed)
        if "lost" in faults:
            yield ("answer lost", r, change), 1, self._with(after, r, self._promoted(lost, change))
        if "crash" in faults:
            yield ("crash after", r, change), 1, self._with(after, r, self._promoted(Rep(rep.journal), change))
        if "late" in faults:
            yield ("will be late", r, change), 1, self._with(self._haunted(state, ("commit", change, True)), r, lost)
        if "stall" in faults and kind in ("promote", "retire", "adopt"):
            aged = self._written(state, self.docs.apply(base, (*change[:-1], True)), change, skip=r)
            yield ("commits with an old instant", r, change), 1, self._with(aged, r, self._promoted(ok, change))

    def _blocked(self, state: State, plan: tuple[Any, ...]) -> tuple[Any, ...]:
        """The action that is not tried again at once. It matters where something else could be done meanwhile."""
        record = self.record(state)
        if record is None or not any(k.stage is Stage.RETIRING or k.compromised_at for k in record.keys):
            return ()
        return ("open",) if plan[0] == "open" else plan

    def _illegal(self, state: State, rep: Rep, lost: Rep, change: tuple[Any, ...]) -> Rep:
        if change[0] != "doom-orphan":
            return lost._replace(blocked=self._blocked(state, rep.plan))
        return lost._replace(journal=self._without_orphan(rep.journal, change[1]))

    def _without_orphan(self, journal: int, key: int) -> int:
        known = self.decider.journals[journal]
        if known.memory is None:
            return journal
        memory = known.memory._replace(orphans=tuple(k for k in known.memory.orphans if k != key))
        return self.decider.intern(known._replace(memory=memory))

    def _written(self, state: State, doc: int, change: tuple[Any, ...], skip: int = NONE) -> State:
        """The state after the document was written: every other plan is stale, and its readers find what it holds now."""
        if change[0] in ("promote", "adopt"):
            if change[0] == "promote" and service_of(state.service, change[1]) != LIVES:
                raise Problem("I1", f"key {change[1]} is promoted and does not work")
            state = self._seen_before(state, change[1])
        if change[0] == "forget" and service_of(state.service, change[1]) not in (GONE, UNBORN):
            raise Problem("I3", f"key {change[1]} is dropped from the store and is not dead")
        current = self.docs.docs[doc][1]
        readers = state.readers | (1 << number(current) if current is not None else 0)
        reps = tuple(self._stale(i) if n != skip else i for n, i in enumerate(state.reps))
        ghosts = tuple(g for g in self.ghosts.items[state.ghosts] if g[0] != "commit")
        return state._replace(doc=doc, readers=readers, reps=reps, ghosts=self.ghosts.intern(ghosts))

    def _stale(self, rep_number: int) -> int:
        """A replica after someone else wrote: a compare-and-set that it was about to try can only lose, so it is over at once."""
        rep: Rep = self.reps.items[rep_number]
        if not rep.fresh:
            return rep_number
        kind = rep.plan[0]
        if kind in self.world.blind or kind in ("read", "mint", "revoke-orphan"):
            return self.reps.intern(rep._replace(fresh=False))
        if kind == "open":
            return self.reps.intern(self._idle(rep, journal=self._never_opened(rep.journal)))
        if kind == "stage":
            return self.reps.intern(rep._replace(plan=("hand", *rep.plan[1:]), fresh=False, seen=NONE))
        return self.reps.intern(self._idle(rep))

    def _never_opened(self, journal: int) -> int:
        """The attempt of this journal's rotation was not committed and never will be: its id may serve again."""
        known = self.decider.journals[journal]
        if known.rotation is None:
            return journal
        return self.decider.intern(known._replace(rotation=known.rotation._replace(attempt=NONE)))

    def _seen_before(self, state: State, key: int) -> State:
        """Every alive answer of the key is older than its becoming current."""
        return state._replace(reps=tuple(self.reps.intern(self._aged_sight(self.reps.items[i], key)) for i in state.reps))

    def _promoted(self, rep: Rep, change: tuple[Any, ...]) -> Rep:
        return self._aged_sight(rep, change[1]) if change[0] in ("promote", "adopt") else rep

    def _aged_sight(self, rep: Rep, key: int) -> Rep:
        journal = self.decider.journals[rep.journal]
        sight = journal.sight(key)
        if sight.alive != SEEN_SINCE:
            return rep
        return rep._replace(journal=self.decider.intern(journal.saw(sight._replace(alive=SEEN_BEFORE))))

    def _idle(self, rep: Rep, **changes: Any) -> Rep:
        return rep._replace(**{"plan": (), "fresh": False, "tfresh": 0, "seen": NONE, **changes})

    def _do_open(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        attempt = rep.plan[1]
        if "no-second-look" in self.world.actor:
            current = self.docs.docs[state.doc][0]
            replaces = number(current.current.key_id) if current is not None and current.current is not None else NONE
            taken = rep._replace(plan=("mint", attempt, replaces), hand=attempt, fresh=False)
            yield from self._commit(state, r, rep, ("open", attempt), taken, lost=taken if rep.fresh else None)
            return
        yield from self._commit(state, r, rep, ("open", attempt), self._idle(rep, hand=attempt))

    def _do_close(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        _, attempt, failed = rep.plan
        ok = self._idle(rep, hand=NONE if rep.hand == attempt else rep.hand, journal=self._failed(rep.journal, failed))
        yield from self._commit(state, r, rep, ("close", attempt), ok)

    def _failed(self, journal: int, failed: bool) -> int:
        known = self.decider.journals[journal]
        if not failed or known.rotation is None:
            return journal
        failures = min(known.rotation.failures + 1, self.world.policy.max_failures)
        return self.decider.intern(known._replace(rotation=known.rotation._replace(failures=failures)))

    def _do_retire(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        _, key, failed = rep.plan
        yield from self._commit(state, r, rep, ("retire", key, False), self._idle(rep, journal=self._failed(rep.journal, failed)))

    def _do_promote(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        _, key, replaces = rep.plan
        yield from self._commit(state, r, rep, ("promote", key, replaces, False), self._idle(rep))

    def _do_adopt(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        yield from self._commit(state, r, rep, ("adopt", rep.plan[1], False), self._idle(rep))

    def _do_doom(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        yield from self._commit(state, r, rep, ("doom", rep.plan[1]), self._idle(rep))

    def _do_forget(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        key = rep.plan[1]
        known = self.decider.journals[rep.journal].without(key)
        known = known._replace(sights=tuple(s for s in known.sights if s.key != key))
        yield from self._commit(state, r, rep, ("forget", key), self._idle(rep, journal=self.decider.intern(known)))

    def _do_doom_orphan(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        key = rep.plan[1]
        yield from self._commit(state, r, rep, ("doom-orphan", key), self._idle(rep, journal=self._without_orphan(rep.journal, key)))

    def _do_forget_orphan(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        yield from self._commit(state, r, rep, ("forget-orphan", rep.plan[1]), self._idle(rep))

    def _do_note(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        yield from self._commit(state, r, rep, ("lost", rep.plan[1]), self._idle(rep))

    def _do_mint(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        _, attempt, replaces = rep.plan
        faults = self.world.faults
        born = state._replace(service=with_service(state.service, attempt, LIVES))
        used = rep._replace(hand=NONE, fresh=False, tfresh=0)
        yield ("mints", r, attempt), 0, self._with(born, r, used._replace(plan=("hand", attempt, replaces)))
        if "bad" in faults:
            bad = state._replace(service=with_service(state.service, attempt, BAD))
            yield ("mints a bad key", r, attempt), 1, self._with(bad, r, used._replace(plan=("hand", attempt, replaces)))
        if "fail" in faults:
            yield ("mint fails", r), 1, self._with(state, r, self._idle(rep, blocked=self._blocked(state, ("mint", attempt))))
        unheard = self._idle(rep, hand=NONE) if self.world.policy.can_list else rep._replace(hand=NONE, plan=("note", attempt))
        if "lost" in faults:
            yield ("mint's answer lost", r, attempt), 1, self._with(born, r, unheard)
        if "crash" in faults:
            yield ("crash after mint", r, attempt), 1, self._with(born, r, Rep(rep.journal))
        if "late" in faults:
            yield ("mint will be late", r, attempt), 1, self._with(self._haunted(state, ("mint", attempt)), r, unheard)

    def _do_hand(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        """A key in hand: read the store again, and stage it only under its own attempt. It is never revoked from here (L14)."""
        _, attempt, replaces = rep.plan
        record = self.docs.docs[state.doc][0]
        if record is None or any(k.attempt == sym.attempt_id(attempt) for k in record.keys):
            yield ("finds it staged", r), 0, self._with(state, r, self._idle(rep))
        elif record.attempt is not None and (attempt_number(record.attempt.id) == attempt or "no-attempt-id" in self.world.actor):
            seen = state.doc if self.world.blind else NONE
            yield ("will stage", r), 0, self._with(state, r, rep._replace(plan=("stage", attempt, replaces), fresh=True, seen=seen))
        else:
            yield ("drops the key", r, attempt), 0, self._with(state, r, self._idle(rep))

    def _do_stage(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        _, attempt, replaces = rep.plan
        again = rep._replace(plan=("hand", attempt, replaces), fresh=False, seen=NONE)
        if "revoke-in-hand" in self.world.actor and rep.fresh:
            again = rep._replace(plan=("revoke-hand", attempt), fresh=False)
        for label, cost, after in self._commit(state, r, rep, ("stage", attempt, replaces), self._idle(rep), lost=again):
            if label[0] in ("fails", "illegal"):
                given_up = self.rep(after, r)
                yield label, cost, self._with(after, r, self._idle(given_up) if given_up.plan[0] == "hand" else given_up)
            else:
                yield label, cost, after

    def _do_revoke_hand(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        yield ("revokes the key in hand", r), 0, self._with(self._revoked(state, rep.plan[1]), r, self._idle(rep))

    def _do_revoke(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        key = rep.plan[1]
        journal = self.decider.journals[rep.journal].row(key, revoked=True)
        sight = journal.sight(key)
        if sight.refusals != NO_REFUSAL:
            journal = journal.saw(sight._replace(refusals=NO_REFUSAL, beside=False))
        ok = self._idle(rep, journal=self.decider.intern(journal))
        yield from self._revoke(state, r, rep, key, ok, lost=self._idle(rep))

    def _do_revoke_orphan(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        key = rep.plan[1]
        yield from self._revoke(state, r, rep, key, rep._replace(plan=("forget-orphan", key)), lost=self._idle(rep))

    def _revoke(self, state: State, r: int, rep: Rep, key: int, ok: Rep, lost: Rep) -> Iterator[Move]:
        faults = self.world.faults
        revoked = self._revoked(state, key)
        yield ("revokes", r, key), 0, self._with(revoked, r, ok)
        if "fail" in faults:
            yield ("revoke fails", r, key), 1, self._with(state, r, lost._replace(blocked=self._blocked(state, rep.plan)))
        if "lost" in faults:
            yield ("revoke's answer lost", r, key), 1, self._with(revoked, r, lost)
        if "crash" in faults:
            yield ("crash after revoke", r, key), 1, self._with(revoked, r, Rep(rep.journal))
        if "late" in faults:
            yield ("revoke will be late", r, key), 1, self._with(self._haunted(state, ("revoke", key)), r, lost)

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

    def _do_deliver(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        _, key, generation, names, action = rep.plan
        n, rest = names[0], names[1:]
        after = rep._replace(plan=("deliver", key, generation, rest, action)) if rest else self._idle(rep)
        target = self.targets.items[state.targets][n]
        faults = self.world.faults
        if target.away:
            yield ("target is away", r, n), 0, self._with(state, r, after._replace(blocked=() if rest else self._blocked(state, action)))
            return
        if not self._takes(state, n, generation, rep.tfresh >> n & 1):
            yield ("target refuses", r, n), 0, self._with(state, r, after)
            return
        delivered = self._delivered(state, n, key, generation, r)
        yield ("delivers", r, n, key), 0, self._with(delivered, r, after)
        if "fail" in faults:
            yield ("delivery fails", r, n), 1, self._with(state, r, after._replace(blocked=() if rest else self._blocked(state, action)))
        if "crash" in faults and rest:
            yield ("crash after delivery", r, n), 1, self._with(delivered, r, Rep(rep.journal))
        if "late" in faults:
            ghost = ("deliver", n, key, generation, True)
            yield ("delivery will be late", r, n), 1, self._with(self._haunted(state, ghost), r, after)

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

    # Reading and writing parts

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

    def choices(self, state: State, r: int) -> Choices:
        """What a replica would decide if it looked now."""
        return self.decider.choices(self.look(state, r, state.doc, self._views(state)))

    def _with(self, state: State, r: int, rep: Rep) -> State:
        reps = state.reps
        parts = (*state[:6], (*reps[:r], self.reps.intern(rep), *reps[r + 1 :]))
        found: State = tuple.__new__(State, parts)
        return found

    def _haunted(self, state: State, ghost: tuple[Any, ...]) -> State:
        ghosts = tuple(sorted((*self.ghosts.items[state.ghosts], ghost), key=repr))
        return state._replace(ghosts=self.ghosts.intern(ghosts))


def alive(sight: Sight) -> Sight:
    """After an alive answer."""
    spread = sight.spread and sight.answer != DEAD
    return sight._replace(answer=ALIVE, alive=SEEN_SINCE, spread=spread, refusals=NO_REFUSAL, beside=False)


def refused(sight: Sight, refusals: int, *, beside: bool) -> Sight:
    """After a refusal; only one beside a living witness counts."""
    counted = max(sight.refusals, refusals) if beside else sight.refusals
    return sight._replace(answer=DEAD, spread=False, ever=True, refusals=counted, beside=beside)
