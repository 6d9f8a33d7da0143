"""The process that dies: the real runtime without its HTTP server, driven to the end of one scenario.

    python -m tests.crash.program

reads jobs from standard input, a JSON document a line, forks a process of its own for each (so that imports are paid for once), and answers
each with `{"job": …, "status": …}`: the exit code, or minus the signal. A job that is killed and given again goes on where the files stand,
as a daemon that is started again does; what an operator asked for without getting an answer is asked for again.
"""

from __future__ import annotations

import encodings.utf_8_sig  # noqa: F401 - it and others: imports that forked processes are spared
import functools
import gc
import json
import os
import signal
import ssl
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config  # noqa: F401
import botocore.loaders
import botocore.session
import certifi
import cryptography.hazmat.primitives.ciphers.aead  # noqa: F401
import httpcore  # noqa: F401
import yaml

import rotator.remote.millimetric
import rotator.scheduling.cron
import rotator.stores.aws.session
import rotator.stores.embedded.sealed
import rotator.targets.file.building
from rotator.domain.credential import Credential
from rotator.domain.facts import Policy
from rotator.domain.ports import Holding, Recollection, Store
from rotator.domain.record import Change, Promote, Record
from rotator.engine.look import Timing
from rotator.scheduling.wakeups import Wakeups
from rotator.settings import Settings, conversion
from rotator.stores.aws.config import AwsStoreConfig
from rotator.targets.file.target import FileTarget
from rotator.wiring import running, runtime
from rotator.wiring.logs import configure_logs
from tests.crash.boundaries import Boundaries
from tests.support.aws_fake import REGION

NAME = "checkout"
CACHE_TIME = timedelta(milliseconds=500)
OVERLAP = timedelta(milliseconds=300)
WITHIN = 120.0
"""seconds in which a scenario ends, whatever befell it before: some two on a machine that has nothing else to do"""

DONE, STUCK, BROKEN = 0, 3, 4
TYPO = "{"


@dataclass(frozen=True)
class Seen:
    """Where a credential stands, by journal and store; the store is asked only by who wants to know."""

    known: Recollection
    read: Callable[[], Holding]

    @functools.cached_property
    def holding(self) -> Holding:
        return self.read()

    @property
    def record(self) -> Record:
        return self.holding.record or Record(uid="", installation="")

    def settled(self, generation: int) -> bool:
        """Nothing is open, and the credential is at this generation."""
        known = self.known
        quiet = known.rotation is None and not known.retirements and known.memory is not None and not known.memory.orphans
        placed = bool(known.placements) and all(p.generation == generation for p in known.placements)
        if not quiet or not placed:
            return False
        record = self.record
        clean = record.attempt is None and not record.orphans and len(record.keys) == 1
        return record.generation == generation and clean


@dataclass(slots=True)
class Drive:
    """One run of one scenario."""

    runtime: running.Runtime
    boundaries: Boundaries
    patience: float

    def look(self) -> Seen:
        credential = self._credential()
        return Seen(self.runtime.journal.recall(NAME), lambda: credential.store.read(credential.path))

    def until(self, holds: Callable[[Seen], bool]) -> Seen:
        """What is seen once that holds. Raises `TimeoutError`."""
        pause = threading.Event()
        while not holds(seen := self.look()):
            if time.monotonic() > self.patience:
                raise TimeoutError(f"stuck at {seen.record}, {seen.known}")
            pause.wait(0.04)
        return seen

    def bootstrap(self) -> None:
        """The first key, and a rotation after it, which must not mind what the first process left."""
        self.until(lambda seen: seen.settled(1))
        self.boundaries.armed = False
        if self._is_unasked(2):
            self.runtime.operations.rotate(NAME, emergency=False, who="suite")
        self.until(lambda seen: seen.settled(2))

    def routine(self) -> None:
        self._start()
        if self._is_unasked(2):
            self.runtime.operations.rotate(NAME, emergency=False, who="suite")
        self.until(lambda seen: seen.settled(2))

    def leak(self) -> None:
        self._start()
        seen = self.look()
        current = seen.record.current
        assert current is not None
        if seen.record.generation == 1 and current.compromised_at is None:
            self.runtime.operations.leak(secret=seen.holding.secrets[current.key_id], key_id=None, who="suite")
        self.until(lambda seen: seen.settled(2))

    def rollback(self) -> None:
        """A rotation whose overlap is long, taken back; then the overlap is short, so that the scenario ends."""
        self._start(self._rotate_first)
        if self._is_unasked(3):
            self.runtime.operations.rollback(NAME, who="suite")
        self.until(lambda seen: seen.record.generation == 3)
        shorten_overlap(self.runtime.path)
        self.runtime.reload()
        self.until(lambda seen: seen.settled(3))

    def behind(self) -> None:
        """A person's typo keeps a required target from being written, past the overlap: its consumer goes on with the old key till then."""
        self._start()
        self._make_typo_at_promotion()
        if self._is_unasked(2):
            self.runtime.operations.rotate(NAME, emergency=False, who="suite")
        now = self.runtime.clock.now
        self.until(lambda seen: any(row.opened_at + 4 * OVERLAP < now() for row in seen.known.retirements) or seen.settled(2))
        client = find_client(self.runtime)
        if client.read_text().endswith(TYPO):
            os.truncate(client, client.stat().st_size - len(TYPO))
        self.until(lambda seen: seen.settled(2))

    def _make_typo_at_promotion(self) -> None:
        """Later than the preflight, which would refuse to mint, and earlier than the delivery."""
        kind = type(self._credential().store)
        commit, client = kind.commit, find_client(self.runtime)

        def commit_after_typo(store: Store, path: str, seen: Holding, change: Change) -> Holding:
            if isinstance(change, Promote) and not client.read_text().endswith(TYPO):
                with client.open("a") as file:
                    file.write(TYPO)
            return commit(store, path, seen, change)

        setattr(kind, "commit", commit_after_typo)  # noqa: B010  # the kind is whatever the store is of

    def _rotate_first(self) -> None:
        self.runtime.operations.rotate(NAME, emergency=False, who="suite")
        self.until(lambda seen: seen.record.generation == 2 and seen.known.rotation is None)

    def _start(self, prepare: Callable[[], None] = lambda: None) -> None:
        """Reach the scenario's start, where this is its first run; from here on every boundary counts."""
        mark = self.runtime.path.with_name("started")
        if not mark.exists():
            self.until(lambda seen: seen.settled(1))
            prepare()
            mark.touch()
        self.boundaries.armed = True

    def _is_unasked(self, generation: int) -> bool:
        seen = self.look()
        return seen.record.generation < generation and seen.known.rotation is None

    def _credential(self) -> Credential:
        credential = self.runtime.engine.find_credential(NAME)
        assert credential is not None
        return credential


