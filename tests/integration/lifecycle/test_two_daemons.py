"""Two daemons on one store, each with a journal of its own: a rotation that is due in both at once happens once."""

from __future__ import annotations

import base64
import contextlib
import secrets
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.consumers import Consumer, consuming
from tests.support.daemon import DaemonProcess, Site, running_daemon, start_daemon, wait_until
from tests.support.places import STORE, open_place
from tests.support.sandbox import SandboxProcess
from tests.support.scenes import is_settled, parked

NAMES = tuple(f"key{number}" for number in range(5))
ROUNDS = 50
"""rotations that both daemons opened, of all credentials together"""
EVERY = "2s"


@contextlib.contextmanager
def furnishing(kind: str, folder: Path) -> Iterator[Callable[[Site], object]]:
    """What gives each twin the same store."""
    if kind != "embedded":
        with open_place(kind) as place:
            yield place.furnish
        return
    master = folder / "master"
    master.touch(0o600)
    master.write_text(base64.b64encode(secrets.token_bytes(32)).decode())
    config = {"type": "embedded", "path": str(folder / "store.bin"), "master_key": {"file": str(master)}}
    yield lambda site: site.config.update(stores={STORE: config})


def build_twins(folder: Path, sandbox: SandboxProcess, furnish: Callable[[Site], object]) -> tuple[Site, Site]:
    """Two sites with state of their own, one store and the same files."""
    sites = []
    for name in ("first", "second"):
        site = Site(folder.parent / name, sandbox.url, sandbox.token_file.read_text().strip(), cache_time="1s")
        site.config["engine"]["lease"] = "60s"  # nobody dies here: one who is only slow must not lose his attempt to the other
        furnish(site)
        for key in NAMES:
            site.config["targets"][key] = {"type": "file", "path": str(folder / f"{key}.key"), "content": "key"}
            site.credential(key, key, store=STORE)
        sites.append(site)
    return sites[0], sites[1]


@pytest.fixture
def twins_of(tmp_path: Path, sandbox: SandboxProcess) -> Iterator[Callable[[str], tuple[Site, Site]]]:
    """Twins over a kind of store."""
    folder = tmp_path / "store"
    folder.mkdir(mode=0o700)
    with contextlib.ExitStack() as stack:
        yield lambda kind: build_twins(folder, sandbox, stack.enter_context(furnishing(kind, folder)))


def schedule(daemon: DaemonProcess, every: str | None) -> None:
    """Rotate every credential so often from now on; None: on demand only."""
    for name in NAMES:
        rotation = daemon.site.config["credentials"][name]["rotation"]
        rotation.pop("every", None)
        rotation.pop("jitter", None)
        if every is not None:
            rotation.update(every=every, jitter="0s")
    daemon.site.write()
    daemon.post("/api/v1/reload")


@contextlib.contextmanager
def running_twins(sites: tuple[Site, Site]) -> Iterator[tuple[DaemonProcess, DaemonProcess]]:
    """The first brings every credential to life; the second, whose journal is newer than the store's keys, is accepted."""
    with running_daemon(sites[0]) as first:
        for name in NAMES:
            first.wait_for(name, lambda status: is_settled(status, 1))
        with running_daemon(sites[1]) as second:
            for name in NAMES:
                second.wait_for(name, lambda status: status["generation"] == 1)
                for daemon in (first, second):
                    daemon.post(f"/api/v1/credentials/{name}/adopt")
            yield first, second


def opened_by_both(twins: tuple[DaemonProcess, DaemonProcess]) -> set[str]:
    """The keys that both journals opened a scheduled rotation of."""
    listed = [daemon.get("/api/v1/rotations", limit=1000)["rotations"] for daemon in twins]
    first, second = ({str(row["replaces"]) for row in rows if row["reason"] == "scheduled"} for rows in listed)
    return first & second


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["embedded", "vault", "aws"])
def test_due_in_both_at_once(kind: str, twins_of: Callable[[str], tuple[Site, Site]], tmp_path: Path, sandbox: SandboxProcess) -> None:
    files = [tmp_path / "store" / f"{name}.key" for name in NAMES]
    with running_twins(twins_of(kind)) as twins, consuming(sandbox.url, *files) as consumer:
        for daemon in twins:
            schedule(daemon, EVERY)
        wait_until(lambda: len(opened_by_both(twins)) >= ROUNDS, 600, every=0.5, what=f"{ROUNDS} rotations opened by both")
        for daemon in twins:
            schedule(daemon, None)
        for daemon in twins:
            for name in NAMES:
                daemon.wait_for(name, lambda status: is_settled(status, status["generation"]) and not status["orphans"])
        ensure_one_key_each(twins, sandbox)
        ensure_in_order(consumer)
        both = opened_by_both(twins)
        rotations = sum(generations(twins[0]).values()) - len(NAMES)
        sys.stdout.write(
            f"{kind}: {rotations} rotations, {len(both)} of them opened by both daemons; {consumer.calls} calls of a consumer\n"
        )
        for daemon in twins:
            assert daemon.get("/api/v1/audit")["problems"] == []


def generations(daemon: DaemonProcess) -> dict[str, int]:
    return {row["name"]: row["generation"] for row in daemon.get("/api/v1/credentials")["credentials"]}


def ensure_one_key_each(twins: tuple[DaemonProcess, DaemonProcess], sandbox: SandboxProcess) -> None:
    """As many keys were ever minted as there were generations, each of another attempt, and only the current ones live."""
    current = {name: twins[0].status(name) for name in NAMES}
    assert generations(twins[0]) == generations(twins[1])
    keys = sandbox.control.list("test/")
    owners = Counter(str(key["label"]).rpartition("/")[0] for key in keys)
    assert sorted(owners.values()) == sorted(status["generation"] for status in current.values())
    assert len({key["label"] for key in keys}) == len(keys)
    assert sandbox.control.living("test/") == {status["key_id"] for status in current.values()}


def ensure_in_order(consumer: Consumer) -> None:
    """Nobody was locked out, and no file went back to a key that it held before."""
    assert not consumer.refusals
    for file, keys in consumer.held.items():
        assert len(keys) == len(set(keys)), f"{file.name} went back: {keys}"


def test_a_second_daemon_on_the_same_journal(site: Site) -> None:
    with running_daemon(site) as daemon:
        answer = site.run("run")
        assert answer.returncode == 1
        assert f"is held by process {daemon.process.pid}" in answer.stderr
        assert "--state-dir" in answer.stderr
        assert "Traceback" not in answer.stderr
        assert daemon.get("/api/v1/info")["credentials"] == 1


@pytest.mark.slow
def test_a_daemon_that_was_not_accepted_revokes_nothing(twins_of: Callable[[str], tuple[Site, Site]], sandbox: SandboxProcess) -> None:
    """L29: it distributes and rotates, and leaves every old key alive until a person has accepted it."""
    first, second = twins_of("embedded")
    name = NAMES[0]
    with running_daemon(first) as daemon:
        for one in NAMES:
            daemon.wait_for(one, lambda status: is_settled(status, 1))
    daemon = start_daemon(second)
    try:
        daemon.wait_for(name, lambda status: status["generation"] == 1)
        former = daemon.status(name)["key_id"]
        daemon.post(f"/api/v1/credentials/{name}/rotate")
        daemon.wait_for(name, lambda status: status["generation"] == 2 and "recovered" in parked(status))
        assert former in sandbox.control.living("test/")
        daemon.post(f"/api/v1/credentials/{name}/adopt")
        daemon.wait_for(name, lambda status: is_settled(status, 2))
        assert former not in sandbox.control.living("test/")
    finally:
        assert daemon.stop() == 0
