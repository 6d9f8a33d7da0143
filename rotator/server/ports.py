"""What the server asks of a journal beyond the engine's port: reports. Any journal whose rows have these fields fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from rotator.domain.facts import Memory, Retirement, Rotation
from rotator.domain.keys import KeyId
from rotator.domain.ports import Event, Proof, Recollection, View
from rotator.domain.reasons import Reason


class CredentialRow(Protocol):
    """A credential as the journal knows it."""

    @property
    def name(self) -> str: ...
    @property
    def view(self) -> View | None: ...
    @property
    def memory(self) -> Memory | None: ...


class RotationRow(Protocol):
    """A rotation, open or closed."""

    @property
    def credential(self) -> str: ...
    @property
    def rotation(self) -> Rotation: ...
    @property
    def closed_at(self) -> datetime | None: ...
    @property
    def outcome(self) -> Reason | None: ...
    @property
    def key_id(self) -> KeyId | None: ...


class RetirementRow(Protocol):
    """A retirement, open or closed."""

    @property
    def credential(self) -> str: ...
    @property
    def retirement(self) -> Retirement: ...
    @property
    def closed_at(self) -> datetime | None: ...
    @property
    def outcome(self) -> Reason | None: ...
    @property
    def proof(self) -> Proof | None: ...


class EventRow(Protocol):
    """A line of the audit trail."""

    @property
    def seq(self) -> int: ...
    @property
    def credential(self) -> str: ...
    @property
    def event(self) -> Event: ...
    @property
    def hash(self) -> str: ...


class Queries(Protocol):
    """Reports of a journal. Reads only; each raises `Unreachable` when the journal cannot be read."""

    @property
    def id(self) -> str:
        """The journal's random id."""

    def recall(self, credential: str) -> Recollection:
        """All that is known of one credential."""

    def list_credentials(self) -> Sequence[CredentialRow]:
        """Every credential that was seen and not forgotten."""

    def find_credential(self, name: str) -> CredentialRow | None:
        """One credential; None if it was never seen."""

    def find_rotations(self, credential: str | None = None, *, limit: int = 100, open_only: bool = False) -> Sequence[RotationRow]:
        """Rotations, newest first."""

    def find_retirements(self, credential: str | None = None, *, limit: int = 100, open_only: bool = False) -> Sequence[RetirementRow]:
        """Retirements, newest first."""

    def find_events(
        self,
        credential: str | None = None,
        *,
        process: str | None = None,
        after_seq: int = 0,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Sequence[EventRow]:
        """Audit lines numbered higher than `after_seq`."""

    def find_holders(self, key_id: KeyId, *, any_stage: bool = False) -> Sequence[str]:
        """The credentials whose last look showed this key as current or pending, or (`any_stage`) at all."""

    def count_rotations(self) -> Mapping[tuple[str, Reason, Reason], int]:
        """(credential, reason, outcome) of all closed rotations: how many."""

    def last_successes(self) -> Mapping[str, datetime]:
        """When each credential's last rotation was distributed."""

    def audit_head(self) -> str:
        """`number:hash` of the newest audit line."""

    def verify_audit(self, heads: Mapping[str, str] | None = None) -> list[str]:
        """What is wrong with the audit trail, a sentence each; `heads`: where a head was kept → the head."""
