"""What the user writes for a Kubernetes target. Only the shape: no cluster is asked. Imports nothing heavy: every command loads it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from rotator.domain.errors import Misconfigured
from rotator.mcp.clients import get_client
from rotator.remote.fields import Duration, FilePath
from rotator.targets.surroundings import TargetSurroundings

if TYPE_CHECKING:
    from rotator.targets.kubernetes.target import KubernetesTarget

__all__ = ["ClientDocumentConfig", "KubernetesTargetConfig", "NamespaceSelector"]

_CLOSED = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, use_attribute_docstrings=True)
_DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_DNS_NAME = rf"{_DNS_LABEL}(\.{_DNS_LABEL})*"
_DATA_KEY = r"[-._a-zA-Z0-9]{1,253}"
_WORKLOAD = rf"(deployment|statefulset|daemonset)/{_DNS_NAME}"
_META_KEY = rf"({_DNS_NAME}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
_LABEL_VALUE = r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
OWN_PREFIX = "rotator/"
_SOME = Field(json_schema_extra={"minItems": 1})  # checked by hand: beside a wrong name, pydantic would call the list empty as well


def _shaped(pattern: str, what: str) -> AfterValidator:
    def ensure(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {what}")
        return value

    return AfterValidator(ensure)


Namespace = Annotated[str, _shaped(_DNS_LABEL, "the name of a namespace: a-z, 0-9 and '-', 63 characters at most")]
# With `.rotator` it is the prefix of an annotation's name, which may have 253 characters.
SecretName = Annotated[str, _shaped(_DNS_NAME, "the name of a Secret: a-z, 0-9, '-' and '.'"), Field(max_length=245)]
DataKey = Annotated[str, _shaped(_DATA_KEY, "the name of an entry of the Secret: letters, digits, '-', '_' and '.'")]
Workload = Annotated[str, _shaped(_WORKLOAD, "a workload such as deployment/checkout, statefulset/checkout or daemonset/checkout")]


def _ensure_selector(value: str) -> str:
    if not value.strip() or not re.fullmatch(r"[-A-Za-z0-9_./=!,() ]+", value):
        raise ValueError("must be a label selector such as team=checkout or 'env in (live,test)'; an empty one would mean every namespace")
    return value.strip()


def _is_mapping(value: object) -> str:
    """So that a mistake in one form is not told as one in each."""
    return "mapping" if isinstance(value, dict | BaseModel) else "list"


def _is_word(value: object) -> str:
    return "word" if isinstance(value, str) else "list"


class NamespaceSelector(BaseModel):
    """Every namespace with these labels, those that come later too. Needs more permissions: see docs/kubernetes.md."""

    model_config = _CLOSED

    selector: Annotated[str, AfterValidator(_ensure_selector)]
    """A label selector, as `kubectl get namespaces --selector` takes it."""


class ClientDocumentConfig(BaseModel):
    """An entry of the Secret that is a whole configuration of an MCP client."""

    model_config = _CLOSED

    client: str
    """The MCP client, such as `claude-code` or `cursor`."""
    server: str = Field(default="millimetric", pattern=r"^[A-Za-z0-9_-]{1,64}$")
    """The name of the server's entry in it."""

    @field_validator("client")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            get_client(value)
        except Misconfigured as fault:
            raise ValueError(str(fault)) from None
        return value


Entry = Annotated[
    Annotated[str, Tag("text")] | Annotated[ClientDocumentConfig, Tag("mapping")],
    Discriminator(lambda value: "mapping" if _is_mapping(value) == "mapping" else "text"),
]


