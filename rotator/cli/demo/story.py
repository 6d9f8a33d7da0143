"""The demo's story, act by act. Every line that claims something is preceded by the check that it is so."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import NoReturn

import click

from rotator.cli.demo.stage import CLIENTS, HOLDERS, NotAsClaimed, Stage, build_stage, wait_for
from rotator.domain.errors import RotatorError

_EVERY = "6s"
_LATER = "30d"


@dataclass(slots=True)
class Teller:
    """Prints the story with the seconds since its beginning; in colour on a terminal only."""

    started: float = field(default_factory=monotonic)

    def act(self, title: str) -> None:
        """A new part of the story."""
        click.echo()
        click.echo(click.style(title, bold=True))

    def say(self, text: str) -> None:
        """Something that is about to happen."""
        click.echo(f"{monotonic() - self.started:5.1f}s  {text}")

    def show(self, text: str) -> None:
        """What another program printed."""
        for line in text.rstrip().splitlines():
            click.echo(click.style(f"        {line}", dim=True))

    def holds(self, claim: str, truth: object) -> None:
        """Something that was checked. Raises `NotAsClaimed` if it is not so."""
        if not truth:
            raise NotAsClaimed(claim)
        click.echo(f"{monotonic() - self.started:5.1f}s  {click.style('ok', fg='green')} {claim}")


def run_demo() -> int:
    """Tell it; 0 if all of it was as claimed."""
    teller = Teller()
    click.echo("rotator demo: a stand-in for Millimetric, a daemon and five MCP client files, in a temporary folder with its own HOME.")
    try:
        with _ending_on_signals(), build_stage(_EVERY) as stage:
            for act in ACTS:
                act(stage, teller)
            folder = stage.folder
        teller.holds("everything is stopped and the folder is gone", not folder.exists())
    except RotatorError as problem:
        click.echo(f"\n{click.style('NOT AS CLAIMED', fg='red')}: {problem}", err=True)
        return 1
    _say_what_next()
    return 0


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind as Ctrl-C does: what the demo started ends with it, and its folder with the keys in it goes."""
    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]

    def end(number: int, _frame: object) -> NoReturn:
        for other in numbers:  # a second one must not break the tidying off
            signal.signal(other, signal.SIG_IGN)
        raise SystemExit(128 + number)

    former = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def first_keys(stage: Stage, teller: Teller) -> None:
    """Three credentials that never had a key."""
    teller.act("1. Three credentials, no key yet")
    teller.say(f"the sandbox serves at {stage.sandbox_url}, the daemon runs; three credentials go to five client files")
    wait_for("each client file gets a key", lambda: all(stage.key_in(client) for client in CLIENTS))
    wait_for("the first rotations close", lambda: all(s["key_id"] for s in stage.statuses().values()))
    for name, clients in HOLDERS.items():
        held = {str(key.key_id) for key in (stage.key_in(c) for c in clients) if key is not None}
        verb = "holds" if len(clients) == 1 else "hold"
        teller.holds(f"{name}: {', '.join(clients)} {verb} {', '.join(held)}", len(held) == 1)
    modes = {(stage.home / file).stat().st_mode & 0o777 for _, file in CLIENTS.values()}
    teller.holds("every file is 0600", modes == {0o600})
    teller.holds("Cursor's own entry is still there", '"mine"' in (stage.home / ".cursor/mcp.json").read_text())


def scheduled(stage: Stage, teller: Teller) -> None:
    """All three rotate by their schedule."""
    teller.act("2. Due by schedule")
    before = {name: str(key.key_id) for name in HOLDERS if (key := stage.key_in(HOLDERS[name][0])) is not None}
    teller.say(f"every key is due {_EVERY} after it was minted")

    def rotated() -> bool:
        rows = stage.daemon.json("GET", "/api/v1/rotations?limit=200")["rotations"]
        return {r["credential"] for r in rows if r["reason"] == "scheduled" and r["outcome"] == "distributed"} == set(HOLDERS)

    wait_for("three scheduled rotations are distributed", rotated, 40.0)
    stage.reconfigure(_LATER)
    teller.say(f"the configuration now says every {_LATER}; the daemon reloads it by itself")
    wait_for("the reload", lambda: all(_is_far(s["next_rotation_at"]) for s in stage.statuses().values()), 15.0)
    wait_for("old keys end", lambda: all(not s["retirements"] and s["rotation"] is None for s in stage.statuses().values()), 40.0)
    for name, old in before.items():
        new = {str(key.key_id) for key in (stage.key_in(c) for c in HOLDERS[name]) if key is not None}
        teller.holds(f"{name}: {', '.join(HOLDERS[name])} changed from {old} to {', '.join(new)}", len(new) == 1 and old not in new)
        teller.holds(
            f"{old} is revoked at the service and refused by all its workers", old not in stage.living() and not stage.accepted_by(old)
        )
    held = {str(key.key_id) for key in map(stage.key_in, CLIENTS) if key is not None}
    teller.holds("the service knows exactly these three living keys, no orphan", stage.living() == held)


