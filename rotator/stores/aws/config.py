"""What the user writes for a store in AWS Secrets Manager, and how it becomes one. Imports nothing heavy: every command loads it."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from rotator.remote.fields import BaseUrl, Duration
from rotator.stores.surroundings import Surroundings

if TYPE_CHECKING:
    from rotator.stores.aws.store import AwsStore

__all__ = ["AssumeRole", "AwsStoreConfig"]

_CLOSED = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)
_LONGEST = timedelta(seconds=10)
_NAME_PART = r"[A-Za-z0-9/_+=.@-]"


def _ensure_limit(value: timedelta) -> timedelta:
    if not timedelta(0) < value <= _LONGEST:
        raise ValueError("must be longer than nothing and at most 10s: a step in hand ends within 30 s")
    return value


class AssumeRole(BaseModel):
    """A role to work as, taken with the credentials of the default chain."""

    model_config = _CLOSED

    arn: str = Field(pattern=r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$")
    """The role's ARN."""
    external_id: str | None = None
    """What the role's trust policy may ask for under `sts:ExternalId`."""
    session_name: str = Field(default="rotator", pattern=r"^[A-Za-z0-9_=,.@-]{2,64}$")
    """The name of the session, as CloudTrail shows it."""
    endpoint_url: BaseUrl | None = None
    """The address of AWS STS in place of the usual one, such as that of a VPC endpoint."""


class AwsStoreConfig(BaseModel):
    """Secrets in AWS Secrets Manager, in one account and region. Credentials come from AWS's default chain: environment, profile, web
    identity (IRSA), pod identity, container, instance. A credential's `path` is the name of its secret."""

    model_config = _CLOSED

    shared: ClassVar[bool] = True
    """whether others may write to it too, and several entries may name the same place"""

    type: Literal["aws"] = "aws"
    """The kind of store."""
    region: str | None = Field(default=None, pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+$")
    """The region, such as eu-west-1. Default: AWS_REGION, or the profile's."""
    endpoint_url: BaseUrl | None = None
    """The address of Secrets Manager in place of the usual one, such as that of a VPC endpoint."""
    profile: str | None = None
    """The profile of AWS's shared configuration files to use."""
    assume_role: AssumeRole | None = None
    """A role to work as."""
    key_field: str | None = Field(default="api_key", min_length=1)
    """The field of the secret's JSON value that holds the key; other fields are kept as they are. null: the value is the key and nothing
    else."""
    record_prefix: str = Field(default="rotator/", pattern=rf"^{_NAME_PART}{{1,64}}$")
    """Where rotator keeps its own record of each secret: in a secret of this prefix and the secret's name. It holds the pending and the
    retiring keys: keep consumers out of it. rotator makes it."""
    create: bool = False
    """Whether a secret that is not there is made. Without it a missing secret is an error."""
    description: str | None = Field(default=None, max_length=2048)
    """The description of secrets that `create` makes."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Tags of what rotator makes: the records, and the secrets that `create` makes."""
    kms_key_id: str | None = None
    """The KMS key of what rotator makes. Default: the account's key for Secrets Manager. Secrets that are there keep theirs."""
    timeout: Annotated[Duration, AfterValidator(_ensure_limit)] = timedelta(seconds=5)
    """Time limit of one call, at most 10s."""

    @property
    def place(self) -> tuple[str, ...]:
        """Where its keys are: two configured stores of one place would be one store."""
        role = self.assume_role.model_dump_json() if self.assume_role is not None else ""
        return (self.type, self.region or "", self.endpoint_url or "", self.profile or "", role)

    def build(self, state_dir: Path, surroundings: Surroundings | None = None) -> AwsStore:  # noqa: ARG002  # the shape of every kind
        """The store. Connects at first use."""
        from rotator.stores.aws.store import AwsStore

        if surroundings is None or surroundings.observe is None:
            return AwsStore(self)
        return AwsStore(self, observe=partial(surroundings.observe, surroundings.name))

    def find_unmade(self, state_dir: Path) -> Path | None:  # noqa: ARG002  # every store's config is asked so
        """None: nothing of this store is a file of ours."""
        return None
