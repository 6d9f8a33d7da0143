"""Someone writes a key of his own with the plain command line, before or after any write of a rotation and of the retirement that follows:
his key is never overwritten and never taken back, it is verified and distributed, and every key of ours ends dead (L13, L15).

A daemon learns of the world by looking and changes it by writing, so what an outsider does between two writes of it comes either before its
next look or after that: these two, around each write, are all the moments there are. The daemon's request waits meanwhile.

On moto an outsider's put after a promotion leaves AWSCURRENT at two versions (tests/contract/stores/test_aws_moto.py), which AWS never
does: here stands the strict fake, and the plain `aws` program before it.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rotator.domain.secret import Secret
from tests.support.consumers import Consumer, consuming
from tests.support.daemon import WITHIN, DaemonProcess, Site, running_daemon
from tests.support.places import STORE, Place
from tests.support.sandbox import SandboxControl, SandboxProcess
from tests.support.scenes import is_settled

AT_ONCE = 6
"""scenes that play at the same time"""
AT_REST = 1.0
"""seconds between two looks of a consumer of every scene; one that plays is looked at twenty times as often"""


@dataclass
class Scene:
    """One credential, and the moment at which somebody writes his own key into its place."""

    name: str
    when: str
    number: int
    """of the write; 0: nobody comes"""
    theirs: Secret | None = None
    writes: int = 0
    fired: threading.Event = field(default_factory=threading.Event)

    @property
    def path(self) -> str:
        return f"test/{self.name}"


class Outsider:
    """Plays the scenes' part around a daemon's writes."""

    def __init__(self, place: Place, control: SandboxControl) -> None:
        self.place, self.control = place, control
        self.scenes: dict[str, Scene] = {}
        self._writing: set[str] = set()
        self._lock = threading.Lock()
        place.meddle(self._meddle)

    def plan(self, scenes: Sequence[Scene]) -> None:
        """Count the writes of these from now on."""
        with self._lock:
            self.scenes = {scene.path: scene for scene in scenes}

    def _meddle(self, when: str, path: str) -> None:
        with self._lock:
            scene = self.scenes.get(path)
            if scene is None or path in self._writing:
                return  # it is his own
            scene.writes += when == "before"
            if scene.theirs is not None or (when, scene.writes) != (scene.when, scene.number):
                return
            scene.theirs = self.control.mint(label=f"outsider/{scene.name}")
            self._writing.add(path)
        self.place.write(path, scene.theirs)
        self._writing.discard(path)
        scene.fired.set()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["vault", "aws"], indirect=True)
def test_an_outsider_at_every_step(site: Site, place: Place, sandbox: SandboxProcess) -> None:
    token = sandbox.token_file.read_text().strip()
    with SandboxControl(sandbox.url, token) as control:
        add_credential(site, "alone")
        outsider = Outsider(place, control)
        with running_daemon(site) as daemon:
            daemon.wait_for("alone", lambda status: is_settled(status, 1))
            first = daemon.events(credential="alone")[-1]["seq"]
            writes = count_writes(daemon, outsider)
            scenes = [Scene(f"{when}{number:02}", when, number) for number in range(1, writes + 1) for when in ("before", "after")]
            for scene in scenes:
                add_credential(site, scene.name)
            site.write()
            daemon.post("/api/v1/reload")
            for scene in scenes:
                daemon.wait_for(scene.name, lambda status: is_settled(status, 1))
            with consuming(sandbox.url, *(key_file(site, scene.name) for scene in scenes), every=AT_REST) as consumer:
                for batch in batches(scenes):
                    with consuming(sandbox.url, *(key_file(site, scene.name) for scene in batch)) as closer:
                        play(daemon, outsider, batch)
                    assert not closer.refusals
                    for scene in batch:
                        ensure_in_order(scene, site, closer)
            for scene in scenes:
                ensure_theirs(scene, site, place, daemon)
                ensure_in_order(scene, site, consumer)
            assert not consumer.refusals
            assert control.living("test/") == {daemon.status("alone")["key_id"]}
            steps = [row["action"] for row in daemon.events(credential="alone") if row["phase"] == "outcome" and row["seq"] > first]
            assert control.living("outsider/") == {str(scene.theirs.key_id) for scene in scenes if scene.theirs is not None}
    sys.stdout.write(f"{place.name}: {writes} writes in a rotation and a retirement, an outsider at {len(scenes)} moments\n")
    sys.stdout.write(f"steps: {', '.join(steps)}\n")


def add_credential(site: Site, name: str) -> None:
    site.config["targets"][name] = {"type": "file", "path": str(key_file(site, name)), "content": "key"}
    site.credential(name, name, store=STORE)


def key_file(site: Site, name: str) -> Path:
    return site.folder / f"{name}.key"


def count_writes(daemon: DaemonProcess, outsider: Outsider) -> int:
    """The writes of a rotation that nobody disturbs, up to the death of the old key."""
    scene = Scene("alone", "never", 0)
    outsider.plan([scene])
    daemon.post("/api/v1/credentials/alone/rotate")
    daemon.wait_for("alone", lambda status: is_settled(status, 2))
    return scene.writes


def batches(scenes: Sequence[Scene]) -> Iterator[Sequence[Scene]]:
    rest = iter(scenes)
    while batch := list(itertools.islice(rest, AT_ONCE)):
        yield batch


def play(daemon: DaemonProcess, outsider: Outsider, scenes: Sequence[Scene]) -> None:
    """Rotate, be disturbed, and come to rest with the outsider's key."""
    outsider.plan(scenes)
    for scene in scenes:
        daemon.post(f"/api/v1/credentials/{scene.name}/rotate")
    for scene in scenes:
        assert scene.fired.wait(WITHIN), f"{scene.name}: there was no such write; status: {daemon.status(scene.name)}"
        daemon.post(f"/api/v1/credentials/{scene.name}/sync")
    for scene in scenes:
        assert scene.theirs is not None
        theirs = str(scene.theirs.key_id)
        daemon.wait_for(
            scene.name,
            lambda status, theirs=theirs: status["key_id"] == theirs and is_settled(status, status["generation"]),
            what=f"{scene.name} at rest with the outsider's key",
        )


def ensure_in_order(scene: Scene, site: Site, consumer: Consumer) -> None:
    assert scene.theirs is not None
    held = [str(key_id) for key_id in consumer.held[key_file(site, scene.name)]]
    assert held[-1] == str(scene.theirs.key_id), f"{scene.name}: not distributed: {held}"
    assert len(set(held)) == len(held), f"{scene.name}: the target went back: {held}"


def ensure_theirs(scene: Scene, site: Site, place: Place, daemon: DaemonProcess) -> None:
    assert scene.theirs is not None
    theirs = str(scene.theirs.key_id)
    history = place.history(scene.path)
    assert history[-1] == theirs, f"{scene.name}: overwritten: {history}"
    assert len(set(history)) == len(history), f"{scene.name}: a key came back: {history}"
    events = daemon.events(credential=scene.name)
    verified = next(row["seq"] for row in events if row["action"] == "probe" and row["key_id"] == theirs and row["ok"])
    delivered = next(row["seq"] for row in events if row["action"] == "deliver" and row["key_id"] == theirs and row["phase"] == "note")
    assert verified < delivered
    retirements = daemon.get("/api/v1/retirements", credential=scene.name)["retirements"]
    assert {row["outcome"] for row in retirements} == {"dead"}
