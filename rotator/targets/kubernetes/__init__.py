"""The Kubernetes target: a Secret in one or many namespaces of a cluster, and the workloads that use it.

`config` is all that other commands load; everything else, the client library included, is imported where a target is configured.
"""

from __future__ import annotations

from rotator.targets.kubernetes.config import KubernetesTargetConfig

__all__ = ["KubernetesTargetConfig"]
