"""`/api/v1`: each endpoint is one call on the engine or one read of the journal. Endpoints block, so they run in worker threads."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query

from rotator import __version__
from rotator.domain.errors import RotatorError
from rotator.domain.keys import parse_key_id
from rotator.engine import operations
from rotator.engine.operations import UnknownCredential
from rotator.server import schemas
from rotator.server.access import NEEDS_ADMIN, NEEDS_HOOK, NEEDS_OPERATOR, NEEDS_VIEWER, CallerOf
from rotator.server.dependencies import ServerDependencies
from rotator.server.gathering import Gatherer
from rotator.server.plans import build_plan
from rotator.server.problems import NotFound
from rotator.server.statuses import build_event, build_retirement, build_rotation, build_status
from rotator.server.supplies import build_pool, build_received

_PROBLEMS: dict[int | str, dict[str, object]] = {"default": {"model": schemas.Problem, "description": "Anything but success."}}


def build_api(deps: ServerDependencies, gatherer: Gatherer) -> APIRouter:
    """All of it."""
    router = APIRouter(prefix="/api/v1", responses=_PROBLEMS)
    _add_credentials(router, deps, gatherer)
    _add_operations(router, deps)
    _add_supplies(router, deps)
    _add_history(router, deps, gatherer)
    _add_daemon(router, deps)
    return router


def _add_credentials(router: APIRouter, deps: ServerDependencies, gatherer: Gatherer) -> None:
    @router.get("/credentials", dependencies=[NEEDS_VIEWER], summary="Every credential")
    def list_credentials() -> schemas.Statuses:
        now = deps.clock.now()
        return schemas.Statuses(credentials=tuple(build_status(known, now) for known in gatherer.gather_all()))

    @router.get("/credentials/{name}", dependencies=[NEEDS_VIEWER], summary="One credential")
    def get_credential(name: str) -> schemas.Status:
        known = gatherer.find_one(name)
        if known is None:
            raise _unknown(name, deps)
        return build_status(known, deps.clock.now())

    @router.get("/credentials/{name}/plan", dependencies=[NEEDS_VIEWER], summary="What would happen now and next")
    def get_plan(name: str) -> schemas.Plan:
        return build_plan(deps.operations.plan(name))


def _add_operations(router: APIRouter, deps: ServerDependencies) -> None:
    verbs = deps.operations

    @router.post("/credentials/{name}/rotate", dependencies=[NEEDS_OPERATOR], summary="Rotate now")
    def rotate(name: str, caller: CallerOf, wish: schemas.RotateRequest | None = None) -> schemas.Accepted:
        return _accepted(verbs.rotate(name, emergency=wish is not None and wish.emergency, who=caller.name))

    @router.post("/credentials/{name}/sync", dependencies=[NEEDS_OPERATOR], summary="Bring targets to the current key")
    def sync(name: str, caller: CallerOf) -> schemas.Accepted:
        return _accepted(verbs.sync(name, caller.name))

    @router.post("/credentials/{name}/retry", dependencies=[NEEDS_OPERATOR], summary="Look again at what is parked")
    def retry(name: str, caller: CallerOf) -> schemas.Accepted:
        return _accepted(verbs.retry(name, caller.name))

    @router.post("/credentials/{name}/abandon", dependencies=[NEEDS_OPERATOR], summary="Give the open rotation up")
    def abandon(name: str, caller: CallerOf) -> schemas.Accepted:
        return _accepted(verbs.abandon(name, caller.name))

    @router.post("/credentials/{name}/rollback", dependencies=[NEEDS_OPERATOR], summary="Promote the former key while it lives")
    def rollback(name: str, caller: CallerOf) -> schemas.Accepted:
        return _accepted(verbs.rollback(name, caller.name))

    @router.post("/credentials/{name}/adopt", dependencies=[NEEDS_OPERATOR], summary="Accept what the store holds")
    def adopt(name: str, caller: CallerOf) -> schemas.Accepted:
        return _accepted(verbs.adopt(name, caller.name))

    @router.post("/targets/{target}/withdraw", dependencies=[NEEDS_OPERATOR], summary="Take a credential's key out of a former target")
    def withdraw(target: str, wish: schemas.WithdrawRequest, caller: CallerOf) -> schemas.Accepted:
        return _accepted(verbs.withdraw(target, wish.credential, caller.name))

    @router.post("/leak", dependencies=[NEEDS_OPERATOR], summary="Report a leaked key")
    def leak(report: schemas.LeakReport, caller: CallerOf) -> schemas.AcceptedLeak:
        accepted = verbs.leak(secret=report.key, key_id=report.key_id, who=caller.name)
        return schemas.AcceptedLeak(accepted=tuple(_accepted(one) for one in accepted))


def _add_supplies(router: APIRouter, deps: ServerDependencies) -> None:
    supplying = deps.supplying

    @router.post("/credentials/{name}/submit", dependencies=[NEEDS_OPERATOR], summary="Hand in a key for a credential")
    def submit(name: str, brought: schemas.SubmitRequest, caller: CallerOf) -> schemas.ReceivedKey:
        return build_received(supplying.submit(name, brought.key, caller.name))

    @router.post("/pools/{issuer}/spares", dependencies=[NEEDS_OPERATOR], summary="Add spare keys to a pool")
    def add_spares(issuer: str, brought: schemas.SparesRequest, caller: CallerOf) -> schemas.ReceivedKeys:
        received = supplying.add_spares(issuer, brought.keys, brought.project, caller.name)
        return schemas.ReceivedKeys(received=tuple(build_received(one) for one in received))

    @router.post("/pools/{issuer}/strike", dependencies=[NEEDS_OPERATOR], summary="Strike a spare key off a pool")
    def strike(issuer: str, struck: schemas.StrikeRequest, caller: CallerOf) -> schemas.Accepted:
        return _accepted(deps.operations.strike(issuer, struck.key_id, caller.name))

    @router.get("/pools/{issuer}/spares", dependencies=[NEEDS_VIEWER], summary="The spare keys of a pool")
    def list_spares(issuer: str) -> schemas.PoolRow:
        return build_pool(issuer, supplying.read_pool(issuer))

    @router.get("/pools", dependencies=[NEEDS_VIEWER], summary="Every pool")
    def list_pools() -> schemas.Pools:
        return schemas.Pools(pools=tuple(_look_at_pool(name, deps) for name in sorted(supplying.find_pools())))


def _look_at_pool(name: str, deps: ServerDependencies) -> schemas.PoolRow:
    try:
        return build_pool(name, deps.supplying.read_pool(name))
    except RotatorError as problem:  # one that is away does not hide the others
        return schemas.PoolRow(issuer=name, usable=0, low_water=0, is_low=False, spares=(), problem=str(problem))


def _add_history(router: APIRouter, deps: ServerDependencies, gatherer: Gatherer) -> None:
    @router.get("/rotations", dependencies=[NEEDS_VIEWER], summary="Rotations, newest first")
    def list_rotations(asked: Annotated[schemas.RotationsQuery, Query()]) -> schemas.Rotations:
        rows = deps.queries.find_rotations(asked.credential, limit=asked.limit, open_only=asked.open)
        return schemas.Rotations(rotations=tuple(build_rotation(row) for row in rows))

    @router.get("/rotations/{rotation_id}", dependencies=[NEEDS_VIEWER], summary="One rotation")
    def get_rotation(rotation_id: str) -> schemas.RotationRow:
        row = gatherer.find_rotation(rotation_id)
        if row is None:
            raise NotFound(f"the journal knows no rotation {rotation_id!r}: /api/v1/rotations lists them")
        return build_rotation(row)

    @router.get("/retirements", dependencies=[NEEDS_VIEWER], summary="Retirements, newest first")
    def list_retirements(asked: Annotated[schemas.RetirementsQuery, Query()]) -> schemas.Retirements:
        key_id = None if asked.key_id is None else str(parse_key_id(asked.key_id))
        rows = gatherer.find_retirements(asked.credential, key_id, asked.limit, open_only=asked.open)
        sightings = gatherer.gather_sightings(row.credential for row in rows if row.closed_at is None)
        return schemas.Retirements(retirements=tuple(build_retirement(row, sightings.get(row.credential, ())) for row in rows))

    @router.get("/events", dependencies=[NEEDS_VIEWER], summary="The audit trail, oldest first")
    def list_events(asked: Annotated[schemas.EventsQuery, Query()]) -> schemas.Events:
        key_id = None if asked.key_id is None else str(parse_key_id(asked.key_id))
        rows, following = gatherer.find_events(asked.credential, asked.process, key_id, asked.after, asked.limit)
        return schemas.Events(events=tuple(build_event(row) for row in rows), next=following)

    @router.get("/audit", dependencies=[NEEDS_VIEWER], summary="Verify the audit trail")
    def verify() -> schemas.Audit:
        heads, unread = gatherer.gather_heads()
        problems = deps.queries.verify_audit(heads)
        head = deps.queries.audit_head()
        return schemas.Audit(lines=int(head.partition(":")[0]), head=head, problems=(*problems, *unread))


def _add_daemon(router: APIRouter, deps: ServerDependencies) -> None:
    @router.get("/info", dependencies=[NEEDS_VIEWER], summary="What runs here")
    def info() -> schemas.Info:
        return schemas.Info(
            version=__version__,
            installation=deps.installation,
            started_at=deps.started_at,
            journal=deps.queries.id,
            credentials=len(deps.engine.credentials),
            rejected_configuration=deps.find_rejected(),
        )

    @router.post("/reload", dependencies=[NEEDS_ADMIN], summary="Read the configuration again now")
    def reload() -> schemas.Reloaded:
        changed, message = deps.reload()
        return schemas.Reloaded(changed=changed, message=message)


def build_hooks(deps: ServerDependencies) -> APIRouter:
    """What other programs call when something happened. Nothing that they send is believed: it only makes us look."""
    router = APIRouter(prefix="/hooks", responses=_PROBLEMS)

    @router.post("/store-changed", dependencies=[NEEDS_HOOK], status_code=HTTPStatus.ACCEPTED, summary="A store may have changed")
    def store_changed() -> schemas.Noted:
        deps.ask_poll()
        return schemas.Noted(text="the stores are asked soon what changed")

    return router


def _accepted(done: operations.Accepted) -> schemas.Accepted:
    return schemas.Accepted(
        credential=done.credential,
        text=done.text,
        rotation=done.rotation,
        key_id=str(done.key_id) if done.key_id is not None else None,
    )


def _unknown(name: str, deps: ServerDependencies) -> UnknownCredential:
    known = ", ".join(sorted(deps.engine.credentials)) or "none"
    return UnknownCredential(f"no credential is called {name!r}; configured: {known}")
