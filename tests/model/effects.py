"""What a replica does with its plan, and everything that may happen to it on the way.

The actor is the engine's visit, step by step: look at the targets, look at the store and decide, write the intent, do, write the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rotator.domain.record import Stage
from tests.model import symbols as sym
from tests.model.journal import NO_REFUSAL
from tests.model.looking import ORPHANS, Looking
from tests.model.parts import Move, lagged
from tests.model.stores import PLACE, Lag, Seen, Write
from tests.model.symbols import NONE, attempt_number, number
from tests.model.world import BAD, HOLLOW, LIVES, UNBORN, Rep, State, service_of, with_service


class Effects(Looking):
    """A replica that acts."""

    def _commit(self, state: State, r: int, rep: Rep, change: tuple[Any, ...], ok: Rep, lost: Rep | None = None) -> Iterator[Move]:
        """The next write of a commit. `ok`: the replica when it is told that all is done; `lost`: when it never hears."""
        kind = change[0]
        lost = lost if lost is not None else self._idle(rep, hand=rep.hand, tfresh=rep.tfresh)
        seen = Seen(state.doc if rep.seen == NONE else rep.seen, rep.fresh or self._is_blind(kind), rep.behind)
        write = self.store.next_write(state.store, seen, rep.step, change)
        if write is None or not (write.can_win(seen) or (write.part == PLACE and "blind-place" in self.world.actor)):
            if write is not None and write.may_fail:
                yield ("leaves it to others", r, kind), 0, self.with_rep(state, r, self._told(state, rep, ok, lost))
            elif write is None and seen.record_is_fresh:
                yield ("illegal", r, kind), 0, self.with_rep(state, r, self._illegal(state, rep, lost, change))
            else:
                yield ("conflict", r, kind), 0, self.with_rep(state, r, lost)
            return
        after = self._put(state, r, rep, write, write.op)
        told = self._after_write(rep, write, change, self._aged_by(ok, write), after.doc)
        yield (write.label, r, change), 0, self.with_rep(after, r, told)
        if write.may_fail:
            yield from self._tidy_faults(state, r, rep, write, after, ok, lost, change)
        else:
            yield from self._write_faults(state, r, rep, write, after, ok, lost, change)

    def _write_faults(
        self, state: State, r: int, rep: Rep, write: Write, after: State, ok: Rep, lost: Rep, change: tuple[Any, ...]
    ) -> Iterator[Move]:
        kind, faults = change[0], self.world.faults
        if kind == "open" and write.then is not None:
            rep = rep._replace(journal=self._never_opened(rep.journal))
            lost = lost._replace(journal=self._never_opened(lost.journal))
        if "fail" in faults:
            failed = lost._replace(blocked=self._blocked(state, rep.plan))
            if kind == "open" and lost.hand == NONE:
                failed = failed._replace(journal=self._never_opened(failed.journal))
            yield ("fails", r, change), 1, self.with_rep(state, r, failed)
            if write.means[0] == "lay" and self.world.store == "vault" and rep.step[-1]:  # it is taken back by who announced it first
                yield ("is refused", r, change), 1, self.with_rep(state, r, rep._replace(step=("refused",)))
        heard_nothing = self._aged_by(lost._replace(lag=lagged(lost.lag, write.part, own=True)), write)
        if "lost" in faults:
            yield ("answer lost", r, change), 1, self.with_rep(after, r, heard_nothing)
        if "crash" in faults:
            crashed = Rep(rep.journal, lag=self._lag_after_crash(rep, write))
            yield ("crash after", r, change), 1, self.with_rep(after, r, self._aged_by(crashed, write))
        if "late" in faults:
            ghost = ("commit", change, write.means, write.part, write.op, rep.behind)
            yield ("will be late", r, change), 1, self.with_rep(self._haunted(state, ghost), r, lost)
        if "stall" in faults and write.aged:
            aged = self._put(state, r, rep, write, write.aged)
            told = self._after_write(rep, write, change, self._aged_by(ok, write), after.doc)
            yield (f"{write.label} with an old instant", r, change), 1, self.with_rep(aged, r, told)

    def _tidy_faults(
        self, state: State, r: int, rep: Rep, write: Write, after: State, ok: Rep, lost: Rep, change: tuple[Any, ...]
    ) -> Iterator[Move]:
        """Whatever becomes of tidying, the commit was made, or given up, before."""
        faults, told = self.world.faults, self._told(state, rep, ok, lost)
        if "fail" in faults:
            yield ("does not tidy", r, change), 1, self.with_rep(state, r, told)
        if "crash" in faults:
            yield ("crash after", r, change), 1, self.with_rep(after, r, Rep(rep.journal, lag=self._lag_after_crash(rep, write)))
        if "late" in faults:
            ghost = ("commit", change, write.means, write.part, write.op, 0)
            yield ("will be late", r, change), 1, self.with_rep(self._haunted(state, ghost), r, told)

    def _put(self, state: State, r: int, rep: Rep, write: Write, op: tuple[Any, ...]) -> State:
        return self._written(state, self.store.after(state.store, op, rep.behind), write.means, skip=r, part=write.part)

    def _after_write(self, rep: Rep, write: Write, change: tuple[Any, ...], ok: Rep, doc: int) -> Rep:
        """The replica that is told that its write was done."""
        lag = lagged(rep.lag, write.part, own=True)
        if write.then is not None:
            on = self._aged_by(rep, write)._replace(step=write.then, lag=lag)
            if write.part == PLACE:
                return on._replace(behind=0)
            return on._replace(fresh=True, seen=rep.seen if "blind-record" in self.world.actor else NONE)
        if rep.step == ("refused",):
            return self._idle(rep, hand=rep.hand, lag=lag)
        return self._remembering(ok._replace(lag=lag), change, doc)

    def _told(self, state: State, rep: Rep, ok: Rep, lost: Rep) -> Rep:
        """The replica whose commit was made, and which could not tidy up after it, or had to give it up."""
        generation = rep.step[1] if rep.step[0] == "laid" else NONE
        record = self.record(state)
        if generation == NONE or (self.world.store == "aws" and record is not None and record.generation < generation):
            return lost
        journal = self.decider.journals[ok.journal]
        if journal.memory is None:
            return ok
        known = journal._replace(memory=journal.memory._replace(generation=generation))
        return ok._replace(journal=self.decider.intern(known))

    def _lag_after_crash(self, rep: Rep, write: Write | None = None) -> Lag | tuple[()]:
        """What a process believes is lost with it; what the store still shows is not."""
        lag = rep.lag if self.world.store == "aws" else ()
        if write is not None:
            lag = lagged(lag, write.part, own=True)
        return lag._replace(newer=0) if lag else ()

    def _remembering(self, rep: Rep, change: tuple[Any, ...], doc: int) -> Rep:
        """The outcome of a promotion tells the journal the new generation."""
        journal, record = self.decider.journals[rep.journal], self.docs.docs[doc][0]
        if change[0] not in ("promote", "adopt") or journal.memory is None or record is None:
            return rep
        known = journal._replace(memory=journal.memory._replace(generation=record.generation))
        return rep._replace(journal=self.decider.intern(known))

    def _blocked(self, state: State, plan: tuple[Any, ...]) -> tuple[Any, ...]:
        """The action that is not tried again at once. It matters where something else could be done meanwhile."""
        if plan[:1] in ORPHANS:
            return plan
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

    def _aged_by(self, rep: Rep, write: Write) -> Rep:
        return self._aged_sight(rep, write.means[1]) if write.means[0] in ("promote", "adopt", "announce") else rep

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
        _, attempt, failed, lost = rep.plan
        ok = self._idle(rep, hand=NONE if rep.hand == attempt else rep.hand, barren=NONE, journal=self._failed(rep.journal, failed))
        yield from self._commit(state, r, rep, ("close", attempt, lost), ok)

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

    def _do_mint(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        _, attempt, replaces = rep.plan
        faults = self.world.faults
        if service_of(state.service, attempt) != UNBORN:
            kept = rep._replace(plan=("hand", attempt, replaces), hand=NONE, fresh=False, tfresh=0)
            yield ("takes the key that it kept", r, attempt), 0, self.with_rep(state, r, kept)
            return
        born = state._replace(service=with_service(state.service, attempt, LIVES))
        used = rep._replace(hand=NONE, fresh=False, tfresh=0)
        yield ("mints", r, attempt), 0, self.with_rep(born, r, used._replace(plan=("hand", attempt, replaces)))
        if "bad" in faults:
            bad = state._replace(service=with_service(state.service, attempt, BAD))
            yield ("mints a bad key", r, attempt), 1, self.with_rep(bad, r, used._replace(plan=("hand", attempt, replaces)))
        if "fail" in faults:
            yield ("mint is refused", r), 1, self.with_rep(state, r, self._idle(rep, hand=NONE, barren=attempt))
            yield ("mint fails", r), 1, self.with_rep(state, r, self._idle(rep, blocked=self._blocked(state, ("mint", attempt))))
        unheard = self._idle(rep, hand=NONE)
        if "lost" in faults:
            yield ("mint's answer lost", r, attempt), 1, self.with_rep(born, r, unheard)
        if "crash" in faults:
            yield ("crash after mint", r, attempt), 1, self.with_rep(born, r, Rep(rep.journal))
        if "late" in faults:
            yield ("mint will be late", r, attempt), 1, self.with_rep(self._haunted(state, ("mint", attempt)), r, unheard)

    def _do_hand(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        """A key in hand: read the store again, and stage it only under its own attempt. It is never revoked from here (L14)."""
        _, attempt, replaces = rep.plan
        record = self.docs.docs[state.doc][0]
        if record is None or any(k.attempt == sym.attempt_id(attempt) for k in record.keys):
            yield ("finds it staged", r), 0, self.with_rep(state, r, self._idle(rep))
        elif record.attempt is not None and (attempt_number(record.attempt.id) == attempt or "no-attempt-id" in self.world.actor):
            seen = state.doc if self.world.blind else NONE
            yield ("will stage", r), 0, self.with_rep(state, r, rep._replace(plan=("stage", attempt, replaces), fresh=True, seen=seen))
        else:
            yield ("drops the key", r, attempt), 0, self.with_rep(state, r, self._idle(rep))

    def _do_stage(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        _, attempt, replaces = rep.plan
        again = self._idle(rep, plan=("hand", attempt, replaces))
        if "revoke-in-hand" in self.world.actor and rep.fresh:
            again = self._idle(rep, plan=("revoke-hand", attempt), seen=rep.seen)
        for label, cost, after in self._commit(state, r, rep, ("stage", attempt, replaces), self._idle(rep), lost=again):
            left = self.rep(after, r)
            if label[0] == "fails" and left.plan[0] == "hand":
                blocked = self._blocked(state, ("mint", attempt))
                yield label, cost, self.with_rep(after, r, self._idle(left, hand=attempt, blocked=blocked))
            elif label[0] == "illegal" and left.plan[0] == "hand":
                yield label, cost, self.with_rep(after, r, self._idle(left))
            else:
                yield label, cost, after

    def _do_revoke_hand(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        yield ("revokes the key in hand", r), 0, self.with_rep(self._revoked(state, rep.plan[1]), r, self._idle(rep))

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
        yield ("revokes", r, key), 0, self.with_rep(revoked, r, ok)
        if HOLLOW in faults:
            yield ("revoke has no effect", r, key), 1, self.with_rep(state, r, ok)
        if "fail" in faults:
            yield ("revoke fails", r, key), 1, self.with_rep(state, r, lost._replace(blocked=self._blocked(state, rep.plan)))
        if "lost" in faults:
            yield ("revoke's answer lost", r, key), 1, self.with_rep(revoked, r, lost)
        if "crash" in faults:
            yield ("crash after revoke", r, key), 1, self.with_rep(revoked, r, Rep(rep.journal))
        if "late" in faults:
            yield ("revoke will be late", r, key), 1, self.with_rep(self._haunted(state, ("revoke", key)), r, lost)

    def _do_deliver(self, state: State, r: int, rep: Rep) -> Iterator[Move]:
        _, key, generation, names, action = rep.plan
        n, rest = names[0], names[1:]
        after = rep._replace(plan=("deliver", key, generation, rest, action)) if rest else self._idle(rep)
        target = self.targets.items[state.targets][n]
        faults = self.world.faults
        if target.away:
            yield ("target is away", r, n), 0, self.with_rep(state, r, after._replace(blocked=() if rest else self._blocked(state, action)))
            return
        if not self._takes(state, n, generation, rep.tfresh >> n & 1):
            yield ("target refuses", r, n), 0, self.with_rep(state, r, after)
            return
        delivered = self._delivered(state, n, key, generation, r)
        yield ("delivers", r, n, key), 0, self.with_rep(delivered, r, after)
        if "fail" in faults:
            yield ("delivery fails", r, n), 1, self.with_rep(state, r, after._replace(blocked=() if rest else self._blocked(state, action)))
        if "crash" in faults and rest:
            yield ("crash after delivery", r, n), 1, self.with_rep(delivered, r, Rep(rep.journal))
        if "late" in faults:
            ghost = ("deliver", n, key, generation, True)
            yield ("delivery will be late", r, n), 1, self.with_rep(self._haunted(state, ghost), r, after)
