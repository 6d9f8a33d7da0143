"""All metric names, in one class that owns its registry.

State is computed at scrape, from an injected reading, so that no series outlives its object and nothing drifts from the truth. Only
counts and durations are pushed. A label never holds more than names, key ids and reasons; key material never gets here. `FAMILIES` is the
list that docs/metrics.md is held against.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rotator import __version__

log = structlog.get_logger(__name__)

PHASES = ("idle", "opened", "staged", "verified", "promoted", "parked", "unreadable")
"""Where a credential can stand."""
TARGET_STATES = ("current", "behind", "failed")


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name without a counter's `_total`, type, labels and what it tells."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str

    @property
    def exposed(self) -> str:
        """The name as it is queried; of a histogram, the part before `_bucket`, `_sum` and `_count`."""
        return f"{self.name}_total" if self.type == "counter" else self.name


def _gauge(name: str, labels: str, text: str) -> Family:
    return Family(f"rotator_{name}", "gauge", tuple(labels.split()), text)


def _counter(name: str, labels: str, text: str) -> Family:
    return Family(f"rotator_{name}", "counter", tuple(labels.split()), text)


def _histogram(name: str, labels: str, text: str) -> Family:
    return Family(f"rotator_{name}", "histogram", tuple(labels.split()), text)


INFO = _gauge("credential_info", "credential kind key_id store issuer", "Always 1; names the current key of each credential.")
MINTED = _gauge("credential_minted_timestamp_seconds", "credential", "When the current key was minted.")
EXPIRES = _gauge("credential_expires_timestamp_seconds", "credential", "When the current key passes its maximum age.")
NEXT = _gauge("credential_next_rotation_timestamp_seconds", "credential", "When the next scheduled rotation is due.")
PHASE = _gauge("credential_phase", "credential phase", f"Always 1; where the credential stands: {', '.join(PHASES)}.")
PARKED = _gauge("credential_parked", "credential reason", "How many things of this credential wait for a person, by reason.")
COMPROMISED = _gauge("credential_compromised", "credential", "1 while a leaked key of this credential is not confirmed dead, else 0.")
TARGETS = _gauge("credential_targets", "credential state", f"Targets by state: {', '.join(TARGET_STATES)}; empty states have no series.")
LAST_SUCCESS = _gauge("last_success_timestamp_seconds", "credential", "When the last rotation was distributed to every required target.")
RETIREMENTS = _gauge("retirements", "credential phase", "Keys that must die and are not confirmed dead: waiting, doomed or revoked.")
OLD_KEY = _gauge("old_key_alive_seconds", "credential", "Since when the oldest superseded key is without proof of its death.")
OVERDUE = _gauge("oldest_overdue_seconds", "", "For how long the most overdue rotation is due or open without a new key; 0: none is.")
SPARES = _gauge("pool_spares", "issuer", "Spare keys that a pool can still give out, as last looked at (every `engine.poll`).")
ORPHANS = _gauge("orphans", "", "Minted keys that stand in no stage and are not revoked yet.")
MACHINES = _gauge("machines", "state", "Enrolled machines by state.")
QUEUE = _gauge("engine_queue", "lane", "Credentials that wait for a worker, by lane.")
REJECTED = _gauge("config_rejected", "", "1 while the configuration on disk is wrong and an older one is in force, else 0.")
BUILD = _gauge("build_info", "version python", "Always 1; names what runs.")
READ_FAILED = _gauge("state_read_failed", "", "1 when the journal could not be read at this scrape, so that state is missing, else 0.")
ROTATIONS = _counter("rotations", "credential reason outcome", "Closed rotations, by why they were opened and how they ended.")
STEPS = _counter("steps", "step outcome", "Steps that were taken, by outcome: ok or the reason why not.")
REMOTE = _counter("remote_requests", "remote operation outcome", "Calls to remotes, by what became of them.")
ROTATION_SECONDS = _histogram("rotation_duration_seconds", "reason", "From a rotation's opening to its being distributed.")
STEP_SECONDS = _histogram("step_duration_seconds", "step", "How long a step took.")
REMOTE_SECONDS = _histogram("remote_request_duration_seconds", "remote operation", "How long a call to a remote took.")
LEAK_SECONDS = _histogram("leak_to_dead_seconds", "", "From the accepted report of a leak to the confirmed death of the key.")

FAMILIES = (
    INFO, MINTED, EXPIRES, NEXT, PHASE, PARKED, COMPROMISED, TARGETS, ROTATIONS, ROTATION_SECONDS, STEP_SECONDS, STEPS, LAST_SUCCESS,
    OVERDUE, RETIREMENTS, OLD_KEY, LEAK_SECONDS, SPARES, ORPHANS, MACHINES, REMOTE, REMOTE_SECONDS, QUEUE, READ_FAILED, REJECTED,
    BUILD,
)  # fmt: skip
"""Every metric of ours, as docs/metrics.md lists them."""

_CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ROTATION_BUCKETS = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600, 7 * 24 * 3600)


@dataclass(frozen=True, slots=True)
class CredentialState:
    """What the metrics say of one credential. Instants are aware UTC; None: no such series."""

    credential: str
    kind: str
    store: str
    issuer: str
    phase: str = "idle"
    key_id: str | None = None
    minted_at: datetime | None = None
    expires_at: datetime | None = None
    next_rotation_at: datetime | None = None
    last_success: datetime | None = None
    compromised: bool = False
    parked: Mapping[str, int] = field(default_factory=dict)
    targets: Mapping[str, int] = field(default_factory=dict)
    retirements: Mapping[str, int] = field(default_factory=dict)
    old_key_alive: float | None = None
    """seconds"""


@dataclass(frozen=True, slots=True)
class State:
    """What the metrics say of everything, read at one scrape."""

    credentials: Iterable[CredentialState] = ()
    rotations: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """(credential, reason, outcome) → closed rotations"""
    orphans: int = 0
    oldest_overdue: float = 0.0
    """seconds"""
    config_rejected: bool = False
    pool_spares: Mapping[str, int] = field(default_factory=dict)
    machines: Mapping[str, int] = field(default_factory=dict)


class Metrics:
    """Owns the registry. The `on_…` methods are hooks: quick, safe from any thread, they never raise for what they are told."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._steps = self._build_counter(STEPS)
        self._step_seconds = self._build_histogram(STEP_SECONDS, _CALL_BUCKETS)
        self._remote = self._build_counter(REMOTE)
        self._remote_seconds = self._build_histogram(REMOTE_SECONDS, _CALL_BUCKETS)
        self._rotation_seconds = self._build_histogram(ROTATION_SECONDS, _ROTATION_BUCKETS)
        self._leak_seconds = self._build_histogram(LEAK_SECONDS, _ROTATION_BUCKETS)
        self._collector = _StateCollector()
        self.registry.register(self._collector)
        ProcessCollector(registry=self.registry)
        self._scraping = threading.Lock()

    def watch(self, read_state: Callable[[], State], read_queue: Callable[[], Mapping[str, int]]) -> None:
        """From now on, state is what these answer at each scrape. `read_queue`: lane → how many wait."""
        self._collector.read_state, self._collector.read_queue = read_state, read_queue

    def on_step(self, step: str, outcome: str, seconds: float) -> None:
        """A step was taken."""
        self._steps.labels(step, outcome).inc()
        self._step_seconds.labels(step).observe(seconds)

    def on_remote(self, remote: str, operation: str, outcome: str, seconds: float) -> None:
        """A remote was called."""
        self._remote.labels(remote, operation, outcome).inc()
        self._remote_seconds.labels(remote, operation).observe(seconds)

    def on_rotation(self, reason: str, seconds: float) -> None:
        """A rotation was distributed, so long after its opening."""
        self._rotation_seconds.labels(reason).observe(seconds)

    def on_leak_ended(self, seconds: float) -> None:
        """A leaked key was confirmed dead, so long after the report was accepted."""
        self._leak_seconds.observe(seconds)

    def render(self, accept: str | None = None) -> tuple[bytes, str]:
        """The exposition and its content type, for an `Accept` header. One scrape at a time: they cost the same twice."""
        encode, content_type = choose_encoder(accept or "")
        with self._scraping:
            return encode(self.registry), content_type

    def _build_counter(self, family: Family) -> Counter:
        return Counter(family.name, family.help, family.labels, registry=self.registry)

    def _build_histogram(self, family: Family, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(family.name, family.help, family.labels, registry=self.registry, buckets=buckets)


class _StateCollector(Collector):
    """Turns a reading of the state into samples, at each scrape."""

    def __init__(self) -> None:
        self.read_state: Callable[[], State] = State
        self.read_queue: Callable[[], Mapping[str, int]] = dict

    def describe(self) -> Iterator[Metric]:
        """Names only: registering must not read the journal."""
        for family in FAMILIES:
            if family.type == "gauge":
                yield _new(family)
        yield _new_counter(ROTATIONS)

    def collect(self) -> Iterator[Metric]:
        failed = False
        try:
            state = self.read_state()
        except Exception:  # the rest of the metrics is wanted most when the journal cannot be read
            log.exception("the state could not be read", action="scrape")
            state, failed = State(), True
        if not failed:
            yield from _collect_credentials(state.credentials)
            yield from _collect_totals(state)
        yield _single(READ_FAILED, float(failed))
        yield _labelled(QUEUE, self.read_queue())
        build = _new(BUILD)
        build.add_metric((__version__, platform.python_version()), 1)
        yield build


def _collect_credentials(credentials: Iterable[CredentialState]) -> Iterator[Metric]:
    families = (INFO, MINTED, EXPIRES, NEXT, LAST_SUCCESS, PHASE, PARKED, COMPROMISED, TARGETS, RETIREMENTS, OLD_KEY)
    metrics = {family.name: _new(family) for family in families}

    def add(family: Family, labels: tuple[str, ...], value: float) -> None:
        metrics[family.name].add_metric(labels, value)

    for state in credentials:
        name = (state.credential,)
        add(INFO, (*name, state.kind, state.key_id or "", state.store, state.issuer), 1)
        add(PHASE, (*name, state.phase), 1)
        add(COMPROMISED, name, float(state.compromised))
        instants = (
            (MINTED, state.minted_at),
            (EXPIRES, state.expires_at),
            (NEXT, state.next_rotation_at),
            (LAST_SUCCESS, state.last_success),
        )
        for family, at in instants:
            if at is not None:
                add(family, name, at.timestamp())
        if state.old_key_alive is not None:
            add(OLD_KEY, name, state.old_key_alive)
        for family, counts in ((PARKED, state.parked), (TARGETS, state.targets), (RETIREMENTS, state.retirements)):
            for label, count in counts.items():
                add(family, (*name, label), count)
    yield from metrics.values()


def _collect_totals(state: State) -> Iterator[Metric]:
    rotations = _new_counter(ROTATIONS)
    for labels, count in state.rotations.items():
        rotations.add_metric(labels, count)
    yield rotations
    yield _single(OVERDUE, state.oldest_overdue)
    yield _single(ORPHANS, state.orphans)
    yield _single(REJECTED, float(state.config_rejected))
    yield _labelled(SPARES, state.pool_spares)
    yield _labelled(MACHINES, state.machines)


def _new(family: Family) -> GaugeMetricFamily:
    return GaugeMetricFamily(family.name, family.help, labels=family.labels)


def _new_counter(family: Family) -> CounterMetricFamily:
    return CounterMetricFamily(family.name, family.help, labels=family.labels)


def _single(family: Family, value: float) -> Metric:
    metric = _new(family)
    metric.add_metric((), value)
    return metric


def _labelled(family: Family, counts: Mapping[str, int]) -> Metric:
    metric = _new(family)
    for label, count in counts.items():
        metric.add_metric((label,), count)
    return metric
