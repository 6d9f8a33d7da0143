"""The root command and the table of all commands."""

from __future__ import annotations

from types import MappingProxyType

import click

from rotator import __version__
from rotator.cli.context import common
from rotator.cli.lazy import Entry, LazyGroup

SECTIONS = MappingProxyType(
    {
        "Start here": {
            "demo": Entry("rotator.cli.running", "demo", "Show the whole story on this machine, in about a minute."),
            "sandbox": Entry("rotator.cli.running", "sandbox", "Run a stand-in for the Millimetric service."),
            "config": Entry("rotator.cli.configuration", "config", "Show the configuration, its schema or an example."),
            "check": Entry("rotator.cli.running", "check", "Validate the configuration; --live: try everything it names."),
            "run": Entry("rotator.cli.running", "run", "Run the daemon."),
        },
        "Look": {
            "status": Entry("rotator.cli.looking", "status", "Show every credential, its key and who is behind."),
            "plan": Entry("rotator.cli.looking", "plan", "Say what would happen now and next; change nothing."),
            "history": Entry("rotator.cli.looking", "history", "Show rotations and their steps; --verify the audit trail."),
            "health": Entry("rotator.cli.looking", "health", "Say whether the daemon is alive, for a container's health check."),
        },
        "Act": {
            "rotate": Entry("rotator.cli.rotating", "rotate", "Replace a credential's key now."),
            "leak": Entry("rotator.cli.leaking", "leak", "Report a leaked key: replace, revoke and prove it dead."),
            "submit": Entry("rotator.cli.supplying", "submit", "Hand in a key that a person minted for a credential."),
            "pool": Entry("rotator.cli.supplying", "pool", "Add spare keys to a pool, or list them."),
            "sync": Entry("rotator.cli.acting", "sync", "Bring targets to the current key, without rotating."),
            "retry": Entry("rotator.cli.acting", "retry", "Look again now at what is parked or waits after a failure."),
            "abandon": Entry("rotator.cli.acting", "abandon", "Give the open rotation up, before its key is promoted."),
            "rollback": Entry("rotator.cli.acting", "rollback", "Bring the former key back while it lives."),
            "adopt": Entry("rotator.cli.acting", "adopt", "Accept what the store holds."),
            "withdraw": Entry("rotator.cli.acting", "withdraw", "Take a key out of a target that is not used any more."),
        },
    }
)


@click.group(
    cls=LazyGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Example:
  rotator demo

Exit codes: 0 done, 1 failed, 2 usage, 3 configuration, 4 a person is needed, 5 cannot reach the daemon.""",
)
@common
@click.version_option(__version__, prog_name="rotator", message="%(prog)s %(version)s")
def cli() -> None:
    """Keep a company's Millimetric API keys fresh, narrow and where they belong.

    Commands that look or act talk to a running daemon (`rotator run`), found by ROTATOR_URL and ROTATOR_TOKEN, else by the state folder.
    """
