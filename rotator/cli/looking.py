"""`status`, `plan`, `history`, `health`: ask the daemon, print. They change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from rotator.cli.completion import complete_credential
from rotator.cli.connection import NoDaemon, daemon, fetch_plainly, find_address
from rotator.cli.context import Options, pass_options, uses_daemon

if TYPE_CHECKING:
    from rotator.cli.api import Row
    from rotator.remote.daemon import DaemonClient

_any = click.argument("credentials", metavar="[CREDENTIAL]...", nargs=-1, shell_complete=complete_credential)
_STEPS_PER_ROTATION = 20
_HEALTHY_WITHIN = 5.0


@click.command(epilog="\b\nExamples:\n  rotator status\n  rotator status checkout-read -v\n  rotator status --json --exit-code\n")
@_any
@click.option("--exit-code", is_flag=True, help="Exit 4 when a credential waits for a person.")
@uses_daemon
@pass_options
def status(options: Options, credentials: Sequence[str], exit_code: bool) -> int:
    """Show every credential: its key, age and expiry, where it stands, and which consumers are behind.

    -v shows consumers, waits and dying keys one by one.
    """
    from rotator.cli import api
    from rotator.cli.output import print_blocks, print_json

    with daemon(options.state_dir) as client:
        rows = api.fetch_statuses(client, credentials)
        rejected = str(api.fetch_info(client).get("rejected_configuration") or "")
    if options.json:
        print_json({"credentials": rows, "rejected_configuration": rejected})
    else:
        from rotator.cli.present.status import build_status

        print_blocks(build_status(rows, datetime.now(UTC), verbose=bool(options.verbose), rejected=rejected))
    from rotator.cli.present.status import needs_person

    return 4 if exit_code and any(map(needs_person, rows)) else 0


@click.command(epilog="\b\nExample:\n  rotator plan checkout-read\n")
@_any
@uses_daemon
@pass_options
def plan(options: Options, credentials: Sequence[str]) -> int:
    """Say what would happen now and next, and which consumers it would affect. Changes nothing."""
    from rotator.cli import api
    from rotator.cli.output import print_blocks, print_json

    with daemon(options.state_dir) as client:
        plans = [api.fetch_plan(client, name) for name in credentials or api.fetch_names(client)]
    if options.json:
        print_json({"plans": plans})
    else:
        from rotator.cli.present.plan import build_plans

        print_blocks(build_plans(plans, datetime.now(UTC)))
    return 0


@click.command(epilog="\b\nExample:\n  rotator health\n")
@uses_daemon
@pass_options
def health(options: Options) -> int:
    """Say whether the daemon is alive, as the health check of a container asks: exits 0, or 5 when nothing answers.

    Whether it can do its work too, part by part, is what `/readyz` answers.
    """
    import os
    from http import HTTPStatus
    from http.client import HTTPException

    from rotator.cli.output import print_json

    address = find_address(options.state_dir, os.environ)
    try:
        status, _ = fetch_plainly(address.url, "/healthz", {}, _HEALTHY_WITHIN)
    except (OSError, HTTPException) as problem:
        raise NoDaemon(f"no daemon answers at {address.url} ({type(problem).__name__}), which comes from {address.source}") from None
    if status != HTTPStatus.OK:
        raise NoDaemon(f"what answers at {address.url} is no healthy daemon (HTTP {status}); it comes from {address.source}")
    print_json({"alive": True, "url": address.url}) if options.json else click.echo(f"alive at {address.url}")
    return 0


@click.command(epilog="\b\nExamples:\n  rotator history checkout-read --limit 5\n  rotator history --verify\n")
@_any
@click.option("-n", "--limit", type=click.IntRange(1, 200), default=10, show_default=True, help="The newest so many rotations of each.")
@click.option("--verify", is_flag=True, help="Check the hash chain of the audit trail instead; exit 1 when it is broken.")
@uses_daemon
@pass_options
def history(options: Options, credentials: Sequence[str], limit: int, verify: bool) -> int:
    """Show rotations, old keys and their steps, from the journal.

    -v shows intents and probes too.
    """
    from rotator.cli import api
    from rotator.cli.output import print_blocks, print_json
    from rotator.cli.present.history import build_audit, build_history

    if verify and credentials:
        raise click.UsageError("--verify checks the whole audit trail: name no credential", click.get_current_context())
    with daemon(options.state_dir) as client:
        if verify:
            audit = api.fetch_audit(client)
            print_json(audit) if options.json else print_blocks(build_audit(audit))
            return 1 if audit.get("problems") else 0
        rotations, retirements, events = _gather_history(client, credentials, limit)
    if options.json:
        print_json({"rotations": rotations, "retirements": retirements, "events": events})
    else:
        print_blocks(build_history(rotations, retirements, events, verbose=bool(options.verbose)))
    return 0


def _gather_history(client: DaemonClient, credentials: Sequence[str], limit: int) -> tuple[list[Row], list[Row], list[Row]]:
    from rotator.cli import api

    rotations: list[Row] = []
    retirements: list[Row] = []
    events: list[Row] = []
    for name in dict.fromkeys(credentials):
        api.fetch_status(client, name)  # an unknown name is a mistake, not an empty history
    named: tuple[str | None, ...] = tuple(dict.fromkeys(credentials)) or (None,)
    for which in named:
        rotations += api.fetch_rotations(client, which, limit)
        retirements += api.fetch_retirements(client, which, limit)
        events += api.fetch_events(client, which, min(limit * _STEPS_PER_ROTATION, 1000))[0]
    return rotations, retirements, sorted(events, key=lambda e: int(e.get("seq") or 0))
