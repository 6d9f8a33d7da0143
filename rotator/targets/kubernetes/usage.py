"""Which workloads use a Secret, and how: what a pod's spec says. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

__all__ = ["Use", "find_uses"]


class Use(StrEnum):
    """How a pod gets at the Secret."""

    ENVIRONMENT = "an environment variable"
    """read once, when a container starts"""
    SUB_PATH = "a subPath mount"
    """a copy, made when a container starts"""
    VOLUME = "a volume"
    """kept up to date by the kubelet, within a minute or two"""


def find_uses(pod: Mapping[str, Any], secret: str) -> frozenset[Use]:
    """The ways in which a pod with this spec uses the Secret of that name; empty: not at all."""
    return frozenset(_find(pod, secret))


def _find(pod: Mapping[str, Any], secret: str) -> Iterator[Use]:
    volumes = {str(v.get("name")) for v in _list(pod, "volumes") if _holds(v, secret)}
    if volumes:
        yield Use.VOLUME
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in _list(pod, kind):
            if any(_refers(e.get("secretRef"), secret) for e in _list(container, "envFrom")):
                yield Use.ENVIRONMENT
            if any(_refers((e.get("valueFrom") or {}).get("secretKeyRef"), secret) for e in _list(container, "env")):
                yield Use.ENVIRONMENT
            if any(m.get("name") in volumes and (m.get("subPath") or m.get("subPathExpr")) for m in _list(container, "volumeMounts")):
                yield Use.SUB_PATH


def _holds(volume: Mapping[str, Any], secret: str) -> bool:
    if (volume.get("secret") or {}).get("secretName") == secret:
        return True
    return any(_refers(source.get("secret"), secret) for source in _list(volume.get("projected") or {}, "sources"))


def _refers(reference: Mapping[str, Any] | None, secret: str) -> bool:
    return reference is not None and reference.get("name") == secret


def _list(found: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [one for one in found.get(name) or [] if isinstance(one, dict)]
