"""The REST endpoints under `/v1`, as far as a stand-in needs them. Answers other than errors are our assumption."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rotator.domain.keys import Kind
from rotator.sandbox import events
from rotator.sandbox.events import Project, parse_event
from rotator.sandbox.exchange import Call, Denied, Reply, build_reply
from rotator.sandbox.keyring import MintedKey
from rotator.sandbox.service import Service

_MOST_IN_BATCH = 1000

Read = Callable[[list[Project], dict[str, Any]], dict[str, Any]]


def answer_stats(service: Service, call: Call) -> Reply:
    """`GET /v1/stats`: counts; works on every plan."""
    return _read(service, call, events.get_stats)


def answer_query(service: Service, call: Call) -> Reply:
    """`GET /v1/query`: events."""
    return _read(service, call, events.query_events)


def answer_sources(service: Service, call: Call) -> Reply:
    """`GET /v1/sources`: top sources."""
    return _read(service, call, events.top_sources)


def answer_track(service: Service, call: Call) -> Reply:
    """`POST /v1/track`: one event."""
    project = _writable_project(service, call)
    service.buckets.take(project.slug, "track")
    project.events.append(parse_event(call.payload(), service.clock.wall()))
    return build_reply({"ok": True}, 202)


def answer_batch(service: Service, call: Call) -> Reply:
    """`POST /v1/batch`: `{"events": [...]}`, at most 1000, all or none."""
    project = _writable_project(service, call)
    service.buckets.take(project.slug, "batch")
    batch = call.payload().get("events")
    if not isinstance(batch, list) or not 0 < len(batch) <= _MOST_IN_BATCH:
        raise Denied(400, "invalid_payload", {"events": f"must be a list of 1 to {_MOST_IN_BATCH} events"})
    now = service.clock.wall()
    project.events.extend([parse_event(event, now) for event in batch])
    return build_reply({"ok": True, "accepted": len(batch)}, 202)


def answer_identify(service: Service, call: Call) -> Reply:
    """`POST /v1/identify`: `{"user_id": …}`; nothing is kept of it."""
    _writable_project(service, call)
    _user_id(call)
    return build_reply({"ok": True}, 202)


def answer_forget(service: Service, call: Call) -> Reply:
    """`POST /v1/forget`: `{"user_id": …}`; sk only."""
    key = service.verify(call)
    if key.key_id.kind is not Kind.SK:
        raise Denied(403, "forget_requires_secret_key")
    gone = events.forget_user(service.warehouse.ensure(key.project), _user_id(call))
    return build_reply({"ok": True, "deleted": gone})


def _read(service: Service, call: Call, read: Read) -> Reply:
    key = service.verify(call)
    if key.key_id.kind is Kind.PK:
        raise Denied(403, "insufficient_scope")
    return build_reply(read(service.visible_projects(key), dict(call.arguments())))


def _writable_project(service: Service, call: Call) -> Project:
    key: MintedKey = service.verify(call)
    if key.key_id.kind not in (Kind.SK, Kind.PK):
        raise Denied(403, "insufficient_scope")
    origin = call.headers.get(b"origin", b"").decode("latin-1")
    if key.key_id.kind is Kind.PK and origin not in service.settings.origins:
        raise Denied(403, "origin_not_allowed")
    return service.warehouse.ensure(key.project)


def _user_id(call: Call) -> str:
    user_id = call.payload().get("user_id")
    if not isinstance(user_id, str) or not user_id:
        raise Denied(400, "invalid_payload", {"user_id": "must be text"})
    return user_id
