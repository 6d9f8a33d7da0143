"""The permissions that a target needs, asked for one by one, and the Roles that grant them.

Named namespaces need Roles that are narrowed to the Secret's name: `get`, `patch`, `create` (an apply names its object, so RBAC can tell
which), `list` and `watch` (with `metadata.name` as field selector, which RBAC takes for the name). A list or watch of a whole collection
cannot be narrowed; only the selector mode and `restart: auto` need it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from rotator.targets.kubernetes.api import ClusterApi
from rotator.targets.kubernetes.workloads import KINDS

__all__ = ["Need", "Permissions"]

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Need:
    """Verbs on one kind of object, in one namespace or (None) in the whole cluster."""

    namespace: str | None
    group: str
    resource: str
    verbs: tuple[str, ...]
    name: str = ""
    """empty: all of them"""

    def describe(self, verb: str) -> str:
        """One of the verbs, in a phrase."""
        where = f"in namespace {self.namespace}" if self.namespace is not None else "in the whole cluster"
        return f"{verb} {self.resource}{f'/{self.name}' if self.name else ''} {where}"


@dataclass(frozen=True, slots=True)
class Permissions:
    """What one target must be allowed to do."""

    api: ClusterApi
    target: str
    secret: str
    by_selector: bool
    watches: bool
    deletes: bool
    restarts: bool
    named: Sequence[str] | None
    """the workloads that are restarted; None: whatever uses the Secret"""

    def find_missing(self, namespaces: Iterable[str]) -> list[tuple[Need, str]]:
        """What is not allowed, verb by verb. Raises `Unreachable`, `Refused`."""
        return self._find_denied(self.list_needs(namespaces))

    def find_missing_for(self, namespace: str, workloads: Iterable[str]) -> list[tuple[Need, str]]:
        """What is not allowed of restarting these and following them. Raises `Unreachable`, `Refused`."""
        return self._find_denied(_list_restarting(namespace, workloads, "patch"))

    def list_needs(self, namespaces: Iterable[str]) -> list[Need]:
        """Everything that is needed."""
        if self.by_selector:
            return [Need(None, "", "namespaces", ("list", "watch") if self.watches else ("list",)), *self._list_in(None)]
        return [need for namespace in namespaces for need in self._list_in(namespace)]

    def render(self, needs: Iterable[Need]) -> str:
        """The Roles (or the ClusterRole) that grant all of it, as YAML to paste; a binding to rotator's own user is left to the reader."""
        by_place: dict[str | None, list[Need]] = {}
        for need in needs:
            by_place.setdefault(need.namespace, []).append(need)
        return "---\n".join(_dump(_build_role(self.target, place, some)) for place, some in by_place.items())

    def _list_in(self, namespace: str | None) -> Iterator[Need]:
        follow = ("list", "watch") if self.watches else ()
        if self.by_selector and self.watches:
            # By label, the watch is one of the whole collection.
            yield Need(namespace, "", "secrets", follow)
            follow = ()
        verbs = ("get", "create", "patch", *follow, *(("delete",) if self.deletes else ()))
        yield Need(namespace, "", "secrets", verbs, self.secret)
        if self.restarts and self.named is None:
            yield from _list_restarting(namespace, KINDS, "list", "patch")
        elif self.restarts and self.named:
            yield from _list_restarting(namespace, self.named, "get", "patch")

    def _find_denied(self, needs: Iterable[Need]) -> list[tuple[Need, str]]:
        return [(need, verb) for need in needs for verb in need.verbs if not self._may(need, verb)]

    def _may(self, need: Need, verb: str) -> bool:
        attributes = {"verb": verb, "group": need.group, "resource": need.resource, "name": need.name}
        if need.namespace is not None:
            attributes["namespace"] = need.namespace
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {k: v for k, v in attributes.items() if v}},
        }
        answer = self.api.create(_REVIEWS, body, "asking what is allowed")
        return bool((answer.get("status") or {}).get("allowed"))


def _list_restarting(namespace: str | None, workloads: Iterable[str], *verbs: str) -> Iterator[Need]:
    """`workloads`: such as deployment/checkout, or a kind for all of it."""
    yield Need(namespace, "", "pods", ("list",))
    for workload in workloads:
        kind, _, name = workload.partition("/")
        yield Need(namespace, "apps", KINDS[kind], verbs, name)


def _build_role(target: str, namespace: str | None, needs: Sequence[Need]) -> Mapping[str, Any]:
    rules = [
        {
            "apiGroups": [need.group],
            "resources": [need.resource],
            "verbs": list(need.verbs),
            **({"resourceNames": [need.name]} if need.name else {}),
        }
        for need in needs
    ]
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role" if namespace is not None else "ClusterRole",
        "metadata": {"name": f"rotator-{target}", **({"namespace": namespace} if namespace is not None else {})},
        "rules": rules,
    }


def _dump(role: Mapping[str, Any]) -> str:
    return yaml.safe_dump(role, sort_keys=False, default_flow_style=None, width=140)
