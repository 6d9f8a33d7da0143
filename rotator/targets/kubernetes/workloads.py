"""The workloads of a namespace that use the Secret: found, restarted, and followed until no pod of before is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from rotator.domain.errors import Refused
from rotator.targets.kubernetes.api import ClusterApi, Object
from rotator.targets.kubernetes.ownership import MANAGER
from rotator.targets.kubernetes.rollouts import Rollout, build_note, build_restart, is_rolling, judge
from rotator.targets.kubernetes.usage import Use, find_uses

__all__ = ["KINDS", "Workloads"]

KINDS = {"deployment": "deployments", "statefulset": "statefulsets", "daemonset": "daemonsets"}


@dataclass(frozen=True, slots=True)
class Workloads:
    """What the target restarts."""

    api: ClusterApi
    secret: str
    named: Sequence[str] | None
    """such as deployment/checkout; None: whatever uses the Secret"""
    deadline: timedelta

    def look(self, namespace: str, key_id: str, placed_at: datetime, now: datetime) -> tuple[Rollout, ...]:
        """Where each of them stands with a key that was placed then. Raises `Unreachable`, `Refused`."""
        late, note = now > placed_at + self.deadline, build_note(self.secret, key_id)
        rollouts = []
        for name, found in self._find(namespace, leaving=True):
            uses = self.named is not None or bool(find_uses(_pod_spec(found), self.secret))
            rollout = judge(name, found, self._list_pods(namespace, name, found), note, placed_at, late, uses=uses)
            rollouts.append(replace(rollout, uid=str(found["metadata"].get("uid") or "")))
        return tuple(rollouts)

    def restart(self, namespace: str, rollouts: Sequence[Rollout], key_id: str) -> None:
        """Restart those that must be. The same key never restarts one twice. Raises `Unreachable`, `Refused`, `Conflict`."""
        for rollout in rollouts:
            if rollout.restart:
                what = f"restarting {rollout.workload} in {namespace}"
                self.api.patch(_path(namespace, rollout.workload), build_restart(build_note(self.secret, key_id)), what, manager=MANAGER)

    def find_names(self, namespace: str) -> list[str]:
        """The workloads that would be restarted. Raises `Unreachable`, `Refused`."""
        return [name for name, _ in self._find(namespace)]

    def find_consumers(self, namespace: str) -> list[tuple[str, frozenset[Use]]]:
        """Every workload that uses the Secret, and how."""
        return [(name, uses) for name, found in self._list(namespace) if (uses := find_uses(_pod_spec(found), self.secret))]

    def _find(self, namespace: str, *, leaving: bool = False) -> Iterator[tuple[str, Object]]:
        """`leaving`: those too whose template uses the Secret no more, and which may yet have pods that do."""
        if self.named is None:
            for name, one in self._list(namespace):
                if find_uses(_pod_spec(one), self.secret) or (leaving and is_rolling(one)):
                    yield name, one
            return
        for name in self.named:
            found = self.api.find(_path(namespace, name), f"reading {name} in {namespace}")
            if found is None:
                raise Refused(f"{self.api.name}: there is no {name} in {namespace}: correct `restart`")
            yield name, found

    def _list(self, namespace: str) -> Iterator[tuple[str, Object]]:
        for kind, resource in KINDS.items():
            found, _ = self.api.list_all(f"/apis/apps/v1/namespaces/{namespace}/{resource}", f"listing {resource} in {namespace}")
            yield from ((f"{kind}/{one['metadata']['name']}", one) for one in found)

    def _list_pods(self, namespace: str, name: str, found: Object) -> list[Object]:
        selector = _render_selector(found["spec"]["selector"])
        path, params = f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector}
        pods, _ = self.api.list_all(path, f"listing pods of {name} in {namespace}", params=params)
        if self.named is not None:
            return pods
        # Labels may fit pods of another workload as well, such as a canary with a Secret of its own: nobody restarts those.
        return [pod for pod in pods if find_uses(pod.get("spec") or {}, self.secret)]


def _path(namespace: str, workload: str) -> str:
    kind, _, name = workload.partition("/")
    return f"/apis/apps/v1/namespaces/{namespace}/{KINDS[kind]}/{name}"


def _pod_spec(found: Object) -> Mapping[str, Any]:
    spec: Mapping[str, Any] = found["spec"]["template"].get("spec") or {}
    return spec


def _render_selector(selector: Mapping[str, Any]) -> str:
    """A workload's selector in the form that a query takes."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or []:
        key, operator, values = one["key"], one["operator"], ",".join(one.get("values") or [])
        forms = {"In": f"{key} in ({values})", "NotIn": f"{key} notin ({values})", "Exists": key, "DoesNotExist": f"!{key}"}
        parts.append(forms[operator])
    return ",".join(parts)
