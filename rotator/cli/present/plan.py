"""`plan`: what would happen now and next, and who would be affected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rotator.cli.humane import render_from_now, render_stamp
from rotator.cli.present.blocks import BAD, DIM, GOOD, STRONG, WARN, Block, Column, Gap, Note, Table
from rotator.cli.present.words import Row, render_wait

_COLUMNS = (Column("CONSUMER"), Column("STATE"), Column("WORKS WITH A NEW KEY"), Column("REQUIRED"))
_LINES = {"+": GOOD, "-": BAD}
_ACTIVATIONS = {"now": "at once", "reconnect": "after it reconnects", "restart": "after its restart"}


def build_plans(plans: Sequence[Row], now: datetime) -> list[Block]:
    """One paragraph for each credential."""
    blocks: list[Block] = []
    for plan in plans:
        blocks += [*([Gap()] if blocks else []), Note(str(plan["credential"]), STRONG), *_build_plan(plan, now)]
    return blocks or [Note("no credentials are configured")]


def _build_plan(plan: Row, now: datetime) -> Iterator[Block]:
    for step in plan.get("now") or ():
        yield Note(f"now: {_render_step(step)}", indent=2)
    for wait in plan.get("waiting") or ():
        yield Note(f"waits: {render_wait(wait, now)}", DIM if wait.get("reason") == "not-due" else WARN, indent=2)
    for parked in plan.get("parked") or ():
        yield Note(f"a person is needed ({parked.get('reason')}): {parked.get('text')}", BAD, indent=2)
    if not any(plan.get(part) for part in ("now", "waiting", "parked")):
        yield Note("nothing to do now", DIM, indent=2)
    due = plan.get("next_rotation_at")
    blind = any(wait.get("reason") == "store-unreachable" for wait in plan.get("waiting") or ())
    none = "unknown until its store can be read" if blind else "none is scheduled"
    yield Note(f"next rotation: {f'{render_stamp(due)} UTC, {render_from_now(due, now)}' if due else none}", indent=2)
    affected = plan.get("affects") or ()
    if affected:
        rows = tuple(
            (
                str(a.get("target")),
                str(a.get("state")),
                _ACTIVATIONS.get(str(a.get("activation")), str(a.get("activation") or "-")),
                "yes" if a.get("required", True) else "no",
            )
            for a in affected
        )
        yield Table(_COLUMNS, rows, indent=2)
    for one in affected:
        for line in str(one.get("changes") or "").splitlines():
            yield Note(line, _LINES.get(line[:1], DIM), indent=4)


def _render_step(step: Row) -> str:
    does, text, process = str(step.get("does") or "nothing"), step.get("text"), step.get("process")
    key = f" {step['key_id']}" if step.get("key_id") else ""
    which = f" [{process}]" if process in ("rotation", "retirement") else ""
    return f"{does}{key}{which}{f': {text}' if text else ''}"
