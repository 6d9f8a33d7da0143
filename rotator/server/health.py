"""Health and metrics: the paths outside the API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import APIRouter, FastAPI, Request
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, Response

from rotator.metrics import Metrics
from rotator.server import schemas
from rotator.server.access import NEEDS_VIEWER
from rotator.server.dependencies import ServerDependencies
from rotator.server.guards import Envelope
from rotator.server.problems import add_problem_answers, build_problem

_NOT_READY = 503


def build_health(deps: ServerDependencies) -> APIRouter:
    """`/healthz`, `/readyz`, `/readyz/{part}` (open) and `/metrics` (viewer)."""
    router = APIRouter()
    router.add_api_route("/healthz", _answer_alive, methods=["GET"], summary="The process is alive", include_in_schema=False)
    answer_metrics = _build_metrics_answer(deps.metrics)

    @router.get("/readyz", include_in_schema=False)
    def readyz() -> Response:
        ready, parts = deps.readiness.report()
        reports = {name: schemas.PartReport(ready=part.ready, reason=part.reason) for name, part in parts.items()}
        body = schemas.ReadinessReport(ready=ready, parts=reports)
        return JSONResponse(body.model_dump(mode="json"), 200 if ready else _NOT_READY)

    @router.get("/readyz/{part}", include_in_schema=False)
    def readyz_part(part: str) -> Response:
        status = deps.readiness.find(part)
        if status is None:
            return build_problem(404, "not-found", "the daemon has no such part: /readyz names them all", 2)
        body = schemas.PartReport(ready=status.ready, reason=status.reason)
        return JSONResponse(body.model_dump(mode="json"), 200 if status.ready else _NOT_READY)

    @router.get("/metrics", include_in_schema=False, dependencies=[NEEDS_VIEWER])
    async def metrics(request: Request) -> Response:
        return await answer_metrics(request)

    return router


def build_metrics_app(metrics: Metrics) -> FastAPI:
    """`/metrics` alone, open: for a port of its own."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, middleware=[Middleware(Envelope)])
    app.add_api_route("/metrics", _build_metrics_answer(metrics), methods=["GET"])
    app.add_api_route("/healthz", _answer_alive, methods=["GET"])
    add_problem_answers(app)
    return app


async def _answer_alive() -> Response:
    # No thread is needed to answer this, so that requests which wait for a store never make the process look dead.
    return JSONResponse({"alive": True})


def _build_metrics_answer(metrics: Metrics) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        body, content_type = await run_in_threadpool(metrics.render, request.headers.get("accept"))
        return Response(body, headers={"Content-Type": content_type})

    return answer
