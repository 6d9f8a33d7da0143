"""A key change carried into many Secrets of a real API server, beside a bare loop of the same requests; and the memory of a daemon that
watches its own Secrets among many others."""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from bench.figures import Table, median
from rotator.daemon import SystemClock
from rotator.domain.ports import Delivery
from rotator.domain.secret import Secret
from rotator.settings import Settings
from rotator.targets.kubernetes.config import KubernetesTargetConfig
from rotator.targets.kubernetes.target import KubernetesTarget
from rotator.targets.surroundings import TargetSurroundings
from tests.support.daemon import Site, running_daemon, wait_until
from tests.support.kubernetes import Cluster, running_cluster
from tests.support.sandbox import start_sandbox_process

TARGETS = 20
AT_ONCE = 16
WORKERS = 8
"""of the engine, by default"""
LABEL = "bench"
_OTHERS_AT_ONCE = 4
_HEADERS = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"}
_SIZE = 100_000
"""bytes of a Secret of somebody else's"""


@dataclass
class Field:
    """A cluster with namespaces, and targets that put a Secret each into all of them."""

    cluster: Cluster
    folder: Path
    namespaces: list[str]
    calls: Counter[str] = field(default_factory=Counter)
    generation: int = 0

    def build(self, mode: str) -> list[KubernetesTarget]:
        """As a daemon's configuration has them. Modes: `by label`, and `by name` without watches."""
        kubeconfig = self.cluster.kubeconfig(self.folder / "kubeconfig", self.cluster.admin)
        usual = {"type": "kubernetes", "kubeconfig": str(kubeconfig), "restart": "none"}
        places: dict[str, Any] = {"namespaces": {"selector": f"{LABEL}=yes"}}
        if mode == "by name":
            places = {"namespaces": self.namespaces, "watches": 0}
        sections = {f"t{n}": {**usual, **places, "name": _name(mode, n)} for n in range(TARGETS)}
        shared: dict[object, object] = {}
        built = []
        for name, config in Settings(installation="bench", targets=sections).targets.items():  # type: ignore[arg-type]
            assert isinstance(config, KubernetesTargetConfig)
            around = TargetSurroundings(name, "bench", self.folder, SystemClock(), {}, self.folder, "linux", shared, self._count)
            built.append(config.build(around))
        return built

    def carry(self, targets: Sequence[KubernetesTarget]) -> float:
        """The next key into every Secret, each target of another credential, with as many workers as the engine has; seconds."""
        self.generation += 1
        deliveries = [_deliver_to(f"c{n}", self.generation) for n in range(len(targets))]

        def bring(target: KubernetesTarget, delivery: Delivery) -> None:
            after = target.deliver(delivery, target.observe(delivery.credential))
            assert after.key_id == delivery.secret.key_id

        started = time.monotonic()
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(bring, targets, deliveries))
        return time.monotonic() - started

    def look(self, targets: Sequence[KubernetesTarget]) -> float:
        """At every Secret once; seconds."""
        started = time.monotonic()
        for number, target in enumerate(targets):
            assert target.observe(f"c{number}").key_id is not None
        return time.monotonic() - started

    def carry_barely(self, client: httpx2.Client, number: int) -> float:
        """The same number of applies, as large, with as many at once; seconds."""
        bodies = [(n, f"bare-{t}", _build_bare(n, f"bare-{t}", number)) for t in range(TARGETS) for n in self.namespaces]

        def apply(one: tuple[str, str, str]) -> None:
            namespace, name, body = one
            answer = client.patch(
                f"/api/v1/namespaces/{namespace}/secrets/{name}",
                params={"fieldManager": "bare", "force": "true"},
                headers=_HEADERS,
                content=body,
            )
            assert answer.is_success
            answer.json()

        started = time.monotonic()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(apply, bodies))
        return time.monotonic() - started

    def _count(self, _remote: str, operation: str, _outcome: str, _seconds: float) -> None:
        self.calls[operation] += 1


def _name(mode: str, number: int) -> str:
    return f"{mode.replace(' ', '-')}-{number}"


def _deliver_to(credential: str, generation: int) -> Delivery:
    secret = Secret("_".join(("rk", "bench", secrets.token_hex(4), secrets.token_urlsafe(32))))
    return Delivery(credential, secret, generation, "https://api.millimetric.invalid/mcp")


def _build_bare(namespace: str, name: str, number: int) -> str:
    data = base64.b64encode(f"{number:060}".encode()).decode()
    notes = {f"bench/{note}": f"{number:016}" for note in ("installation", "credential", "key-id", "generation", "shape", "entries")}
    metadata = {"name": name, "namespace": namespace, "labels": {"bench/target": "bare"}, "annotations": notes}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"api_key": data}})


@contextmanager
def _field(namespaces: int) -> Iterator[Field]:
    with tempfile.TemporaryDirectory() as folder, running_cluster() as cluster:
        yield Field(cluster, Path(folder), [cluster.namespace(**{LABEL: "yes"}) for _ in range(namespaces)])


