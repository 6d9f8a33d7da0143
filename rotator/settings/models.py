"""The whole configuration as one model. It holds no secret: tokens and keys are named by file or environment variable.

Reading a file is `loading`'s business, rules across sections are `rules`'. Making a `Settings` reads neither the environment nor a file.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from rotator.domain.errors import Misconfigured
from rotator.issuers.command import CommandIssuerConfig
from rotator.issuers.http import HttpIssuerConfig
from rotator.issuers.manual import ManualIssuerConfig
from rotator.issuers.pool import PoolIssuerConfig
from rotator.journal.sqlite import SqliteJournalConfig
from rotator.remote.fields import FilePath
from rotator.remote.millimetric import MillimetricConfig
from rotator.settings.base import Name, OneOf, Port, PositiveDuration, Section, Whole
from rotator.settings.credentials import CredentialSettings
from rotator.stores.aws import AwsStoreConfig
from rotator.stores.embedded import EmbeddedStoreConfig
from rotator.stores.vault import VaultStoreConfig
from rotator.targets.file.config import FileTargetConfig
from rotator.targets.kubernetes import KubernetesTargetConfig

__all__ = [
    "DEFAULT_STORE",
    "EngineSettings",
    "IssuerConfig",
    "JournalConfig",
    "LogSettings",
    "MetricsSettings",
    "NotifySettings",
    "ServerSettings",
    "Settings",
    "StoreConfig",
    "TargetConfig",
    "TokenSettings",
]

DEFAULT_STORE = "embedded"

StoreConfig = Annotated[
    Annotated[EmbeddedStoreConfig | VaultStoreConfig | AwsStoreConfig, Field(discriminator="type")],
    OneOf(("embedded", "vault", "aws")),
]
IssuerConfig = Annotated[
    Annotated[HttpIssuerConfig | PoolIssuerConfig | ManualIssuerConfig | CommandIssuerConfig, Field(discriminator="type")],
    OneOf(("http", "pool", "manual", "command")),
]
TargetConfig = Annotated[
    Annotated[FileTargetConfig | KubernetesTargetConfig, Field(discriminator="type")],
    OneOf(("file", "kubernetes")),
]
JournalConfig = SqliteJournalConfig


def _default_stores() -> dict[str, EmbeddedStoreConfig | VaultStoreConfig | AwsStoreConfig]:
    return {DEFAULT_STORE: EmbeddedStoreConfig()}


def _ensure_address(value: str) -> str:
    if value != "localhost":
        try:
            ipaddress.ip_address(value)
        except ValueError:
            raise ValueError("must be an IP address such as 127.0.0.1, 0.0.0.0 or ::, or localhost") from None
    return value


def _ensure_hash(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", value):
        raise ValueError("must be the SHA-256 of the token in 64 hexadecimal digits, never the token itself")
    return value.lower()


class TokenSettings(Section):
    """A bearer token for the API. Only its hash is known here."""

    name: Name
    """Who holds it; stands in the audit trail."""
    role: Literal["hook", "viewer", "operator", "admin"]
    """hook: say that a store changed, and nothing else. viewer: look. operator: also rotate, report leaks, retry. admin: also reload."""
    sha256: Annotated[str, AfterValidator(_ensure_hash)] | None = None
    """The token's SHA-256 in hexadecimal digits."""
    file: FilePath | None = None
    """A file that holds that hash, as `sha256sum` prints it, in place of `sha256`."""

    @model_validator(mode="after")
    def _one_source(self) -> TokenSettings:
        if (self.sha256 is None) == (self.file is None):
            raise ValueError("a token needs exactly one of `sha256` and `file`")
        return self

    def get_hash(self) -> str:
        """The hash, in lower-case hexadecimal digits; read from `file` where it stands there. Raises `Misconfigured`."""
        if self.sha256 is not None:
            return self.sha256
        assert self.file is not None
        try:
            first, *_ = self.file.read_text(encoding="ascii").split() or [""]
            return _ensure_hash(first)
        except OSError as fault:
            raise Misconfigured(f"{self.file} cannot be read ({fault.strerror})") from None
        except ValueError:
            raise Misconfigured(
                f"{self.file} must hold the SHA-256 of the token in 64 hexadecimal digits, as `sha256sum` prints it"
            ) from None


