"""Someone who knows the store and nothing of rotator reads the current key with the plain command line, over and over, and uses it at once,
and once more a little later: he is never refused, whatever the daemon is doing meanwhile.

What a store shows as current works at that moment and for `overlap.min` after that, which is the time that he has.
"""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rotator.domain.keys import KeyId
from rotator.domain.secret import Secret
from tests.support.daemon import DaemonProcess, Site, running_daemon, wait_until
from tests.support.places import STORE, Place, open_place
from tests.support.sandbox import SandboxControl, SandboxProcess
from tests.support.scenes import is_settled

NAMES = tuple(f"key{number}" for number in range(5))
ROTATIONS = {"vault": 140, "moto": 60}
"""on each store: 200 together, most of them on the faster one"""
EVERY = "2s"
OVERLAP = 6
"""seconds: far longer than a program takes from its request to its end"""
LATER = 3
"""seconds after a read its key is used again: longer than the service goes on believing in a key that was revoked"""
PAUSE = 0.1
"""seconds between two reads: the machine has other things to do, too"""
FEWEST = 40
"""reads: fewer prove nothing"""


@dataclass
class Reader:
    """Reads each credential in turn, and calls the service with what it read."""

    place: Place
    control: SandboxControl
    reads: int = 0
    uses: int = 0
    kept: deque[tuple[float, Secret]] = field(default_factory=deque)
    """what was read, and when at the earliest"""
    keys: set[KeyId] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        for name in itertools.cycle(NAMES):
            if self.stop.wait(PAUSE):
                return
            try:
                begun = time.monotonic()
                key = self.place.read(f"test/{name}")
                self.reads += 1
                self.keys.add(key.key_id)
                self.kept.append((begun, key))
                self._use(begun, key)
                while self.kept and self.kept[0][0] + LATER < time.monotonic():
                    self._use(*self.kept.popleft())
            except Exception as problem:  # noqa: BLE001  # a reader that broke is a failure, and must not pass for one who saw nothing
                self.broken.append(f"{name}: {type(problem).__name__}")

    def _use(self, read_at: float, key: Secret) -> None:
        answer = self.control.probe(key)
        if time.monotonic() > read_at + OVERLAP:
            return  # this machine stood still: his time was over
        self.uses += 1
        if not answer.alive:
            self.refused.append(f"{key.key_id} got {answer.status} {answer.error}")


def promotions(daemon: DaemonProcess) -> int:
    return sum(row["generation"] - 1 for row in daemon.get("/api/v1/credentials")["credentials"])


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("kind", ROTATIONS)
def test_a_reader_is_never_refused(kind: str, tmp_path: Path, sandbox: SandboxProcess) -> None:
    with open_place(kind) as place:
        site = Site(tmp_path / "site", sandbox.url, sandbox.token_file.read_text().strip(), cache_time="1s")
        place.furnish(site)
        for name in NAMES:
            site.credential(name, store=STORE, overlap={"min": f"{OVERLAP}s", "max": "60s"}, rotation={"every": EVERY, "jitter": "0s"})
        with running_daemon(site) as daemon, SandboxControl(sandbox.url, sandbox.token_file.read_text().strip()) as control:
            for name in NAMES:
                daemon.wait_for(name, lambda status: status["generation"] > 0)
            reader = Reader(place, control)
            thread = threading.Thread(target=reader.run, name="reader", daemon=True)
            thread.start()
            enough = lambda: promotions(daemon) >= ROTATIONS[kind] and reader.uses >= 2 * FEWEST  # noqa: E731
            wait_until(enough, 900, every=0.5, what=f"{ROTATIONS[kind]} rotations")
            reader.stop.set()
            thread.join(60)
            rotations = promotions(daemon)
            for name in NAMES:
                site.config["credentials"][name]["rotation"].pop("every")
                site.config["credentials"][name]["rotation"].pop("jitter")
            site.write()
            daemon.post("/api/v1/reload")
            for name in NAMES:
                daemon.wait_for(name, lambda status: is_settled(status, status["generation"]), 200)
            living = control.living("test/")
    seen = f"{reader.reads} reads of {len(reader.keys)} keys, {reader.uses} uses, {len(reader.refused)} refused"
    sys.stdout.write(f"{kind}: {rotations} rotations, {seen}\n")
    assert not reader.broken
    assert not reader.refused
    assert len(reader.keys) > 2 * len(NAMES), "he saw keys change"
    assert len(living) == len(NAMES), "the old ones ended all the same"