def leak(stage: Stage, teller: Teller) -> None:
    """A key is found in the wild."""
    teller.act("3. A key leaks")
    stolen = stage.key_in("cursor")
    if stolen is None:
        raise NotAsClaimed("Cursor's file holds a key")
    old = str(stolen.key_id)
    teller.say(f"somebody found {old} on a web page: `rotator leak`, with the key on stdin")
    done = stage.rotator("leak", stdin=stolen.reveal())
    teller.show(done.stdout)
    teller.holds("`rotator leak` ends with exit code 0", done.returncode == 0)
    rows = stage.daemon.json("GET", f"/api/v1/retirements?key_id={old}")["retirements"]
    teller.holds(
        f"its death is proven: first refused {_clock(rows[0]['first_refused'])}, confirmed {_clock(rows[0]['confirmed_at'])}",
        rows[0]["outcome"] == "dead",
    )
    teller.holds("no worker of the service takes it any more", not stage.accepted_by(old))
    held = {str(key.key_id) for key in (stage.key_in(c) for c in HOLDERS["checkout-read"]) if key is not None}
    teller.holds(f"Claude Code and Cursor hold {', '.join(held)}", len(held) == 1 and old not in held and held <= stage.living())


def fault(stage: Stage, teller: Teller) -> None:
    """The service mints a key and its answer is lost."""
    teller.act("4. An answer is lost")
    before = stage.living()
    stage.sandbox.json("PUT", "/sandbox/faults", {"rules": [{"operation": "mint", "effect": "drop_after", "times": 1}]})
    teller.say("the next mint happens, but its answer never arrives: somewhere lives a key that nobody holds")
    done = stage.rotator("rotate", "dashboards-read", "--wait")
    teller.show(done.stdout)
    teller.holds("`rotator rotate --wait` ends with exit code 0", done.returncode == 0)
    events = stage.daemon.json("GET", "/api/v1/events?credential=dashboards-read&limit=500")["events"]
    orphans = {e["key_id"] for e in events if e["action"] == "orphan" and e["key_id"]}
    teller.holds(f"the journal tells of the lost key, found by its attempt's label: {', '.join(orphans)}", len(orphans) == 1)
    wait_for("the old key ends", lambda: not stage.statuses()["dashboards-read"]["retirements"], 30.0)
    teller.holds("it is revoked, and no key is left over", not orphans & stage.living() and len(stage.living()) == len(before))


def metrics(stage: Stage, teller: Teller) -> None:
    """What Prometheus would see."""
    teller.act("5. What Prometheus sees")
    text = stage.daemon.text("GET", "/metrics")
    shown = [
        line
        for line in text.splitlines()
        if re.match(r"rotator_(credential_info|rotations_total|leak_to_dead_seconds_(count|sum)|orphans)", line)
    ]
    teller.show("\n".join(shown))
    held = {str(key.key_id) for key in map(stage.key_in, CLIENTS) if key is not None}
    named = set(re.findall(r'rotator_credential_info\{[^}]*key_id="([^"]+)"', text))
    teller.holds("the metrics name the keys that the files hold, and no key material", named == held)
    teller.show(stage.rotator("status").stdout)
    audit = stage.daemon.json("GET", "/api/v1/audit")
    teller.holds(f"the audit trail of {audit['lines']} lines is unbroken", not audit["problems"])


ACTS: tuple[Callable[[Stage, Teller], None], ...] = (first_keys, scheduled, leak, fault, metrics)


def _is_far(instant: object) -> bool:
    return isinstance(instant, str) and datetime.fromisoformat(instant) > datetime.now(UTC) + timedelta(days=1)


def _clock(instant: object) -> str:
    return str(instant)[11:23]


def _say_what_next() -> None:
    click.echo()
    click.echo("Next:")
    click.echo("  rotator config example > rotator.yaml   # every setting, documented; edit it")
    click.echo("  rotator check --live                    # says what is missing, changes nothing")
    click.echo("  rotator run                             # the daemon; then `rotator status`")
    sys.stdout.flush()