class ServerSettings(Section):
    """The HTTP API and page."""

    bind: Annotated[str, AfterValidator(_ensure_address)] = "127.0.0.1"
    """The address to listen on."""
    port: Port = 8700
    """The port to listen on; 0: any free one, written to the state folder."""
    tokens: tuple[TokenSettings, ...] = ()
    """Who may use the API, besides the holder of the admin token in the state folder."""


class MetricsSettings(Section):
    """Prometheus metrics."""

    port: Port | None = None
    """A port of their own, open without a token; null: on the server's port, for viewers."""


class EngineSettings(Section):
    """How patient the engine is. The defaults are good."""

    workers: Annotated[Whole, Field(ge=2, le=256)] = 8
    """Steps that run at once; one worker is kept for emergencies."""
    lease: PositiveDuration = timedelta(seconds=60)
    """An attempt to mint that stays open for longer is taken over."""
    catch_up: PositiveDuration = timedelta(minutes=10)
    """Rotations that were missed while the daemon was down are spread over this long."""
    recheck: PositiveDuration = timedelta(seconds=30)
    """How often something outside that holds a credential up is looked at again."""
    poll: PositiveDuration = timedelta(minutes=1)
    """How often stores are asked whether somebody else changed a key."""
    resync: PositiveDuration = timedelta(hours=1)
    """How often an idle credential's store and targets are looked at."""
    attempt_base: PositiveDuration = timedelta(seconds=5)
    """The pause after a rotation's first failed attempt; doubled after each further one, up to `attempt_cap`."""
    attempt_cap: PositiveDuration = timedelta(hours=1)
    """The longest pause between two attempts."""
    step_base: PositiveDuration = timedelta(seconds=1)
    """The pause after a step that failed for the world's sake; doubled after each further failure, up to `step_cap`."""
    step_cap: PositiveDuration = timedelta(minutes=5)
    """The longest pause between two tries of a step."""
    urgent_cap: PositiveDuration = timedelta(seconds=5)
    """The longest pause between two tries in an emergency."""


class NotifySettings(Section):
    """Where people are told that they are needed. Nothing can be set here yet: watch the metrics and `rotator status`."""


class LogSettings(Section):
    """The log, on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines that are written."""
    format: Literal["auto", "json", "console"] = "auto"
    """json: one object a line. console: for people. auto: console on a terminal, json elsewhere."""


class Settings(BaseSettings):
    """The configuration."""

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
        env_prefix="ROTATOR_",
        env_nested_delimiter="__",
        case_sensitive=False,
    )

    installation: Name = "default"
    """The name of this installation. It stands in the stores and on minted keys: give each of production, staging and so on its own, and
    never change it, or a restored copy of one could revoke the keys of another."""
    millimetric: MillimetricConfig = Field(default_factory=MillimetricConfig)
    """The Millimetric service."""
    stores: dict[Name, StoreConfig] = Field(default_factory=_default_stores)
    """Where keys live, by name. Without this section there is one, `embedded`, which credentials use by default."""
    issuers: dict[Name, IssuerConfig] = Field(default_factory=dict)
    """What mints and revokes keys, by name."""
    targets: dict[Name, TargetConfig] = Field(default_factory=dict)
    """Where consumers read keys, by name."""
    credentials: dict[Name, CredentialSettings] = Field(default_factory=dict)
    """The keys to look after, by name."""
    notify: NotifySettings = Field(default_factory=NotifySettings)
    """Where people are told that they are needed."""
    server: ServerSettings = Field(default_factory=ServerSettings)
    """The HTTP API and page."""
    journal: JournalConfig = Field(default_factory=SqliteJournalConfig)
    """The record of what was done."""
    engine: EngineSettings = Field(default_factory=EngineSettings)
    """How patient the engine is."""
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    """Prometheus metrics."""
    log: LogSettings = Field(default_factory=LogSettings)
    """The log."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *others: object,  # noqa: ARG003
        **more: object,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is handed in, and nothing else: `loading` puts the sources together, so that each mistake can name where it stands."""
        return (init_settings,)
