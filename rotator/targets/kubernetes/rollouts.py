"""Where a workload's restart stands: to be done, under way, complete, or held up and why. Pure.

A pod is of *before* the key where it is older than the key's placing and does not carry our annotation for it: it may have read the
former one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rotator.targets.kubernetes.contents import NOTE_KEY_ID
from rotator.targets.kubernetes.ownership import parse_time

__all__ = ["Rollout", "build_note", "build_restart", "is_rolling", "judge"]

_ENDED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Rollout:
    """One workload, as it stands with one key."""

    workload: str
    """such as deployment/checkout"""
    restart: bool = False
    """it must be restarted"""
    reason: str = ""
    """why its pods do not all work with the key yet; empty: they do"""
    stuck: bool = False
    """only a person can help"""
    uid: str = ""
    """another one where the workload was deleted and made again"""


def judge(
    workload: str,
    found: Mapping[str, Any],
    pods: Sequence[Mapping[str, Any]],
    note: tuple[str, str],
    placed_at: datetime,
    late: bool,
    *,
    uses: bool = True,
) -> Rollout:
    """Where the workload stands with the key that was placed then. `note`: our annotation for it. `late`: the deadline has passed.

    `uses`: its template does; else only pods of a template of before do, and a restart would end none of them.
    """
    template = found["spec"]["template"].get("metadata") or {}
    restarted = note in (template.get("annotations") or {}).items()
    old = [pod for pod in pods if _is_of_before(pod, note, placed_at)]
    if old and (hindrance := _find_hindrance(found)):
        return Rollout(workload, reason=f"{hindrance}: {_count(old)} still of before", stuck=True)
    if uses and not restarted and any("deletionTimestamp" not in pod["metadata"] for pod in old):
        return Rollout(workload, restart=True, reason="must be restarted")
    missing = (_find_missing(found) if restarted else "") or (f"{_count(old)} of before going" if old else "")
    if not missing:
        return Rollout(workload)
    failed = _find_failure(found) or ("the rollout deadline has passed" if late else "")
    return Rollout(workload, reason=f"{missing}{f', {failed}' if failed else ''}", stuck=bool(failed))


def is_rolling(found: Mapping[str, Any]) -> bool:
    """Whether there may be pods of a template of before."""
    return bool(_find_missing(found))


def build_note(secret: str, key_id: str) -> tuple[str, str]:
    """The annotation that restarts a workload for a Secret's key.

    Each Secret has its own: two that took turns with one would restart it again and again, into ReplicaSets that were there before.
    """
    return f"{secret}.{NOTE_KEY_ID}", key_id


def build_restart(note: tuple[str, str]) -> dict[str, Any]:
    """The patch that restarts a workload's pods; the same key never does it twice."""
    return {"spec": {"template": {"metadata": {"annotations": dict([note])}}}}


def _is_of_before(pod: Mapping[str, Any], note: tuple[str, str], placed_at: datetime) -> bool:
    if (pod.get("status") or {}).get("phase") in _ENDED:
        return False
    metadata = pod["metadata"]
    if note in (metadata.get("annotations") or {}).items():
        return False
    made_at = parse_time(metadata.get("creationTimestamp"))
    # Times are in whole seconds: a pod of the same second may have read the Secret before.
    return made_at is None or made_at < placed_at + timedelta(seconds=1)


def _find_hindrance(found: Mapping[str, Any]) -> str:
    spec = found["spec"]
    if spec.get("paused"):
        return "its rollouts are paused (`kubectl rollout resume`)"
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return "its update strategy is OnDelete: delete its pods, one after the other"
    partition = (strategy.get("rollingUpdate") or {}).get("partition") or 0
    return f"its rolling updates are partitioned at {partition} (set it to 0)" if partition else ""


def _find_missing(found: Mapping[str, Any]) -> str:
    """What the workload's status lacks of a complete rollout."""
    spec, status = found["spec"], found.get("status") or {}
    if (status.get("observedGeneration") or 0) < found["metadata"].get("generation", 0):
        return "its controller has not seen the restart yet"
    if "desiredNumberScheduled" in status or "numberReady" in status:
        wanted, updated, ready = (status.get(n) or 0 for n in ("desiredNumberScheduled", "updatedNumberScheduled", "numberReady"))
        total = wanted
    else:
        wanted = 1 if spec.get("replicas") is None else spec["replicas"]
        updated, ready, total = (status.get(n) or 0 for n in ("updatedReplicas", "readyReplicas", "replicas"))
        if "updateRevision" in status and status.get("currentRevision") == status["updateRevision"]:
            updated = total  # a StatefulSet forgets the count when it is done
    if updated < wanted or ready < wanted:
        return f"{min(updated, wanted)} of {wanted} pods updated, {ready} ready"
    return f"{total - wanted} more than the {wanted} that are wanted" if total > wanted else ""


def _find_failure(found: Mapping[str, Any]) -> str:
    conditions = (found.get("status") or {}).get("conditions") or []
    late = any(c.get("type") == "Progressing" and c.get("reason") == "ProgressDeadlineExceeded" for c in conditions)
    return "it makes no progress (ProgressDeadlineExceeded)" if late else ""


def _count(pods: Sequence[object]) -> str:
    return f"{len(pods)} pod{'' if len(pods) == 1 else 's'}"
