"""What the user writes for one credential. Rules that need more than one field stand in `rules`."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator

from rotator.domain.facts import AtDeadline, WithoutReplacement
from rotator.domain.keys import Kind
from rotator.domain.timing import Window
from rotator.remote.fields import Duration, StorePath
from rotator.settings.base import Flag, PositiveDuration, Section

__all__ = ["NO_ISSUER", "CredentialSettings", "OverlapSettings", "RotationSettings", "TargetUse"]

NO_ISSUER = "none"
"""The issuer of credentials whose keys come and go by other hands."""

_ENV = r"[a-z][a-z0-9]{0,31}"


def _ensure_cron(value: str) -> str:
    from rotator.scheduling.cron import parse_cron

    parse_cron(value)
    return value


def _ensure_window(value: str) -> str:
    Window.parse(value)
    return value


def _ensure_env(value: str) -> str:
    if not re.fullmatch(_ENV, value):
        raise ValueError("must be lower-case letters and digits, such as live or test")
    return value


def _as_use(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class OverlapSettings(Section):
    """How long old and new key both work."""

    min: Duration = timedelta(hours=1)
    """The old key lives at least this long after it was replaced. May be 0s only where there are targets."""
    max: PositiveDuration = timedelta(days=7)
    """When a required target is still behind after this long, `at_deadline` says what happens."""


class RotationSettings(Section):
    """When the key is replaced. Without `every` and `cron`: on demand and in emergencies only."""

    every: PositiveDuration | None = None
    """Replace the key when it is this old."""
    cron: Annotated[str, AfterValidator(_ensure_cron)] | None = None
    """Replace the key at these times, in crontab's five fields, in UTC unless a time zone follows: "30 2 * * Mon-Fri Europe/London"."""
    max_age: PositiveDuration | None = None
    """The age that no key may pass: its expiry in status, metrics and alerts. Window and jitter yield to it."""
    window: Annotated[str, AfterValidator(_ensure_window)] | None = None
    """Scheduled rotations begin only in these hours: "Mon-Fri 09:00-16:00 Europe/London"."""
    jitter: Duration | None = None
    """Credentials of one schedule are spread over this long; default: a tenth of the time between two rotations, at most 1h."""
    overlap: OverlapSettings = Field(default_factory=OverlapSettings)
    """How long old and new key both work."""


class TargetUse(Section):
    """A target as this credential uses it. In short: just its name."""

    name: str
    """The target's name, from `targets`."""
    required: Flag = True
    """Whether the old key lives until this target holds the new one."""
    settle: Duration | None = None
    """How long after the write its consumer may still use the old key; default: `rotation.overlap.min`."""


class CredentialSettings(Section):
    """A named key: where it lives, when it is replaced, who gets it."""

    kind: Kind
    """rk: read one project (recommended). sk: read and write one project. ak: read all projects of the account. sk and ak need a
    `justification`."""
    justification: str | None = None
    """Why the narrowest kind, rk, is not enough. Needed for sk and ak."""
    store: str = "embedded"
    """The store that holds the key, from `stores`."""
    path: StorePath
    """Where in that store. No two credentials share a store and a path."""
    issuer: str
    """The issuer that mints and revokes the key, from `issuers`; `none`: people do both, and rotator distributes and proves."""
    rotation: RotationSettings = Field(default_factory=RotationSettings)
    """When the key is replaced."""
    targets: tuple[Annotated[TargetUse, BeforeValidator(_as_use, json_schema_input_type=str | TargetUse)], ...] = ()
    """Who gets the key: names from `targets`, or {name, required, settle}."""
    allowed_tools: tuple[str, ...] = ()
    """Tools that the key may list beyond those published for its kind; a key that lists others is not promoted."""
    env: Annotated[str, AfterValidator(_ensure_env), WithJsonSchema({"type": "string", "pattern": f"^{_ENV}$"})] = "live"
    """The environment part of new keys, as in rk_live_…."""
    project: str | None = Field(default=None, min_length=1)
    """The project that new keys are for, where the issuer asks for one."""
    leak_deadline: PositiveDuration = timedelta(minutes=10)
    """A leaked key is revoked at the latest this long after the report, even if consumers are behind."""
    without_replacement: WithoutReplacement = WithoutReplacement.HOLD
    """What happens at `leak_deadline` when no replacement is there: `hold` keeps the leaked key and alerts, `revoke` revokes it anyway."""
    at_deadline: AtDeadline = AtDeadline.PARK
    """What happens at `rotation.overlap.max` when a required target is behind: `park` asks a person, `revoke` locks that target out."""
    verify_for: PositiveDuration | None = None
    """How long a new key may be refused before it is given up; default: four times `millimetric.cache_time`."""
    read_only: Flag = False
    """Never write to the store: distribute what others put there. Only with `issuer: none` and a store that others write to, which the
    embedded store is not."""

    @field_validator("kind")
    @classmethod
    def _not_for_browsers(cls, value: Kind) -> Kind:
        if value is Kind.PK:
            raise ValueError(
                "pk is a browser key: replacing it needs a deploy of the site, so rotator does not rotate it; use rk, sk or ak"
            )
        return value
