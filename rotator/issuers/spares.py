"""Keys that people brought, in one document of a store: a pool, or what was handed in for one credential.

A take is a reservation by compare-and-set that names the attempt. From then on the spare is that attempt's for good: handed out to it
again if it asks again, listed until its key stands in its credential's record, and never given to anybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from rotator.domain.errors import AnswerLost, Conflict, IllegalTransition, NeedsHuman, Refused, Unreachable
from rotator.domain.keys import KeyId
from rotator.domain.ports import Clock, Holding, ListedKey, Store
from rotator.domain.reasons import Reason
from rotator.domain.record import AddSpare, Change, DropSpare, Record, ReserveSpare, Spare
from rotator.domain.secret import Secret

__all__ = ["SpareBox", "Taken"]

_TRIES = 50
"""lost races with siblings; each loss is a success of somebody else"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A spare that was handed out, with its secret."""

    spare: Spare
    secret: Secret


@dataclass(slots=True)
class SpareBox:
    """The spares at one path of a store. Safe from any thread, and beside other processes."""

    name: str
    """in messages, such as `pool spares`"""
    store: Store
    path: str
    installation: str
    clock: Clock
    on_read: Callable[[Holding], None] = lambda _holding: None
    """told of everything that is read or written"""

    def read(self) -> Holding:
        """What there is. Raises `Unreachable`, and `NeedsHuman` for spares of another installation (L1)."""
        holding = self.store.read(self.path)
        record = holding.record
        if record is not None and record.installation != self.installation:
            raise NeedsHuman(
                f"{self.name}: what lies at {self.path} belongs to installation {record.installation!r}, this one is "
                f"{self.installation!r}: a copy's keys are the original's, so name a path of its own",
                reason=Reason.OWNED_BY_ANOTHER,
            )
        self.on_read(holding)
        return holding

    def take(self, label: str, choose: Callable[[Holding], Spare]) -> Taken:
        """The spare that is reserved under this label, else the one that `choose` picks among the free ones, reserved now.

        `choose` raises where none fits. Raises `AnswerLost` where it may have been reserved, `Unreachable` where it surely was not.
        """
        unsure = False
        for _ in range(_TRIES):
            holding = self._read_again(unsure=unsure)
            unsure = False
            spare = _find_reserved(holding.record, label) or choose(holding)
            if spare.label == label:
                return Taken(spare, holding.secrets[spare.key_id])
            try:
                self._commit(holding, ReserveSpare(spare.key_id, label, self.clock.now()))
            except AnswerLost:
                unsure = True
            except (Conflict, IllegalTransition):
                continue
            else:
                return Taken(replace(spare, label=label), holding.secrets[spare.key_id])
        kind = AnswerLost if unsure else Conflict
        raise kind(f"{self.name}: it changes faster than a spare can be taken: try again")

    def add(self, secret: Secret, by: str, project: str | None) -> None:
        """Lay a key down. Raises `Refused` where it is there already; a lost answer is looked after."""
        spare = Spare(secret.key_id, self.clock.now(), by, project)
        written = False
        for _ in range(_TRIES):
            holding = self._read_again(unsure=written)
            known = holding.record.find_spare(secret.key_id) if holding.record else None
            if known is not None and written and (known.added_at, known.by) == (spare.added_at, by):
                return
            if known is not None:
                raise Refused(f"key {secret.key_id} is in {self.name} already", reason=Reason.ALREADY_KNOWN)
            try:
                self._commit(holding, AddSpare(spare, secret, uuid4().hex, self.installation))
            except AnswerLost:
                written = True
            except Conflict:
                continue
            else:
                return
        raise Conflict(f"{self.name}: it changes faster than a key can be added: try again")

    def find_secret(self, key_id: KeyId) -> Secret | None:
        """The secret of a spare, reserved or not."""
        holding = self.read()
        return holding.secrets[key_id] if holding.record is not None and holding.record.find_spare(key_id) is not None else None

    def strike(self, key_id: KeyId, label: str) -> Secret:
        """Reserve this spare under a label that is no attempt's."""

        def choose(holding: Holding) -> Spare:
            spare = holding.record.find_spare(key_id) if holding.record is not None else None
            if spare is None:
                raise Refused(f"{self.name} holds no key {key_id}")
            if spare.label is not None:
                raise Refused(f"key {key_id} is just being taken out of {self.name}: try again in a minute")
            return spare

        return self.take(label, choose).secret

    def list_labelled(self, prefix: str) -> Sequence[ListedKey]:
        """What was taken under such a label and is not settled, with the secrets."""
        holding = self.read()
        return [
            ListedKey(spare.key_id, spare.label, None, revoked=False, secret=holding.secrets[spare.key_id])
            for spare in (holding.record.spares if holding.record else ())
            if spare.label is not None and spare.label.startswith(prefix)
        ]

    def settle(self, label: str, before: Callable[[Holding, Spare], Change | None] = lambda _holding, _spare: None) -> None:
        """Drop the spare that was taken under this label. `before`: what must be committed first, if anything."""
        for _ in range(_TRIES):
            holding = self.read()
            spare = _find_reserved(holding.record, label)
            if spare is None:
                return
            try:
                self._commit(holding, before(holding, spare) or DropSpare(spare.key_id))
            except (Conflict, AnswerLost):
                continue
        raise Conflict(f"{self.name}: it changes faster than a spare can be dropped: try again")

    def lay_in(self, holding: Holding, key_id: KeyId, by: str) -> None:
        """Make a spare of a key that a person wrote to the path itself. A lost race or answer is for the next read to show."""
        spare = Spare(key_id, holding.current_since or self.clock.now(), by)
        try:
            self._commit(holding, AddSpare(spare, holding.secrets[key_id], uuid4().hex, self.installation))
        except (Conflict, AnswerLost):
            return

    def _commit(self, seen: Holding, change: Change) -> None:
        self.on_read(self.store.commit(self.path, seen, change))

    def _read_again(self, *, unsure: bool) -> Holding:
        try:
            return self.read()
        except AnswerLost:
            raise
        except Unreachable as problem:
            if unsure:
                raise AnswerLost(f"{self.name}: it may have been written, and cannot be looked at: {problem}") from problem
            raise


def _find_reserved(record: Record | None, label: str) -> Spare | None:
    return next((spare for spare in record.spares if spare.label == label), None) if record is not None else None
