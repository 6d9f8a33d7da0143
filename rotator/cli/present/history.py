"""`history`: rotations, dying keys and steps, newest last; and what the check of the audit trail found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from rotator.cli.humane import clean, count, parse_instant, render_span, render_stamp
from rotator.cli.present.blocks import BAD, DIM, GOOD, PLAIN, STRONG, WARN, Block, Cell, Column, Gap, Note, Table
from rotator.cli.present.words import Row, is_worth_showing, render_event

_ROTATIONS = (
    Column("OPENED (UTC)", keep=True),
    Column("CREDENTIAL"),
    Column("REASON", drop=2),
    Column("TOOK", keep=True, right=True, drop=1),
    Column("OUTCOME"),
    Column("NEW KEY", keep=True),
)
_RETIREMENTS = (
    Column("RETIRED (UTC)", keep=True),
    Column("CREDENTIAL"),
    Column("KEY", keep=True),
    Column("WHY", drop=2),
    Column("OUTCOME"),
    Column("TOOK", keep=True, right=True, drop=1),
)
_STEPS = (Column("TIME (UTC)", keep=True), Column("CREDENTIAL"), Column("STEP"))
_OUTCOMES = {"distributed": GOOD, "dead": GOOD, "confirmed-elsewhere": GOOD, "abandoned": WARN}


def build_history(rotations: Sequence[Row], retirements: Sequence[Row], events: Sequence[Row], *, verbose: bool) -> list[Block]:
    """Three tables, each oldest first. `verbose` shows intents and probes too."""
    steps = [e for e in events if is_worth_showing(e, verbose=verbose)]
    if not (rotations or retirements or steps):
        return [Note("nothing has happened yet")]
    blocks: list[Block] = []
    if rotations:
        rows = tuple(_build_rotation(r) for r in sorted(rotations, key=_opened))
        blocks += [Note("Rotations", STRONG), Table(_ROTATIONS, rows)]
    if retirements:
        rows = tuple(_build_retirement(r) for r in sorted(retirements, key=_opened))
        blocks += [Gap(), Note("Old keys", STRONG), Table(_RETIREMENTS, rows)]
    if steps:
        blocks += [Gap(), Note("Steps", STRONG), Table(_STEPS, tuple(_build_step(e) for e in steps))]
    return blocks[1:] if isinstance(blocks[0], Gap) else blocks


def build_audit(audit: Row) -> list[Block]:
    """What the check of the hash chain found."""
    lines = count(int(audit.get("lines") or 0), "line")
    problems = [p if isinstance(p, str) else str(p) for p in audit.get("problems") or ()]
    if not problems:
        return [Note(f"audit trail: {lines}, unbroken; head {clean(audit.get('head') or '-')}", GOOD)]
    found = [Note(problem, BAD, indent=2) for problem in problems]
    return [Note(f"audit trail: {lines}, {count(len(problems), 'problem')}", BAD), *found]


def _opened(row: Row) -> str:
    return str(row.get("opened_at") or "")


def _build_rotation(row: Row) -> tuple[Cell | str, ...]:
    failures = int(row.get("failures") or 0)
    failed = f" ({count(failures, 'failure')})" if failures else ""
    reason = f"{row.get('reason')}{', urgent' if row.get('emergency') and row.get('reason') != 'emergency' else ''}"
    return (
        render_stamp(row.get("opened_at")),
        str(row.get("credential")),
        reason,
        _took(row),
        Cell(f"{row.get('outcome') or 'open'}{failed}", _style(row)),
        str(row.get("key_id") or "-"),
    )


def _build_retirement(row: Row) -> tuple[Cell | str, ...]:
    return (
        render_stamp(row.get("opened_at")),
        str(row.get("credential")),
        str(row.get("key_id")),
        str(row.get("why")),
        Cell(str(row.get("outcome") or ("revoked" if row.get("revoked_at") else "waiting")), _style(row)),
        _took(row),
    )


def _style(row: Row) -> str:
    return _OUTCOMES.get(str(row.get("outcome")), WARN if row.get("outcome") is None else PLAIN)


def _took(row: Row) -> str:
    opened, closed = parse_instant(row.get("opened_at")), parse_instant(row.get("closed_at"))
    return "-" if opened is None or closed is None else render_span(max(closed - opened, timedelta()))


def _build_step(event: Row) -> tuple[Cell | str, ...]:
    good = bool(event.get("ok", True))
    dim = event.get("phase") == "intent"
    return render_stamp(event.get("at")), str(event.get("credential")), Cell(render_event(event), DIM if dim else PLAIN if good else BAD)
