"""The application: routes behind guards. Nothing here listens; `listening` does."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware import Middleware

from rotator import __version__
from rotator.server.api import build_api, build_hooks
from rotator.server.dependencies import ServerDependencies
from rotator.server.gathering import Gatherer
from rotator.server.guards import Envelope, Gate
from rotator.server.health import build_health, build_metrics_app
from rotator.server.measure import Measurer
from rotator.server.problems import add_problem_answers


def build_app(deps: ServerDependencies) -> FastAPI:
    """The whole server. `app.state.metrics_app` is what a metrics port of its own serves. The metrics read from these dependencies."""
    gatherer = Gatherer(deps.queries, lambda: deps.engine.credentials, lambda store: deps.readiness.find_away(f"store:{store}"))
    measurer = Measurer(gatherer, deps.clock, deps.find_rejected, deps.supplying.count_spares)
    deps.metrics.watch(measurer.read_state, deps.engine.queue.lengths)
    app = FastAPI(
        title="rotator",
        version=__version__,
        description="Keeps Millimetric API keys fresh. Every request carries `Authorization: Bearer TOKEN`.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        middleware=[Middleware(Envelope), Middleware(Gate, tokens=deps.tokens)],
    )
    app.include_router(build_api(deps, gatherer))
    app.include_router(build_hooks(deps))
    app.include_router(build_health(deps))
    add_problem_answers(app)
    app.state.metrics_app = build_metrics_app(deps.metrics)
    return app
