"""A real API server takes every documented scenario, strictly, in a namespace that admits restricted pods only."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.charts import CHART, SCENARIOS, Helm
from tests.support.daemon import wait_until
from tests.support.kubernetes import Cluster
from tests.support.servers import KUBERNETES, get_program

_KINDS = {"ServiceMonitor": "servicemonitors", "PrometheusRule": "prometheusrules"}
_NAMESPACES = ("checkout", "catalogue", "assistant")


def _define(kind: str, plural: str) -> dict[str, Any]:
    """As much of the Prometheus operator's definition as makes the API server take the kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                        }
                    },
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[str]:
    """The release's namespace; what the scenarios name is there as well."""
    base = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for kind, plural in _KINDS.items():
        cluster.call("POST", base, _define(kind, plural))
    for plural in _KINDS.values():
        wait_until(lambda plural=plural: cluster.ask("GET", f"/apis/monitoring.coreos.com/v1/{plural}").is_success, what=plural)
    for name in _NAMESPACES:
        cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    release = cluster.namespace(**{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"})
    # A dry run makes none, and no pod is taken whose account is not there.
    cluster.call("POST", f"/api/v1/namespaces/{release}/serviceaccounts", {"metadata": {"name": "rotator"}})
    yield release
    for name in _NAMESPACES:
        cluster.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda file: file.stem)
def test_the_api_server_takes_every_object(one_helm: Helm, cluster: Cluster, place: str, scenario: Path) -> None:
    rendered = one_helm.run("template", "rotator", str(CHART), "--namespace", place, "--values", str(scenario)).stdout
    program = str(get_program(KUBERNETES, "kubectl"))
    kubectl = [program, "apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", "-"]
    done = subprocess.run(
        kubectl,
        input=rendered,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"HOME": str(one_helm.home), "PATH": "", "KUBECONFIG": str(one_helm.kubeconfig)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no warning, of a pod that is not restricted for one"
    assert len(done.stdout.splitlines()) == len([one for one in yaml.safe_load_all(rendered) if one])