def measure_kubernetes(namespaces: int, runs: int) -> Table:
    """A key change into `TARGETS` Secrets in each of so many namespaces."""
    with _field(namespaces) as where:
        secrets_in_all = namespaces * TARGETS
        trusted = ssl.create_default_context(cafile=str(where.cluster.ca_file))
        headers = {"Authorization": f"Bearer {where.cluster.admin}"}
        with httpx2.Client(base_url=where.cluster.address, verify=trusted, headers=headers, timeout=30) as client:
            where.carry_barely(client, 0)
            found = {mode: _measure(where, mode, client, runs) for mode in ("by label", "by name")}
    rows = []
    for mode, figures in found.items():
        one = {name: median([run[name] for run in figures["runs"]]) for name in figures["runs"][0]}
        per = one["requests"] / secrets_in_all, one["looked"] / secrets_in_all
        cells = f"{one['wall']:.2f} s", f"{one['bare']:.2f} s", f"{one['wall'] / one['bare']:.2f}", f"{per[0]:.2f}", f"{per[1]:.2f}"
        rows.append([mode, *cells, figures["told"]])
    return Table(
        title=f"A key change into {secrets_in_all:,} Secrets in {namespaces} namespaces",
        columns=["mode", "rotator", "bare loop", "ratio", "requests/Secret", "unchanged", "told of a deletion"],
        rows=rows,
        notes=[
            f"goal: ratio at most 1.3, at most 2 requests a Secret on change, 0 when nothing changed; {AT_ONCE} requests at once",
            "by label: a watch a namespace; by name: no watches, so every look asks for each Secret",
            f"median of {runs} runs, each beside a bare loop of as many applies against the same API server",
        ],
        data={"secrets": secrets_in_all, "modes": found},
    )


def _measure(where: Field, mode: str, client: httpx2.Client, runs: int) -> dict[str, Any]:
    targets, told, latency = where.build(mode), threading.Event(), "-"
    where.carry(targets)
    if mode == "by label":
        for target in targets:
            target.follow(told.set)
        for number, target in enumerate(targets):
            wait_until(lambda target=target, number=number: target.observe(f"c{number}").remembered, 60, what="live watches")
    measured = []
    for run in range(1, runs + 1):
        where.calls.clear()
        wall = where.carry(targets)
        requests = where.calls.total()
        where.calls.clear()
        where.look(targets)
        measured.append({"wall": wall, "requests": requests, "looked": where.calls.total(), "bare": where.carry_barely(client, run)})
    if mode == "by label":
        latency = f"{1000 * median([_time_deletion(where, told, mode, n) for n in range(5)]):.0f} ms"
    for target in targets:
        target.close()
    return {"runs": measured, "told": latency}


def _time_deletion(where: Field, told: threading.Event, mode: str, number: int) -> float:
    told.clear()
    started = time.monotonic()
    where.cluster.call("DELETE", f"/api/v1/namespaces/{where.namespaces[number % len(where.namespaces)]}/secrets/{_name(mode, number)}")
    assert told.wait(30)
    return time.monotonic() - started


def measure_memory(namespaces: int, others: int) -> Table:
    """A real daemon by label, alone and among others' Secrets."""
    with _field(namespaces) as where, tempfile.TemporaryDirectory() as folder, start_sandbox_process(Path(folder), cache_time=1) as sandbox:
        site = Site(Path(folder) / "site", sandbox.url, sandbox.token_file.read_text().strip())
        kubeconfig = where.cluster.kubeconfig(site.folder / "kubeconfig", where.cluster.admin)
        for number in range(TARGETS):
            target = {"type": "kubernetes", "kubeconfig": str(kubeconfig), "restart": "none", "name": f"key-{number}"}
            site.config["targets"][f"t{number}"] = {**target, "namespaces": {"selector": f"{LABEL}=yes"}}
            site.credential(f"c{number}", f"t{number}")
        rows = []
        with running_daemon(site) as daemon:
            for number in range(TARGETS):
                daemon.wait_for(f"c{number}", lambda status: all(t["state"] == "current" for t in status["targets"]), 300)
            rows.append(["alone", _read_rss(daemon.process.pid)])
            _make_others(where, others)
            rows.append(["others came while it ran", _read_rss(daemon.process.pid)])
        with running_daemon(site) as daemon:
            for number in range(TARGETS):
                daemon.wait_for(f"c{number}", lambda status: all(t["state"] == "current" for t in status["targets"]), 300)
            rows.append(["started among them", _read_rss(daemon.process.pid)])
    return Table(
        title=f"Memory of a daemon with {namespaces * TARGETS:,} Secrets of its own among {others:,} others of {_SIZE // 1000} kB",
        columns=["", "RSS"],
        rows=[[name, f"{rss / 1024:.0f} MiB"] for name, rss in rows],
        notes=["goal: no growth with the others; selector mode, a watch a namespace"],
        data={"others": others, "rss_kib": dict(rows)},
    )


def _make_others(where: Field, others: int) -> None:
    data = {"blob": base64.b64encode(b"x" * (_SIZE * 3 // 4)).decode()}

    def make(number: int) -> None:
        namespace = where.namespaces[number % len(where.namespaces)]
        where.cluster.call("POST", f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": f"other-{number}"}, "data": data})

    with ThreadPoolExecutor(_OTHERS_AT_ONCE) as pool:
        list(pool.map(make, range(others)))


def _read_rss(pid: int) -> int:
    """KiB."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])