def find_client(runtime: running.Runtime) -> Path:
    """The client configuration among the targets."""
    return next(t.path for t in runtime.parts.targets.values() if isinstance(t, FileTarget) and t.path.suffix == ".json")


def shorten_overlap(path: Path) -> None:
    """Let the overlap of every credential be the suite's short one, in one go."""
    config = yaml.safe_load(path.read_text())
    config["credentials"][NAME]["rotation"]["overlap"]["min"] = "1s"
    temporary = path.with_suffix(".new")
    temporary.write_text(yaml.safe_dump(config))
    os.replace(temporary, path)  # noqa: PTH105 - `Path.replace` is a boundary


def hurry() -> None:
    """Times below the second, which the configuration does not know."""
    policy_of, timing_of = conversion.policy_of, conversion.timing_of

    def hurried_policy(settings: Settings, name: str, abilities: Any) -> Policy:
        policy = policy_of(settings, name, abilities)
        overlap = OVERLAP if policy.overlap_min == timedelta(seconds=1) else policy.overlap_min
        return replace(policy, cache_time=CACHE_TIME, verify_for=4 * CACHE_TIME, overlap_min=overlap)

    def hurried_timing(settings: Settings) -> Timing:
        short = timedelta(milliseconds=50)
        return replace(timing_of(settings), recheck=2 * short, attempt_base=short, step_base=short, urgent_cap=4 * short)

    vars(runtime)["policy_of"] = hurried_policy
    vars(running)["timing_of"] = hurried_timing


def drive(job: dict[str, Any]) -> int:
    """Run the scenario to its end, or to the fatal boundary."""
    boundaries = Boundaries(job["fatal"], job["side"], Path(job["trace"]))
    boundaries.install()
    boundaries.armed = job["scenario"] == "bootstrap"
    hurry()
    configure_logs("info", "json")
    wakeups: list[Wakeups] = []
    built = running.build_runtime(Path(job["config"]), Path(job["state"]), wakeups=wakeups)
    wakeups.append(Wakeups(built.engine.dispatch, built.clock))
    built.engine.start()
    wakeups[0].start()
    run = Drive(built, boundaries, time.monotonic() + WITHIN)
    try:
        getattr(run, job["scenario"])()
    except TimeoutError as problem:
        sys.stderr.write(f"{problem}\n")
        return STUCK
    boundaries.armed = False
    wakeups[0].stop()
    built.engine.stop()
    built.journal.close()
    return DONE


def run_forked(job: dict[str, Any]) -> int:
    """In the forked process: its output goes to the job's log."""
    os.environ.update(job["environ"])
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        return drive(job)
    except BaseException:  # noqa: BLE001 - whatever it is, it is the suite's to read
        traceback.print_exc()
        return BROKEN
    finally:
        sys.stderr.flush()


def load_once() -> None:
    """Read here, and not in every process, what is the same for all of them: the authorities, and AWS's description of itself."""
    vars(ssl)["create_default_context"] = functools.cache(ssl.create_default_context)
    ssl.create_default_context(cafile=certifi.where())
    vars(botocore.session)["create_loader"] = functools.cache(botocore.loaders.create_loader)
    session = botocore.session.Session()
    session.set_credentials("made-up", "made-up")
    rotator.stores.aws.session.build_client(AwsStoreConfig(region=REGION, endpoint_url="http://127.0.0.1:9"), session)


def serve() -> None:
    """Fork for each job; whoever waits for the process that may die answers for it."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    load_once()
    gc.freeze()
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            child = os.fork()
            if child == 0:
                os._exit(run_forked(job))
            _, status = os.waitpid(child, 0)
            os.write(1, f"{json.dumps({'job': job['job'], 'status': os.waitstatus_to_exitcode(status)})}\n".encode())
            os._exit(0)


if __name__ == "__main__":
    serve()
