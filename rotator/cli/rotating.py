"""`rotate`: replace keys on demand, and follow it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from rotator.cli.asking import ask_each
from rotator.cli.completion import complete_credential
from rotator.cli.connection import daemon
from rotator.cli.context import Options, pass_options, uses_daemon
from rotator.cli.durations import DURATION, Span

if TYPE_CHECKING:
    from rotator.cli.api import Row
    from rotator.cli.following import Ending, Pace
    from rotator.remote.daemon import DaemonClient


@click.command(
    epilog="""\b
Examples:
  rotator rotate checkout-read
  rotator rotate checkout-read billing-read --wait --timeout 1h
"""
)
@click.argument("credentials", metavar="CREDENTIAL...", nargs=-1, required=True, shell_complete=complete_credential)
@click.option(
    "--emergency",
    is_flag=True,
    help="Go before all routine work and try at once; for a key that leaked use `rotator leak`, which also skips the overlap.",
)
@click.option("--wait", is_flag=True, help="Follow it until every required consumer holds the new key.")
@click.option("--timeout", type=DURATION, default="30m", show_default=True, help="With --wait: follow it no longer than this.")
@uses_daemon
@pass_options
def rotate(options: Options, credentials: Sequence[str], emergency: bool, wait: bool, timeout: Span) -> int:
    """Replace a credential's key now.

    With --wait it exits 0 when the new key is distributed (or a later rotation took over), 1 when the rotation was abandoned or the
    time-out has passed, 4 when it is parked and a person is needed. Stopping the command leaves the rotation going on.
    """
    from rotator.cli import api
    from rotator.cli.following import Pace
    from rotator.cli.output import print_json

    with daemon(options.state_dir) as client:
        after = api.fetch_events(client, None, limit=1)[1] if wait else 0
        asked = ask_each(credentials, lambda name: api.post_verb(client, name, "rotate", {"emergency": emergency}))
        endings = _follow(client, options, asked.accepted, after, Pace(timeout.value)) if wait else []
    if options.json:
        rotations = {"rotations": [e.rotation for e in endings if e.rotation is not None]} if wait else {}
        print_json({"accepted": asked.accepted, **rotations})
    elif not wait:
        for accepted in asked.accepted:
            click.echo(f"{accepted['credential']}: {accepted['text']}")
    return max([asked.code, *(e.code for e in endings)])


def _follow(client: DaemonClient, options: Options, accepted: Sequence[Row], after: int, pace: Pace) -> list[Ending]:
    from rotator.cli.asking import print_endings
    from rotator.cli.following import build_rotation_watch, follow
    from rotator.cli.output import open_progress

    watches = [build_rotation_watch(client, row, after, verbose=bool(options.verbose)) for row in accepted if row.get("rotation")]
    with open_progress(json_follows=options.json) as progress:
        endings = follow(watches, progress, pace)
    print_endings(endings, json_follows=options.json)
    return endings
