"""The least that does the job, with RBAC enforced: exactly the printed Roles suffice, and each missing verb is named."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from rotator.domain.errors import Refused, RotatorError
from rotator.domain.facts import Level
from rotator.targets.kubernetes.target import KubernetesTarget
from tests.contract.targets.kinds import SecretPlace, a_delivery, a_secret
from tests.contract.targets.test_workloads import ENV, bring, drive
from tests.support.daemon import wait_until

CASES: dict[str, dict[str, Any]] = {
    "none": {"restart": "none"},
    "auto": {"restart": "auto"},
    "named": {"restart": ["deployment/shop"]},
    "polled": {"restart": "none", "watches": 0},
    "deleting": {"restart": "none", "on_removal": "delete"},
}


def roles_of(policy: str) -> Iterator[dict[str, Any]]:
    yield from yaml.safe_load_all(policy)


def permit(spot: SecretPlace, token: str, policy: str) -> None:
    """What a reader does with what is printed: apply it, and bind it to rotator's user."""
    user = spot.cluster.user_of(token)
    for role in roles_of(policy):
        spot.cluster.grant(user, *role["rules"], namespace=role["metadata"].get("namespace"))


@pytest.mark.parametrize("case", CASES)
def test_the_printed_role_is_enough_for_everything(spot: SecretPlace, case: str) -> None:
    spot.cluster.wait_ready(spot.cluster.workload(spot.namespace, "shop", ENV))
    token = spot.cluster.limited()
    target = spot.build(token=token, **CASES[case])
    access = target.find_access("checkout")
    assert f"get secrets/{spot.name} in namespace {spot.namespace}" in access.missing
    with pytest.raises(Refused, match="rotator check --live"):
        target.observe("checkout")
    permit(spot, token, access.policy)
    wait_until(lambda: not target.find_access("checkout").missing, what="RBAC to know the role")
    target.check("checkout")
    secret = bring(target)
    if CASES[case]["restart"] != "none":
        drive(target, secret, 1, lambda seen: seen.level is Level.IN_USE)
    told = threading.Event()
    target.follow(told.set)
    if CASES[case].get("watches") != 0:
        wait_until(lambda: target.observe("checkout").remembered, what="a live watch")
    target.close()
    if case == "deleting":
        assert target.withdraw("checkout")


@pytest.mark.parametrize("case", ["auto", "named", "deleting"])
def test_each_verb_that_is_missing_is_named_and_nothing_else(spot: SecretPlace, case: str) -> None:
    wanted = spot.build(token=spot.cluster.limited(), **CASES[case]).find_access("checkout")
    rules = [rule for role in roles_of(wanted.policy) for rule in role["rules"]]
    pairs = [(number, verb) for number, rule in enumerate(rules) for verb in rule["verbs"]]
    assert len(pairs) == len(wanted.missing)
    for number, verb in pairs:
        left = ({**rule, "verbs": [v for v in rule["verbs"] if (n, v) != (number, verb)]} for n, rule in enumerate(rules))
        token = spot.cluster.limited(*left, namespace=spot.namespace)
        target = spot.build(token=token, **CASES[case])
        wait_until(lambda target=target: len(target.find_access("checkout").missing) == 1, what="RBAC to know the role")
        missing = target.find_access("checkout").missing
        resource = rules[number]["resources"][0]
        assert len(missing) == 1
        assert missing[0].startswith(f"{verb} {resource}")


def test_the_role_is_narrowed_to_the_secret_s_name(spot: SecretPlace) -> None:
    """A create by apply, a list and a watch by name can be narrowed by RBAC; none of them opens another Secret."""
    token = spot.cluster.limited()
    target = spot.build(token=token, restart="none")
    permit(spot, token, target.find_access("checkout").policy)
    wait_until(lambda: not target.find_access("checkout").missing)
    bring(target)
    base = f"/api/v1/namespaces/{spot.namespace}/secrets"
    apply = {"kind": "application/apply-patch+yaml", "fieldManager": "rotator"}
    shell = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "namespace": spot.namespace}}
    asks = {
        "get": spot.cluster.ask("GET", f"{base}/other", token=token),
        "create by apply": spot.cluster.ask("PATCH", f"{base}/other", shell, token, **apply),
        "create": spot.cluster.ask("POST", base, {"metadata": {"name": spot.name}}, token),
        "list": spot.cluster.ask("GET", base, token=token),
        "list by label": spot.cluster.ask("GET", base, token=token, labelSelector="rotator/target"),
        "watch": spot.cluster.ask("GET", base, token=token, watch="1", timeoutSeconds="1"),
        "watch another": spot.cluster.ask("GET", base, token=token, watch="1", timeoutSeconds="1", fieldSelector="metadata.name=other"),
        "delete": spot.cluster.ask("DELETE", f"{base}/{spot.name}", token=token),
    }
    assert {what: answer.status_code for what, answer in asks.items()} == dict.fromkeys(asks, 403)
    by_name = {"fieldSelector": f"metadata.name={spot.name}"}
    assert spot.cluster.ask("GET", base, token=token, **by_name).status_code == 200
    assert spot.cluster.ask("GET", base, token=token, watch="1", timeoutSeconds="1", **by_name).status_code == 200


def test_the_selector_mode_needs_the_whole_cluster_and_says_so(spot: SecretPlace) -> None:
    token, team = spot.cluster.limited(), f"team-{spot.namespace}"
    later = spot.cluster.namespace(team=team)
    target = spot.build(token=token, restart="none", namespaces={"selector": f"team={team}"})
    access = target.find_access("checkout")
    assert "list namespaces in the whole cluster" in access.missing
    assert "watch secrets in the whole cluster" in access.missing
    assert [role["kind"] for role in roles_of(access.policy)] == ["ClusterRole"]
    permit(spot, token, access.policy)
    wait_until(lambda: not target.find_access("checkout").missing)
    bring(target)
    assert spot.cluster.find_secret(later, spot.name) is not None


@pytest.mark.parametrize(("verb", "resource"), [("patch", "secrets"), ("create", "secrets"), ("patch", "deployments"), ("list", "pods")])
def test_preflight_fails_where_a_key_could_not_be_put_in_use(spot: SecretPlace, verb: str, resource: str) -> None:
    spot.cluster.wait_ready(spot.cluster.workload(spot.namespace, "shop", ENV))
    wanted = spot.build(token=spot.cluster.limited(), restart="auto").find_access("checkout")
    rules = [rule for role in roles_of(wanted.policy) for rule in role["rules"]]
    token = spot.cluster.limited(
        *({**rule, "verbs": [v for v in rule["verbs"] if v != verb or resource not in rule["resources"]]} for rule in rules),
        namespace=spot.namespace,
    )
    target: KubernetesTarget = spot.config(token=token, restart="auto").build(_around(spot))
    wait_until(lambda: len(target.find_access("checkout").missing) == 1)
    with pytest.raises(Refused, match="not allowed") as problem:
        target.check("checkout")
    assert isinstance(problem.value, RotatorError)
    assert spot.find() is None
    assert not target.secrets.recall(spot.namespace)


def _around(spot: SecretPlace) -> Any:
    from tests.contract.targets.kinds import surround

    return surround(spot.folder)


def test_a_token_that_is_no_good_says_so(spot: SecretPlace) -> None:
    target = spot.build(token="no-good-at-all")
    with pytest.raises(RotatorError, match="does not know us"):
        target.observe("checkout")
    with pytest.raises(RotatorError, match="does not know us"):
        target.deliver(a_delivery(a_secret()), spot.build().observe("checkout"))
