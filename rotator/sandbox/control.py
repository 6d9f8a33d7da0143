"""The control API under `/sandbox/`: what a test may see and change. Wants the static admin token; 401 invalid_session without it.

GET    /sandbox/keys       ?label_prefix=…  200 {"keys": [{…as listed by the admin API, "uses", "workers": [{"worker", "cache":
                           absent|verified|refused, "expires_in": seconds or null, "accepts": whether it would take the key now}]}]}
GET    /sandbox/stats      200 {"requests", "operations": {operation: {status or "dropped": n}}, "methods": {JSON-RPC method: n},
                           "elsewhere": {"requests", "with_authorization"}}
GET    /sandbox/faults     200 {"rules": [{…rule, "applied": n}], "late_pending": effects still to happen}
PUT    /sandbox/faults     {"rules": [rule…], "seed": n}, or the bare list, replaces them all; fields: `rotator.sandbox.faults`
DELETE /sandbox/faults     no faults from now on
GET    /sandbox/settings   200 the live settings
PUT    /sandbox/settings   {setting: value…} changes some
POST   /sandbox/flush      empties the workers' key caches
POST   /sandbox/advance    {"seconds": n} makes caches, sessions, buckets and propagation older; the Date stays
"""

from __future__ import annotations

from rotator.domain.errors import Misconfigured
from rotator.sandbox.exchange import Call, Denied, Reply, build_reply, parse_json
from rotator.sandbox.faults import parse_rules
from rotator.sandbox.service import Service
from rotator.sandbox.settings import LIVE_SETTINGS, build_changed


def answer_keys(service: Service, call: Call) -> Reply:
    """`GET /sandbox/keys`."""
    service.sessions.require_admin(call.bearer())
    keys = service.keys.listed(call.arguments().get("label_prefix", ""))
    return build_reply({"keys": [service.keys.truth(key) for key in keys]})


def answer_counts(service: Service, call: Call) -> Reply:
    """`GET /sandbox/stats`."""
    service.sessions.require_admin(call.bearer())
    return build_reply(service.stats())


def answer_faults(service: Service, call: Call) -> Reply:
    """`GET /sandbox/faults`."""
    service.sessions.require_admin(call.bearer())
    return build_reply(service.faults.document())


def answer_new_faults(service: Service, call: Call) -> Reply:
    """`PUT /sandbox/faults`."""
    service.sessions.require_admin(call.bearer())
    body = parse_json(call.body)
    seed = body.get("seed") if isinstance(body, dict) else None
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise Denied(400, "invalid_payload", {"seed": "must be a whole number"})
    service.faults.replace(parse_rules(body), seed)
    return build_reply(service.faults.document())


def answer_no_faults(service: Service, call: Call) -> Reply:
    """`DELETE /sandbox/faults`."""
    service.sessions.require_admin(call.bearer())
    service.faults.replace([])
    return build_reply(service.faults.document())


def answer_settings(service: Service, call: Call) -> Reply:
    """`GET /sandbox/settings`."""
    service.sessions.require_admin(call.bearer())
    return _render_settings(service)


def answer_new_settings(service: Service, call: Call) -> Reply:
    """`PUT /sandbox/settings`."""
    service.sessions.require_admin(call.bearer())
    try:
        service.apply(build_changed(service.settings, call.payload()))
    except Misconfigured as error:
        raise Denied(400, "invalid_payload", {"settings": str(error)}) from None
    return _render_settings(service)


def answer_flush(service: Service, call: Call) -> Reply:
    """`POST /sandbox/flush`."""
    service.sessions.require_admin(call.bearer())
    service.keys.flush()
    return build_reply({"ok": True})


def answer_advance(service: Service, call: Call) -> Reply:
    """`POST /sandbox/advance`."""
    service.sessions.require_admin(call.bearer())
    seconds = call.payload().get("seconds")
    if not isinstance(seconds, int | float) or isinstance(seconds, bool) or not 0 <= seconds <= 1e9:
        raise Denied(400, "invalid_payload", {"seconds": "must be a number, 0 or more"})
    service.clock.advance(seconds)
    return build_reply({"ok": True})


def answer_elsewhere(service: Service, call: Call) -> Reply:
    """Where redirects lead: counts who followed one, and whether a token came along."""
    service.elsewhere["requests"] += 1
    service.elsewhere["with_authorization"] += call.bearer() is not None
    return build_reply({"ok": True})


def _render_settings(service: Service) -> Reply:
    return build_reply({name: getattr(service.settings, name) for name in sorted(LIVE_SETTINGS)})
