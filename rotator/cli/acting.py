"""`sync`, `retry`, `abandon`, `rollback`, `adopt`, `withdraw`: each asks the daemon for one change, and says what it accepted."""

from __future__ import annotations

from collections.abc import Sequence

import click

from rotator.cli.completion import complete_credential
from rotator.cli.connection import daemon
from rotator.cli.context import Options, pass_options, uses_daemon

_one = click.argument("credential", shell_complete=complete_credential)
_any = click.argument("credentials", metavar="[CREDENTIAL]...", nargs=-1, shell_complete=complete_credential)


@click.command(epilog="\b\nExample:\n  rotator sync checkout-read\n")
@_any
@uses_daemon
@pass_options
def sync(options: Options, credentials: Sequence[str]) -> int:
    """Bring targets to the current key, without rotating: these credentials', or all."""
    return _ask(options, credentials, "sync")


@click.command(epilog="\b\nExample:\n  rotator retry checkout-read\n")
@_one
@uses_daemon
@pass_options
def retry(options: Options, credential: str) -> int:
    """Look again now at what is parked, or waits after a failure.

    What is parked ends by itself when its facts change; this only saves the wait.
    """
    return _ask(options, (credential,), "retry")


@click.command(epilog="\b\nExample:\n  rotator abandon checkout-read\n")
@_one
@uses_daemon
@pass_options
def abandon(options: Options, credential: str) -> int:
    """Give the open rotation up, before its key is promoted; the key is revoked.

    After the promotion it is `rotator rollback` that brings the former key back.
    """
    return _ask(options, (credential,), "abandon")


@click.command(epilog="\b\nExample:\n  rotator rollback checkout-read\n")
@_one
@uses_daemon
@pass_options
def rollback(options: Options, credential: str) -> int:
    """Make the former key current again, while it lives and is not condemned, under a new generation."""
    return _ask(options, (credential,), "rollback")


@click.command(epilog="\b\nExamples:\n  rotator adopt checkout-read\n  rotator adopt\n")
@_any
@uses_daemon
@pass_options
def adopt(options: Options, credentials: Sequence[str]) -> int:
    """Accept what the store holds, for these credentials or all: after a lost journal, a moved path, a restored store.

    Look at `rotator status` first: what is accepted counts as the truth from then on.
    """
    return _ask(options, credentials, "adopt")


@click.command(epilog="\b\nExample:\n  rotator withdraw laptop-claude checkout-read\n")
@click.argument("target")
@_one
@uses_daemon
@pass_options
def withdraw(options: Options, target: str, credential: str) -> int:
    """Take a credential's key out of a target that it does not use any more.

    The file gets its former bytes back where nobody touched what was written; what somebody else changed is left alone.
    """
    from rotator.cli import api
    from rotator.cli.output import print_json

    with daemon(options.state_dir) as client:
        done = api.post_withdraw(client, target, credential)
    print_json({"accepted": [done]}) if options.json else click.echo(f"{done['credential']}: {done['text']}")
    return 0


def _ask(options: Options, credentials: Sequence[str], verb: str) -> int:
    from rotator.cli import api
    from rotator.cli.asking import ask_each
    from rotator.cli.failures import redact
    from rotator.cli.humane import clean
    from rotator.cli.output import print_json

    with daemon(options.state_dir) as client:
        asked = ask_each(credentials or api.fetch_names(client), lambda name: api.post_verb(client, name, verb))
    if options.json:
        print_json({"accepted": asked.accepted})
    else:
        for row in asked.accepted:
            click.echo(redact(clean(f"{row['credential']}: {row['text']}")))
    return asked.code
