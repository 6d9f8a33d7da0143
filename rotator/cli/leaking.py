"""`leak`: report a leaked key and follow it to its proven death.

The only command that takes a key, from stdin alone: hidden on a terminal, piped elsewhere. It goes into the report's body and nowhere else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rotator.cli.connection import daemon
from rotator.cli.context import Options, pass_options, uses_daemon
from rotator.cli.durations import DURATION, Span
from rotator.domain.errors import MalformedKey, RotatorError
from rotator.domain.reasons import Reason

if TYPE_CHECKING:
    from rotator.cli.api import Row
    from rotator.cli.following import Ending, Pace
    from rotator.domain.secret import Secret
    from rotator.remote.daemon import DaemonClient

_LONGEST = 4_096
_RETIREMENTS = 20
_AWAY = frozenset({Reason.STORE_UNREACHABLE, Reason.UNREACHABLE, Reason.RATE_LIMITED})
_BEARER = re.compile(r"\ABearer\s+", re.IGNORECASE)
"""As a key stands in the header that it was found in."""


@click.command(
    epilog="""\b
Examples:
  rotator leak rk_live_99887766
  rotator leak < leaked-key.txt
  rotator leak rk_live_99887766 --no-wait
"""
)
@click.argument("key_id", metavar="[KEY_ID]", required=False)
@click.option(
    "--wait/--no-wait", default=True, help="Follow the key until it is proven dead (default), or return when the report is accepted."
)
@click.option("--timeout", type=DURATION, default="30m", show_default=True, help="Follow it no longer than this; `never` for no limit.")
@uses_daemon
@pass_options
def leak(options: Options, key_id: str | None, wait: bool, timeout: Span) -> int:
    """Report a leaked key: it is replaced, revoked and proven dead, and the timeline is printed.

    Name the key by its id (kind_env_prefix, not secret), or hand the full key in on stdin: on a terminal you are asked for it, hidden. A
    full key is never taken as an argument: it would stand in the shell's history and in the process list.

    The service caches keys, 5 minutes by default: a revoked key may live on for as long, and its death is proven only after that.

    While a store that may hold the key does not answer, the report is made again.

    Exits 0 when the key is proven dead, 4 when a person is needed, 1 when the time-out has passed. Stopping the command changes nothing
    about the report.
    """
    from rotator.cli import api
    from rotator.cli.following import Pace
    from rotator.cli.output import print_json

    reported, report = _build_report(key_id)
    with daemon(options.state_dir) as client:
        after = api.fetch_events(client, None, limit=1)[1] if wait else 0
        try:
            accepted = _hand_in(client, report, Pace(timeout.value) if wait else None)
        except RotatorError as problem:
            return _tell_dead(client, options, reported, problem)
        finally:
            report.clear()
        if not options.json:
            for row in accepted:
                click.echo(f"{row['credential']}: {row['text']}")
        endings = _follow(client, options, accepted, (reported, after), Pace(timeout.value)) if wait else []
    if options.json:
        from rotator.cli.present.timeline import build_story_json

        print_json({"accepted": accepted, "stories": [build_story_json(e.story) for e in endings if e.story is not None]})
    return max([0, *(e.code for e in endings)])


def _hand_in(client: DaemonClient, report: dict[str, Any], pace: Pace | None) -> list[Row]:
    """The report, accepted; with a pace it is made again while stores do not answer. Raises what the daemon refuses it with."""
    from rotator.cli import api
    from rotator.remote.daemon import DaemonError

    told, started = False, pace.monotonic() if pace is not None else 0.0
    while True:
        try:
            return api.post_leak(client, report)
        except DaemonError as problem:
            if pace is None or problem.reason not in _AWAY:
                raise
            if pace.timeout is not None and pace.monotonic() - started >= pace.timeout.total_seconds():
                raise
            if not told:
                click.echo(f"{problem}\nit is not accepted yet, and is reported again until they answer", err=True)
            told = True
            pace.pause()


def _tell_dead(client: DaemonClient, options: Options, key_id: str, refusal: RotatorError) -> int:
    """A key that no credential holds any more may be one whose death is proven already. Raises the refusal where it is not."""
    from rotator.cli import api
    from rotator.cli.humane import clean, render_stamp
    from rotator.cli.output import print_json
    from rotator.cli.present.timeline import CLOSED_DEAD

    if not str(refusal).startswith("no credential holds key"):
        raise refusal
    dead = [row for row in api.fetch_retirements(client, None, _RETIREMENTS, key_id) if row.get("outcome") in CLOSED_DEAD]
    if not dead:
        raise refusal
    if options.json:
        print_json({"accepted": [], "stories": [], "retirements": dead})
        return 0
    for row in dead:
        at = render_stamp(row.get("confirmed_at") or row.get("closed_at"))
        click.echo(clean(f"{key_id} was a key of {row.get('credential')}, proven dead at {at} UTC"))
    return 0


def _build_report(key_id: str | None) -> tuple[str, dict[str, Any]]:
    """The key id, and the body of the report: the one place where the command line lets go of a key."""
    from rotator.domain.keys import parse_key_id

    try:
        if key_id is not None:
            named = str(parse_key_id(key_id))
            return named, {"key_id": named}
        secret = _read_secret()
    except MalformedKey as problem:
        ways = "Give a key id as argument (`rotator status NAME` shows that of a credential), or the full key on stdin"
        raise click.UsageError(f"{problem}. {ways}", click.get_current_context()) from None
    return str(secret.key_id), {"key": secret.reveal()}


def _read_secret() -> Secret:
    from rotator.domain.secret import Secret

    asked = sys.stdin.isatty()
    text = (str(click.prompt("Leaked key (not shown)", hide_input=True, err=True)) if asked else sys.stdin.read(_LONGEST)).strip()
    text = _BEARER.sub("", text)
    if not text:
        raise MalformedKey("no key was given")
    if len(text.split()) > 1:
        raise MalformedKey("stdin holds more than one word: hand in one key at a time")
    return Secret(text)


def _follow(client: DaemonClient, options: Options, accepted: Sequence[Row], asked: tuple[str, int], pace: Pace) -> list[Ending]:
    from rotator.cli.following import build_leak_watch, follow
    from rotator.cli.output import open_progress, print_blocks
    from rotator.cli.present.timeline import build_timeline

    (reported, after), now = asked, datetime.now(UTC)
    watches = [
        build_leak_watch(client, row, str(row.get("key_id") or reported), after, now, verbose=bool(options.verbose)) for row in accepted
    ]
    with open_progress(json_follows=options.json) as progress:
        endings = follow(watches, progress, pace)
    for ending in endings:
        if not options.json and ending.story is not None:
            click.echo()
            print_blocks(build_timeline(ending.story))
        if ending.code:
            from rotator.cli.failures import print_warning

            print_warning(f"{ending.credential}: {ending.text}")
    return endings
