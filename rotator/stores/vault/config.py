"""What the user writes for a Vault store, and how it becomes one. Imports nothing heavy: every command loads it."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from rotator.remote.fields import BaseUrl, Duration, EnvName, FilePath
from rotator.stores.surroundings import Surroundings

if TYPE_CHECKING:
    from rotator.stores.vault.store import VaultStore

_CLOSED = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)
_LONGEST = timedelta(seconds=10)
_PART = r"[^\s/{}\x00-\x1f\x7f](?:[^/{}\x00-\x1f\x7f]*[^\s/{}\x00-\x1f\x7f])?"
_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


def _ensure_mount(value: str) -> str:
    trimmed = value.strip("/")
    if not re.fullmatch(rf"{_PART}(?:/{_PART})*", trimmed):
        raise ValueError("must be the path of a mount, such as secret or team/secret")
    return trimmed


def _ensure_sibling(value: str) -> str:
    if value.count("{path}") != 1 or value == "{path}" or not re.fullmatch(rf"{_PART}(?:/{_PART})*", value.replace("{path}", "path")):
        raise ValueError("must be a path with {path} in it once and something beside it, such as rotator/{path}")
    return value


Mount = Annotated[str, AfterValidator(_ensure_mount)]


class TokenAuth(BaseModel):
    """A token in the environment. It is renewed where it is renewable, and is a person's to replace."""

    model_config = _CLOSED

    type: Literal["token"]
    """The way to sign in: a token from the environment."""
    token_env: EnvName = "VAULT_TOKEN"  # noqa: S105  # the name of a variable
    """Environment variable that holds the token."""


class TokenFileAuth(BaseModel):
    """A token in a file that someone else keeps fresh, such as the sink of a Vault Agent. It is read at each use and never renewed."""

    model_config = _CLOSED

    type: Literal["token-file"]
    """The way to sign in: a token from a file."""
    token_file: FilePath
    """File that holds the token; must not be readable by everybody."""


class AppRoleAuth(BaseModel):
    """A role id, and a secret id from a file."""

    model_config = _CLOSED

    type: Literal["approle"]
    """The way to sign in: AppRole."""
    role_id: Annotated[str, Field(min_length=1)]
    """The role's id. Not secret by itself."""
    secret_id_file: FilePath
    """File that holds the secret id; must not be readable by everybody."""
    wrapped: bool = False
    """The file holds a response-wrapping token, which is unwrapped once: put a new one there before each start."""
    mount: Mount = "approle"
    """Where the auth method is mounted."""


class KubernetesAuth(BaseModel):
    """The service account of the pod that rotator runs in."""

    model_config = _CLOSED

    type: Literal["kubernetes"]
    """The way to sign in: the pod's service account."""
    role: Annotated[str, Field(min_length=1)]
    """The role to sign in as."""
    jwt_file: FilePath = _IN_CLUSTER
    """File that holds the service account's token. Read at each login."""
    mount: Mount = "kubernetes"
    """Where the auth method is mounted."""


class JwtAuth(BaseModel):
    """A signed token from somewhere that the server trusts."""

    model_config = _CLOSED

    type: Literal["jwt"]
    """The way to sign in: a signed token (JWT)."""
    role: Annotated[str, Field(min_length=1)]
    """The role to sign in as."""
    jwt_file: FilePath
    """File that holds the token. Read at each login."""
    mount: Mount = "jwt"
    """Where the auth method is mounted."""


AuthConfig = TokenAuth | TokenFileAuth | AppRoleAuth | KubernetesAuth | JwtAuth


class VaultStoreConfig(BaseModel):
    """A mount of KV version 2 in Vault or OpenBao."""

    model_config = _CLOSED

    shared: ClassVar[bool] = True
    """whether others may write to it too, and several entries may name the same place"""

    type: Literal["vault"]
    """The kind of store."""
    address: BaseUrl
    """Where the server is: https://, or http:// on a loopback host. Of a cluster: the address that leads to the active node."""
    auth: Annotated[AuthConfig, Field(discriminator="type")]
    """How we sign in: `token`, `token-file`, `approle`, `kubernetes` or `jwt`."""
    mount: Mount = "secret"
    """Where the KV version 2 engine is mounted."""
    key_field: Annotated[str, Field(min_length=1)] = "api_key"
    """The field of a credential's document that holds the current key. Its other fields are nobody's business here and are kept."""
    sibling: Annotated[str, AfterValidator(_ensure_sibling)] = "rotator/{path}"
    """Where the document with the lifecycle record and every key of the credential lies, in the same mount: out of the reach of consumers'
    policies."""
    namespace: Annotated[str, Field(pattern=r"^[!-~]+$")] | None = None
    """The namespace that everything lies in, auth method and mount; null: the root."""
    ca_file: FilePath | None = None
    """PEM file of the certificate authorities to trust, in place of the public ones."""
    client_cert_file: FilePath | None = None
    """PEM file of a certificate to show to the server."""
    client_key_file: FilePath | None = None
    """PEM file of that certificate's key."""
    timeout: Duration = _LONGEST
    """Time limit of one call, at most 10s."""
    rate: Annotated[float, Field(gt=0)] | None = None
    """Most calls per second; null: no limit."""
    burst: Annotated[int, Field(ge=1)] = 50
    """How many calls may come at once within that rate."""

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= _LONGEST:
            raise ValueError("a call's time limit must be more than nothing and at most 10s")
        return value

    @model_validator(mode="after")
    def _pair(self) -> VaultStoreConfig:
        if (self.client_cert_file is None) != (self.client_key_file is None):
            raise ValueError("client_cert_file and client_key_file go together: name both or neither")
        return self

    def build(self, state_dir: Path, surroundings: Surroundings) -> VaultStore:  # noqa: ARG002  # the shape of every kind
        """The store. Opens no connection. Raises `Misconfigured` for certificate files that cannot be used."""
        from rotator.stores.vault.store import open_store

        return open_store(self, surroundings)

    def find_unmade(self, state_dir: Path) -> None:  # the shape of every kind
        """The first start makes no file."""

    @property
    def place(self) -> tuple[str, ...]:
        """What tells this store's documents from those of another."""
        return (self.address, self.namespace or "", self.mount)
