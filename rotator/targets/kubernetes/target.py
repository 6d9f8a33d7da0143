"""The Kubernetes target: one Secret in each of its namespaces, and the workloads that use it. It never decides when.

A place that fails holds the others back in nothing. A delivery that takes long stops after a while and goes on with the next step (L25).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

from rotator.domain.errors import Conflict, Misconfigured, Permanent, RateLimited, Refused, RotatorError, Unreachable
from rotator.domain.facts import Level
from rotator.domain.keys import KeyId
from rotator.domain.ports import Access, Clock, Delivery, Observation
from rotator.domain.reasons import Reason
from rotator.mcp.diffs import masked_diff
from rotator.targets.kubernetes.cluster import Cluster
from rotator.targets.kubernetes.following import Following
from rotator.targets.kubernetes.looks import PlaceLook, build_observation, parse_versions
from rotator.targets.kubernetes.namespaces import Namespaces
from rotator.targets.kubernetes.ownership import SecretView
from rotator.targets.kubernetes.permissions import Permissions
from rotator.targets.kubernetes.rollouts import Rollout
from rotator.targets.kubernetes.secrets import Secrets
from rotator.targets.kubernetes.usage import Use
from rotator.targets.kubernetes.workloads import Workloads

__all__ = ["KubernetesTarget"]

_Result = TypeVar("_Result")
_LONGEST = 15.0
"""seconds after which a delivery begins with no further place, and a look at an API server that does not answer neither"""
_MOST_NAMED = 3
_MOST_REPAIRS = 5
_REPAIRS_WITHIN = 60.0
"""seconds"""


@dataclass(slots=True)
class _Known:
    """What looks brought and the next may use; all of it may be lost at any time."""

    in_use: dict[str, tuple[str, str]] = field(default_factory=dict)
    """namespace → uid and version of the Secret whose key every workload was seen to work with: pods that come later read it, too"""
    written: dict[str, tuple[KeyId, int]] = field(default_factory=dict)
    """namespace → the key and generation that this process wrote there last"""
    repairs: dict[str, deque[float]] = field(default_factory=dict)
    """namespace → the monotonic seconds in which that was put right again"""
    restarted: dict[str, KeyId] = field(default_factory=dict)
    """workload, by its uid → the key that it was restarted for"""
    delivered: dict[str, tuple[KeyId, int]] = field(default_factory=dict)
    """credential → what was delivered last: what counts where no namespace matches"""
    following: Following | None = None

    def drop_others(self, namespaces: Sequence[str]) -> None:
        """Namespaces come and go, with each branch that is tried out: what left is not to be kept."""
        kept = set(namespaces)
        places: tuple[dict[str, Any], ...] = (self.in_use, self.written, self.repairs)
        for known in places:
            for namespace in [one for one in list(known) if one not in kept]:
                known.pop(namespace, None)


@dataclass(frozen=True, slots=True)
class KubernetesTarget:
    """A Secret in one or many namespaces. Fulfils `rotator.domain.ports.Target`."""

    name: str
    clock: Clock
    cluster: Cluster
    secrets: Secrets
    namespaces: Namespaces
    permissions: Permissions
    workloads: Workloads
    restarts: bool
    deletes: bool
    watches: int
    poll: timedelta
    known: _Known = field(default_factory=_Known, compare=False)

    @property
    def best_level(self) -> Level:
        """*In use* can be known where workloads are restarted and followed."""
        return Level.IN_USE if self.restarts else Level.PLACED

    @property
    def activation(self) -> str:
        """Workloads are restarted by us, or by their owner."""
        return "now" if self.restarts else "restart"

    def observe(self, credential: str, *, fresh: bool = False) -> Observation:
        """What all namespaces hold, and how far the workloads are."""
        namespaces = self.namespaces.find(fresh=fresh)
        self.known.drop_others(namespaces)
        looks = self._for_each(namespaces, lambda namespace: self._look(namespace, credential, fresh=fresh))
        return self._observe(credential, looks)

    def follow(self, changed: Callable[[], None]) -> None:
        """By watches, and by looks where there are too many places for them."""
        self.close()
        self.known.following = Following(self.secrets, self.namespaces, self.watches, self.poll.total_seconds(), changed)
        self.known.following.start()

    def close(self) -> None:
        """End the watches."""
        if self.known.following is not None:
            self.known.following.stop()
            self.known.following = None

    def deliver(self, delivery: Delivery, seen: Observation) -> Observation:
        """Apply the Secret wherever it differs, and restart what uses it."""
        started, versions = self.clock.monotonic(), parse_versions(seen.revision)

        def bring(namespace: str) -> PlaceLook | None:
            if self.clock.monotonic() - started > _LONGEST:
                return None
            try:
                return self._bring(namespace, versions[namespace], delivery)
            except RotatorError as problem:
                if isinstance(problem, Conflict):
                    self.cluster.memory.forget(namespace, self.secrets.name)  # what is remembered is behind
                return PlaceLook(namespace, error=problem)

        brought = self.cluster.map(bring, sorted(versions))
        looks = [look if look is not None else PlaceLook(n) for n, look in zip(sorted(versions), brought, strict=True)]
        problems = [look.error for look in looks if look.error is not None]
        if problems:
            raise _join(problems)
        self.known.delivered[delivery.credential] = (delivery.secret.key_id, delivery.generation)
        return self._observe(delivery.credential, looks)

    def check(self, credential: str) -> None:
        """A dry run in every namespace, with a placeholder for the key; and whether workloads may be restarted."""

        def rehearse(namespace: str) -> None:
            view = self.secrets.look(namespace)
            objection = self.secrets.find_objection(namespace, view, credential)
            if objection:
                raise Refused(f"target {self.name}: {objection}", reason=Reason.FOREIGN_ENTRY)
            self.secrets.rehearse(namespace, view, credential)
            self._rehearse_restarts(namespace)

        problems = [one for one in self._map(rehearse, self.namespaces.find()) if one is not None]
        if problems:
            raise _join(problems)

    def find_access(self, credential: str) -> Access:  # noqa: ARG002  # the same for every credential
        """Every permission, asked for by itself; the Roles to paste where one is missing."""
        namespaces: Sequence[str] = ()
        if not self.permissions.by_selector:
            namespaces = self.namespaces.find()
        missing = self.permissions.find_missing(namespaces)
        if not missing:
            return Access()
        places = {need.namespace for need, _ in missing}
        needs = [need for need in self.permissions.list_needs(namespaces) if need.namespace in places]
        return Access(tuple(need.describe(verb) for need, verb in missing), self.permissions.render(needs))

    def preview(self, delivery: Delivery) -> str:
        """Per namespace, which key goes and which comes; and who must be restarted by hand for it."""
        looks = self._for_each(self.namespaces.find(), lambda namespace: self._look(namespace, delivery.credential))
        return "".join(self._preview(look, delivery) for look in looks)

    def withdraw(self, credential: str) -> bool:
        """Delete the Secrets that were written for the credential, where `on_removal: delete` allows it."""
        found = [(n, view) for n in self.namespaces.find() if (view := self.secrets.look(n)) is not None and self._is_of(view, credential)]
        if found and not self.deletes:
            raise Refused(f"target {self.name} says `on_removal: keep`: delete the Secret yourself, or set it to `delete`")
        for namespace, view in found:
            self.secrets.remove(namespace, view)
        return bool(found)

    def _rehearse_restarts(self, namespace: str) -> None:
        if not self.restarts:
            return
        missing = self.permissions.find_missing_for(namespace, self.workloads.find_names(namespace))
        if missing:
            raise Refused(f"target {self.name}: not allowed: {_name_few([need.describe(verb) for need, verb in missing])}")

    def _look(self, namespace: str, credential: str, *, fresh: bool = True) -> PlaceLook:
        remembered = None if fresh else self.secrets.find_live(namespace)
        look = self._judge(namespace, remembered or self.secrets.look(namespace), credential)
        return replace(look, remembered=True) if remembered is not None else look

    def _judge(self, namespace: str, view: SecretView | None, credential: str) -> PlaceLook:
        objection = self.secrets.find_objection(namespace, view, credential)
        whole = view is not None and self._is_of(view, credential) and view.is_intact(self.secrets.entries, self.secrets.shape.digest)
        rollouts = self._follow(namespace, view) if whole and view is not None else ()
        return PlaceLook(namespace, view, whole, objection, rollouts)

    def _follow(self, namespace: str, view: SecretView) -> tuple[Rollout, ...]:
        if not self.restarts or view.notes is None or view.placed_at is None:
            return ()
        version = (view.uid, view.version)
        if self.known.in_use.get(namespace) == version:
            return ()
        found = self.workloads.look(namespace, str(view.notes.key_id), view.placed_at, self.clock.now())
        rollouts = tuple(self._restart_once(rollout, view.notes.key_id) for rollout in found)
        if not any(rollout.reason for rollout in rollouts):
            self.known.in_use[namespace] = version
        return rollouts

    def _restart_once(self, rollout: Rollout, key_id: KeyId) -> Rollout:
        """Whoever takes our annotation off would have it restarted again and again."""
        if not rollout.restart or self.known.restarted.get(rollout.uid) != key_id:
            return rollout
        undone = "its restart was undone: let the pod template keep annotations of others, or restart it by hand"
        return replace(rollout, restart=False, reason=undone, stuck=True)

    def _bring(self, namespace: str, version: str | None, delivery: Delivery) -> PlaceLook:
        view = self._recall(namespace, version)
        repairs = None if self.secrets.is_current(view, delivery) else self._find_repairs(namespace, delivery)
        written = self.secrets.write(namespace, view, delivery)
        if repairs is not None:
            repairs.append(self.clock.monotonic())
        self.known.written[namespace] = (delivery.secret.key_id, delivery.generation)
        look = self._judge(namespace, written, delivery.credential)
        if any(rollout.restart for rollout in look.rollouts):
            self.workloads.restart(namespace, look.rollouts, str(delivery.secret.key_id))
            self.known.restarted |= {r.uid: delivery.secret.key_id for r in look.rollouts if r.restart}
            told = tuple(replace(r, restart=False, reason="restarting") if r.restart else r for r in look.rollouts)
            look = replace(look, rollouts=told)
        return look

    def _find_repairs(self, namespace: str, delivery: Delivery) -> deque[float] | None:
        """When this key was put right there; None: it is new there. Two that put a Secret right, each in its own way, would do it a hundred
        times a second: raises `Refused`."""
        repairs, now = self.known.repairs.setdefault(namespace, deque(maxlen=_MOST_REPAIRS)), self.clock.monotonic()
        if self.known.written.get(namespace) != (delivery.secret.key_id, delivery.generation):
            repairs.clear()
            return None
        if len(repairs) == _MOST_REPAIRS and now < repairs[0] + _REPAIRS_WITHIN:
            said = f"Secret {namespace}/{self.secrets.name} is changed or deleted by somebody else as often as it is put right"
            raise Refused(f"target {self.name}: {said}: find out who (`kubectl get --show-managed-fields`), or use another name")
        return repairs

    def _recall(self, namespace: str, version: str | None) -> SecretView | None:
        """The Secret in the version that was observed; looked at again where it is not remembered."""
        if version is None:
            return self.secrets.look(namespace)
        view = self.secrets.recall(namespace)
        if not version and view is None:
            return None  # nothing was there, and if that has changed, its creation will say so
        if view is None or view.version != version:
            view = self.secrets.look(namespace)
        if (view.version if view is not None else "") != version:
            raise Conflict(f"Secret {namespace}/{self.secrets.name} changed since it was looked at")
        return view

    def _observe(self, credential: str, looks: Sequence[PlaceLook]) -> Observation:
        return build_observation(looks, self.best_level, self.known.delivered.get(credential))

    def _is_of(self, view: SecretView, credential: str) -> bool:
        notes = view.notes
        return notes is not None and (notes.installation, notes.credential) == (self.secrets.shape.installation, credential)

    def _preview(self, look: PlaceLook, delivery: Delivery) -> str:
        if self.secrets.is_current(look.view, delivery):
            return ""
        if look.objection:
            raise Refused(f"target {self.name}: {look.objection}", reason=Reason.FOREIGN_ENTRY)
        before = look.view.notes if look.view is not None else None
        old = "" if before is None else "".join(f"{entry}: (of key {before.key_id})\n" for entry in sorted(before.entries))
        new = "".join(f"{entry}: (of key {delivery.secret.key_id})\n" for entry in sorted(self.secrets.entries))
        return masked_diff(old, new, f"Secret {look.namespace}/{self.secrets.name}") + self._name_consumers(look.namespace)

    def _name_consumers(self, namespace: str) -> str:
        """Who uses the Secret: those that are restarted, or must be by somebody else."""
        lines = []
        with suppress(Refused):  # not allowed to look: nothing to name
            for workload, uses in self.workloads.find_consumers(namespace):
                fixed = sorted(uses & {Use.ENVIRONMENT, Use.SUB_PATH})
                if self.restarts and (self.workloads.named is None or workload in self.workloads.named):
                    lines.append(f"# {workload} is restarted\n")
                elif fixed:
                    lines.append(f"# {workload} reads it as {' and '.join(fixed)}: it keeps the old key until somebody restarts it\n")
        return "".join(lines)

    def _for_each(self, namespaces: Sequence[str], look: Callable[[str], PlaceLook]) -> list[PlaceLook]:
        found = zip(namespaces, self._map(look, namespaces), strict=True)
        looks = [one if isinstance(one, PlaceLook) else PlaceLook(namespace, error=one) for namespace, one in found]
        errors = [one.error for one in looks if one.error is not None]
        if errors and len(errors) == len(looks):
            raise errors[0]
        return looks

    def _map(self, work: Callable[[str], _Result], namespaces: Sequence[str]) -> list[_Result | RotatorError]:
        """Do it in each place, or tell what went wrong there. Where nobody answers, not each is waited for: it would take minutes (L25)."""
        started, away = self.clock.monotonic(), threading.Event()

        def attempt(namespace: str) -> _Result | RotatorError:
            if away.is_set() and self.clock.monotonic() - started > _LONGEST:
                return Unreachable(f"{self.name}: {namespace} was not looked at, as the API server gave no answer elsewhere")
            try:
                return work(namespace)
            except RotatorError as problem:
                if isinstance(problem, Unreachable):
                    away.set()
                return problem

        return self.cluster.map(attempt, namespaces)


def _join(problems: Sequence[RotatorError]) -> RotatorError:
    """One error for all: of the kind that asks for the most patience, or for a person."""
    order = (RateLimited, Permanent, Misconfigured, Conflict)
    first = next((p for kind in order for p in problems if isinstance(p, kind)), problems[0])
    if len(problems) == 1:
        return first
    joined = type(first)(_name_few([str(first), *(str(p) for p in problems if p is not first)]), reason=first.reason)
    if isinstance(first, RateLimited) and isinstance(joined, RateLimited):
        joined.after = first.after
    return joined


def _name_few(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _MOST_NAMED} more" if len(texts) > _MOST_NAMED else ""
    return "; ".join(texts[:_MOST_NAMED]) + more
