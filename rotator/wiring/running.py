"""The daemon: journal, engine, wake-ups and server, started in order; and one pass over everything for `run --once`."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import structlog

from rotator.daemon import SystemClock
from rotator.domain.credential import Credential
from rotator.domain.errors import RotatorError
from rotator.domain.ports import Clock
from rotator.engine.engine import Engine, Hooks
from rotator.engine.operations import Operations
from rotator.engine.runner import Outcome
from rotator.journal.sqlite import SqliteJournal
from rotator.metrics import Metrics
from rotator.scheduling.wakeups import Wakeups
from rotator.server.readiness import Readiness, WatchedStore
from rotator.settings import Settings, load_settings, timing_of
from rotator.targets.file.ownership import OwnershipFolder
from rotator.wiring.departed import build_departed, carry_renamed
from rotator.wiring.logs import configure_logs
from rotator.wiring.runtime import Parts, build_journal, build_parts, find_config_or_fail

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Runtime:
    """A built daemon, whole; `reload` replaces what a configuration may change, all or nothing."""

    path: Path
    state_dir: Path
    clock: Clock
    settings: Settings
    parts: Parts
    metrics: Metrics
    journal: SqliteJournal
    engine: Engine
    operations: Operations
    loaded_text: str = field(default="", repr=False)
    readiness: Readiness | None = None
    following: bool = False
    """whether targets tell of changes"""
    rejected: str = ""
    """what is wrong with the configuration on disk, while an older one is in force"""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    """one at a time: a change of the file, a signal and the API may ask for a reload at once"""

    def watch_stores(self, readiness: Readiness) -> None:
        """Let every store's reads say whether it answers."""
        self.readiness = readiness
        self.engine.set_credentials(_watched(self.engine.credentials, readiness))

    def follow(self) -> None:
        """From now on every target may wake whom it serves."""
        with self._lock:
            self.following = True
            for name, target in self.parts.targets.items():
                users = [c.name for c in self.parts.credentials.values() if any(bound.name == name for bound in c.targets)]
                if users:
                    target.follow(partial(self._wake, users))

    def unfollow(self) -> None:
        """Targets wake nobody any more."""
        with self._lock:
            self.following = False
            for target in self.parts.targets.values():
                target.close()

    def _wake(self, names: Sequence[str]) -> None:
        for name in names:
            self.engine.wake(name)

    def reload(self) -> bool:
        """Read the configuration again; True if it changed. A bad one is reported and the old one stays."""
        with self._lock:
            try:
                changed = self._reload()
            except RotatorError as problem:
                self.rejected = str(problem)
                raise
            self.rejected = ""
            return changed

    def _reload(self) -> bool:
        text = _read_text(self.path)
        if text == self.loaded_text:
            return False
        loaded = load_settings(self.path, os.environ)
        fixed = _needs_restart(self.settings, loaded.settings)
        parts = build_parts(loaded.settings, self.state_dir, self.clock, self.metrics, (self.settings, self.parts))
        credentials = with_departed(parts, self.journal, loaded.settings, self.clock, self.engine.credentials)
        self.engine.set_credentials(_watched(credentials, self.readiness) if self.readiness else credentials, parts.issuers, parts.targets)
        if self.readiness is not None:
            for name in self.parts.stores.keys() - parts.stores.keys():
                self.readiness.forget(f"store:{name}")
        following = self.following
        self.unfollow()
        self.settings, self.parts, self.loaded_text = loaded.settings, parts, text
        if following:
            self.follow()
        log.info("configuration reloaded", action="reload", credentials=len(parts.credentials), needs_restart=fixed)
        return True


