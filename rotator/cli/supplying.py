"""`submit`, `pool add`, `pool strike`, `pool list`: keys that people minted, for issuers that make none.

Keys come from stdin alone, one a line: hidden on a terminal, piped elsewhere. They go into a request's body and nowhere else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from rotator.cli.completion import complete_credential
from rotator.cli.connection import daemon
from rotator.cli.context import Options, pass_options, uses_daemon
from rotator.domain.errors import MalformedKey

if TYPE_CHECKING:
    from rotator.cli.api import Row
    from rotator.domain.secret import Secret

_LONGEST = 4_096
_MOST = 1_000
_AT_ONCE = 16
"""keys in one request, as the API takes them"""
_BEARER = re.compile(r"\ABearer\s+", re.IGNORECASE)


@click.command(epilog="\b\nExamples:\n  rotator submit checkout-read\n  rotator submit checkout-read < new-key.txt\n")
@click.argument("credential", shell_complete=complete_credential)
@uses_daemon
@pass_options
def submit(options: Options, credential: str) -> int:
    """Hand in the key that a person minted for a credential of a `manual` issuer, on stdin.

    On a terminal you are asked for it, hidden. It is verified before it counts: well formed, of the credential's kind and environment, not
    known here yet, alive, and no more powerful than its kind. A rotation that waits for it goes on at once; else the next one takes it.

    Exits 0 when the key is accepted, 1 when it is refused.
    """
    from rotator.cli import api
    from rotator.cli.output import print_json

    keys, malformed = _read_keys(f"Key for {credential} (not shown)", most=1)
    with daemon(options.state_dir) as client:
        rows = [*malformed, *(api.post_key(client, credential, {"key": key.reveal()}) for key in keys)]
    print_json({"received": rows}) if options.json else _print_received(rows)
    return _code(rows)


@click.group(epilog="\b\nExample:\n  rotator pool list\n")
def pool() -> None:
    """Add spare keys to a pool, strike some off, or list them."""


@pool.command(epilog="\b\nExamples:\n  rotator pool add spares\n  rotator pool add spares --project checkout < keys.txt\n")
@click.argument("issuer")
@click.option("--project", metavar="NAME", help="The project that the keys are for; credentials that name one get only its keys.")
@uses_daemon
@pass_options
def add(options: Options, issuer: str, project: str | None) -> int:
    """Add spare keys to a pool: one a line on stdin, as many as you like.

    On a terminal you are asked for one after the other, hidden, until you enter an empty line. Each is verified before it counts: well
    formed, of a kind and environment that some credential of the pool wants, not known here yet, alive, and no more powerful than its kind.
    Credentials that wait for a key go on at once.

    Exits 0 when all keys are accepted, 1 when some are refused.
    """
    from rotator.cli import api
    from rotator.cli.output import print_json

    keys, rows = _read_keys("Spare key (not shown, empty to end)", most=_MOST)
    with daemon(options.state_dir) as client:
        for start in range(0, len(keys), _AT_ONCE):
            body: dict[str, Any] = {"keys": [key.reveal() for key in keys[start : start + _AT_ONCE]]}
            received = api.post_spares(client, issuer, {**body, "project": project} if project else body)
            body.clear()
            if not options.json:
                _print_received(received)
            rows += received
    if options.json:
        print_json({"received": rows})
    else:
        _print_received([row for row in rows if row["key_id"] is None])
    return _code(rows)


@pool.command(epilog="\b\nExample:\n  rotator pool strike spares rk_live_99887766\n")
@click.argument("issuer")
@click.argument("key_id")
@uses_daemon
@pass_options
def strike(options: Options, issuer: str, key_id: str) -> int:
    """Strike a spare key off a pool: nobody gets it any more.

    Revoke it in the dashboard: a credential of the pool shows it among the keys that must die until its death is proven. One that leaked
    is reported with `rotator leak` instead, which strikes it off as well.
    """
    from rotator.cli import api
    from rotator.cli.output import print_json
    from rotator.domain.keys import parse_key_id

    try:
        named = str(parse_key_id(key_id))
    except MalformedKey as problem:
        raise click.UsageError(str(problem), click.get_current_context()) from None
    with daemon(options.state_dir) as client:
        row = api.post_strike(client, issuer, named)
    print_json(row) if options.json else click.echo(row["text"])
    return 0


@pool.command("list", epilog="\b\nExamples:\n  rotator pool list\n  rotator pool list spares --json\n")
@click.argument("issuer", required=False)
@uses_daemon
@pass_options
def list_(options: Options, issuer: str | None) -> int:
    """List the spare keys of one pool, or of all: by key id, with who added them and whether they can be given out.

    Exits 1 when a pool could not be read.
    """
    from rotator.cli import api
    from rotator.cli.output import print_blocks, print_json

    with daemon(options.state_dir) as client:
        pools = api.fetch_pools(client, issuer)
    if options.json:
        print_json({"pools": pools})
    else:
        from rotator.cli.present.pools import build_pools

        print_blocks(build_pools(pools, datetime.now(UTC)))
    return 1 if any(pool["problem"] for pool in pools) else 0


def _read_keys(prompt: str, *, most: int) -> tuple[list[Secret], list[Row]]:
    """The keys on stdin, and an answer for each line that is none. Raises `UsageError` where there is nothing, or too much."""
    from rotator.domain.secret import Secret

    keys: list[Secret] = []
    refused: list[Row] = []
    number = 0
    for number, line in enumerate(_read_lines(prompt, most), 1):
        if number > most:
            raise click.UsageError(f"stdin holds more than {most} line{'s' if most > 1 else ''}: hand in fewer at a time")
        try:
            keys.append(Secret(_BEARER.sub("", line)))
        except MalformedKey as problem:
            text = f"line {number}: {problem}"
            refused.append({"key_id": None, "accepted": False, "reason": str(problem.reason), "text": text})
    if not number:
        raise click.UsageError("no key was given: hand it in on stdin", click.get_current_context())
    return keys, refused


def _read_lines(prompt: str, most: int) -> Iterator[str]:
    if sys.stdin.isatty():
        for _ in range(most):
            line = str(click.prompt(prompt, default="", hide_input=True, show_default=False, err=True)).strip()
            if not line:
                return
            yield line
        return
    while line := sys.stdin.readline(_LONGEST):
        if line.strip():
            yield line.strip()


def _print_received(rows: Sequence[Row]) -> None:
    from rotator.cli.failures import redact
    from rotator.cli.humane import clean

    for row in rows:
        name = f"{row['key_id']}: " if row["key_id"] else ""
        refused = "" if row["accepted"] else f"refused ({row['reason']}): "
        click.echo(redact(clean(f"{name}{refused}{row['text']}")), err=not row["accepted"])


def _code(rows: Sequence[Row]) -> int:
    return 0 if all(row["accepted"] for row in rows) else 1
