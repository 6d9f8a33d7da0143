"""The admin API: minting, listing and revoking keys. OUR ASSUMPTION: the service publishes no such API.

All of it takes and answers JSON and wants `Authorization: Bearer <session access token or static admin token>`; without one that is
valid: 401 `{"error": "invalid_session"}`. Times are ISO 8601 in UTC with a Z.

    POST   /admin/v1/keys             {"kind": "rk", "env": "live", "project": "default", "label": "installation/uid/attempt"}
                                      env, project and label may be left out ("live", "default", "")
                                      201 {"id", "key", "kind", "env", "project", "label", "created_at"}; `key` is shown this once
                                      400 invalid_payload: unknown kind, or a field of the wrong shape
    GET    /admin/v1/keys             ?label_prefix=…&limit=200&cursor=…
                                      200 {"keys": [{"id", "kind", "env", "project", "label", "created_at", "revoked_at",
                                                     "last_used_at"}], "next_cursor": null or text}, in the order of minting,
                                      revoked ones too; limit is 1 to 1000; 400 invalid_params
    DELETE /admin/v1/keys/{id}        200 {"id", "revoked_at"}; again: the same; 404 {"error": "unknown_key"}
    POST   /admin/v1/session          {"refresh_token": …} without Authorization
                                      200 {"access_token", "token_type": "bearer", "expires_in": seconds}; 401 invalid_session
"""

from __future__ import annotations

import re
from itertools import islice

from rotator.domain.keys import Kind
from rotator.sandbox.clock import render_time
from rotator.sandbox.events import parse_limit
from rotator.sandbox.exchange import Call, Denied, Reply, build_reply
from rotator.sandbox.service import Service

_ENV = re.compile(r"[a-z][a-z0-9]{0,31}\Z")
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")
_LONGEST_LABEL = 512
_PAGE = 200


def answer_mint(service: Service, call: Call) -> Reply:
    """`POST /admin/v1/keys`."""
    service.sessions.require_session(call.bearer())
    body = call.payload()
    kind = body.get("kind")
    if kind not in tuple(Kind):
        raise Denied(400, "invalid_payload", {"kind": f"must be one of {', '.join(Kind)}"})
    env = _matching(body.get("env", "live"), "env", _ENV)
    project = _matching(body.get("project", "default"), "project", _PROJECT)
    label = body.get("label", "")
    if not isinstance(label, str) or len(label) > _LONGEST_LABEL or not label.isprintable():
        raise Denied(400, "invalid_payload", {"label": f"must be text in one line, of at most {_LONGEST_LABEL} characters"})
    key, full = service.keys.mint(Kind(kind), env, project, label)
    if key.key_id.kind is not Kind.AK:
        service.warehouse.ensure(project)
    shown = key.document()
    minted = {name: shown[name] for name in ("id", "kind", "env", "project", "label", "created_at")}
    return build_reply({**minted, "key": full}, 201)


def answer_list(service: Service, call: Call) -> Reply:
    """`GET /admin/v1/keys`."""
    service.sessions.require_session(call.bearer())
    arguments = call.arguments()
    limit = parse_limit(arguments, default=_PAGE)
    cursor = arguments.get("cursor", "") or "-1"
    if not re.fullmatch(r"-1|[0-9]{1,12}", cursor, re.ASCII):
        raise Denied(400, "invalid_params", {"cursor": "must be a next_cursor of this list"})
    page = list(islice(service.keys.listed(arguments.get("label_prefix", ""), int(cursor)), limit + 1))
    more = str(page[limit - 1].seq) if len(page) > limit else None
    return build_reply({"keys": [key.document() for key in page[:limit]], "next_cursor": more})


def answer_revoke(service: Service, call: Call) -> Reply:
    """`DELETE /admin/v1/keys/{id}`."""
    service.sessions.require_session(call.bearer())
    key = service.keys.find(call.params["id"])
    if key is None:
        raise Denied(404, "unknown_key")
    return build_reply({"id": str(key.key_id), "revoked_at": render_time(service.keys.revoke(key))})


def answer_session(service: Service, call: Call) -> Reply:
    """`POST /admin/v1/session`."""
    token = call.payload().get("refresh_token")
    if not isinstance(token, str):
        raise Denied(400, "invalid_payload", {"refresh_token": "must be text"})
    ttl = service.settings.session_ttl
    access = service.sessions.open(token, ttl)
    return build_reply({"access_token": access, "token_type": "bearer", "expires_in": int(ttl) if ttl >= 1 else ttl})


def _matching(value: object, name: str, shape: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not shape.match(value):
        raise Denied(400, "invalid_payload", {name: "is not of the expected shape"})
    return value
