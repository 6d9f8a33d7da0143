"""What a file target writes: a raw key, a header value, a template, or an MCP client's configuration. Pure: text in, text out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, Protocol

from rotator.domain.errors import MalformedKey, Misconfigured, Refused
from rotator.domain.keys import Kind
from rotator.domain.ports import Delivery
from rotator.domain.reasons import Reason
from rotator.domain.secret import Secret
from rotator.mcp.clients import Client
from rotator.mcp.documents import ClientDocument
from rotator.mcp.edits import Insertion

_KEY = re.compile(rf"(?:{'|'.join(Kind)})_[a-z][a-z0-9]{{0,31}}_[A-Za-z0-9]{{8}}_[A-Za-z0-9_-]+")
_FIELDS = ("key", "key_id", "endpoint")


@dataclass(frozen=True, slots=True)
class Written:
    """A file's new text, and what is needed to take our part out of it again."""

    text: str = field(repr=False)
    inserted: Mapping[str, Any] | None = None


class Content(Protocol):
    """One kind of content. `find_secret` gives the key that stands in the text now."""

    def find_secret(self, text: str) -> Secret | None: ...
    def is_taken(self, text: str) -> bool: ...
    def write(self, text: str, delivery: Delivery) -> Written: ...
    def erase(self, text: str, inserted: Mapping[str, Any] | None) -> str | None: ...


@dataclass(frozen=True, slots=True)
class TemplateContent:
    """The whole file is ours: a template with `{key}`, `{key_id}` and `{endpoint}`."""

    template: str
    needs_key: bool = True
    """False: it may stand beside others that hold the key"""

    def __post_init__(self) -> None:
        try:
            names = {name for _, name, _, _ in Formatter().parse(self.template) if name is not None}
        except ValueError as problem:
            raise Misconfigured(f"the template is not well formed ({problem}): write {{{{ and }}}} for literal braces") from None
        unknown = sorted(names - set(_FIELDS))
        if unknown or (self.needs_key and "key" not in names):
            raise Misconfigured("a template holds {key}, and besides it only {key_id} and {endpoint}; write {{ and }} for literal braces")

    def find_secret(self, text: str) -> Secret | None:
        """The first key in the text."""
        found = _KEY.search(text)
        return _parse(found.group()) if found else None

    def is_taken(self, text: str) -> bool:
        """Whether something stands where we want to write."""
        return bool(text.strip())

    def write(self, text: str, delivery: Delivery) -> Written:  # noqa: ARG002
        """The template, filled in."""
        values = {"key": delivery.secret.reveal(), "key_id": str(delivery.secret.key_id), "endpoint": delivery.endpoint}
        return Written(self.template.format_map(values))

    def erase(self, text: str, inserted: Mapping[str, Any] | None) -> str | None:  # noqa: ARG002
        """Nothing is left."""
        return None


RAW_KEY = TemplateContent("{key}\n")
HEADER_VALUE = TemplateContent("Bearer {key}\n")


@dataclass(frozen=True, slots=True)
class ClientContent:
    """One entry of an MCP client's configuration; every other byte is somebody else's."""

    client: Client
    server: str

    def find_secret(self, text: str) -> Secret | None:
        """The key in our entry's header."""
        value = ClientDocument(self.client, text).header_value(self.server)
        scheme, _, key = (value or "").partition(" ")
        return _parse(key) if scheme.lower() == "bearer" else None

    def is_taken(self, text: str) -> bool:
        """Whether an entry of our name is there."""
        return ClientDocument(self.client, text).entry(self.server) is not None

    def write(self, text: str, delivery: Delivery) -> Written:
        """The text with our entry in it."""
        edit = ClientDocument(self.client, text).with_key(self.server, delivery.endpoint, f"Bearer {delivery.secret.reveal()}")
        return Written(edit.text, edit.inserted.to_dict() if edit.inserted else None)

    def erase(self, text: str, inserted: Mapping[str, Any] | None) -> str | None:
        """The text without our entry: its original bytes where what was inserted is still intact."""
        run = Insertion.from_dict(inserted) if inserted else None
        return ClientDocument(self.client, text).without(self.server, run).text


def _parse(value: str) -> Secret | None:
    try:
        return Secret(value)
    except MalformedKey:
        return None


def refuse_foreign(what: str) -> Refused:
    """The error for something under our name that is not ours (R15)."""
    return Refused(
        f"{what} holds something under our name that rotator did not write: rename it, remove it, or set `adopt: true` on the target",
        reason=Reason.FOREIGN_ENTRY,
    )
