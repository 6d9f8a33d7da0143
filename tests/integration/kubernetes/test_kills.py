"""The daemon is killed right before and right after each write to the API server: every key arrives, and restarts each pod once."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, field

import pytest

from tests.support.daemon import start_daemon, wait_until
from tests.support.scenes import is_settled
from tests.support.secrets import NOTE, SecretSite
from tests.support.weather import Asked, Reply, WeatherProxy

WRITES = 2
"""of a rotation: the Secret, and the Deployment that uses it"""


@dataclass
class Killer:
    """Kills the daemon at its nth write: `before` it is carried out, or `after`."""

    site: SecretSite
    nth: int = 0
    when: str = ""
    seen: int = 0
    struck: threading.Event = field(default_factory=threading.Event)

    def aim(self, nth: int, when: str) -> None:
        self.seen, self.nth, self.when = 0, nth, when
        self.struck.clear()

    def judge(self, asked: Asked) -> Reply | None:
        if not asked.writes or self.struck.is_set() or not self.when:
            return None
        self.seen += 1
        if self.seen != self.nth:
            return None
        if self.when == "before":
            self.site.daemon.kill()
            self.struck.set()
            return Reply(503)
        threading.Timer(0.3, self._strike).start()  # by then it is carried out; the daemon waits for an answer that never comes
        return Reply(200, lost=True)

    def _strike(self) -> None:
        self.site.daemon.kill()
        self.struck.set()


@pytest.mark.timeout(900)
def test_a_kill_at_each_write_loses_nothing_and_restarts_nobody_twice(site: SecretSite) -> None:
    killer = Killer(site)
    with WeatherProxy(site.cluster.address, site.cluster.ca_file) as weather:
        weather.judge = killer.judge
        site.configure(restart="auto", server=weather.address)
        site.daemon = start_daemon(site.site)
        site.daemon.wait_for("checkout", lambda s: is_settled(s, 1))
        path, keys = site.deployment(), []
        for generation, (nth, when) in enumerate(itertools.product(range(1, WRITES + 1), ("before", "after")), start=2):
            killer.aim(nth, when)
            site.daemon.post("/api/v1/credentials/checkout/rotate", {"emergency": False})
            assert killer.struck.wait(90), f"there was no write {nth}"
            wait_until(lambda: site.daemon.process.poll() is not None)
            killer.aim(0, "")
            site.daemon = start_daemon(site.site)
            status = site.daemon.wait_for(
                "checkout", lambda s, g=generation: is_settled(s, g), what=f"rest after the kill {when} write {nth}"
            )
            keys.append(str(status["key_id"]))
            assert site.holds(keys[-1])
            assert site.rolled_to() == {keys[-1]}
        revisions = site.cluster.call("GET", f"/apis/apps/v1/namespaces/{site.namespace}/replicasets")["items"]
        told = [r["spec"]["template"]["metadata"].get("annotations", {}).get(NOTE) for r in revisions]
        assert sorted(key for key in told if key) == sorted(keys), "each key made one revision of the Deployment"
        assert site.cluster.call("GET", path)["metadata"]["generation"] == 1 + len(keys)
        with site.control as control:
            assert len(control.living("test/")) == 1
        assert site.daemon.stop() == 0
