"""One sandbox and one daemon for the tests of a module; each test plays on a credential of its own. For suites on whole daemons."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from rotator.domain.secret import Secret
from tests.conftest import find_files, holds_key
from tests.support.daemon import WITHIN, DaemonProcess, Document, Site, running_daemon, wait_until
from tests.support.sandbox import SandboxControl, SandboxProcess, build_client, start_sandbox_process

CALM = {"propagation": 0, "cache_refusals": False, "cache_time": 1, "clock_skew": 0}


@dataclass(slots=True)
class Truth:
    """What the service itself would say of each key, asked over and over: the last instant at which some worker accepted it."""

    url: str
    token: str
    last_accepted: dict[str, datetime] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        with SandboxControl(self.url, self.token) as control:
            while not self._stop.wait(0.1):
                asked_at = datetime.now(UTC)
                with contextlib.suppress(httpx.HTTPError):
                    for key in control.keys():  # noqa: SIM118 - a request, not a dictionary
                        if any(worker["accepts"] for worker in key["workers"]):
                            self.last_accepted[key["id"]] = asked_at

    def stop(self) -> None:
        self._stop.set()


@dataclass(slots=True)
class Stage:
    """The sandbox, the site and its daemon."""

    sandbox: SandboxProcess
    site: Site
    daemon: DaemonProcess
    truth: Truth
    numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def control(self) -> SandboxControl:
        return self.sandbox.control

    def add(self, *, targets: int = 1, generation: int = 1, **settings: Any) -> Scene:
        """A credential with key files, taken over by the running daemon; `generation` 0: its first key is not waited for."""
        number = next(self.numbers)
        name = f"key{number}"
        files = [self.site.key_file(f"{name}-{index}") for index in range(targets)]
        self.site.credential(name, *(file.stem for file in files), **settings)
        self.site.write()
        self.daemon.post("/api/v1/reload")
        scene = Scene(self, name, files)
        if generation:
            scene.wait_settled(generation)
        return scene


@dataclass(slots=True)
class Scene:
    """One credential on the stage."""

    stage: Stage
    name: str
    files: list[Path]

    @property
    def status(self) -> Document:
        return self.stage.daemon.status(self.name)

    @property
    def key_id(self) -> str:
        return str(self.status["key_id"])

    @property
    def label(self) -> str:
        """The prefix of the labels of this credential's keys: what they all share up to the attempt."""
        labels = {key["id"]: key["label"] for key in self.stage.control.keys()}  # noqa: SIM118
        return str(labels[self.key_id]).rpartition("/")[0]

    def ask(self, verb: str, **body: Any) -> Document:
        return self.stage.daemon.post(f"/api/v1/credentials/{self.name}/{verb}", body)

    def rotate(self, *, emergency: bool = False) -> Document:
        return self.ask("rotate", emergency=emergency)

    def leak(self, key_id: str | None = None) -> Document:
        return self.stage.daemon.post("/api/v1/leak", {"key_id": key_id or self.key_id})

    def wait(self, holds: Callable[[Document], object], within: float = WITHIN, what: str = "") -> Document:
        return self.stage.daemon.wait_for(self.name, holds, within, what)

    def wait_settled(self, generation: int, within: float = WITHIN) -> Document:
        """Nothing is open any more, at this generation."""
        return self.wait(lambda s: is_settled(s, generation), within, f"{self.name} at rest at generation {generation}")

    def wait_parked(self, reason: str, within: float = WITHIN) -> Document:
        return self.wait(lambda s: reason in parked(s), within, f"{self.name} parked as {reason}")

    def events(self, **params: Any) -> list[Document]:
        return self.stage.daemon.events(credential=self.name, **params)

    def retirements(self) -> list[Document]:
        found: list[Document] = self.stage.daemon.get("/api/v1/retirements", credential=self.name, limit=100)["retirements"]
        return found

    def rotations(self) -> list[Document]:
        found: list[Document] = self.stage.daemon.get("/api/v1/rotations", credential=self.name, limit=100)["rotations"]
        return found

    def ensure_nothing_good_was_given_up(self) -> None:
        """No attempt was abandoned, and nothing was called dead that the service still accepted."""
        abandoned = [row["key_id"] for row in self.retirements() if row["why"] == "attempt-abandoned"]
        assert not abandoned, f"given up, though good: {abandoned}"
        assert not [row["id"] for row in self.rotations() if row["outcome"] == "abandoned"]
        self.ensure_deaths_are_true()

    def ensure_deaths_are_true(self) -> None:
        """A retirement that closed as dead: revoked at the service, and no worker accepted the key at that time or later."""
        closed = [row for row in self.retirements() if row["outcome"] == "dead"]
        for row in closed:
            truth = self.stage.control.key(row["key_id"])
            assert truth["revoked_at"] is not None
            assert not any(worker["accepts"] for worker in truth["workers"])
            accepted = self.stage.truth.last_accepted.get(row["key_id"])
            assert accepted is None or accepted < instant(row["confirmed_at"]), f"{row['key_id']} was accepted after its proof of death"

    def ensure_converged(self) -> None:
        """One living key, and every target holds it."""
        status = self.status
        living = self.stage.control.living(f"{self.label}/")
        assert living == {status["key_id"]}
        assert {held_by(file) for file in self.files} <= {status["key_id"]}


