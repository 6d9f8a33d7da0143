"""A release of the chart in a real cluster, and its daemon: a local process with the configuration, the variables and the service account
that the cluster has for the pod. What differs: where files lie, and that it listens on loopback."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rotator.domain.keys import KeyId
from rotator.domain.secret import Secret
from tests.support.charts import CHART, ROOT, Helm, Manifest, list_environ
from tests.support.daemon import DaemonProcess, Site, running_daemon
from tests.support.kubernetes import Cluster

NAME = "rotator"
_PROGRAM = (sys.executable, "-m", "tests.support.in_cluster")
_LOCAL = {"ROTATOR_CONFIG", "ROTATOR_STATE_DIR", "HOME", "ROTATOR_SERVER__BIND"}


@dataclass(slots=True)
class InstalledSite(Site):
    """A site whose configuration is the text that the cluster holds."""

    text: str = ""

    def write(self) -> Path:
        """Write the configuration, byte for byte."""
        self.config_file.write_text(self.text)
        return self.config_file

    def command(self, *arguments: str, program: Sequence[str] = _PROGRAM) -> list[str]:
        return [*program, *arguments]


@dataclass(slots=True)
class Release:
    """The release `rotator` in a namespace of its own."""

    helm: Helm
    cluster: Cluster
    folder: Path
    files: Sequence[Path] = ()
    namespace: str = field(init=False)

    def __post_init__(self) -> None:
        self.namespace = self.cluster.namespace(**{"pod-security.kubernetes.io/enforce": "restricted"})
        (self.folder / "account").mkdir()

    @property
    def token_file(self) -> Path:
        """Where its pod has the service account's token."""
        return self.folder / "account" / "token"

    def install(self, values: Mapping[str, Any], chart: Path = CHART) -> str:
        """`helm install`; what it printed."""
        return self._run("install", NAME, str(chart), *self.helm.name_values(self.files, values))

    def upgrade(self, values: Mapping[str, Any], chart: Path = CHART) -> str:
        """`helm upgrade`; what it printed."""
        return self._run("upgrade", NAME, str(chart), *self.helm.name_values(self.files, values))

    def rollback(self, revision: int) -> None:
        """`helm rollback`."""
        self._run("rollback", NAME, str(revision))

    def uninstall(self) -> None:
        """`helm uninstall`."""
        self._run("uninstall", NAME)

    def get(self, kind: str, group: str = "api/v1", name: str = NAME) -> Manifest:
        """An object of the release, as the cluster has it."""
        found: Manifest = self.cluster.call("GET", f"/{group}/namespaces/{self.namespace}/{kind}/{name}")
        return found

    def build_site(self, sandbox_url: str, admin_token: str) -> InstalledSite:
        """What the pod would find, in a folder of this machine: its configuration, variables and a fresh token."""
        statefulset = {**self.get("statefulsets", "apis/apps/v1"), "kind": "StatefulSet"}
        account = statefulset["spec"]["template"]["spec"]["serviceAccountName"]
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        self.token_file.touch(0o600)
        self.token_file.write_text(self.cluster.call("POST", path, body)["status"]["token"])
        (self.folder / "account" / "namespace").write_text(self.namespace)
        (self.folder / "account" / "ca.crt").write_bytes(self.cluster.ca_file.read_bytes())
        address = urlsplit(self.cluster.address)
        environ = {name: value for name, value in list_environ([statefulset]).items() if name not in _LOCAL}
        environ |= {
            "ROTATOR_SERVER__BIND": "127.0.0.1",
            "KUBERNETES_SERVICE_HOST": str(address.hostname),
            "KUBERNETES_SERVICE_PORT": str(address.port),
            "ACCOUNT_FOLDER": str(self.folder / "account"),
            "PYTHONPATH": str(ROOT),
        }
        text = self.get("configmaps")["data"]["rotator.yaml"]
        site = InstalledSite(self.folder / "site", sandbox_url, admin_token, added_environ=environ, text=text)
        site.write()
        return site

    def _run(self, *arguments: str) -> str:
        return self.helm.run(*arguments, "--namespace", self.namespace).stdout


@contextmanager
def running_pod(site: InstalledSite) -> Iterator[DaemonProcess]:
    """The daemon, until the end of the block."""
    with running_daemon(site, program=_PROGRAM) as daemon:
        yield daemon


def find_key_in(cluster: Cluster, namespace: str, name: str = "millimetric") -> KeyId | None:
    """The key in the Secret's entry `api_key`; None where there is none."""
    value = ((cluster.find_secret(namespace, name) or {}).get("data") or {}).get("api_key")
    return Secret(base64.b64decode(value).decode()).key_id if value is not None else None
