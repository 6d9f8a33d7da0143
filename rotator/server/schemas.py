"""The JSON of the API, as models: what requests may say (strict, nothing unknown) and what answers look like.

Instants are ISO 8601 in UTC with `Z`. Nothing here can hold key material but the fields of type `Secret` in requests (a leak's report, keys
that are handed in), which are that before anybody else sees them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator

from rotator.domain.keys import KeyId, parse_key_id
from rotator.domain.secret import Secret

MOST_ROWS = 1000
MOST_KEYS = 16
"""keys in one request: each is verified at the service before the answer"""


_LONGEST = 1024


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise ValueError(f"must be text of {_LONGEST} characters at most")
    return value


def _parse_secret(value: object) -> Secret:
    return Secret(_text(value))


def _parse_key_id(value: object) -> KeyId:
    return parse_key_id(_text(value))


# Parsed at once. A `MalformedKey` passes through the model as it is: it never repeats the text.
_Key = Annotated[
    Secret,
    PlainValidator(_parse_secret),
    WithJsonSchema({"type": "string", "maxLength": _LONGEST, "description": "The full key that leaked."}),
]
_NewKey = Annotated[
    Secret,
    PlainValidator(_parse_secret),
    WithJsonSchema({"type": "string", "maxLength": _LONGEST, "description": "A full key."}),
]
_KeyId = Annotated[
    KeyId,
    PlainValidator(_parse_key_id),
    WithJsonSchema({"type": "string", "maxLength": _LONGEST, "description": "Its key id, where the full key is not at hand."}),
]


class _Request(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Query(BaseModel):
    # Not strict: everything in a query string is text.
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Answer(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class RotateRequest(_Request):
    """How a rotation is wanted."""

    emergency: bool = Field(default=False, description="Ahead of everything else; the old key is revoked without overlap.")


class WithdrawRequest(_Request):
    """Whose key is taken out."""

    credential: str


class LeakReport(_Request):
    """What leaked: exactly one of the two."""

    key: _Key | None = None
    key_id: _KeyId | None = None

    @model_validator(mode="after")
    def _one(self) -> LeakReport:
        if (self.key is None) is (self.key_id is None):
            raise ValueError("give either `key` or `key_id`")
        return self


class SubmitRequest(_Request):
    """A key that a person minted."""

    key: _NewKey


class StrikeRequest(_Request):
    """A spare key that is not wanted any more."""

    key_id: _KeyId


class SparesRequest(_Request):
    """Spare keys for a pool."""

    keys: list[_NewKey] = Field(min_length=1, max_length=MOST_KEYS)
    project: str | None = Field(default=None, min_length=1, max_length=256, description="The project that they are for.")


class RotationsQuery(_Query):
    """Which rotations, newest first."""

    credential: str | None = None
    open: bool = False
    limit: int = Field(default=50, ge=1, le=MOST_ROWS)


class RetirementsQuery(_Query):
    """Which retirements, newest first."""

    credential: str | None = None
    open: bool = False
    limit: int = Field(default=50, ge=1, le=MOST_ROWS)
    key_id: str | None = None


class EventsQuery(_Query):
    """Which lines of the audit trail: the oldest after `after`, or without it the newest; oldest first either way."""

    credential: str | None = None
    process: str | None = Field(default=None, description="The id of a rotation or retirement.")
    key_id: str | None = None
    after: int | None = Field(default=None, ge=0, lt=2**63)
    limit: int = Field(default=200, ge=1, le=MOST_ROWS)


class Problem(_Answer):
    """Every answer that is not a success."""

    error: str = Field(description="The reason, one word.")
    message: str = Field(description="What is wrong and what to do.")
    exit_code: int = Field(description="What a command that got this answer exits with.")


class Parked(_Answer):
    reason: str
    text: str = Field(description="What a person should do.")


class Waiting(_Answer):
    reason: str
    until: datetime | None
    names: tuple[str, ...]


class TargetStatus(_Answer):
    name: str
    required: bool
    key_id: str | None
    state: Literal["current", "behind", "failed"]
    since: datetime | None
    activation: str
    text: str


class RetirementStatus(_Answer):
    id: str
    key_id: str
    phase: Literal["waiting", "doomed", "revoked"]
    why: str
    revoked_at: datetime | None
    last_alive: datetime | None
    first_refused: datetime | None
    held_by: tuple[str, ...]
    """other credentials that hold the key, in whatever stage"""


class RotationRow(_Answer):
    id: str
    credential: str
    reason: str
    opened_at: datetime
    closed_at: datetime | None
    outcome: str | None
    key_id: str | None
    replaces: str | None
    emergency: bool
    failures: int


class RetirementRow(_Answer):
    id: str
    credential: str
    key_id: str
    why: str
    opened_at: datetime
    revoked_at: datetime | None
    closed_at: datetime | None
    outcome: str | None
    last_alive: datetime | None
    first_refused: datetime | None
    confirmed_at: datetime | None


class EventRow(_Answer):
    seq: int
    at: datetime
    credential: str
    phase: str
    action: str
    reason: str | None
    process: str | None
    key_id: str | None
    text: str
    ok: bool
    hash: str


class Status(_Answer):
    """One credential."""

    name: str
    kind: str
    store: str
    path: str
    issuer: str
    key_id: str | None
    shared_with: tuple[str, ...]
    """other credentials that hold the same key, in whatever stage: it is revoked when none needs it any more"""
    generation: int
    minted_at: datetime | None
    age_seconds: float | None
    expires_at: datetime | None
    next_rotation_at: datetime | None
    phase: Literal["idle", "opened", "staged", "verified", "promoted", "parked", "unreadable"]
    lane: str
    compromised: bool
    recovered: bool
    parked: tuple[Parked, ...]
    waiting: tuple[Waiting, ...]
    targets: tuple[TargetStatus, ...]
    retirements: tuple[RetirementStatus, ...]
    orphans: int
    rotation: RotationRow | None
    seen_at: datetime | None


class Accepted(_Answer):
    """What an operation did."""

    credential: str
    text: str
    rotation: str | None
    key_id: str | None


class PlannedStep(_Answer):
    process: Literal["rotation", "retirement"]
    does: str
    key_id: str | None
    text: str


class Affected(_Answer):
    target: str
    required: bool
    state: Literal["current", "behind", "failed"]
    activation: str
    changes: str
    """what bringing it to the current key would change, as a unified diff with masked keys, or why it cannot be; empty where it holds it"""


class Plan(_Answer):
    """What would happen now and next."""

    credential: str
    now: tuple[PlannedStep, ...]
    waiting: tuple[Waiting, ...]
    parked: tuple[Parked, ...]
    next_rotation_at: datetime | None
    affects: tuple[Affected, ...]


class Statuses(_Answer):
    credentials: tuple[Status, ...]


class AcceptedLeak(_Answer):
    accepted: tuple[Accepted, ...]


class ReceivedKey(_Answer):
    """What became of a key that was brought."""

    key_id: str
    accepted: bool
    reason: str | None
    text: str


class ReceivedKeys(_Answer):
    received: tuple[ReceivedKey, ...]


class SpareRow(_Answer):
    key_id: str
    added_at: datetime
    by: str
    project: str | None
    state: Literal["usable", "reserved", "too-old"]
    reserved_at: datetime | None


class PoolRow(_Answer):
    """A pool and the keys in it."""

    issuer: str
    usable: int
    low_water: int
    is_low: bool
    spares: tuple[SpareRow, ...]
    problem: str
    """why it could not be looked at; empty: it was"""


class Pools(_Answer):
    pools: tuple[PoolRow, ...]


class Rotations(_Answer):
    rotations: tuple[RotationRow, ...]


class Retirements(_Answer):
    retirements: tuple[RetirementRow, ...]


class Events(_Answer):
    events: tuple[EventRow, ...]
    next: int = Field(description="Hand this in as `after` to get what comes next.")


class Audit(_Answer):
    lines: int
    head: str
    problems: tuple[str, ...]


class Info(_Answer):
    version: str
    installation: str
    started_at: datetime
    journal: str
    credentials: int
    rejected_configuration: str
    """what is wrong with the configuration on disk, while an older one is in force; empty: it is in force"""


class Noted(_Answer):
    text: str


class Reloaded(_Answer):
    changed: bool
    message: str


class PartReport(_Answer):
    """How one part stands."""

    ready: bool
    reason: str


class ReadinessReport(_Answer):
    """How the whole stands."""

    ready: bool
    parts: dict[str, PartReport]
