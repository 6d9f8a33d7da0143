"""Requests written as configuration, and where things stand in the answers.

A placeholder is `{name}`; there is no other syntax, no attribute access and no expression. In paths and queries every value is quoted,
so that a label with slashes, spaces or letters of any alphabet stays one piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

from pydantic import JsonValue

from rotator.domain.errors import Refused

__all__ = ["Values", "ensure_placeholders", "fill", "fill_json", "fill_path", "fill_query", "find_at", "find_text", "gather_at"]

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")

Values = Mapping[str, str | None]
"""Name of a placeholder → its value; None: there is none, and what would need it is left out."""


def placeholders(template: JsonValue) -> Iterator[str]:
    """The names of all placeholders in a text, or in the texts of a JSON document."""
    if isinstance(template, str):
        yield from _PLACEHOLDER.findall(template)
    elif isinstance(template, dict):
        for value in template.values():
            yield from placeholders(value)
    elif isinstance(template, list):
        for value in template:
            yield from placeholders(value)


def ensure_placeholders(template: JsonValue, allowed: Iterable[str], where: str) -> None:
    """Raises `ValueError` for a placeholder that does not exist here."""
    known = sorted(allowed)
    for name in placeholders(template):
        if name not in known:
            raise ValueError(f"{where}: there is no placeholder {{{name}}} here; known are {', '.join(f'{{{one}}}' for one in known)}")


def fill(template: str, values: Values) -> str | None:
    """The text with its placeholders replaced, None where a value is missing."""
    if any(values.get(name) is None for name in _PLACEHOLDER.findall(template)):
        return None
    return _PLACEHOLDER.sub(lambda match: values[match[1]] or "", template)


def fill_path(template: str, values: Values) -> str:
    """The path, each value quoted as one segment's part. Raises `Refused` for a missing value, or one that would change the path."""

    def quoted(match: re.Match[str]) -> str:
        value = values.get(match[1])
        if not value or value in {".", ".."}:
            raise Refused(f"the path {template} needs a {match[1]}, and there is none that can stand in a path")
        return quote(value, safe="")

    return _PLACEHOLDER.sub(quoted, template)


def fill_query(templates: Mapping[str, str], values: Values) -> str:
    """`?name=value&…`, quoted, without the members whose value is missing; empty where none is left."""
    filled = ((name, fill(template, values)) for name, template in templates.items())
    members = [f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in filled if value is not None]
    return "?" + "&".join(members) if members else ""


def fill_json(template: JsonValue, values: Values) -> JsonValue:
    """The document with its texts filled, without the members of objects whose value is missing."""
    if isinstance(template, str):
        return fill(template, values)
    if isinstance(template, dict):
        filled = {name: fill_json(value, values) for name, value in template.items()}
        return {name: value for name, value in filled.items() if value is not None or template[name] is None}
    if isinstance(template, list):
        return [fill_json(value, values) for value in template]
    return template


def gather_at(document: object, path: str) -> list[object]:
    """Everything that stands at a dotted path; `*` is every member of an array or object. An empty path is the document itself."""
    found = [document]
    for step in path.split(".") if path else ():
        found = [inner for outer in found for inner in _members(outer, step)]
    return found


def find_at(document: object, path: str) -> object | None:
    """What stands at a dotted path, None where nothing or null does."""
    return next(iter(gather_at(document, path)), None)


def find_text(document: object, where: str) -> str | None:
    """A text or number at a dotted path; `where` may also be a template of such paths, as in `{kind}_{env}_{prefix}`."""
    if "{" in where:
        return fill(where, {name: find_text(document, name) for name in placeholders(where)})
    value = find_at(document, where)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def _members(document: object, step: str) -> list[object]:
    if isinstance(document, dict):
        return list(document.values()) if step == "*" else [document[step]] if step in document else []
    if isinstance(document, list):
        if step == "*":
            return document
        return [document[int(step)]] if step.isascii() and step.isdigit() and int(step) < len(document) else []
    return []