@contextlib.contextmanager
def open_stage(
    folder: Path, *, config: Document | None = None, cache_seconds: int = 1, furnish: Callable[[Site], object] | None = None
) -> Iterator[Stage]:
    """A stage with no credential yet, its site `furnish`ed. Afterwards no key may stand anywhere but in targets."""
    with start_sandbox_process(folder, cache_time=cache_seconds) as sandbox:
        site = build_site(folder, sandbox, cache_seconds)
        site.config.update(config or {})
        if furnish is not None:
            furnish(site)
        with watching(sandbox) as truth, running_daemon(site) as daemon:
            yield Stage(sandbox, site, daemon, truth)
    leaked = [str(path) for path in find_files(folder) if holds_key(path)]
    assert not leaked, f"key material outside of targets: {leaked}"


def build_site(folder: Path, sandbox: SandboxProcess, cache_seconds: int = 1) -> Site:
    """A site for that sandbox, which knows how long it caches keys."""
    return Site(folder / "site", sandbox.url, sandbox.token_file.read_text().strip(), cache_time=f"{cache_seconds}s")


@contextlib.contextmanager
def watching(sandbox: SandboxProcess) -> Iterator[Truth]:
    """The truth about keys, watched until the end of the block."""
    truth = Truth(sandbox.url, sandbox.token_file.read_text().strip())
    thread = threading.Thread(target=truth.watch, name="truth", daemon=True)
    thread.start()
    try:
        yield truth
    finally:
        truth.stop()
        thread.join(10.0)


def is_settled(status: Document, generation: int) -> bool:
    """Whether nothing is open at this generation and every target is current."""
    targets = all(target["state"] == "current" for target in status["targets"])
    return status["generation"] == generation and status["phase"] == "idle" and not status["retirements"] and targets


def parked(status: Document) -> set[str]:
    """The reasons for which it is parked."""
    return {str(row["reason"]) for row in status["parked"]}


def waiting(status: Document) -> set[str]:
    """The reasons for which it waits."""
    return {str(row["reason"]) for row in status["waiting"]}


def held_by(file: Path) -> str | None:
    """The id of the raw key in a target's file."""
    return str(Secret(file.read_text().strip()).key_id) if file.exists() else None


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def applied(control: SandboxControl) -> int:
    """How often the rules in force have struck."""
    return sum(int(rule["applied"]) for rule in control.fault_state()["rules"])


def ensure_stays(holds: Callable[[], object], for_seconds: float, what: str) -> None:
    """It holds now and goes on holding for that long."""
    end = time.monotonic() + for_seconds
    pause = threading.Event()
    while time.monotonic() < end:
        assert holds(), f"{what} did not last"
        pause.wait(0.1)


__all__ = [
    "CALM", "Scene", "Stage", "Truth", "applied", "build_client", "build_site", "ensure_stays", "held_by", "instant", "is_settled",
    "open_stage", "parked", "wait_until", "waiting", "watching",
]  # fmt: skip
