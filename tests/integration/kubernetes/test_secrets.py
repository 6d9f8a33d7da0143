"""A daemon and a real API server: drift is repaired at once, namespaces come and go, and nothing is minted that cannot be put anywhere."""

from __future__ import annotations

import base64
import json

import pytest

from tests.support.daemon import wait_until
from tests.support.scenes import is_settled, parked
from tests.support.secrets import NAME, SecretSite
from tests.support.weather import Asked, Reply, WeatherProxy

RULE = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [NAME], "verbs": ["get", "create", "patch", "list", "watch"]}
SOON = 60.0
"""seconds: far sooner than anything but a watch would see it"""


def test_a_secret_that_somebody_deletes_or_overwrites_comes_back_at_once(site: SecretSite) -> None:
    site.configure(restart="none", poll="1h")
    with site.running() as daemon:
        key_id = str(daemon.wait_for("checkout", lambda s: is_settled(s, 1))["key_id"])
        for _ in range(2):
            site.cluster.call("DELETE", site.path)
            wait_until(lambda: site.holds(key_id), SOON, what="the Secret to come back")
            site.cluster.merge(site.path, {"data": {"api_key": base64.b64encode(b"meddled").decode()}}, fieldManager="kubectl-edit")
            wait_until(lambda: site.holds(key_id), SOON, what="the key to come back")


def test_two_that_put_a_secret_right_do_not_fight_for_ever(site: SecretSite) -> None:
    """Another operator writes its own value whenever it sees another one; how often both write is bounded."""
    site.configure(restart="none", poll="1h")
    theirs = base64.b64encode(b"theirs").decode()
    with site.running() as daemon:
        key_id = str(daemon.wait_for("checkout", lambda s: is_settled(s, 1))["key_id"])

        def fight() -> bool:
            if site.holds(key_id):
                site.cluster.merge(site.path, {"data": {"api_key": theirs}}, fieldManager="other-operator")
            return "as often as it is put right" in str(daemon.status("checkout"))

        wait_until(fight, every=0.02, what="the daemon to give way")
        version = site.cluster.secret(site.namespace, NAME)["metadata"]["resourceVersion"]
        assert not site.holds(key_id)
        checked = [daemon.status("checkout") for _ in range(20)]
        assert site.cluster.secret(site.namespace, NAME)["metadata"]["resourceVersion"] == version, checked[-1]
        assert "behind" in str(checked[-1]["targets"]) or "failed" in str(checked[-1]["targets"])


def test_a_namespace_created_later_gets_its_secret_within_seconds(site: SecretSite) -> None:
    team = f"team-{site.namespace}"
    site.configure(restart="none", namespaces={"selector": f"team={team}"}, poll="1h")
    with site.running() as daemon:
        key_id = str(daemon.wait_for("checkout", lambda s: is_settled(s, 1))["key_id"])
        later = site.cluster.namespace(team=team)
        wait_until(lambda: site.holds(key_id, later), SOON, what="the Secret in the new namespace")
        site.cluster.call("DELETE", f"/api/v1/namespaces/{later}/secrets/{NAME}")
        wait_until(lambda: site.holds(key_id, later), SOON, what="the Secret to come back there")
        old, new = site.rotate()
        wait_until(lambda: site.holds(new, later), SOON, what="the next key there")
        daemon.wait_for("checkout", lambda s: is_settled(s, 2))
        assert site.is_revoked(old)
        assert site.cluster.find_secret(site.namespace, NAME) is None, "its labels do not match"


def test_nothing_is_minted_that_could_be_put_nowhere(site: SecretSite) -> None:
    token = site.cluster.limited()
    site.configure(token=token, restart="none")
    checked = site.site.run("check", "--live", "--json")
    line = next(line for line in json.loads(checked.stdout)["lines"] if "policy" in line)
    assert checked.returncode == 1
    assert f"patch secrets/{NAME} in namespace {site.namespace}" in line["text"]
    assert "kind: Role" in line["policy"]
    with site.running() as daemon:
        status = daemon.wait_for("checkout", lambda s: "preflight-failed" in parked(s))
        assert "check --live" in str(status)
        with site.control as control:
            assert not control.living("test/")
        rules = [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [NAME], "verbs": ["get", "create", "patch", "list", "watch"]}
        ]
        site.cluster.grant(site.cluster.user_of(token), *rules, namespace=site.namespace)
        daemon.wait_for("checkout", lambda s: is_settled(s, 1))
    assert site.read() is not None


