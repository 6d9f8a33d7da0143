"""The chart grants exactly what the Kubernetes target asks for: no verb less, no verb more, in no other place, and to nobody else."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rotator.targets.kubernetes import KubernetesTargetConfig
from rotator.targets.surroundings import TargetSurroundings
from tests.support.charts import Helm, Manifest, pick

Rule = tuple[str, str, str, str, str, str]
"""target, namespace (empty: the whole cluster), group, resource, name (empty: all), verb"""

KINDS = ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")
NAMESPACES = (["checkout"], ["checkout", "catalogue"], {"selector": "millimetric=read"})
RESTARTS = (None, "auto", "none", ["deployment/web", "statefulset/a.b", "daemonset/agent"])
CASES = [
    {
        "type": "kubernetes",
        "namespaces": namespaces,
        "name": f"millimetric-{number}",
        "on_removal": removal,
        **({"restart": restart} if restart is not None else {}),
        **({"watches": watches} if watches is not None else {}),
    }
    for number, (namespaces, restart, watches, removal) in enumerate(
        itertools.product(NAMESPACES, RESTARTS, (None, 0, 1), ("keep", "delete"))
    )
]


class StillClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0


def gather_needs(name: str, config: dict[str, Any]) -> set[Rule]:
    """What the target asks for."""
    target = KubernetesTargetConfig.model_validate(config).build(TargetSurroundings(name, "test", Path("/nowhere"), StillClock()))
    namespaces = config["namespaces"] if isinstance(config["namespaces"], list) else ["any"]
    return {
        (name, need.namespace or "", need.group, need.resource, need.name, verb)
        for need in target.permissions.list_needs(namespaces)
        for verb in need.verbs
    }


def gather_granted(manifests: Sequence[Manifest], targets: Iterable[str]) -> set[Rule]:
    """What the chart's Roles allow."""
    granted = set()
    for role in [*pick(manifests, "Role"), *pick(manifests, "ClusterRole")]:
        where = role["metadata"].get("namespace", "")
        (target,) = (name for name in targets if role["metadata"]["name"] in (f"rotator-{name}", f"keys-rotator-{name}"))
        for rule in role["rules"]:
            assert rule.keys() <= {"apiGroups", "resources", "verbs", "resourceNames"}
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]
            for group, resource, name, verb in itertools.product(
                rule["apiGroups"], rule["resources"], rule.get("resourceNames", [""]), rule["verbs"]
            ):
                granted.add((target, where, group, resource, name, verb))
    return granted


@pytest.fixture
def targets() -> dict[str, dict[str, Any]]:
    return {f"target-{number}": config for number, config in enumerate(CASES)}


def test_what_is_granted_is_what_is_needed(helm: Helm, targets: dict[str, dict[str, Any]]) -> None:
    manifests = helm.render(values={"config": {"targets": targets}})
    needed = set().union(*(gather_needs(name, config) for name, config in targets.items()))
    granted = gather_granted(manifests, targets)
    assert sorted(needed - granted) == [], "missing"
    assert sorted(granted - needed) == [], "too much"
    assert len(granted) > 500


def test_every_role_is_bound_to_the_service_account_where_it_stands(one_helm: Helm, targets: dict[str, dict[str, Any]]) -> None:
    manifests = one_helm.render(values={"config": {"targets": targets}})
    for kind in ("Role", "ClusterRole"):
        roles = {(one["metadata"].get("namespace"), one["metadata"]["name"]) for one in pick(manifests, kind)}
        bindings = pick(manifests, f"{kind}Binding")
        assert {(one["metadata"].get("namespace"), one["roleRef"]["name"]) for one in bindings} == roles
        for one in bindings:
            assert one["roleRef"]["kind"] == kind
            assert one["subjects"] == [{"kind": "ServiceAccount", "name": "rotator", "namespace": "keys"}]


@pytest.mark.parametrize(
    "values",
    [
        {"rbac": {"create": False}, "config": {"targets": {"a": CASES[0]}}},
        {"config": {"targets": {"a": {**CASES[0], "kubeconfig": "/etc/elsewhere/kubeconfig"}}}},
        {"config": {"targets": {"a": {"type": "file", "path": "/tmp/a", "content": "key"}}}},
        {"config": {}},
    ],
    ids=["told not to", "another cluster", "a file", "nothing"],
)
def test_nothing_is_granted_where_nothing_is_needed(one_helm: Helm, values: dict[str, Any]) -> None:
    manifests = one_helm.render(values=values)
    assert not [one for kind in KINDS for one in pick(manifests, kind)]


def test_cluster_roles_of_two_releases_do_not_meet(one_helm: Helm) -> None:
    manifests = one_helm.render(values={"config": {"targets": {"teams": {**CASES[0], "namespaces": {"selector": "a=b"}}}}})
    (role,) = pick(manifests, "ClusterRole")
    assert role["metadata"]["name"] == "keys-rotator-teams", "the namespace, the release and the target"
