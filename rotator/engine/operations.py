"""What operators ask for: each is one small change of facts, after which the engine goes on by itself (level-triggered).

Every operation holds the credential between two steps, looks afresh, and wakes the engine. Errors say what to do instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from rotator.domain import decisions as do
from rotator.domain import record as store
from rotator.domain.credential import Credential
from rotator.domain.decisions import Decision
from rotator.domain.errors import Conflict, NeedsHuman, Refused, RotatorError, Unreachable
from rotator.domain.facts import Memory, Rotation
from rotator.domain.keys import KeyId
from rotator.domain.ports import Delivery, Event, SaveMemory, SavePlacement, SaveRotation, SaveView
from rotator.domain.reasons import Reason
from rotator.domain.record import Stage
from rotator.domain.rotation import is_promoted
from rotator.domain.secret import Secret
from rotator.domain.standing import guard
from rotator.engine.engine import Engine
from rotator.engine.look import Look
from rotator.engine.runner import decide
from rotator.engine.striking import find_keeper, strike
from rotator.engine.view import build_view
from rotator.engine.work import new_id

_TRIES = 20


class UnknownCredential(RotatorError):
    """No credential of that name is configured."""

    exit_code = 2


class UnknownTarget(RotatorError):
    """No target of that name is configured."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an operation did."""

    credential: str
    text: str
    rotation: str | None = None
    key_id: KeyId | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen now and next."""

    look: Look
    decisions: tuple[tuple[KeyId | None, Decision], ...]
    at: datetime
    changes: Mapping[str, str] = field(default_factory=dict)
    """target that lacks the current key → what bringing it there would change, as a masked diff, or why it cannot be brought there"""


class Operations:
    """The operators' verbs, over a running engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def rotate(self, name: str, *, emergency: bool, who: str) -> Accepted:
        """Open a rotation now, or make the open one urgent."""
        credential = self._get(name)
        _refuse_unless_rotatable(credential)
        with self.engine.runner.hold(name):
            look = self._settled_look(credential)
            rotation = look.facts.rotation
            reason = Reason.EMERGENCY if emergency else Reason.ON_DEMAND
            if rotation is not None and not is_promoted(look.facts, rotation):
                if rotation.abandon:
                    raise Refused(f"{name}'s open rotation is being given up: rotate again in a moment")
                upgraded = replace(rotation, emergency=rotation.emergency or emergency, retry_at=None)
                if emergency:
                    upgraded = replace(upgraded, failures=0)
                    self.engine.mind.preflight.pop(name, None)
                    self.engine.runner.unblock(name)
                self._write(name, SaveRotation(upgraded), self._note("rotate", who, reason, rotation.id))
                text = "a rotation is open already" + (" and is urgent now" if emergency else "")
                return self._woken(look, Accepted(name, text, rotation.id), emergency=emergency)
            if rotation is not None:
                self.engine.runner.take(look, do.CloseRotation(Reason.SUPERSEDED))
            rotation = self._open(look, reason, emergency=emergency, candidate=None, who=who)
            return self._woken(look, Accepted(name, "rotation opened", rotation.id, rotation.replaces), emergency=emergency)

    def leak(self, *, secret: Secret | None, key_id: KeyId | None, who: str) -> Sequence[Accepted]:
        """Accept a leak report: acknowledged when the key is marked compromised in the store's record (L23, L24)."""
        wanted = secret.key_id if secret is not None else key_id
        assert wanted is not None
        credentials = [c for c in self.engine.credentials.values() if c.policy.kind is wanted.kind]
        held, unread = [], []
        for credential in credentials:
            try:
                if self._holds(credential, wanted, secret):
                    held.append(credential)
            except RotatorError as problem:  # a store that is away must not hold back the report of a key in another one
                unread.append(f"{credential.name}: {problem}")
        if held:
            return self._mark_all(held, wanted, who)
        keeper = find_keeper(self.engine, wanted, secret)
        if keeper is not None:
            return [self._strike(keeper, wanted, who, leaked=True)]
        if unread:
            raise Unreachable(
                f"no store that answers holds key {wanted}, and it could not be looked for in {len(unread)} of them: report it again when "
                f"they answer ({unread[0]})",
                reason=Reason.STORE_UNREACHABLE,
            )
        raise Refused(f"no credential holds key {wanted}: if it is one of yours, revoke it in the dashboard")

    def strike(self, issuer: str, key_id: KeyId, who: str) -> Accepted:
        """Take a key that people brought out of what may be given out, and see to its end."""
        keeper = find_keeper(self.engine, key_id, None)
        if keeper is None or keeper.issuer_name != issuer:
            raise Refused(f"{issuer} holds no spare {key_id}: `rotator pool list` shows what it holds")
        return self._strike(keeper, key_id, who, leaked=False)

    def _strike(self, keeper: Credential, key_id: KeyId, who: str, *, leaked: bool) -> Accepted:
        with self.engine.runner.hold(keeper.name):
            strike(self.engine, keeper, key_id, leaked=leaked)
            reason = Reason.COMPROMISED if leaked else None
            self._write(keeper.name, self._note("leak" if leaked else "strike", who, reason, None, key_id))
            text = f"spare {key_id} is struck off {keeper.issuer_name}, nobody gets it: {keeper.name} sees to its end"
            return self._woken(self.engine.runner.look(keeper), Accepted(keeper.name, text, key_id=key_id), emergency=leaked)

    def _mark_all(self, holders: Sequence[Credential], key_id: KeyId, who: str) -> Sequence[Accepted]:
        """Every holder that can be marked is; raises only where none could be."""
        accepted: list[Accepted] = []
        refused: list[RotatorError] = []
        for credential in holders:
            try:
                accepted.append(self._mark(credential, key_id, who))
            except RotatorError as problem:
                refused.append(problem)
        if not accepted:
            raise refused[0]
        return [replace(a, text="; ".join([a.text, *(f"not marked: {p}" for p in refused)])) for a in accepted]

    def sync(self, name: str, who: str) -> Accepted:
        """Bring targets to the current key without rotating."""
        return self.retry(name, who, action="sync", text="looking at its targets now")

    def retry(self, name: str, who: str, *, action: str = "retry", text: str = "looking again now") -> Accepted:
        """Look again at once at what is parked or waits after a failure (L27)."""
        credential = self._get(name)
        with self.engine.runner.hold(name):
            self.engine.runner.unblock(name)
            self.engine.mind.preflight.pop(name, None)
            look = self.engine.runner.look(credential)
            rotation = look.facts.rotation
            waiting = [SavePlacement(replace(p, failures=0, retry_at=None)) for p in look.placements if p.retry_at is not None]
            self.engine.journal.commit(name, *waiting)
            if rotation is not None and action == "retry":
                self._write(name, SaveRotation(replace(rotation, failures=0, retry_at=None, lost_mints=0)))
            if look.facts.record is not None and look.facts.record.lost and action == "retry":
                credential.store.commit(credential.path, look.holding, store.ClearLost())
            self._write(name, self._note(action, who, None, rotation.id if rotation else None))
            return self._woken(look, Accepted(name, text, rotation.id if rotation else None))

    def abandon(self, name: str, who: str) -> Accepted:
        """Give the open rotation up; before promotion only (L4)."""
        credential = self._get(name)
        with self.engine.runner.hold(name):
            look = self.engine.runner.look(credential)
            rotation = look.facts.rotation
            if rotation is None:
                raise Refused(f"{name} has no open rotation: there is nothing to abandon")
            if is_promoted(look.facts, rotation):
                raise Refused(f"{name}'s new key is promoted already: `rotator rollback {name}` brings the former key back while it lives")
            self._write(name, SaveRotation(replace(rotation, abandon=True)), self._note("abandon", who, Reason.ABANDONED, rotation.id))
            return self._woken(look, Accepted(name, "the open rotation is given up", rotation.id))

    def rollback(self, name: str, who: str) -> Accepted:
        """Promote the newest retiring key that is not doomed, under a new generation (L28)."""
        credential = self._get(name)
        _refuse_unless_writable(credential)
        with self.engine.runner.hold(name):
            look = self._settled_look(credential)
            record, rotation = look.facts.record, look.facts.rotation
            living = [k for k in (record.retiring if record else ()) if k.generation > 0 and not k.doomed_at and not k.compromised_at]
            if not living:
                raise Refused(f"{name} has no retiring key left that may become current again", reason=Reason.CANNOT_ROLL_BACK)
            if rotation is not None and not is_promoted(look.facts, rotation):
                raise Refused(f"{name} has an open rotation that is not promoted: `rotator abandon {name}` first")
            if rotation is not None:
                self.engine.runner.take(look, do.CloseRotation(Reason.SUPERSEDED))
            candidate = max(living, key=lambda k: k.generation).key_id
            opened = self._open(look, Reason.ROLLBACK, emergency=False, candidate=candidate, who=who)
            return self._woken(look, Accepted(name, f"rolling back to key {candidate}", opened.id, candidate))

    def adopt(self, name: str, who: str) -> Accepted:
        """Accept what the store holds: after a lost journal, a moved path, a restored or emptied store."""
        credential = self._get(name)
        with self.engine.runner.hold(name):
            for _ in range(_TRIES):
                look = self._readable_look(credential)
                try:
                    text = self._adopt(look, who)
                except Conflict:
                    continue
                return self._woken(look, Accepted(name, text))
        raise Conflict(f"{name}: the store changes faster than it can be accepted; try again")

    def plan(self, name: str) -> Plan:
        """What would happen now and next; changes nothing."""
        credential = self._get(name)
        with self.engine.runner.hold(name):
            look = self.engine.runner.look(credential)
        now = self.engine.clock.now()
        return Plan(look, decide(look, now), now, _preview(look))

    def withdraw(self, target: str, name: str, who: str) -> Accepted:
        """Take a credential's key out of a target that it no longer uses, as far as it is what was written there."""
        port = self.engine.targets.get(target)
        if port is None:
            raise UnknownTarget(
                f"no target is called {target!r}; configured: {', '.join(sorted(self.engine.targets)) or 'none'}",
                reason=Reason.MISCONFIGURED,
            )
        with self.engine.runner.hold(name):
            credential = self.engine.find_credential(name)
            if credential is not None and any(bound.name == target for bound in credential.targets):
                raise Refused(f"{name} still uses {target}, and it would be written again: take it out of credentials.{name}.targets first")
            if not port.withdraw(name):
                return Accepted(name, f"{target} holds nothing that was written for {name}")
            self._write(name, self._note("withdraw", f"{who}, out of {target}", None, None))
        return Accepted(name, f"taken out of {target}")

    def _adopt(self, look: Look, who: str) -> str:
        facts, credential = look.facts, look.credential
        record, memory = facts.record, facts.memory
        blocked = guard(facts, self.engine.clock.now())
        unseen = memory is None and record is not None and record.generation > 0
        if blocked is None and not unseen and (memory is None or not memory.recovered):
            return "there was nothing to accept"
        if memory is not None and memory.place != facts.place and facts.retirements:
            raise NeedsHuman(
                f"{credential.name} has retirements open at {memory.place}: configure that place until they have ended (`rotator status`)",
                reason=Reason.MOVED,
            )
        if blocked is not None:
            seen = max(
                [record.generation if record else 0, memory.generation if memory else 0, *(t.generation or 0 for t in facts.targets)]
            )
            uid = record.uid if record else memory.uid if memory else new_id()
            if credential.read_only:  # nothing is written there: the journal takes the key that it finds next
                record = store.Record(uid, facts.policy.installation, seen, vacant=True)
            else:
                claim = store.Claim(facts.policy.installation, seen + 1, uid, self.engine.clock.now(), emptied=facts.current is None)
                record = credential.store.commit(credential.path, look.holding, claim).record
        assert record is not None
        accepted = Memory(uid=record.uid, generation=record.generation, place=facts.place, recovered=False)
        reason = blocked.reason if isinstance(blocked, do.Park | do.Wait) else Reason.RECOVERED
        self._write(credential.name, SaveMemory(accepted), self._note("adopt", who, reason, None))
        if credential.read_only:
            return "the key that the store holds is verified and taken next"
        if record.vacant:
            return "the empty store is accepted: a new key will be minted; keys that it held before live on until you revoke them"
        return f"what the store holds is accepted as generation {record.generation}"

    def _mark(self, credential: Credential, key_id: KeyId, who: str) -> Accepted:
        name = credential.name
        _refuse_unless_writable(credential)
        with self.engine.runner.hold(name):
            for _ in range(_TRIES):
                look = self._readable_look(credential)
                try:
                    credential.store.commit(credential.path, look.holding, store.MarkCompromised(key_id, self.engine.clock.now()))
                except Conflict:
                    continue
                self.engine.runner.unblock(name)
                self.engine.mind.preflight.pop(name, None)
                self._make_urgent(credential)
                entry = look.facts.record.find(key_id) if look.facts.record else None
                stage = entry.stage if entry else Stage.CURRENT
                self._write(name, self._note("leak", who, Reason.COMPROMISED, None, key_id))
                text = f"key {key_id} ({stage}) is marked compromised"
                return self._woken(look, Accepted(name, text, key_id=key_id), emergency=True)
        raise Unreachable(f"marking key {key_id} of {name}: the store changes too fast; report it again")

    def _make_urgent(self, credential: Credential) -> None:
        """Written down before the report is acknowledged: a restart goes on with it before everything else (L25)."""
        look, now = self.engine.runner.look(credential), self.engine.clock.now()
        rotation = look.facts.rotation
        view = replace(build_view(look, decide(look, now), (), now, self.engine.runner.observer.timing), due_at=now)
        self.engine.journal.commit(credential.name, SaveView(view))
        if rotation is not None and (rotation.failures or rotation.retry_at is not None):
            self._write(credential.name, SaveRotation(replace(rotation, failures=0, retry_at=None)))

    def _holds(self, credential: Credential, key_id: KeyId, secret: Secret | None) -> bool:
        holding = credential.store.read(credential.path)
        held = holding.secrets.get(key_id)
        if held is None:
            return False
        return secret is None or held.same_as(secret)

    def _open(self, look: Look, reason: Reason, *, emergency: bool, candidate: KeyId | None, who: str) -> Rotation:
        current = look.facts.record.current if look.facts.record else None
        rotation = Rotation(
            id=new_id(),
            reason=reason,
            opened_at=self.engine.clock.now(),
            replaces=current.key_id if current else None,
            candidate=candidate,
            emergency=emergency,
        )
        self._write(look.credential.name, SaveRotation(rotation), self._note("open", who, reason, rotation.id, rotation.replaces))
        return rotation

    def _settled_look(self, credential: Credential) -> Look:
        """A look on which a rotation may be opened: the store answers and is ours."""
        look = self._readable_look(credential)
        blocked = guard(look.facts, self.engine.clock.now())
        if isinstance(blocked, do.Park):
            raise NeedsHuman(f"{credential.name} is parked ({blocked.reason}): {blocked.needs}", reason=blocked.reason)
        return look

    def _readable_look(self, credential: Credential) -> Look:
        look = self.engine.runner.look(credential)
        if not look.facts.readable:
            raise Unreachable(f"the store of {credential.name} does not answer: {look.error}", reason=Reason.STORE_UNREACHABLE)
        return look

    def _woken(self, look: Look, accepted: Accepted, *, emergency: bool = False) -> Accepted:
        self.engine.wake(look.credential.name, "emergency" if emergency else "never-synced")
        return accepted

    def _write(self, name: str, *lines: SaveRotation | SaveMemory | Event) -> None:
        self.engine.journal.commit(name, *lines)

    def _note(self, action: str, who: str, reason: Reason | None, process: str | None, key_id: KeyId | None = None) -> Event:
        return Event(self.engine.clock.now(), "note", action, reason, process=process, key_id=key_id, text=f"by {who}")

    def _get(self, name: str) -> Credential:
        credential = self.engine.find_credential(name)
        if credential is None:
            known = ", ".join(sorted(self.engine.credentials)) or "none"
            raise UnknownCredential(f"no credential is called {name!r}; configured: {known}", reason=Reason.MISCONFIGURED)
        return credential


def _preview(look: Look) -> Mapping[str, str]:
    record = look.facts.record
    current = record.current if record is not None else None
    secret = look.secret(current.key_id) if current is not None else None
    if record is None or current is None or secret is None:
        return {}
    held = {fact.name: fact.key_id for fact in look.facts.targets}
    ours = frozenset(key.key_id for key in record.keys)
    endpoint = look.credential.prober.endpoint(look.credential.policy.kind)
    delivery = Delivery(look.credential.name, secret, current.generation, endpoint, ours)
    changes = {}
    for bound in look.credential.targets:
        if held.get(bound.name) != current.key_id:
            try:
                changes[bound.name] = bound.target.preview(delivery)
            except RotatorError as problem:
                changes[bound.name] = str(problem)
    return changes


def _refuse_unless_writable(credential: Credential) -> None:
    if credential.read_only:
        raise Refused(f"{credential.name} is read-only: rotator never writes to its store; change the key where it is kept")


def _refuse_unless_rotatable(credential: Credential) -> None:
    _refuse_unless_writable(credential)
    if not credential.policy.can_mint:
        raise Refused(f"{credential.name} has no issuer that can mint: write a new key into its store", reason=Reason.NO_ISSUER)
