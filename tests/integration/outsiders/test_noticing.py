"""That somebody wrote into the store is noticed at once where he says so, by `rotator sync` or by the hook that a cloud's events call, and
soon where nobody says anything, by polling. Nothing else makes the daemon look here for most of a minute.
"""

from __future__ import annotations

from datetime import timedelta

import httpx
import pytest

from rotator.domain.secret import Secret
from tests.support.consumers import find_key
from tests.support.daemon import DaemonProcess, Document, Site, running_daemon
from tests.support.places import STORE, Place
from tests.support.sandbox import SandboxProcess
from tests.support.scenes import instant, is_settled

pytestmark = pytest.mark.slow

NAME = "checkout"
SELDOM = "1h"


def wait_quiet(daemon: DaemonProcess, generation: int) -> None:
    """At rest, and past the look that follows a delivery: the next one by itself is most of a minute away."""

    def is_quiet(status: Document) -> bool:
        if not is_settled(status, generation):
            return False
        return instant(status["seen_at"]) >= instant(status["targets"][0]["since"]) + timedelta(seconds=2)

    daemon.wait_for(NAME, is_quiet)


@pytest.mark.parametrize("kind", ["vault", "aws"], indirect=True)
def test_a_key_from_outside_is_noticed(site: Site, place: Place, sandbox: SandboxProcess) -> None:
    site.config["engine"] |= {"poll": SELDOM, "resync": SELDOM, "recheck": SELDOM}
    raw = site.key_file("raw")
    site.credential(NAME, "raw", store=STORE)

    def holds(key: Secret) -> bool:
        held = find_key(raw)
        return held is not None and held.same_as(key)

    with running_daemon(site) as daemon:

        def call_hook() -> None:
            headers = {"Authorization": f"Bearer {daemon.token}"}
            httpx.post(f"{daemon.url}/hooks/store-changed", headers=headers, timeout=10, trust_env=False).raise_for_status()

        def sync() -> None:
            site.run("sync", NAME, check=True)

        for generation, tell in enumerate((call_hook, sync), 2):
            wait_quiet(daemon, generation - 1)
            theirs = sandbox.control.mint()
            place.write(f"test/{NAME}", theirs)
            assert not holds(theirs), "nobody looked yet"
            tell()
            daemon.wait_for(NAME, lambda status, generation=generation: is_settled(status, generation))
            assert holds(theirs)
    site.config["engine"]["poll"] = "1s"
    with running_daemon(site) as daemon:
        wait_quiet(daemon, 3)
        theirs = sandbox.control.mint()
        place.write(f"test/{NAME}", theirs)
        daemon.wait_for(NAME, lambda status: is_settled(status, 4))
        assert holds(theirs)
    assert sandbox.control.living("test/") == set()
