"""Runs scenarios in processes that are killed and started again, and finds what is wrong afterwards."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rotator.domain.keys import KeyId
from rotator.domain.record import Record
from rotator.journal.sqlite import SqliteJournal
from tests.conftest import find_files, holds_key, is_personal
from tests.crash.boundaries import Moment, find_moments
from tests.crash.program import DONE, NAME, WITHIN
from tests.support.consumers import consuming, find_key
from tests.support.daemon import Site
from tests.support.sandbox import SandboxProcess
from tests.support.stores import StoreSite

ROOT = Path(__file__).resolve().parents[2]
GENERATIONS = {"bootstrap": 2, "routine": 2, "behind": 2, "leak": 2, "rollback": 3}
_SLACK = 20.0


class Forks:
    """The program that forks a process for each run; runs may overlap."""

    def __init__(self, folder: Path) -> None:
        self._errors = (folder / "forks.log").open("ab")
        pipe, command = subprocess.PIPE, [sys.executable, "-m", "tests.crash.program"]
        environ = {name: value for name, value in os.environ.items() if not is_personal(name)}
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=self._errors, env=environ)
        self._numbers = itertools.count()
        self._answers: dict[str, queue.Queue[int]] = {}
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, name="forks", daemon=True)
        self._reader.start()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(_SLACK)
        self._reader.join(_SLACK)
        self._process.stdout.close()
        self._errors.close()

    def run(self, site: Site, environ: Mapping[str, str], scenario: str, death: Moment | None = None) -> int:
        """The exit code, or minus the signal, of one run."""
        answer: queue.Queue[int] = queue.Queue()
        with self._lock:
            name = str(next(self._numbers))
            self._answers[name] = answer
            job = {
                "job": name, "scenario": scenario, "config": str(site.config_file), "state": str(site.state),
                "fatal": death and death.point, "side": death and death.side, "environ": dict(environ),
                "log": str(site.folder / "process.log"), "trace": str(site.folder / f"trace{'' if death else '.resumed'}"),
            }  # fmt: skip
            assert self._process.stdin is not None
            self._process.stdin.write(f"{json.dumps(job)}\n".encode())
            self._process.stdin.flush()
        return answer.get(timeout=WITHIN + _SLACK)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            self._answers[answer["job"]].put(answer["status"])


@contextlib.contextmanager
def running_forks(folder: Path) -> Iterator[Forks]:
    """The forking program, until the end of the block."""
    forks = Forks(folder)
    try:
        yield forks
    finally:
        forks.close()


@dataclass(slots=True)
class Run:
    """One scenario in a folder of its own, which names its installation, killed at `death` (None: not at all) and resumed."""

    scenario: str
    folder: Path
    sandbox: SandboxProcess
    store: StoreSite
    death: Moment | None = None
    killed: bool = False
    problems: list[str] = field(default_factory=list)
    site: Site = field(init=False)
    raw: Path = field(init=False)
    client: Path = field(init=False)

    def __post_init__(self) -> None:
        site = self.site = Site(self.folder, self.sandbox.url, self.sandbox.token_file.read_text().strip(), cache_time="1s")
        site.config["installation"] = self.folder.name
        site.config["engine"] = {"workers": 2, "catch_up": "1s", "lease": "5s"}
        self.raw = site.key_file("raw")
        self.client = site.home / ".cursor" / "mcp.json"
        overlap = {"min": "60s" if self.scenario == "rollback" else "1s", "max": "120s"}
        site.config["stores"] = {self.store.name: dict(self.store.section)}
        named = {"store": self.store.name, "path": self.place}
        site.credential(NAME, site.client("cursor", ".cursor"), "raw", overlap=overlap, **named)

    @property
    def place(self) -> str:
        """In the store: of its own, as the servers outlive the run."""
        return f"{self.folder.parent.name}/{self.folder.name}"

    def moments(self) -> list[Moment]:
        """What the first process passed."""
        return find_moments(self.folder / ("trace" if self.death else "trace.resumed"))

    def go(self, forks: Forks) -> list[str]:
        """Everything that was wrong; empty: nothing."""
        self.site.write()
        with consuming(self.sandbox.url, self.raw, self.client) as consumer:
            status = forks.run(self.site, self.store.environ, self.scenario, self.death)
            self.killed = status == -signal.SIGKILL
            if self.killed:
                status = forks.run(self.site, self.store.environ, self.scenario)
        if status != DONE:
            self.problems.append(f"ended with {status}: {(self.folder / 'process.log').read_text()[-1500:]}")
            return self.problems
        if consumer.refusals:
            self.problems.append(f"a consumer was locked out: {consumer.refusals[:3]}")
        for file, keys in consumer.held.items():
            self._check_order(file.name, keys)
        self._check_world()
        return self.problems

    def _check_order(self, name: str, keys: list[KeyId]) -> None:
        generations = GENERATIONS[self.scenario]
        most = generations - len(set(keys)) if self.scenario == "rollback" else 0
        if len(keys) - len(set(keys)) > most or len(keys) > generations:
            self.problems.append(f"{name} went back: {', '.join(map(str, keys))}")

    def _check_world(self) -> None:
        record, current = self._check_store()
        living = self.sandbox.control.living(f"{self.folder.name}/")
        if living != {str(current)}:
            self.problems.append(f"living at the service: {living}, in the store: {current}")
        self._check_minted()
        journal = SqliteJournal(self.site.state / "journal.db", datetime.now(UTC))
        with journal:
            kept = dict(record.audit).get(journal.id)
            heads = {"the record": kept} if kept is not None else {}
            self.problems += journal.verify_audit(heads)
            if not heads:
                self.problems.append("the record holds no audit head")
        self.problems += [f"key material in {path.name}" for path in find_files(self.folder) if holds_key(path)]
        left = [path.name for path in self.folder.rglob("*") if path.name.endswith((".tmp", ".new")) or path.name.startswith(".rotator-")]
        left += [path.name for path in (self.site.state / "targets").iterdir() if path.suffix != ".json"]
        if left:
            self.problems.append(f"left lying about: {left}")

    def _check_store(self) -> tuple[Record, KeyId]:
        holding = self.store.open(self.site.state).read(self.place)
        record = holding.record
        assert record is not None
        assert record.current is not None
        if len(record.keys) != 1 or record.attempt or record.orphans or record.generation != GENERATIONS[self.scenario]:
            self.problems.append(f"the record is not at rest: {record}")
        current = record.current.key_id
        for file in (self.raw, self.client):
            held = find_key(file)
            if held is None or not held.same_as(holding.secrets[current]):
                self.problems.append(f"{file.name} holds {held.key_id if held else None}, the store {current}")
        return record, current

    def _check_minted(self) -> None:
        wanted = min(GENERATIONS[self.scenario], 2) + (1 if self.killed else 0)
        minted = self.sandbox.control.list(f"{self.folder.name}/")
        if len(minted) > wanted:
            self.problems.append(f"{len(minted)} keys were minted, {wanted} would have done")
