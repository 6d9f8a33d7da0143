"""Full rotations (from opened to the old key proven dead) against a bare loop that makes the same HTTP calls to the same sandbox."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from bench.bare import BareLoop, Mix
from bench.figures import Table, median
from bench.site import WORKERS, build_site
from tests.support.daemon import Site
from tests.support.sandbox import SandboxControl, SandboxProcess, start_sandbox_process
from tests.support.stores import VaultSite, get_vault_server

CACHE_TIME = 1
OVERLAP = "1s"


def measure_rotations(credentials: int, runs: int, *, on_vault: bool = False) -> Table:
    """`runs` rounds of rotations of all credentials, each followed by the bare loop with the calls of that round."""
    server = get_vault_server() if on_vault else None
    store = VaultSite(server) if server is not None else None
    with tempfile.TemporaryDirectory(prefix="rotator-bench-") as scratch:
        folder = Path(scratch)
        with start_sandbox_process(folder, cache_time=CACHE_TIME) as sandbox:
            token = sandbox.token_file.read_text("ascii").strip()
            site = build_site(folder / "site", sandbox.url, token, credentials, cache_time=f"{CACHE_TIME}s", overlap=OVERLAP, store=store)
            bare = BareLoop(sandbox.url, token, WORKERS, (server.address, server.root) if server is not None else None)
            log = site.folder / "daemon.log"
            with _driver(site, log) as driver:
                bootstrap = json.loads(_read(driver, log))
                rounds = [_measure_round(driver, log, sandbox, bare, credentials) for _ in range(runs)]
            sizes = {"journal_bytes": _size(site.state, "journal.db*"), "store_bytes": _size(site.state, "store.bin")}
    return _build_table(credentials, bootstrap, rounds, sizes, on_vault=on_vault)


def _measure_round(driver: subprocess.Popen[str], log: Path, sandbox: SandboxProcess, bare: BareLoop, credentials: int) -> dict[str, Any]:
    assert driver.stdin is not None
    process = psutil.Process(sandbox.process.pid)
    before, sandbox_cpu = _count(sandbox.control), sum(process.cpu_times()[:2])
    driver.stdin.write("rotate\n")
    driver.stdin.flush()
    ours = json.loads(_read(driver, log))
    ours["sandbox_cpu"] = sum(process.cpu_times()[:2]) - sandbox_cpu
    after = _count(sandbox.control)
    mix = Mix(**{name: after[name] - before[name] for name in before}, vault=ours["vault"])
    sandbox_cpu = sum(process.cpu_times()[:2])
    theirs = bare.run(mix, credentials)
    theirs["sandbox_cpu"] = sum(process.cpu_times()[:2]) - sandbox_cpu
    return {"rotator": ours, "bare": theirs, "calls": mix.total, "mix": {**{name: getattr(mix, name) for name in before}, **mix.vault}}


def _count(control: SandboxControl) -> dict[str, int]:
    """Calls so far, by kind."""
    operations = control.stats()["operations"]

    def total(operation: str, *statuses: int) -> int:
        counts = operations.get(operation, {})
        return sum(n for status, n in counts.items() if not statuses or int(status) in statuses)

    return {
        "mints": total("mint"),
        "lists": total("list"),
        "probes_alive": total("mcp", 200),
        "probes_refused": total("mcp", 401),
        "revokes": total("revoke"),
    }


def _build_table(
    credentials: int, bootstrap: dict[str, float], rounds: list[dict[str, Any]], sizes: dict[str, int], *, on_vault: bool
) -> Table:
    rows = []
    for number, one in enumerate(rounds, 1):
        ours, bare = one["rotator"], one["bare"]
        rows.append(
            [
                f"run {number}",
                f"{credentials / ours['wall']:.1f}/s",
                f"{ours['wall']:.2f} s",
                f"{bare['wall']:.2f} s",
                f"{ours['wall'] / bare['wall']:.2f}",
                f"{ours['cpu']:.2f} s",
                f"{bare['cpu']:.2f} s",
                f"{ours['cpu'] / bare['cpu']:.2f}",
                str(one["calls"]),
            ]
        )
    wall = median([one["rotator"]["wall"] / one["bare"]["wall"] for one in rounds])
    cpu = median([one["rotator"]["cpu"] / one["bare"]["cpu"] for one in rounds])
    rate = median([credentials / one["rotator"]["wall"] for one in rounds])
    rows.append(["median", f"{rate:.1f}/s", "", "", f"{wall:.2f}", "", "", f"{cpu:.2f}", ""])
    calls = median([one["calls"] for one in rounds]) / credentials
    where = " on Vault" if on_vault else ""
    kept = f", {sum(rounds[-1]['rotator']['vault'].values()) / credentials:.1f} of them to Vault" if on_vault else ""
    return Table(
        title=f"Full rotations{where}, {credentials} credentials, {WORKERS} workers: rotator against a bare httpx loop",
        columns=["", "rotations", "wall", "bare wall", "ratio", "cpu", "bare cpu", "ratio", "calls"],
        rows=rows,
        notes=[
            f"goal: wall ratio at most {1.3 if on_vault else 1.5} at 500 credentials; {calls:.1f} HTTP calls per rotation{kept}",
            f"key cache {CACHE_TIME} s (sandbox and rotator), overlap {OVERLAP}, settle 0 s: waiting does not dominate, work does",
            f"bootstrap of all credentials: {bootstrap['wall']:.2f} s, cpu {bootstrap['cpu']:.2f} s",
            "sandbox cpu: " + ", ".join(f"{o['rotator']['sandbox_cpu']:.1f} / {o['bare']['sandbox_cpu']:.1f} s" for o in rounds),
        ],
        data={
            "credentials": credentials, "workers": WORKERS, "bootstrap": bootstrap, "runs": rounds, "wall_ratio": wall, "cpu_ratio": cpu,
            "rotations_per_second": rate, **sizes,
        },
    )  # fmt: skip


@contextlib.contextmanager
def _driver(site: Site, log: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.driving", str(site.config_file), str(site.state)]
    with log.open("w") as out:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out, text=True, env=site.variables())
        try:
            yield process
        finally:
            process.communicate(timeout=30)


def _read(driver: subprocess.Popen[str], log: Path) -> str:
    assert driver.stdout is not None
    line = driver.stdout.readline()
    if not line:
        raise RuntimeError(f"the measured process ended with {driver.wait()}: {log.read_text()[-2000:]}")
    return line


def _size(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(pattern))