class KubernetesTargetConfig(BaseModel):
    """A Secret in one or many namespaces of a cluster."""

    model_config = _CLOSED

    type: Literal["kubernetes"]
    """The kind of target."""
    kubeconfig: FilePath | None = None
    """The kubeconfig that leads to the cluster; null: the cluster that rotator runs in, as the service account of its pod."""
    context: str | None = None
    """The context of that kubeconfig; null: its current one."""
    namespaces: Annotated[
        Annotated[tuple[Namespace, ...], _SOME, Tag("list")] | Annotated[NamespaceSelector, Tag("mapping")],
        Discriminator(_is_mapping),
    ]
    """The namespaces that get the Secret: a list, or `selector:` for all that carry certain labels."""
    name: SecretName
    """The Secret's name, the same in each namespace."""
    data: dict[DataKey, Entry] = Field(default={"api_key": "{key}"}, min_length=1)
    """The Secret's entries: text with {key}, {key_id} and {endpoint} in it, such as `Bearer {key}` (literal braces are doubled), or
    `client: NAME` for the whole configuration of an MCP client."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Labels that the Secret gets, besides rotator's own."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Annotations that the Secret gets, besides rotator's own."""
    adopt: bool = False
    """Take over a Secret that rotator did not write, or an entry of it that somebody else manages."""
    on_removal: Literal["keep", "delete"] = "keep"
    """What `rotator withdraw` may do with the Secret: nothing, or delete it (only our entries, where others have written some)."""
    restart: Annotated[
        Annotated[Literal["auto", "none"], Tag("word")] | Annotated[tuple[Workload, ...], _SOME, Tag("list")],
        Discriminator(_is_word),
    ] = "auto"
    """auto: Deployments, StatefulSets and DaemonSets that use the Secret are restarted after a change, and the key counts as in use when no
    pod of before is left. A list of such as `deployment/checkout`: these and no other. none: nothing is restarted."""
    rollout_deadline: Duration = timedelta(minutes=10)
    """A restart that is not complete after this long needs a person. The old key lives on meanwhile."""
    watches: int = Field(default=20, ge=0, le=200)
    """Most namespaces that are watched for changes by others, at one connection each; in further ones the Secret is looked at every
    `poll`."""
    poll: Duration = timedelta(minutes=1)
    """How often the Secret is looked at where it is not watched."""
    timeout: Duration = timedelta(seconds=10)
    """Time limit of one call, at most 10s."""

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= timedelta(seconds=10):
            raise ValueError("a call's time limit must be more than nothing and at most 10s")
        return value

    @field_validator("rollout_deadline", "poll")
    @classmethod
    def _long(cls, value: timedelta) -> timedelta:
        if value < timedelta(seconds=1):
            raise ValueError("must be a second at least")
        return value

    @field_validator("namespaces", "restart")
    @classmethod
    def _once(cls, value: object) -> object:
        if value == ():
            raise ValueError("must name one at least")
        if isinstance(value, tuple) and len(set(value)) != len(value):
            raise ValueError("names something twice")
        return value

    @field_validator("labels", "annotations")
    @classmethod
    def _not_ours(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if not re.fullmatch(_META_KEY, key):
                raise ValueError(f"{key[:64]} is no name of a label or an annotation, such as team or example.com/team")
            if key.startswith(OWN_PREFIX):
                raise ValueError(f"{key} is one of rotator's own: choose another name")
        return value

    @field_validator("labels")
    @classmethod
    def _label_values(cls, value: dict[str, str]) -> dict[str, str]:
        for key, text in value.items():
            if not re.fullmatch(_LABEL_VALUE, text):
                raise ValueError(f"the value of {key} is none that a label may have: letters, digits, '-', '_' and '.', at most 63")
        return value

    @field_validator("data")
    @classmethod
    def _well_formed(cls, value: dict[str, str | ClientDocumentConfig]) -> dict[str, str | ClientDocumentConfig]:
        from rotator.targets.contents import TemplateContent

        texts = [text for text in value.values() if isinstance(text, str)]
        try:
            for text in texts:
                TemplateContent(text, needs_key=False)
        except Misconfigured as fault:
            raise ValueError(str(fault)) from None
        if len(texts) == len(value) and not any("{key}" in text for text in texts):
            raise ValueError("at least one entry must hold {key}")
        return value

    @model_validator(mode="after")
    def _context_needs_a_file(self) -> KubernetesTargetConfig:
        if self.context is not None and self.kubeconfig is None:
            raise ValueError("context is one of a kubeconfig: name that as well")
        return self

    @property
    def places(self) -> tuple[tuple[object, ...], ...]:
        """What no other target may write to, as far as the configuration tells."""
        cluster = ("kubernetes", str(self.kubeconfig), self.context)
        if isinstance(self.namespaces, NamespaceSelector):
            return ((*cluster, self.namespaces.selector, self.name),)
        return tuple((*cluster, namespace, self.name) for namespace in self.namespaces)

    def build(self, surroundings: TargetSurroundings) -> KubernetesTarget:
        """The target. Opens no connection."""
        from rotator.targets.kubernetes.building import build_target

        return build_target(self, surroundings)
