"""What it costs to ask a store whether anybody else changed a key, where nobody did: requests and processor time of one round."""

from __future__ import annotations

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.figures import Table, median
from rotator.daemon import SystemClock
from rotator.domain.ports import Store
from rotator.settings import Settings
from rotator.stores.surroundings import Surroundings
from tests.support import aws
from tests.support.stores import AwsSite, StoreSite, VaultSite, get_vault_server

_FOLDER = "polled"
_NOBODY = '{"api_key": ""}'


def measure_polls(credentials: int, runs: int) -> Table:
    """Rounds over so many secrets, on Vault and on moto."""
    figures = [_measure(site, credentials, runs) for site in (VaultSite(get_vault_server()), AwsSite(aws.get_moto().url))]
    rows = [
        [
            one["store"],
            f"{one['requests']}",
            f"{one['requests'] / credentials:.3f}",
            f"{one['cpu'] * 1000:.0f} ms",
            f"{one['cpu'] / credentials * 1e6:.0f} µs",
            f"{one['wall']:.2f} s",
        ]
        for one in figures
    ]
    return Table(
        title=f"A poll of {credentials:,} credentials on one store, nothing changed",
        columns=["store", "requests", "per secret", "cpu", "per secret", "wall"],
        rows=rows,
        notes=[
            "goal: at most 1 cheap request per Vault secret, 1/100 per AWS secret; no value is read",
            f"median of {runs} rounds; processor time of the polling process alone; a round comes every `engine.poll`, 60 s by default",
        ],
        data={"credentials": credentials, "stores": figures},
    )


def _measure(site: StoreSite, credentials: int, runs: int) -> dict[str, Any]:
    paths = [f"{_FOLDER}/c{number:05}" for number in range(credentials)]
    _fill(site, paths)
    calls: list[tuple[str, str]] = []
    store = _open(site, calls)
    known = store.list_marks(paths)
    assert len(known) == len(paths)
    rounds = []
    for _ in range(runs):
        calls.clear()
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        assert store.list_marks(paths) == known
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        rounds.append({"requests": len(calls), "cpu": cpu, "wall": time.monotonic() - started})
    operations = sorted({operation for operation, _ in calls})
    return {"store": site.name, "operations": operations, **{name: median([one[name] for one in rounds]) for name in rounds[0]}}


def _open(site: StoreSite, calls: list[tuple[str, str]]) -> Store:
    """As a daemon's configuration has it."""
    import os

    os.environ.update(site.environ)
    config = Settings(installation="bench", stores={site.name: dict(site.section)}).stores[site.name]  # type: ignore[arg-type]
    observe = Surroundings(site.name, SystemClock(), lambda _remote, operation, outcome, _seconds: calls.append((operation, outcome)))
    return config.build(Path("/nonexistent"), observe)


def _fill(site: StoreSite, paths: list[str]) -> None:
    """Secrets as large as consumers' own."""
    if isinstance(site, VaultSite):
        server = site.server
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda path: server.put("secret", path, {"api_key": "", "owner": "bench"}), paths))
        return
    assert isinstance(site, AwsSite)
    client = aws.open_client(site.url)
    for path in paths:
        client.create_secret(Name=path, SecretString=_NOBODY)
