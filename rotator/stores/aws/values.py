"""The key in a secret's value: the value itself, or one field of a JSON object whose other bytes stay as they are. Pure."""

from __future__ import annotations

import json

from rotator.domain.errors import MalformedKey, Misconfigured
from rotator.domain.secret import Secret
from rotator.mcp.errors import DocumentError, UneditableDocument
from rotator.mcp.scanner import Dialect
from rotator.mcp.spans import find, put

__all__ = ["find_key", "render_blank", "render_value"]

_JSON = Dialect("json", bom=False)


def find_key(text: str | None, key_field: str | None, where: str) -> Secret | None:
    """The key that consumers find; None where the value is empty, or its field is. `where` names the secret in `Misconfigured`, which
    never repeats what stands there."""
    if text is None:
        raise Misconfigured(f"{where} holds binary data: put the key there as text")
    value = text if key_field is None else _find_field(text, key_field, where)
    if value is None or not value.strip():
        return None
    try:
        return Secret(value)
    except MalformedKey as problem:
        field = "" if key_field is None else f" in field {key_field!r}"
        raise Misconfigured(f"{where} holds something else than a key{field}: {problem}; put a key there, or empty it") from None


def render_value(text: str | None, key_field: str | None, secret: Secret, where: str) -> str:
    """The value with another key. Key material in the open: it goes into a secret and nowhere else."""
    if key_field is None:
        return secret.reveal()
    try:
        return put(text if text and text.strip() else "{}", [key_field], secret.reveal(), _JSON).text
    except DocumentError as problem:
        raise Misconfigured(f"{where}: the value is not a JSON object with room for {key_field!r}: {problem}") from None


def render_blank(key_field: str | None) -> str:
    """A value without a key; AWS takes no empty one."""
    return " " if key_field is None else "{}"


def _find_field(text: str, key_field: str, where: str) -> str | None:
    if not text.strip():
        return None
    try:
        root = find(text, [], _JSON)
        found = find(text, [key_field], _JSON)
        if root is None or root.kind != "{":
            raise UneditableDocument("it is no object")
    except DocumentError as problem:
        raise Misconfigured(
            f"{where}: the value is not a JSON object with one field {key_field!r} ({problem}): correct it, or set `key_field: null` for a "
            "value that is the key itself"
        ) from None
    if found is None:
        return None
    value = json.loads(text[found.start : found.end])
    if value is None:
        return None
    if not isinstance(value, str):
        raise Misconfigured(f"{where}: field {key_field!r} is not text: put the key there in quotes")
    return value
