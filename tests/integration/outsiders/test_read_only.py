"""A credential whose store we may only read (L30): what others put there is verified and distributed, and nothing is ever written, with a
token or role that could not.
"""

from __future__ import annotations

import json

import pytest

from rotator.domain.secret import Secret
from tests.support.aws_fake import READS
from tests.support.consumers import find_key
from tests.support.daemon import Site, running_daemon
from tests.support.places import STORE, AwsPlace, Place, VaultPlace
from tests.support.sandbox import SandboxProcess
from tests.support.scenes import is_settled, parked

pytestmark = pytest.mark.slow

NAME = "checkout"
PATH = f"test/{NAME}"
ASKING = 'path "sys/capabilities-self" { capabilities = ["update"] }'


def restrict(site: Site, place: Place) -> None:
    """Sign in with no more than what `check --live` prints, and see that it is enough."""
    if isinstance(place, VaultPlace):
        place.sign_in(site, ASKING)
    else:
        assert isinstance(place, AwsPlace)
        assert place.fake is not None
        place.fake.fake.policy = {"Statement": []}
    checked = site.run("check", "--live", "--json")
    assert checked.returncode == 1
    policy = next(line["policy"] for line in json.loads(checked.stdout)["lines"] if "policy" in line)
    if isinstance(place, VaultPlace):
        assert not {"create", "patch", "delete"} & set(policy.replace('"', " ").replace(",", " ").split())
        place.sign_in(site, policy)
    else:
        place.fake.fake.policy = json.loads(policy)
    assert site.run("check", "--live").returncode == 0


def outside(place: Place, verb: str, key: Secret) -> None:
    """What somebody else does, who may."""
    if isinstance(place, AwsPlace) and place.fake is not None:
        place.fake.fake.policy, kept = None, place.fake.fake.policy
        getattr(place, verb)(PATH, key)
        place.fake.fake.policy = kept
    else:
        getattr(place, verb)(PATH, key)


def ensure_unwritten(place: Place, writes: int) -> None:
    """Nobody wrote but the outsider, and there is no record."""
    assert place.count_writes(PATH) == writes
    if isinstance(place, VaultPlace):
        assert place.server.version("secret", f"rotator/{PATH}") == 0
    elif isinstance(place, AwsPlace):
        assert place.fake is not None
        assert place.fake.fake.names() == [PATH]
        assert {call.name for call in place.fake.fake.calls if call.action not in READS} == {PATH}


@pytest.mark.parametrize("kind", ["vault", "aws"], indirect=True)
def test_a_store_that_is_only_read(site: Site, place: Place, sandbox: SandboxProcess) -> None:
    site.config["engine"]["poll"] = "1s"
    raw = site.key_file("raw")
    site.credential(NAME, "raw", store=STORE, issuer="none", read_only=True)
    site.write()
    first, dead, second, third = (sandbox.control.mint() for _ in range(4))
    sandbox.control.revoke(dead.key_id)
    outside(place, "create", first)
    restrict(site, place)

    def holds(key: Secret) -> bool:
        held = find_key(raw)
        return held is not None and held.same_as(key)

    with running_daemon(site) as daemon:
        daemon.wait_for(NAME, lambda status: is_settled(status, 1) and status["key_id"] == str(first.key_id) and not status["parked"])
        assert holds(first)
        refused = [site.run("rotate", NAME), site.run("leak", str(first.key_id)), site.run("rollback", NAME)]
        assert [(one.returncode, "read-only" in one.stderr) for one in refused] == [(1, True)] * 3
        outside(place, "write", dead)
        daemon.wait_for(NAME, lambda status: "outsider-dead" in parked(status))
        assert holds(first)
        outside(place, "write", second)
        daemon.wait_for(NAME, lambda status: is_settled(status, 2) and not status["parked"])
        assert holds(second)
        assert str(first.key_id) in sandbox.control.living(), "whoever replaced it ends it"
    (site.state / "journal.db").rename(site.folder / "lost.db")
    with running_daemon(site) as daemon:
        daemon.wait_for(NAME, lambda status: status["key_id"] == str(second.key_id) and not status["parked"])
        outside(place, "write", third)
        status = daemon.wait_for(NAME, lambda status: status["key_id"] == str(third.key_id) and is_settled(status, status["generation"]))
        assert status["generation"] >= 2, "no target goes back"
        assert holds(third)
    ensure_unwritten(place, 4)
