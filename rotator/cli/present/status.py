"""`status`: every credential in a row, and below the table what wants a person's eye."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rotator.cli.humane import count, parse_instant, render_age, render_from_now, render_stamp
from rotator.cli.present.blocks import BAD, DIM, GOOD, STRONG, WARN, Block, Cell, Column, Gap, Note, Table
from rotator.cli.present.words import Row, render_wait

_COLUMNS = (
    Column("CREDENTIAL"),
    Column("KEY", keep=True),
    Column("AGE", keep=True, right=True, drop=2),
    Column("EXPIRES", keep=True, drop=3),
    Column("PHASE"),
    Column("CONSUMERS", keep=True, drop=4),
    Column("NEXT", keep=True, drop=1),
)
_QUIET_WAITS = {"not-due", "store-unreachable"}


def build_status(credentials: Sequence[Row], now: datetime, *, verbose: bool, rejected: str = "") -> list[Block]:
    """The table, then what is parked, compromised or behind; `verbose` adds each credential's consumers and dying keys.

    `rejected`: what is wrong with the configuration on disk, while an older one is in force.
    """
    warning = [Note("the configuration on disk is wrong, and an older one is in force:", BAD), Note(rejected, indent=2)] if rejected else []
    if not credentials:
        return [*warning, Note("no credentials are configured")]
    blocks: list[Block] = [*warning, *([Gap()] if warning else []), Table(_COLUMNS, tuple(_build_row(c, now) for c in credentials))]
    for credential in credentials:
        concerns = list(_find_concerns(credential))
        details = list(_build_details(credential, now)) if verbose else []
        if concerns or details:
            blocks += [Gap(), Note(str(credential["name"]), STRONG), *concerns, *details]
    return [*blocks, Gap(), Note(_summarise(credentials), DIM)]


def needs_person(credential: Row) -> bool:
    """Whether it waits for a person: something is parked, or its journal was lost and nobody has looked at what the store holds."""
    return bool(credential.get("parked") or credential.get("recovered"))


def _build_row(credential: Row, now: datetime) -> tuple[Cell | str, ...]:
    expires = parse_instant(credential.get("expires_at"))
    late = expires is not None and expires <= now
    return (
        str(credential["name"]),
        str(credential.get("key_id") or "-"),
        render_age(credential.get("age_seconds")),
        Cell(render_from_now(credential.get("expires_at"), now), BAD if late else ""),
        _render_phase(credential),
        _render_consumers(credential),
        render_from_now(credential.get("next_rotation_at"), now),
    )


def _render_phase(credential: Row) -> Cell:
    phase = str(credential.get("phase") or "-")
    if credential.get("parked") or phase == "unreadable":
        return Cell("unreadable" if phase == "unreadable" else "parked", BAD)
    if credential.get("compromised"):
        return Cell("leaked", BAD)
    return Cell(phase, "" if phase == "idle" else WARN)


def _render_consumers(credential: Row) -> Cell:
    targets = credential.get("targets") or ()
    if not targets:
        return Cell("none", DIM)
    behind = [t for t in targets if t.get("state") != "current"]
    if not behind:
        return Cell(f"{len(targets)} current", GOOD)
    required = any(t.get("required", True) for t in behind)
    return Cell(f"{len(behind)}/{len(targets)} behind", BAD if required else WARN)


def _find_concerns(credential: Row) -> Iterator[Block]:
    for parked in credential.get("parked") or ():
        yield Note(f"a person is needed ({parked.get('reason')}): {parked.get('text')}", BAD, indent=2)
    for wait in credential.get("waiting") or ():
        if wait.get("reason") == "store-unreachable":
            yield Note(f"its store cannot be read, what is shown was seen before: {', '.join(wait.get('names') or ())}", BAD, indent=2)
    if credential.get("compromised"):
        yield Note(f"a key of it leaked and is not yet proven dead; phase: {credential.get('phase')}", BAD, indent=2)
    for target in credential.get("targets") or ():
        if target.get("state") != "current":
            text = f": {target['text']}" if target.get("text") else ""
            optional = "" if target.get("required", True) else ", not required"
            holds = target.get("key_id") or "no key"
            yield Note(f"{target.get('name')} is {target.get('state')} (holds {holds}{optional}){text}", WARN, indent=2)
    if credential.get("recovered"):
        yield Note("recovered: the journal is newer than the store; nothing is revoked by schedule until `rotator adopt`", WARN, indent=2)
    if credential.get("shared_with"):
        names = ", ".join(credential["shared_with"])
        yield Note(f"its key is also that of {names}: each replaces it for itself, and it is revoked when none needs it", WARN, indent=2)
    for retirement in credential.get("retirements") or ():
        if retirement.get("held_by"):
            yield Note(f"old key {retirement['key_id']} is also held by {', '.join(retirement['held_by'])}", WARN, indent=2)
    if credential.get("orphans"):
        yield Note(f"{count(int(credential['orphans']), 'orphaned key')} to be revoked", WARN, indent=2)


def _build_details(credential: Row, now: datetime) -> Iterator[Block]:
    minted = render_stamp(credential.get("minted_at"))
    yield Note(
        f"{credential.get('kind')} key, generation {credential.get('generation')}, minted {minted}; "
        f"store {credential.get('store')}:{credential.get('path')}, issuer {credential.get('issuer')}",
        indent=2,
    )
    parked = " ".join(str(one.get("text")) for one in credential.get("parked") or ())
    for wait in credential.get("waiting") or ():
        if wait.get("reason") not in _QUIET_WAITS and not _is_said(wait, parked):
            yield Note(f"waits: {render_wait(wait, now)}", indent=2)
    targets = credential.get("targets") or ()
    if targets:
        columns = (
            Column("CONSUMER"),
            Column("KEY", keep=True),
            Column("STATE"),
            Column("SINCE", keep=True, drop=2),
            Column("ACTIVE", drop=1),
        )
        rows = tuple(
            (
                str(t.get("name")),
                str(t.get("key_id") or "-"),
                Cell(str(t.get("state")), GOOD if t.get("state") == "current" else BAD),
                render_stamp(t.get("since")),
                str(t.get("activation") or "-"),
            )
            for t in targets
        )
        yield Table(columns, rows, indent=2)
    retirements = credential.get("retirements") or ()
    if retirements:
        heads = (
            Column("DYING KEY", keep=True),
            Column("PHASE"),
            Column("WHY"),
            Column("LAST ALIVE", keep=True),
            Column("REFUSED", keep=True),
        )
        dying = tuple(
            (
                str(r.get("key_id")),
                str(r.get("phase")),
                str(r.get("why")),
                render_stamp(r.get("last_alive")),
                render_stamp(r.get("first_refused")),
            )
            for r in retirements
        )
        yield Table(heads, dying, indent=2)


def _is_said(wait: Row, parked: str) -> bool:
    """Whether what a wait tells, in a sentence, stands among what a person is asked to do."""
    return bool(wait.get("names")) and all(" " in str(name) and str(name) in parked for name in wait["names"])


def _summarise(credentials: Sequence[Row]) -> str:
    waiting = sum(1 for c in credentials if needs_person(c))
    behind = sum(1 for c in credentials if any(t.get("state") != "current" for t in c.get("targets") or ()))
    dying = sum(len(c.get("retirements") or ()) for c in credentials)
    unreadable = sum(1 for c in credentials if c.get("phase") == "unreadable")
    said = [count(len(credentials), "credential")]
    if unreadable:
        said.append(f"{unreadable} not readable now")
    if waiting:
        said.append(f"{waiting} waiting for a person")
    if behind:
        said.append(f"{behind} with consumers behind")
    if dying:
        said.append(f"{count(dying, 'old key')} not yet dead")
    return ", ".join(said) if len(said) > 1 else f"{said[0]}, all well"
