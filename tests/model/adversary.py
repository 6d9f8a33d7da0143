"""What happens without a replica's doing: crashes, effects that come late, and the events that a world allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rotator.domain.record import Stage
from tests.model.effects import Effects
from tests.model.journal import SEEN_SINCE, Journal, Mem, Rot
from tests.model.parts import Move
from tests.model.stores import PLACE, RECORD, Lag
from tests.model.symbols import FIRST, KEYS, NONE, OUTSIDER, number
from tests.model.world import ACCEPTED, EVENTS, GONE, LIVES, REVOKED, STALE, UNBORN, Rep, State, service_of, with_service


class Model(Effects):
    """A world that can be walked: its replicas, and everything else that moves."""

    def moves(self, state: State) -> Iterator[Move]:
        """Every next state."""
        for r in range(len(state.reps)):
            yield from self.replica(state, r)
        yield from self.weather(state)

    def weather(self, state: State) -> Iterator[Move]:
        """What happens to the replicas."""
        if "crash" in self.world.faults:
            for r in range(len(state.reps)):
                rep = self.rep(state, r)
                if rep.plan or rep.hand != NONE:
                    journal = self._never_opened(rep.journal) if rep.plan[:1] == ("open",) else rep.journal
                    yield ("crash", r), 1, self.with_rep(state, r, Rep(journal, lag=self._lag_after_crash(rep)))
        yield from self._reads(state)
        yield from self._late(state)
        yield from self._events(state)

    def _reads(self, state: State) -> Iterator[Move]:
        """A replica's reads come to lag, or do not any more; or it has read the record, and not yet the place."""
        reps = [self.rep(state, r) for r in range(len(state.reps))]
        for r, rep in enumerate(reps):
            writers = self.world.torn and any(other.fresh or other.step for n, other in enumerate(reps) if n != r)
            if rep.lag and self.world.store == "aws":
                yield ("catches up", r), 0, self.with_rep(state, r, rep._replace(lag=()))
            elif not rep.lag and STALE in self.world.faults:
                yield ("lags from now", r), 1, self.with_rep(state, r, rep._replace(lag=Lag(state.store)))
            elif not rep.lag and rep.plan[:1] in ((), ("obs",)) and writers:
                yield ("reads the record", r), 0, self.with_rep(state, r, rep._replace(lag=Lag(state.store)))

    def _late(self, state: State) -> Iterator[Move]:
        ghosts = self.ghosts.items[state.ghosts]
        for n, ghost in enumerate(ghosts):
            rest = state._replace(ghosts=self.ghosts.intern((*ghosts[:n], *ghosts[n + 1 :])))
            kind, args = ghost[0], ghost[1:]
            after = rest
            if kind == "mint":
                after = rest._replace(service=with_service(rest.service, args[0], LIVES))
            elif kind == "revoke":
                after = self._revoked(rest, args[0])
            elif kind == "deliver":
                target, key, generation, fresh = args
                if self._takes(rest, target, generation, fresh):
                    after = self._delivered(rest, target, key, generation)
            else:  # a write whose part of the store is still as it was seen
                _, means, part, op, behind = args
                after = self._written(rest, self.store.after(rest.store, op, behind), means, part=part)
            yield ("comes late", *ghost), 0, after

    def _events(self, state: State) -> Iterator[Move]:
        extra = self.extra(state)
        for n, name in enumerate(EVENTS):
            if extra.left[n]:
                left = (*extra.left[:n], extra.left[n] - 1, *extra.left[n + 1 :])
                spent = state._replace(extra=self.extras.intern(extra._replace(left=left)))
                for text, after in getattr(self, "_on_" + name.replace("-", "_"))(spent):
                    yield (name, text), 0, after
        for n, target in enumerate(self.targets.items[state.targets]):
            if target.away:
                yield ("comes back", n), 0, self._target_changed(state, n, target._replace(away=False))

    def _extra_of(self, state: State, **changes: int) -> State:
        extra = self.extra(state)._replace(**changes)  # type: ignore[arg-type]
        return state._replace(extra=self.extras.intern(extra))

    def _mintable(self, state: State) -> State:
        return self._extra_of(state, used=self.extra(state).used + 1)

    def _on_due(self, state: State) -> Iterator[tuple[str, State]]:
        record = self.record(state)
        current = record.current if record is not None else None
        if current is not None and self.extra(state).due != number(current.key_id):
            yield "", self._extra_of(self._mintable(state), due=number(current.key_id))

    def _on_leak(self, state: State) -> Iterator[tuple[str, State]]:
        """A leak becomes known and its report is accepted: only then is it acknowledged (L23)."""
        record = self.record(state)
        for entry in record.keys if record is not None else ():
            key = number(entry.key_id)
            if entry.compromised_at is not None:
                continue
            leaked = self._extra_of(self._mintable(state), leaked=self.extra(state).leaked | 1 << key)
            if "leak-unmarked" in self.world.actor:
                yield f"{key}", self._told_only(leaked, key, entry.stage)
                continue
            yield f"{key}", self._committed(leaked, ("mark", key))

    def _committed(self, state: State, change: tuple[Any, ...]) -> State:
        """A person's change, from its look to its end."""
        layout, part = self.store.commit_at_once(state.store, change)
        return self._written(state, layout, change, part=part)

    def _told_only(self, state: State, key: int, stage: Stage) -> State:
        """Planted: the leak is remembered by the journals alone."""
        for r in range(len(state.reps)):
            rep = self.rep(state, r)
            journal = self.decider.journals[rep.journal]
            if stage is Stage.CURRENT and journal.rotation is None:
                journal = journal._replace(rotation=Rot(key, emergency=True))
            state = self.with_rep(state, r, rep._replace(journal=self.decider.intern(journal)))
        return state

    def _on_outsider(self, state: State) -> Iterator[tuple[str, State]]:
        """Someone writes a key into the store's place and leaves the record: one of his own that works, or does not, or one of ours."""
        current = self.docs.docs[state.doc][1]
        if current == KEYS[OUTSIDER]:
            return
        for works in (True, False) if service_of(state.service, OUTSIDER) == UNBORN else ():
            service = with_service(state.service, OUTSIDER, LIVES if works else GONE)
            changed = self._mintable(state)._replace(service=service)
            yield "works" if works else "dead", self._put_by_hand(changed, OUTSIDER)
        if self._revoking(state) or self.extra(state).left[EVENTS.index("outsider")]:
            return  # nobody can tell that one of ours was there, if he writes once more before anyone looks
        for key in range(OUTSIDER + 1):
            if service_of(state.service, key) == LIVES and KEYS[key] != current:
                yield f"key {key}", self._put_by_hand(self._mintable(state), key)

    def _put_by_hand(self, state: State, key: int) -> State:
        layout, part = self.store.put(state.store, key)
        return self._written(state, layout, ("outsider",), part=part)

    def _on_overwrite(self, state: State) -> Iterator[tuple[str, State]]:
        service = with_service(state.service, OUTSIDER, LIVES)
        wiped = self._extra_of(state._replace(service=service), wiped=1)
        yield "", self._written(wiped, self.store.wipe(wiped.store, OUTSIDER), ("overwrite",))

    def _on_delete(self, state: State) -> Iterator[tuple[str, State]]:
        """Someone deletes what consumers read, and leaves the record."""
        if self.docs.docs[state.doc][1] is not None:
            deleted = self._extra_of(self._mintable(state), emptied=True)
            yield "", self._written(deleted, self.store.delete(state.store), ("delete",), part=PLACE)

    def _on_backup(self, state: State) -> Iterator[tuple[str, State]]:
        if self.extra(state).backup != state.store:
            yield "", self._extra_of(state, backup=state.store)

    def _on_restore(self, state: State) -> Iterator[tuple[str, State]]:
        backup = self.extra(state).backup
        if backup != state.store and not self._revoking(state):
            # Who took a key that the backup does not know has it from a store that is no more; nobody can tell.
            restored = self._written(self._extra_of(self._mintable(state), wiped=2), backup, ("restore",))
            yield "", restored._replace(readers=1 << number(self.docs.docs[restored.doc][1]))
            alone = self.store.restore_record(state.store, backup)
            if alone != state.store:
                yield "the record alone", self._written(self._extra_of(self._mintable(state), wiped=2), alone, ("restore",), part=RECORD)

    def _on_kill(self, state: State) -> Iterator[tuple[str, State]]:
        """A person ends the current key in the dashboard."""
        current = self.docs.docs[state.doc][1]
        key = number(current)
        if key != NONE and service_of(state.service, key) == LIVES and not self._revoking(state):
            yield f"{key}", state._replace(service=with_service(state.service, key, REVOKED))

    def _on_kill_early(self, state: State) -> Iterator[tuple[str, State]]:
        """The current key ends, for good, before anyone has seen it alive since it became current."""
        key = number(self.docs.docs[state.doc][1])
        journals = [self.decider.journals[self.rep(state, r).journal] for r in range(len(state.reps))]
        if key not in (NONE, FIRST) and not any(j.sight(key).alive == SEEN_SINCE for j in journals):
            yield f"{key}", state._replace(service=with_service(state.service, key, GONE))

    def _revoking(self, state: State) -> bool:
        """A look, or a revoke that was decided, is on its way: what happens after that look is nobody's fault."""
        plans = {self.rep(state, r).plan[:1] for r in range(len(state.reps))}
        on_the_way = {("obs",), ("revoke",), ("doom",), ("doom-orphan",), ("revoke-orphan",)}
        lags = any(self.rep(state, r).lag for r in range(len(state.reps)))
        return lags or bool(plans & on_the_way) or any(g[0] == "revoke" for g in self.ghosts.items[state.ghosts])

    def _on_by_hand(self, state: State) -> Iterator[tuple[str, State]]:
        """A person revokes what he was asked to revoke."""
        record = self.record(state)
        for entry in record.retiring if record is not None else ():
            key = number(entry.key_id)
            if service_of(state.service, key) == LIVES and entry.doomed_at is not None:
                yield f"{key}", state._replace(service=with_service(state.service, key, REVOKED))

    def _on_rollback(self, state: State) -> Iterator[tuple[str, State]]:
        record = self.record(state)
        if record is None or record.current is None:
            return
        living = [k for k in record.retiring if k.generation > 0 and not k.doomed_at and not k.compromised_at]
        for r in range(len(state.reps) if living else 0):
            rep = self.rep(state, r)
            journal = self.decider.journals[rep.journal]
            promoted = journal.rotation is None or journal.rotation.replaces != number(record.current.key_id)
            if rep.plan or not promoted or self._is_guarded(state, r):
                continue
            candidate = number(max(living, key=lambda k: k.generation).key_id)
            sights = tuple(s for s in journal.sights if s.key != candidate)
            opened = journal._replace(rotation=Rot(number(record.current.key_id), candidate), sights=sights)
            yield f"{candidate} by {r}", self.with_rep(self._mintable(state), r, rep._replace(journal=self.decider.intern(opened)))

    def _on_abandon(self, state: State) -> Iterator[tuple[str, State]]:
        record = self.record(state)
        current = number(record.current.key_id) if record is not None and record.current is not None else NONE
        for r in range(len(state.reps)):
            rep = self.rep(state, r)
            journal = self.decider.journals[rep.journal]
            if not rep.plan and journal.rotation is not None and journal.rotation.replaces == current and not journal.rotation.abandon:
                given_up = journal._replace(rotation=journal.rotation._replace(abandon=True))
                # What a sibling lays down meanwhile is given up as well.
                justified = self._extra_of(state, used=self.extra(state).used + 2 * len(state.reps) - 1)
                yield f"by {r}", self.with_rep(justified, r, rep._replace(journal=self.decider.intern(given_up)))

    def _is_guarded(self, state: State, r: int) -> bool:
        return self.choices(state, r).guarded

    def _on_accept(self, state: State) -> Iterator[tuple[str, State]]:
        """`rotator adopt`: a person accepts what the store holds."""
        for r in range(len(state.reps)):
            rep = self.rep(state, r)
            memory = self.decider.journals[rep.journal].memory
            if rep.plan:
                continue
            if self._is_guarded(state, r):
                yield f"by {r}", self._claimed(state, r)
            elif memory is not None and memory.recovered:
                yield f"by {r}", self._accepted(state, r, memory.generation)

    def _accepted(self, state: State, r: int, generation: int) -> State:
        rep = self.rep(state, r)
        journal = self.decider.journals[rep.journal]._replace(memory=Mem(generation))
        return self.with_rep(state, r, rep._replace(journal=self.decider.intern(journal)))

    def _claimed(self, state: State, r: int) -> State:
        record = self.record(state)
        memory = self.decider.journals[self.rep(state, r).journal].memory
        seen = [record.generation if record is not None else 0, memory.generation if memory is not None else 0]
        seen += [t.generation for t in self.targets.items[state.targets] if not t.away]
        change = ("claim", max(seen) + 1, self.docs.docs[state.doc][1] is None)
        accepted = self._extra_of(state, wiped=ACCEPTED if self.extra(state).wiped else 0, emptied=False)
        after = self._committed(accepted, change)
        return self._accepted(after, r, max(seen) + 1)

    def _on_back(self, state: State) -> Iterator[tuple[str, State]]:
        """A target goes back to an older key, while no revoke of that key is on its way."""
        record = self.record(state)
        if record is None or self._revoking(state):
            return
        for n, target in enumerate(self.targets.items[state.targets]):
            for entry in record.retiring:
                key = number(entry.key_id)
                if entry.generation and key != target.key and service_of(state.service, key) == LIVES and entry.doomed_at is None:
                    back = target._replace(key=key, generation=entry.generation, lag=0)
                    yield f"{n} to {key}", self._target_changed(state, n, back)

    def _on_away(self, state: State) -> Iterator[tuple[str, State]]:
        for n, target in enumerate(self.targets.items[state.targets]):
            if not target.away:
                yield f"{n}", self._target_changed(state, n, target._replace(away=True))

    def _on_lie(self, state: State) -> Iterator[tuple[str, State]]:
        for n, target in enumerate(self.targets.items[state.targets]):
            if not target.lies:
                yield f"{n}", self._target_changed(state, n, target._replace(lies=True))

    def _on_amnesia(self, state: State) -> Iterator[tuple[str, State]]:
        """A replica loses its journal, and so its process."""
        empty = self.decider.intern(Journal())
        for r in range(len(state.reps)):
            if self.rep(state, r).journal != empty:
                yield f"{r}", self.with_rep(self._mintable(state), r, Rep(empty))
