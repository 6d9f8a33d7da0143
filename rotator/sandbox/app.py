"""The sandbox's paths, and the application made of them."""

from __future__ import annotations

import secrets

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rotator.sandbox import admin, control, mcp, rest
from rotator.sandbox.clock import ServiceClock
from rotator.sandbox.endpoint import Action, Aftermath, Answer, Endpoint
from rotator.sandbox.exchange import Denied, build_refusal
from rotator.sandbox.service import Service
from rotator.sandbox.settings import SandboxSettings

_PATHS: dict[str, dict[str, tuple[str, Answer]]] = {
    "/mcp": {"POST": ("mcp", mcp.answer_project)},
    "/mcp/account": {"POST": ("mcp_account", mcp.answer_account)},
    "/admin/v1/keys": {"POST": ("mint", admin.answer_mint), "GET": ("list", admin.answer_list)},
    "/admin/v1/keys/{id}": {"DELETE": ("revoke", admin.answer_revoke)},
    "/admin/v1/session": {"POST": ("session", admin.answer_session)},
    "/v1/stats": {"GET": ("stats", rest.answer_stats)},
    "/v1/query": {"GET": ("query", rest.answer_query)},
    "/v1/sources": {"GET": ("sources", rest.answer_sources)},
    "/v1/track": {"POST": ("track", rest.answer_track)},
    "/v1/batch": {"POST": ("batch", rest.answer_batch)},
    "/v1/identify": {"POST": ("identify", rest.answer_identify)},
    "/v1/forget": {"POST": ("forget", rest.answer_forget)},
    "/sandbox/keys": {"GET": ("control", control.answer_keys)},
    "/sandbox/stats": {"GET": ("control", control.answer_counts)},
    "/sandbox/faults": {
        "GET": ("control", control.answer_faults),
        "PUT": ("control", control.answer_new_faults),
        "DELETE": ("control", control.answer_no_faults),
    },
    "/sandbox/settings": {"GET": ("control", control.answer_settings), "PUT": ("control", control.answer_new_settings)},
    "/sandbox/flush": {"POST": ("control", control.answer_flush)},
    "/sandbox/advance": {"POST": ("control", control.answer_advance)},
    "/elsewhere": dict.fromkeys(("GET", "POST", "PUT", "DELETE"), ("elsewhere", control.answer_elsewhere)),
}
"""Path, method, operation, answer; the most used first, because routes are tried in this order."""


def build_app(settings: SandboxSettings, *, admin_token: str | None = None, clock: ServiceClock | None = None) -> Starlette:
    """The ASGI application. Without `admin_token` a random one is made, and nobody knows it.

    `app.state.service` is its `Service`, `app.state.aftermath` what outlives its requests. Dropping connections needs
    `DroppableProtocol`.
    """
    service = Service(settings, admin_token or secrets.token_urlsafe(32), clock or ServiceClock())
    aftermath = Aftermath()
    routes = []
    for path, methods in _PATHS.items():
        actions = {method: Action(operation, answer) for method, (operation, answer) in methods.items()}
        routes.append(Route(path, Endpoint(service, aftermath, actions)))
    app = Starlette(routes=routes, exception_handlers={404: _answer_unknown_path, Exception: _answer_fault_of_ours})
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.aftermath = aftermath
    return app


async def _answer_unknown_path(_request: Request, _error: Exception) -> Response:
    return _render(Denied(404, "not_found"))


async def _answer_fault_of_ours(_request: Request, _error: Exception) -> Response:
    return _render(Denied(500, "internal_error"))


def _render(denied: Denied) -> Response:
    reply = build_refusal(denied)
    return Response(reply.body, reply.status, media_type="application/json")
