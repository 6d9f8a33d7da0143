"""The MCP tools and resources of the stand-in: their descriptions, and what they do.

Names and which kind lists them are published; input schemas and result shapes are our assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rotator.domain.keys import PUBLISHED_TOOLS, Kind
from rotator.sandbox import events
from rotator.sandbox.events import EVENT_SCHEMA, Project
from rotator.sandbox.exchange import render_json

Arguments = Mapping[str, Any]

_SPAN: dict[str, Any] = {
    "from": {"type": "string", "description": "ISO 8601, inclusive"},
    "to": {"type": "string", "description": "ISO 8601, exclusive"},
}
_LIMIT: dict[str, Any] = {"limit": {"type": "integer", "minimum": 1, "maximum": 1000}}
_WHICH: dict[str, Any] = {
    "project_id": {"type": "string"},
    "project_slug": {"type": "string"},
    "project_ids": {"type": "array", "items": {"type": "string"}},
}
_FILTER: dict[str, Any] = {"event": {"type": "string"}, "user_id": {"type": "string"}}
_GROUP: dict[str, Any] = {"group_by": {"type": "string", "enum": list(events.GROUPS)}}
_STEPS: dict[str, Any] = {"steps": {"type": "array", "items": {"type": "string"}, "minItems": 1}}

_DESCRIPTIONS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "track_event": ("Record one event", EVENT_SCHEMA["properties"], ["event"]),
    "query_events": ("List events, newest first", {**_SPAN, **_FILTER, **_LIMIT}, []),
    "get_stats": ("Count events, in total and by group", {**_SPAN, **_GROUP}, []),
    "top_sources": ("The sources that bring the most events", {**_SPAN, **_LIMIT}, []),
    "funnel": ("How many users did these events in this order", {**_SPAN, **_STEPS}, ["steps"]),
    "list_projects": ("List the account's projects", {}, []),
    "compare_projects": ("Event counts of several projects, side by side", {**_SPAN, "project_ids": _WHICH["project_ids"]}, []),
}
_ORDER = tuple(_DESCRIPTIONS)

READS: dict[str, Callable[[list[Project], Arguments], dict[str, Any]]] = {
    "query_events": events.query_events,
    "get_stats": events.get_stats,
    "top_sources": events.top_sources,
    "funnel": events.funnel,
}
"""Tools that only read, over the projects given."""

_ON_ACCOUNT = frozenset({"query_events", "get_stats", "top_sources"})


def _build_description(name: str, *, account: bool) -> dict[str, Any]:
    title, properties, required = _DESCRIPTIONS[name]
    if account and name in _ON_ACCOUNT:
        properties = {**properties, **_WHICH}
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return {"name": name, "description": title, "inputSchema": schema, "annotations": {"readOnlyHint": name != "track_event"}}


def _build_list(kind: Kind) -> bytes:
    listed = [name for name in _ORDER if name in PUBLISHED_TOOLS[kind]]
    return render_json({"tools": [_build_description(name, account=kind is Kind.AK) for name in listed]})


TOOL_LISTS: dict[Kind, bytes] = {kind: _build_list(kind) for kind in Kind}
"""The result of tools/list by kind, as JSON: the call that is made most is rendered once."""


def list_projects(projects: list[Project]) -> dict[str, Any]:
    """`{"projects": [...]}`."""
    return {"projects": [project.document() for project in projects]}


def compare_projects(projects: list[Project], arguments: Arguments) -> dict[str, Any]:
    """`{"projects": [{"project_id", "project_slug", "total", "unique_users"}]}`."""
    compared = []
    for project in projects:
        stats = events.get_stats([project], {name: arguments.get(name) for name in ("from", "to")})
        compared.append(
            {
                "project_id": project.id,
                "project_slug": project.slug,
                "total": stats["total"],
                "unique_users": stats["unique_users"],
            }
        )
    return {"projects": compared}


def _build_resource(uri: str, name: str, description: str) -> dict[str, str]:
    return {"uri": uri, "name": name, "description": description, "mimeType": "application/json"}


_SCHEMA_RESOURCE = _build_resource("schema://events", "schema", "JSON Schema of an event")
PROJECT_RESOURCES = [_build_resource("events://recent", "recent", "The newest events"), _SCHEMA_RESOURCE]
ACCOUNT_RESOURCES = [_build_resource("projects://all", "projects", "The account's projects"), _SCHEMA_RESOURCE]


def find_resource(uri: str, projects: list[Project], *, account: bool) -> dict[str, Any] | None:
    """What the resource holds."""
    if uri == "schema://events":
        return EVENT_SCHEMA
    if uri == "events://recent" and not account:
        return events.query_events(projects, {"limit": 50})
    if uri == "projects://all" and account:
        return list_projects(projects)
    return None
