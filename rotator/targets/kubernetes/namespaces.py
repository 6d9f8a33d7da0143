"""The namespaces of a target: a list, or whatever carries certain labels now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rotator.targets.kubernetes.api import ClusterApi

__all__ = ["PATH", "Namespaces"]

PATH = "/api/v1/namespaces"


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Which namespaces get the Secret."""

    api: ClusterApi
    names: Sequence[str] = ()
    selector: str = ""
    """empty: the names are the list"""

    def find(self) -> list[str]:
        """Their names, in order; one that is being deleted does not count. Raises `Unreachable`, `Refused`."""
        return self.list_from()[0]

    def list_from(self) -> tuple[list[str], str]:
        """As `find`, and the version from which a watch goes on."""
        if not self.selector:
            return sorted(self.names), ""
        found, version = self.api.list_all(PATH, f"listing namespaces with {self.selector}", metadata=True, selector=self.selector)
        living = [one["metadata"] for one in found if "deletionTimestamp" not in one["metadata"]]
        return sorted(str(metadata["name"]) for metadata in living), version
