"""From a plan to its JSON. Pure."""

from __future__ import annotations

from rotator.domain.decisions import Do, Park, Wait
from rotator.domain.keys import KeyId
from rotator.domain.reasons import Reason
from rotator.engine.operations import Plan
from rotator.engine.steps import STEPS
from rotator.server import schemas
from rotator.server.statuses import build_waiting, state_of


def build_plan(plan: Plan) -> schemas.Plan:
    """What would happen now and next, and who would be affected."""
    look = plan.look
    current = look.facts.record.current if look.facts.record else None
    placements = {p.target: p for p in look.placements}
    return schemas.Plan(
        credential=look.credential.name,
        now=tuple(_build_step(process, decision) for process, decision in plan.decisions if isinstance(decision, Do)),
        waiting=tuple(
            build_waiting(d.reason, d.until, (look.error,) if d.reason is Reason.STORE_UNREACHABLE else d.names)
            for _, d in plan.decisions
            if isinstance(d, Wait)
        ),
        parked=tuple(schemas.Parked(reason=str(d.reason), text=d.needs) for _, d in plan.decisions if isinstance(d, Park)),
        next_rotation_at=look.facts.due_at,
        affects=tuple(
            schemas.Affected(
                target=bound.name,
                required=bound.required,
                state=state_of(placements.get(bound.name), current.key_id if current else None),
                activation=bound.target.activation,
                changes=plan.changes.get(bound.name, ""),
            )
            for bound in look.credential.targets
        ),
    )


def _build_step(process: KeyId | None, decision: Do) -> schemas.PlannedStep:
    action = decision.action
    subject = getattr(action, "key_id", None) or process
    return schemas.PlannedStep(
        process="rotation" if process is None else "retirement",
        does=STEPS[type(action)].name,
        key_id=str(subject) if subject is not None else None,
        text=_describe(action),
    )


def _describe(action: object) -> str:
    """The action's own docstring is its description: one sentence, the place first."""
    text = (type(action).__doc__ or type(action).__name__).strip().splitlines()[0]
    reason = getattr(action, "reason", None) or getattr(action, "why", None)
    targets = getattr(action, "targets", None)
    if reason is not None:
        text = f"{text} ({reason})"
    return f"{text} ({', '.join(targets)})" if isinstance(targets, tuple) and targets else text
