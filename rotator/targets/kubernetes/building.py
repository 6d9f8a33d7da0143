"""From a Kubernetes target's configuration to the target."""

from __future__ import annotations

from rotator.mcp.clients import get_client
from rotator.targets.contents import ClientContent, Content, TemplateContent
from rotator.targets.kubernetes.access import ClusterAccess
from rotator.targets.kubernetes.api import ClusterApi
from rotator.targets.kubernetes.cluster import Cluster
from rotator.targets.kubernetes.config import ClientDocumentConfig, KubernetesTargetConfig, NamespaceSelector
from rotator.targets.kubernetes.contents import SecretShape, describe
from rotator.targets.kubernetes.namespaces import Namespaces
from rotator.targets.kubernetes.permissions import Permissions
from rotator.targets.kubernetes.secrets import Secrets
from rotator.targets.kubernetes.target import KubernetesTarget
from rotator.targets.kubernetes.workloads import Workloads
from rotator.targets.surroundings import TargetSurroundings

_MOST_BY_LABEL = 500
"""namespaces of a selector that are watched, at a connection and a thread each"""


def build_target(config: KubernetesTargetConfig, surroundings: TargetSurroundings) -> KubernetesTarget:
    """The target. Opens no connection, and reads no file."""
    name = surroundings.name
    cluster = _share_cluster(config, surroundings)
    api = ClusterApi(name, cluster.access, config.timeout.total_seconds(), surroundings.observe)
    selected = isinstance(config.namespaces, NamespaceSelector)
    named = None if isinstance(config.restart, str) else config.restart
    return KubernetesTarget(
        name=name,
        clock=surroundings.clock,
        cluster=cluster,
        secrets=Secrets(api, cluster, config.name, _build_shape(config, surroundings), config.adopt),
        namespaces=Namespaces(api, cluster, selector=config.namespaces.selector)
        if isinstance(config.namespaces, NamespaceSelector)
        else Namespaces(api, cluster, config.namespaces),
        permissions=Permissions(
            api=api,
            target=name,
            secret=config.name,
            by_selector=selected,
            watches=config.watches > 0,
            deletes=config.on_removal == "delete",
            restarts=config.restart != "none",
            named=named,
        ),
        workloads=Workloads(api, config.name, named, config.rollout_deadline),
        restarts=config.restart != "none",
        deletes=config.on_removal == "delete",
        watches=_MOST_BY_LABEL if selected and config.watches else config.watches,
        poll=config.poll,
    )


def _share_cluster(config: KubernetesTargetConfig, surroundings: TargetSurroundings) -> Cluster:
    """Targets on one cluster share its connections, its watches and what these bring."""
    shared = ("kubernetes", config.kubeconfig, config.context)
    cluster = surroundings.shared.setdefault(shared, Cluster(ClusterAccess(config.kubeconfig, config.context)))
    assert isinstance(cluster, Cluster)
    return cluster


def _build_shape(config: KubernetesTargetConfig, surroundings: TargetSurroundings) -> SecretShape:
    described = {name: value if isinstance(value, str) else value.model_dump() for name, value in config.data.items()}
    return SecretShape(
        target=surroundings.name,
        installation=surroundings.installation,
        contents={name: _build_content(value) for name, value in config.data.items()},
        labels=config.labels,
        annotations=config.annotations,
        described=describe(described, config.labels, config.annotations),
    )


def _build_content(value: str | ClientDocumentConfig) -> Content:
    if isinstance(value, ClientDocumentConfig):
        return ClientContent(get_client(value.client), value.server)
    return TemplateContent(value, needs_key=False)