def test_a_permission_that_is_taken_away_stops_the_next_mint(site: SecretSite) -> None:
    token = site.cluster.limited()
    user = site.cluster.user_of(token)
    site.cluster.grant(user, RULE, namespace=site.namespace)
    site.configure(token=token, restart="none")
    with site.running() as daemon:
        daemon.wait_for("checkout", lambda s: is_settled(s, 1))
        bindings = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{site.namespace}/rolebindings"
        for binding in site.cluster.call("GET", bindings)["items"]:
            site.cluster.call("DELETE", f"{bindings}/{binding['metadata']['name']}")
        daemon.post("/api/v1/credentials/checkout/rotate", {"emergency": False})
        status = daemon.wait_for("checkout", lambda s: "preflight-failed" in parked(s))
        assert "not allowed" in str(status)
        with site.control as control:
            assert len(control.living("test/")) == 1
        site.cluster.grant(user, RULE, namespace=site.namespace)
        daemon.wait_for("checkout", lambda s: is_settled(s, 2))


def test_a_secret_that_cannot_be_put_back_at_once_is_put_back_soon(site: SecretSite) -> None:
    """No rotation is open that would have it looked at again."""
    with WeatherProxy(site.cluster.address, site.cluster.ca_file) as weather:
        site.configure(restart="none", poll="1h", server=weather.address)
        with site.running() as daemon:
            key_id = str(daemon.wait_for("checkout", lambda s: is_settled(s, 1))["key_id"])
            count = iter(range(1, 10_000))
            weather.judge = lambda asked: Reply(503) if asked.writes and next(count) < 3 else None
            site.cluster.call("DELETE", site.path)
            wait_until(lambda: site.holds(key_id), 30.0, what="the Secret to be back")


@pytest.mark.parametrize("refused", [409, 429, 500, "lost"])
def test_secrets_converge_whatever_the_api_server_answers(site: SecretSite, refused: int | str) -> None:
    """Every third write meets bad weather, through three rotations."""
    count = iter(range(1, 10_000))
    reply = Reply(200, lost=True) if refused == "lost" else Reply(int(refused), headers={"Retry-After": "1"} if refused == 429 else {})
    with WeatherProxy(site.cluster.address, site.cluster.ca_file) as weather:

        def judge(asked: Asked) -> Reply | None:
            return reply if asked.writes and next(count) % 3 == 0 else None

        site.configure(restart="auto", server=weather.address)
        weather.judge = judge
        with site.running() as daemon:
            daemon.wait_for("checkout", lambda s: is_settled(s, 1))
            site.deployment()
            for generation in (2, 3):
                old, new = site.rotate()
                wait_until(lambda new=new: site.holds(new), what="the new key in the Secret")
                daemon.wait_for("checkout", lambda s, generation=generation: is_settled(s, generation))
                assert site.is_revoked(old)
                assert site.rolled_to() == {new}


def test_an_api_server_that_is_away_keeps_the_old_key_alive_and_is_caught_up_with(site: SecretSite) -> None:
    site.configure(restart="none")
    with site.running() as daemon:
        daemon.wait_for("checkout", lambda s: is_settled(s, 1))
        with WeatherProxy(site.cluster.address, site.cluster.ca_file) as weather:
            weather.judge = lambda _asked: Reply(503)
            site.configure(restart="none", server=weather.address)
            daemon.post("/api/v1/reload")
            daemon.post("/api/v1/credentials/checkout/rotate", {"emergency": False})
            daemon.wait_for("checkout", lambda s: "503" in str(s))
            with site.control as control:
                assert len(control.living("test/")) == 1, "nothing is minted that cannot be put anywhere"
            weather.judge = lambda _asked: None
            daemon.wait_for("checkout", lambda s: is_settled(s, 2))
