"""The namespaces of a target: a list, or whatever carries certain labels now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rotator.targets.kubernetes.api import ClusterApi
from rotator.targets.kubernetes.cluster import NAMESPACES, Cluster

__all__ = ["Namespaces"]


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Which namespaces get the Secret."""

    api: ClusterApi
    cluster: Cluster
    names: Sequence[str] = ()
    selector: str = ""
    """empty: the names are the list"""

    def find(self, *, fresh: bool = False) -> list[str]:
        """Their names, in order; one that is being deleted does not count. Raises `Unreachable`, `Refused`."""
        if not self.selector:
            return sorted(self.names)
        known = None if fresh else self.cluster.find_namespaces(self.selector)
        if known is not None:
            return known
        params = {"labelSelector": self.selector}
        found, _ = self.api.list_all(NAMESPACES, f"listing namespaces with {self.selector}", metadata=True, params=params)
        living = [one["metadata"] for one in found if "deletionTimestamp" not in one["metadata"]]
        return sorted(str(metadata["name"]) for metadata in living)
