"""An idle daemon: processor time per minute and memory by number of credentials, all daemons watched during the same seconds."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.figures import Table
from bench.site import build_site
from rotator.daemon import SystemClock
from rotator.domain.facts import Memory, Sightings, Verdict
from rotator.domain.keys import PUBLISHED_TOOLS, Kind
from rotator.domain.ports import Delivery, Placement, SaveMemory, SavePlacement, SaveSightings, SaveView, View
from rotator.domain.record import KeyEntry, Record, Stage
from rotator.domain.secret import Secret
from rotator.settings import Settings, load_settings
from rotator.stores.codec import render_record, render_secrets
from rotator.stores.embedded.files import replace_file
from rotator.stores.embedded.master_key import ensure_key_file
from rotator.stores.embedded.sealed import Seal
from rotator.stores.embedded.store import find_lock
from rotator.wiring.runtime import build_journal, build_targets
from tests.support import daemon as support

_SETTLED = 0.02
"""share of one processor below which a daemon counts as idle"""
_SETTLE_WITHIN = 240.0
_NOWHERE = "http://127.0.0.1:9"


def measure_idle(numbers: Sequence[int], seconds: float) -> Table:
    """One daemon for each number, over a state that was made beforehand; nothing is due while it is watched."""
    support.START_WITHIN = 180.0  # ten thousand credentials are many lines of YAML
    with tempfile.TemporaryDirectory(prefix="rotator-bench-") as scratch, contextlib.ExitStack() as stack:
        running = []
        for number in numbers:
            site = build_site(Path(scratch) / str(number), _NOWHERE, "none", number, cache_time="5m", overlap="1h")
            _make_state(site)
            started = time.monotonic()
            daemon = stack.enter_context(support.running_daemon(site))
            ready = time.monotonic() - started
            running.append((number, ready, daemon, psutil.Process(daemon.process.pid)))
        settled = [_settle(process) for _, _, _, process in running]
        before = [sum(process.cpu_times()[:2]) for *_, process in running]
        threading.Event().wait(seconds)
        figures = [
            {
                "credentials": number,
                "ready_seconds": ready,
                "settled": calm,
                "cpu_seconds_per_minute": (sum(process.cpu_times()[:2]) - cpu) * 60 / seconds,
                "rss_bytes": process.memory_info().rss,
                "known": _count_known(daemon),
            }
            for (number, ready, daemon, process), cpu, calm in zip(running, before, settled, strict=True)
        ]
    return _build_table(figures, seconds)


def _build_table(figures: list[dict[str, Any]], seconds: float) -> Table:
    base = figures[0]
    rows = [
        [
            f"{one['credentials']:,}",
            f"{one['credentials'] / base['credentials']:.0f}",
            f"{one['cpu_seconds_per_minute'] * 1000:.0f} ms",
            f"{one['cpu_seconds_per_minute'] / max(base['cpu_seconds_per_minute'], 0.001):.2f}",
            f"{one['rss_bytes'] / 2**20:.0f} MiB",
            f"{one['rss_bytes'] / base['rss_bytes']:.2f}",
            f"{one['ready_seconds']:.1f} s",
        ]
        for one in figures
    ]
    return Table(
        title=f"Idle daemon, watched for {seconds:.0f} s",
        columns=["credentials", "times", "cpu per minute", "ratio", "memory", "ratio", "ready after"],
        rows=rows,
        notes=[
            "goal: both grow no faster than the credentials; ratios are to the first row",
            "each credential: one key, one raw-key file target, no schedule; resync 30 d, so that nothing is due",
            *[f"{one['credentials']:,} credentials: had not calmed down" for one in figures if not one["settled"]],
            *[f"{one['credentials']:,} credentials: only {one['known']} idle" for one in figures if one["known"] != one["credentials"]],
        ],
        data={"seconds": seconds, "daemons": figures},
    )


def _settle(process: psutil.Process) -> bool:
    """Wait until a daemon has looked at every credential once, as each does after its start."""
    deadline = time.monotonic() + _SETTLE_WITHIN
    while time.monotonic() < deadline:
        if process.cpu_percent(interval=3.0) < _SETTLED * 100:
            return True
    return False


def _count_known(daemon: support.DaemonProcess) -> int:
    """Credentials that the daemon knows and that stand where an idle one stands."""
    with httpx.Client(base_url=daemon.url, timeout=120.0, trust_env=False, headers={"Authorization": f"Bearer {daemon.token}"}) as client:
        statuses = client.get("/api/v1/credentials").json()["credentials"]
    return sum(one["phase"] == "idle" and one["key_id"] is not None for one in statuses)


def _make_state(site: support.Site) -> None:
    """Store, journal and targets as they stand after every credential got its first key, without asking anybody for one."""
    settings = load_settings(site.config_file, {}, files=False).settings
    site.state.mkdir(mode=0o700)
    now = datetime.now(UTC) - timedelta(minutes=10)
    made = {name: _make_record(settings, now) for name in settings.credentials}
    path = site.state / "store.bin"
    master_key = ensure_key_file(site.state / "master.key", path, find_lock(path))
    _write_store(path, Seal.generate(master_key), settings, made)
    targets = build_targets(settings, site.state, SystemClock())
    with build_journal(settings, site.state, SystemClock()) as journal:
        for name, (record, secret) in made.items():
            seen = targets[name].observe(name)
            endpoint = f"{_NOWHERE}/mcp"
            placed = targets[name].deliver(Delivery(name, secret, 1, endpoint, frozenset({secret.key_id})), seen)
            journal.commit(
                name,
                SaveMemory(Memory(record.uid, 1, f"embedded:{settings.credentials[name].path}", recovered=False, swept_at=now)),
                SaveSightings(Sightings(secret.key_id).after(Verdict.ALIVE, now + timedelta(seconds=1), witnessed=False)),
                SavePlacement(Placement(name, placed.key_id, now, 1)),
                SaveView(View(now, now)),
            )


def _make_record(settings: Settings, now: datetime) -> tuple[Record, Secret]:
    secret = Secret(f"rk_live_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}")
    entry = KeyEntry(
        secret.key_id, Stage.CURRENT, minted_at=now, generation=1, promoted_at=now, issuer="sandbox", tools=tuple(PUBLISHED_TOOLS[Kind.RK])
    )
    return Record(uid=secrets.token_hex(8), installation=settings.installation, generation=1, keys=(entry,)), secret


def _write_store(path: Path, seal: Seal, settings: Settings, made: dict[str, tuple[Record, Secret]]) -> None:
    """The whole file at once: ten thousand commits would each replace it."""
    import json
    import os

    sealed = {}
    for name, (record, secret) in made.items():
        document = {"record": render_record(record), "secrets": render_secrets({secret.key_id: secret})}
        sealed[settings.credentials[name].path] = seal.seal_blob(settings.credentials[name].path, json.dumps(document).encode())
    head = seal.seal_index({where: blob for where, (blob, _) in sealed.items()})
    os.close(replace_file(path, [head, *(body for _, body in sealed.values())]))