def build_runtime(path: Path, state_dir: Path, *, catch_up: timedelta | None = None, wakeups: list[Wakeups] | None = None) -> Runtime:
    """Everything but the sockets. Takes the journal's lock: a second daemon on it raises."""
    text = _read_text(path)
    loaded = load_settings(path, os.environ)
    settings = loaded.settings
    clock = SystemClock()
    metrics = Metrics()
    parts = build_parts(settings, state_dir, clock, metrics)
    journal = build_journal(settings, state_dir, clock)
    OwnershipFolder(state_dir / "targets").remove_leftovers()
    planned: list[Wakeups] = wakeups if wakeups is not None else []

    def wake_at(instant: datetime) -> None:
        for one in planned:
            one.wake_at(instant)

    hooks = Hooks(metrics.on_step, metrics.on_rotation, metrics.on_leak_ended, wake_at)
    timing = timing_of(settings)
    engine = Engine(
        journal, clock, replace(timing, catch_up=catch_up) if catch_up is not None else timing, hooks, workers=settings.engine.workers
    )
    engine.set_credentials(with_departed(parts, journal, settings, clock, {}), parts.issuers, parts.targets)
    return Runtime(path, state_dir, clock, settings, parts, metrics, journal, engine, Operations(engine), text)


def with_departed(
    parts: Parts, journal: SqliteJournal, settings: Settings, clock: Clock, former: Mapping[str, Credential]
) -> Mapping[str, Credential]:
    """The configured credentials, and those that left the configuration while a key of theirs must still die (L5)."""
    carry_renamed(parts, journal, clock)
    return {**build_departed(parts, journal, settings.installation, former), **parts.credentials}


def run_daemon(config: Path | None, state_dir: Path, *, once: bool) -> int:
    """Serve until a signal, or (`once`) drive everything as far as it goes without waiting for time. The exit code."""
    path = find_config_or_fail(config)
    settings = load_settings(path, os.environ).settings
    configure_logs(settings.log.level, settings.log.format)
    if once:
        return run_once(path, state_dir)
    from rotator.wiring.serving import serve

    wakeups: list[Wakeups] = []
    runtime = build_runtime(path, state_dir, wakeups=wakeups)
    try:
        wakeups.append(Wakeups(runtime.engine.dispatch, runtime.clock))
        serve(runtime, wakeups[0])
    finally:
        runtime.journal.close()
    return 0


def run_once(path: Path, state_dir: Path) -> int:
    """One pass: 0 done, 4 a person is needed, 1 a step failed."""
    runtime = build_runtime(path, state_dir, catch_up=timedelta(0))
    try:
        outcomes = visit_all(runtime.engine, runtime.settings.engine.workers)
    finally:
        runtime.journal.close()
    for name, outcome in outcomes.items():
        parked = " ".join(needs for _, needs in outcome.view.parked)
        for problem in (p for p in outcome.failed if p not in parked):
            log.error("failed", action="once", credential=name, problem=problem)
        for reason, needs in outcome.view.parked:
            log.warning("parked", action="once", credential=name, reason=str(reason), needs=needs)
    if any(o.view.parked for o in outcomes.values()):
        return 4
    return 1 if any(o.failed for o in outcomes.values()) else 0


def visit_all(engine: Engine, workers: int) -> dict[str, Outcome]:
    """Visit every credential until none has anything left to do now."""
    outcomes: dict[str, Outcome] = {}

    def drive(name: str) -> None:
        outcome = engine.visit(name)
        failed: tuple[str, ...] = ()
        while outcome is not None and outcome.again and not engine.stopping.is_set():
            failed += outcome.failed
            outcome = engine.visit(name)
        if outcome is not None:
            outcomes[name] = replace(outcome, failed=failed + outcome.failed)

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(drive, name) for name in engine.credentials]:
            future.result()
    return outcomes


def _read_text(path: Path) -> str:
    """The file as it is now, to tell whether it changed; one that cannot be read is `load_settings`' to explain."""
    try:
        return path.read_text("utf-8", errors="replace")
    except OSError:
        return ""


def _watched(credentials: Mapping[str, Credential], readiness: Readiness) -> dict[str, Credential]:
    stores = {c.store_name: c.store for c in credentials.values()}
    watched = {name: WatchedStore(store, f"store:{name}", readiness) for name, store in stores.items()}
    return {name: replace(c, store=watched[c.store_name]) for name, c in credentials.items()}


def _needs_restart(old: Settings, new: Settings) -> list[str]:
    """The sections that take effect at the next start only."""
    return [name for name in ("installation", "server", "journal", "engine") if getattr(old, name) != getattr(new, name)]
