"""Completes credential names from the running daemon: within half a second, or quietly not at all."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

WITHIN = 0.5
"""Seconds, of everything."""


def complete_credential(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names that begin so and are not given already."""
    from click.shell_completion import CompletionItem

    given = ctx.params.get(param.name or "") or ()
    return [CompletionItem(name) for name in find_names(ctx) if name.startswith(incomplete) and name not in given]


def find_names(ctx: click.Context) -> list[str]:
    """All credential names; none when no daemon answers in time."""
    import os

    from rotator.cli.context import Options

    options = ctx.find_object(Options)
    found: list[str] = []
    # A thread, because no time-out of a socket bounds the whole: not the name look-up, and not an answer that comes drop by drop.
    thread = threading.Thread(target=_gather, args=(found, options.state_dir if options else None, dict(os.environ)), daemon=True)
    thread.start()
    thread.join(WITHIN)
    return list(found)


def _gather(found: list[str], state_dir: object, environ: Mapping[str, str]) -> None:
    from pathlib import Path

    from rotator.cli.connection import find_address

    try:
        address = find_address(state_dir if isinstance(state_dir, Path) else None, environ)
        found.extend(_fetch_names(address.url, address.token))
    except Exception:  # noqa: BLE001  # a completion that fails must not write into the line that is being typed
        return


def _fetch_names(url: str, token: str) -> list[str]:
    import json

    from rotator.cli.connection import fetch_plainly

    _, body = fetch_plainly(url, "/api/v1/credentials", {"Authorization": f"Bearer {token}"}, WITHIN)
    return sorted(str(row["name"]) for row in json.loads(body)["credentials"])
