"""A daemon, a real API server, and Deployments that really roll: the old key ends only when no pod of before is left."""

from __future__ import annotations

from tests.support.daemon import wait_until
from tests.support.scenes import is_settled, parked
from tests.support.secrets import NOTE, SecretSite


def test_a_deployment_rolls_and_the_old_key_is_revoked_only_afterwards(site: SecretSite) -> None:
    site.configure(restart="auto")
    with site.running() as daemon:
        daemon.wait_for("checkout", lambda s: is_settled(s, 1))
        site.deployment(replicas=3)
        # One pod of before takes its time to end.
        held = site.cluster.pods(site.namespace, "shop")[0]["metadata"]["name"]
        where = f"/api/v1/namespaces/{site.namespace}/pods/{held}"
        site.cluster.merge(where, {"metadata": {"finalizers": ["example.com/hold"]}})
        old, new = site.rotate()
        wait_until(lambda: site.holds(new), what="the new key in the Secret")
        wait_until(lambda: len(site.rolled_to() - {""}) == 1 and len(site.cluster.pods(site.namespace, "shop")) == 4)
        site.stays_alive(old, 4)
        status = daemon.status("checkout")
        assert [row["key_id"] for row in status["retirements"]] == [old]
        assert "of before" in status["targets"][0]["text"]
        site.cluster.merge(where, {"metadata": {"finalizers": None}})
        daemon.wait_for("checkout", lambda s: is_settled(s, 2))
        assert site.rolled_to() == {new}
        assert site.is_revoked(old)


def test_a_rollout_that_does_not_get_ready_keeps_the_old_key_and_asks_for_a_person(site: SecretSite) -> None:
    site.configure(restart="auto", rollout_deadline="3s")
    with site.running() as daemon:
        daemon.wait_for("checkout", lambda s: is_settled(s, 1))
        path = site.deployment()
        # No node by that name: what rolls out next never gets ready.
        site.cluster.merge(path, {"spec": {"paused": True}})
        site.cluster.merge(path, {"spec": {"template": {"spec": {"nodeName": "not-there"}}}})
        site.cluster.merge(path, {"spec": {"paused": False}})
        old, new = site.rotate()
        status = daemon.wait_for("checkout", lambda s: "consumers-behind" in parked(s))
        assert "deployment/shop" in str(status["parked"])
        assert "deadline" in str(status["parked"])
        told = 'rotator_credential_parked{credential="checkout",reason="consumers-behind"} 1'
        wait_until(lambda: told in site.metrics(), what="the metric")
        site.stays_alive(old, 3)
        assert site.holds(new)
        site.cluster.merge(path, {"spec": {"template": {"spec": {"nodeName": "fake"}}}})
        daemon.wait_for("checkout", lambda s: is_settled(s, 2))
        assert site.is_revoked(old)


def test_a_daemon_that_is_killed_restarts_nobody_twice(site: SecretSite) -> None:
    site.configure(restart="auto")
    with site.running() as daemon:
        daemon.wait_for("checkout", lambda s: is_settled(s, 1))
        path = site.deployment(replicas=2)
        _, new = site.rotate()
        wait_until(lambda: site.cluster.call("GET", path)["spec"]["template"]["metadata"].get("annotations", {}).get(NOTE) == new)
        daemon.kill()
    generation = site.cluster.call("GET", path)["metadata"]["generation"]
    for _ in range(2):
        with site.running() as daemon:
            daemon.wait_for("checkout", lambda s: is_settled(s, 2))
    assert site.cluster.call("GET", path)["metadata"]["generation"] == generation
    assert site.rolled_to() == {new}


def test_a_leaked_key_goes_as_soon_as_the_new_one_is_placed(site: SecretSite) -> None:
    """An emergency does not wait for the rollout, which is begun all the same."""
    site.configure(restart="auto")
    with site.running() as daemon:
        daemon.wait_for("checkout", lambda s: is_settled(s, 1))
        path = site.deployment()
        held = site.cluster.pods(site.namespace, "shop")[0]["metadata"]["name"]
        where = f"/api/v1/namespaces/{site.namespace}/pods/{held}"
        site.cluster.merge(where, {"metadata": {"finalizers": ["example.com/hold"]}})
        old = str(daemon.status("checkout")["key_id"])
        daemon.post("/api/v1/leak", {"key_id": old})
        wait_until(lambda: site.is_revoked(old), what="the end of the leaked key")
        new = str(daemon.status("checkout")["key_id"])
        assert site.holds(new)
        assert site.cluster.call("GET", path)["spec"]["template"]["metadata"]["annotations"][NOTE] == new
        site.cluster.merge(where, {"metadata": {"finalizers": None}})
        daemon.wait_for("checkout", lambda s: is_settled(s, 2))
