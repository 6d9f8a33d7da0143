"""A look and what is decided on it: the real decisions, taken up one by one.

What only the replica's own journal can see is done together with the look that it follows from; everything else becomes a plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rotator.domain.keys import KeyId
from rotator.domain.record import Record, Stage
from tests.model import symbols as sym
from tests.model.actor import Choice, Choices, Look, Passed, TargetView
from tests.model.journal import ALIVE, DEAD, ENOUGH, FEW, FEW_SPREAD, NO_REFUSAL, SEEN_BEFORE, SEEN_SINCE, UNKNOWN, Journal, Mem, Rot, Sight
from tests.model.parts import Move, Parts
from tests.model.stores import Seen
from tests.model.symbols import KEYS, NONE, attempt_number, number
from tests.model.world import BAD, GONE, LIVES, REVOKED, UNBORN, Problem, Rep, State, service_of, with_service

ORPHANS = {("sweep",), ("doom-orphan",), ("revoke-orphan",)}
"""after these failed, everything else goes on while orphans wait"""
COMMITS = {"open", "close", "retire", "promote", "adopt", "doom", "forget", "doom-orphan"}


class Looking(Parts):
    """A replica that looks, decides, and writes down what it will do."""

    def replica(self, state: State, r: int) -> Iterator[Move]:
        """The next step of one replica."""
        rep = self.rep(state, r)
        if not rep.plan:
            if not self.world.targets:
                yield from self._looks(state, r, ())
            elif "store-first" in self.world.actor:
                yield ("reads", r), 0, self.with_rep(state, r, rep._replace(plan=("read", state.doc), fresh=True))
            else:
                views = self._views(state)
                yield ("observes", r), 0, self.with_rep(state, r, rep._replace(plan=("obs", views), tfresh=(1 << len(views)) - 1))
        elif rep.plan[0] == "obs":
            yield from self._looks(state, r, rep.plan[1])
        elif rep.plan[0] == "read":
            views = self._views(state)
            seen = Seen(rep.plan[1], rep.plan[1] == state.doc)
            yield from self._decide(self.with_rep(state, r, rep._replace(tfresh=(1 << len(views)) - 1)), r, seen, views)
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
        return Look(
            doc,
            journal,
            self._dated(views, doc),
            rep.hand,
            extra.due != NONE and extra.due == current,
            alive,
            rep.barren,
            rep.blocked[:1] in ORPHANS,
            rep.hand != NONE and service_of(state.service, rep.hand) != UNBORN,
        )

    def choices(self, state: State, r: int) -> Choices:
        """What a replica would decide if it looked now."""
        return self.decider.choices(self.look(state, r, state.doc, self._views(state)))

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
            ending = {number(k.key_id) for k in record.keys if k.stage is Stage.RETIRING or (k.compromised_at and k.stage is Stage.CURRENT)}
            rows = tuple((k, dict(rows).get(k, False)) for k in sorted(ending))
        sights = tuple(kept for s in known.sights if (kept := self._kept(s, record, current, candidate)) is not None)
        return self.decider.intern(Journal(memory, rotation, rows, sights))

    def _kept(self, sight: Sight, record: Record, current: KeyId | None, candidate: int) -> Sight | None:
        """What decisions may still ask of a sighting, by the stage of its key."""
        entry = record.find(KEYS[sight.key])
        if entry is None:
            return sight if current == KEYS[sight.key] else None
        if entry.stage is Stage.PENDING or self.world.raw:
            return sight
        sight = sight._replace(ever=False, spread=False)
        if entry.stage is Stage.CURRENT or candidate == sight.key:
            return sight
        if sight.answer != DEAD and sight.refusals == NO_REFUSAL:
            return None
        return sight._replace(alive=min(sight.alive, SEEN_BEFORE))

    def _looks(self, state: State, r: int, views: tuple[TargetView, ...]) -> Iterator[Move]:
        """What is so, or what the store shows to a replica whose reads lag."""
        yield from self._decide(state, r, Seen(state.doc, True), views)
        for stale in self.store.stale_looks(state.store, self.rep(state, r).lag):
            yield from self._decide(state, r, Seen(*stale), views, stale=True)

    def _decide(self, state: State, r: int, seen: Seen, views: tuple[TargetView, ...], *, stale: bool = False) -> Iterator[Move]:
        """Look at the store and take up one of the possible decisions; worked out once for everything that they can depend on."""
        reps = state.reps
        others: tuple[int, ...] = ()
        if self.decider.journals[self.reps.items[reps[r]].journal].rotation is not None or self.is_open(state.doc):
            others = (*reps, state.ghosts)  # the number of the next attempt, and whether an open one has a living owner
        layout = state.store if self.reps.items[reps[r]].lag else 0
        lagging = self._others_lag(state, r)
        rest = (state.service, state.extra, state.readers, state.targets, others, lagging, self.alone)
        key = (r, reps[r], seen, stale, state.doc, layout, views, rest)
        found = self.decided.get(key)
        if found is None:
            moves = self._work_out(state, r, seen, views, stale=stale)
            found = self.decided[key] = [(label, cost, s.service, s.targets, s.readers, s.reps[r]) for label, cost, s in moves]
        before, after = reps[:r], reps[r + 1 :]
        for label, cost, service, targets, readers, rep in found:
            parts = (state.doc, service, targets, readers, state.extra, state.ghosts, (*before, rep, *after), state.store)
            yield label, cost, tuple.__new__(State, parts)

    def _work_out(self, state: State, r: int, seen: Seen, views: tuple[TargetView, ...], *, stale: bool) -> Iterator[Move]:
        rep, doc = self.rep(state, r), seen.doc
        look = self.look(state, r, doc, views)
        choices = self.decider.choices(look)
        rep = rep._replace(
            journal=look.journal,
            plan=(),
            fresh=seen.record_is_fresh,
            seen=doc if self._is_kept(seen) else NONE,
            behind=seen.behind,
            lag=self.store.after_look(state.store, rep.lag, seen),
        )
        blocked = False
        for choice in choices.rotation:
            if choice.action == rep.blocked:
                blocked = True
                continue
            cost = self._lease_cost(state, r, choice)
            if cost <= self.world.budget:
                yield from self._take_up(state, r, rep, choice, cost, seen, stale=stale)
        if choices.rotation_rests or blocked or not choices.rotation:
            for choice in choices.retirements:
                if choice.action != rep.blocked:
                    yield from self._take_up(state, r, rep, choice, 0, seen, stale=stale)
        yield ("rests", r), 0, self.with_rep(state, r, self._idle(rep, blocked=()))

    def _is_kept(self, seen: Seen) -> bool:
        """Whether what was seen must be remembered, since it is not what is so, or may not be when a planted fault acts upon it."""
        return bool(seen.behind or self.world.blind or "blind-record" in self.world.actor)

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

    def _take_up(self, state: State, r: int, rep: Rep, choice: Choice, cost: int, seen: Seen, *, stale: bool = False) -> Iterator[Move]:
        action, passed, doc = choice.action, choice.passed, seen.doc
        if stale and action[0] in COMMITS and not seen.record_is_fresh:
            return  # it could only lose
        if passed._replace(asked=frozenset(), fresh=True) != Passed():  # a lag is shorter than any of these limits
            if self._others_lag(state, r) or (stale and not all(self.store.retired_before(rep.lag, key) for key, _ in passed.overlap)):
                return
            rep = rep if stale else rep._replace(lag=())
        if not passed.jumped:
            for key, level in passed.overlap:
                if level and key != number(self.docs.docs[state.doc][1]):
                    state = state._replace(readers=state.readers & ~(1 << key))
            if passed.settled:
                state = state._replace(targets=self.targets.intern(tuple(t._replace(lag=0) for t in self.targets.items[state.targets])))
        journal = self.decider.journals[rep.journal]
        rep = rep._replace(blocked=rep.blocked if rep.blocked[:1] in ORPHANS else ())
        label = ("decides", r, action)
        if action[0] == "probe":
            for outcome, probe_cost, after in self._probe(state, r, rep, journal, action, seen.doc):
                if outcome.endswith("for long") and (rep.lag or self._others_lag(state, r)):
                    continue
                yield (*label, outcome), cost + probe_cost, after
            return
        if action[0] == "open" and self._is_cut_off(state):
            return
        written = self._journal_only(state, journal, action, doc)
        if written is not None:
            yield label, cost, self.with_rep(state, r, self._idle(rep, journal=self.decider.intern(written)))
            if action[0] == "sweep" and "fail" in self.world.faults:
                failed = self._idle(rep, blocked=("sweep",))
                yield (*label, "fails"), cost + 1, self.with_rep(state, r, failed)
            return
        self._check_plan(state, journal, action)
        yield label, cost, self.with_rep(state, r, self._planned(state, rep, journal, action, doc))

    def _others_lag(self, state: State, r: int) -> bool:
        return self.world.store == "aws" and any(self.rep(state, n).lag for n in range(len(state.reps)) if n != r)

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
                replaces = number(record.current.key_id) if record.current is not None else NONE
                return self._idle(rep, plan=(*action, replaces))
            case "distribute":
                assert record is not None
                assert record.current is not None
                plan = ("deliver", number(record.current.key_id), record.current.generation, action[1], action)
                return self._idle(rep, plan=plan, tfresh=rep.tfresh)
            case "revoke":
                return self._idle(rep, plan=action)
        return rep._replace(plan=action, tfresh=0)

    def _is_cut_off(self, state: State) -> bool:
        bound = self.world.attempts
        return bound is not None and sum(service_of(state.service, a) != UNBORN for a in range(1, sym.MOST_ATTEMPTS + 1)) >= bound

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
            used |= {rep.plan[1]} if rep.plan[:1] in {("open",), ("hand",), ("stage",), ("mint",)} else set()
            used.add(rep.hand)
        for ghost in self.ghosts.items[state.ghosts]:
            used |= {ghost[1]} if ghost[0] == "mint" else {ghost[1][1]} if ghost[0] == "commit" else set()
        for a in range(1, sym.MOST_ATTEMPTS + 1):
            if a not in used and service_of(state.service, a) == UNBORN:
                return a
        raise Problem("minting", "attempts are opened without end")

    def _check_given_up(self, sight: Sight) -> None:
        """Only refusals that outlast the cache may end a key that works; here they are two false ones."""
        if sight.refusals < FEW_SPREAD:
            raise Problem("L11", f"key {sight.key} is given up and works")

    def _check_plan(self, state: State, journal: Journal, action: tuple[Any, ...]) -> None:
        found = self.docs.docs[state.doc][0]
        if found is not None and journal.memory is not None and journal.memory.generation > found.generation:
            raise Problem("L2", f"{action[0]}: a store is written to, or acted upon, that shows an older generation than was seen")
        if action[0] == "retire" and action[2] and service_of(state.service, action[1]) == LIVES:
            self._check_given_up(journal.sight(action[1]))
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

    def _probe(
        self, state: State, r: int, rep: Rep, journal: Journal, action: tuple[Any, ...], doc: int
    ) -> Iterator[tuple[str, int, State]]:
        _, key, witness = action
        sight = journal.sight(key)
        truth = service_of(state.service, key)
        beside = witness != NONE and service_of(state.service, witness) == LIVES
        faults = self.world.faults

        def saw(answer: Sight, *, also: bool = False) -> Rep:
            after = journal.saw(answer)
            if also and witness != NONE:
                after = after.saw(alive(after.sight(witness)))
            return self._idle(rep, journal=self._passive(self.decider.intern(after), doc))

        if truth in (REVOKED, GONE, BAD):
            if beside:
                dead = state._replace(service=with_service(state.service, key, GONE))
                yield "dead for long", 0, self.with_rep(dead, r, saw(refused(sight, ENOUGH, beside=True), also=True))
            if not (beside and self.world.coarse and journal.revoked(key) is not None):
                yield "dead", 0, self.with_rep(state, r, saw(refused(sight, FEW, beside=beside), also=beside))
        if truth in (LIVES, REVOKED):
            yield "alive", 0, self.with_rep(state, r, saw(alive(sight)))
            if sight.ever and sight.answer != DEAD:
                yield "alive for long", 0, self.with_rep(state, r, saw(alive(sight)._replace(spread=True)))
        if truth == LIVES and "refuse" in faults:
            yield "refused", 1, self.with_rep(state, r, saw(refused(sight, FEW, beside=beside), also=beside))
            if beside and sight.refusals != NO_REFUSAL:
                yield "refused late", 1, self.with_rep(state, r, saw(refused(sight, FEW_SPREAD, beside=True), also=True))
        if truth == LIVES and "outage" in faults:
            yield "outage", 1, self.with_rep(state, r, saw(refused(sight, FEW, beside=False)))
        if "unknown" in faults:
            yield "unknown", 1, self.with_rep(state, r, saw(sight._replace(answer=UNKNOWN, beside=False)))


def alive(sight: Sight) -> Sight:
    """After an alive answer."""
    spread = sight.spread and sight.answer != DEAD
    return sight._replace(answer=ALIVE, alive=SEEN_SINCE, spread=spread, refusals=NO_REFUSAL, beside=False)


def refused(sight: Sight, refusals: int, *, beside: bool) -> Sight:
    """After a refusal; only one beside a living witness counts."""
    counted = max(sight.refusals, refusals) if beside else sight.refusals
    return sight._replace(answer=DEAD, spread=False, ever=True, refusals=counted, beside=beside)
