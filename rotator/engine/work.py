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
from rotator.domain.ports import Answer, Clock, Holding, Issuer, Journal, Line, SaveRotation, SaveSightings
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

    def issuer_of(self, entry: KeyEntry | None) -> Issuer:
        """Who minted the key, and so must revoke it (L5). Raises `NeedsHuman` where it left the configuration."""
        name = entry.issuer if entry is not None else None
        if name is None or name == self.credential.issuer_name:
            return self.credential.issuer
        issuer = self.issuers.get(name)
        if issuer is None:
            raise NeedsHuman(
                f"key {entry.key_id if entry else ''} was minted by issuer {name}, which is not configured any more: bring it back, or "
                "revoke the key by hand",
                reason=Reason.REVOKE_BY_HAND,
            )
        return issuer

    def sightings(self, key_id: KeyId) -> Sightings:
        return find_sightings(self.look.facts.sightings, key_id)

    def failed_rotation(self, rotation: Rotation) -> SaveRotation:
        """The rotation with one more failed attempt, and the time before the next."""
        failures = rotation.failures + 1
        pause = backoff(failures, rotation.id, self.timing.attempt_base, self.timing.attempt_cap)
        return SaveRotation(replace(rotation, failures=failures, retry_at=self.now() + pause))

    def saw(self, key_id: KeyId, answer: Answer, *, witnessed: bool) -> SaveSightings:
        return SaveSightings(self.sightings(key_id).after(answer.verdict, answer.at, witnessed=witnessed, tools=answer.tools))
