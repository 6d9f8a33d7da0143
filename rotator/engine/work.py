"""What a step may use, and what it answers."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from rotator.domain.credential import Credential
from rotator.domain.errors import NeedsHuman
from rotator.domain.facts import Rotation, Sightings
from rotator.domain.keys import KeyId
from rotator.domain.ports import Answer, Clock, Holding, Issuer, Journal, Line, MintOrder, SaveRotation, SaveSightings
from rotator.domain.reasons import Reason
from rotator.domain.record import Change, KeyEntry, Record
from rotator.domain.secret import Secret
from rotator.domain.timing import backoff
from rotator.engine.look import Look, Mind, Timing, find_sightings

Lines = tuple[Line, ...]


def new_id() -> str:
    """A random id: 64 bits, hexadecimal."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Work:
    """One step's surroundings: the look that it was decided on, and the ports."""

    look: Look
    journal: Journal
    clock: Clock
    mind: Mind
    timing: Timing
    issuers: Mapping[str, Issuer]
    """all that are configured, by name"""
    failed: list[str] = field(default_factory=list)
    """what went wrong without ending the step, in sentences"""
    changes: list[Change] = field(default_factory=list)
    """what was, or may have been, changed in the store: the look shows it no more"""

    @property
    def credential(self) -> Credential:
        return self.look.credential

    @property
    def record(self) -> Record:
        """The record that was looked at; a step that needs one is only decided where there is one."""
        assert self.look.facts.record is not None
        return self.look.facts.record

    @property
    def rotation(self) -> Rotation:
        """The open rotation; a step that needs one is only decided where there is one."""
        assert self.look.facts.rotation is not None
        return self.look.facts.rotation

    def now(self) -> datetime:
        return self.clock.now()

    def commit(self, change: Change) -> Holding:
        """One change to the store, on condition that nothing was written since the look."""
        self.changes.append(change)
        return self.credential.store.commit(self.credential.path, self.look.holding, change)

    def secret(self, key_id: KeyId) -> Secret | None:
        """The secret of one of this credential's keys, or of the witness lent by another."""
        own = self.look.secret(key_id)
        if own is not None:
            return own
        lent = self.mind.witnesses.get(self.credential.policy.kind)
        return lent[2] if lent is not None and lent[1] == key_id else None

    def label(self, attempt: str) -> str:
        """What the issuer gets to know a key by (L3)."""
        facts = self.look.facts
        uid = facts.record.uid if facts.record else facts.memory.uid if facts.memory else "new"
        return f"{facts.policy.installation}/{uid}/{attempt}"

    def order(self, attempt: str) -> MintOrder:
        """What a new key should be."""
        credential = self.credential
        return MintOrder(
            self.label(attempt), credential.policy.kind, credential.env, credential.project, credential.name, self._find_holder
        )

    def _find_holder(self, key_id: KeyId) -> str | None:
        record = self.look.facts.record
        if record is not None and (record.find(key_id) is not None or record.is_doomed(key_id)):
            return self.credential.name
        return next(iter(self.journal.find_holders(key_id, any_stage=True)), None)

    def issuer_of(self, entry: KeyEntry | None) -> Issuer:
        """Who minted the key, and so must revoke it (L5). Raises `NeedsHuman` where it left the configuration."""
        issuer = self.find_issuer_of(entry)
        if issuer is None:
            raise NeedsHuman(
                f"key {entry.key_id if entry else ''} was minted by issuer {entry.issuer if entry else ''}, which is not configured any "
                "more: bring it back, or revoke the key by hand",
                reason=Reason.REVOKE_BY_HAND,
            )
        return issuer

    def find_issuer_of(self, entry: KeyEntry | None) -> Issuer | None:
        """As `issuer_of`; None where it left the configuration."""
        name = entry.issuer if entry is not None else None
        return self.credential.issuer if name is None or name == self.credential.issuer_name else self.issuers.get(name)

    def sightings(self, key_id: KeyId) -> Sightings:
        return find_sightings(self.look.facts.sightings, key_id)

    def failed_rotation(self, rotation: Rotation) -> SaveRotation:
        """The rotation with one more failed attempt, and the time before the next."""
        failures = rotation.failures + 1
        pause = backoff(failures, rotation.id, self.timing.attempt_base, self.timing.attempt_cap)
        return SaveRotation(replace(rotation, failures=failures, retry_at=self.now() + pause))

    def saw(self, key_id: KeyId, answer: Answer, *, witnessed: bool) -> SaveSightings:
        return SaveSightings(self.sightings(key_id).after(answer.verdict, answer.at, witnessed=witnessed, tools=answer.tools))
