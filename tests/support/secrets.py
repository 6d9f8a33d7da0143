"""A site whose credential goes into a Secret of the tests' cluster."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rotator.domain.errors import MalformedKey
from rotator.domain.secret import Secret
from tests.support.daemon import DaemonProcess, Document, Site, running_daemon, wait_until
from tests.support.kubernetes import Cluster
from tests.support.sandbox import SandboxControl

NAME = "millimetric"
NOTE = "millimetric.rotator/key-id"
ENV: Document = {
    "containers": [
        {"name": "main", "image": "made-up", "env": [{"name": "KEY", "valueFrom": {"secretKeyRef": {"name": NAME, "key": "api_key"}}}]}
    ]
}
"""a pod that reads the key once, when it starts"""


@dataclass
class SecretSite:
    """Use `configure`, then `running`."""

    site: Site
    cluster: Cluster
    namespace: str
    daemon: DaemonProcess = field(init=False, repr=False)

    @property
    def control(self) -> SandboxControl:
        return SandboxControl(self.site.sandbox_url, self.site.admin_token)

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{NAME}"

    def configure(self, token: str | None = None, server: str | None = None, **settings: Any) -> None:
        """`settings` of the target; `overlap` and `rotation` go to the credential."""
        of_credential = {name: settings.pop(name) for name in ("overlap", "rotation") if name in settings}
        kubeconfig = self.cluster.kubeconfig(self.site.folder / "kubeconfig", token or self.cluster.admin, server)
        usual = {"type": "kubernetes", "kubeconfig": str(kubeconfig), "namespaces": [self.namespace], "name": NAME}
        self.site.config["targets"]["cluster"] = {**usual, **settings}
        self.site.credential("checkout", "cluster", **of_credential)
        self.site.write()

    @contextmanager
    def running(self) -> Iterator[DaemonProcess]:
        """`rotator run`."""
        with running_daemon(self.site) as daemon:
            self.daemon = daemon
            yield daemon

    def find(self, namespace: str | None = None) -> Document | None:
        return self.cluster.find_secret(namespace or self.namespace, NAME)

    def read(self, namespace: str | None = None) -> Secret | None:
        """The key in the Secret; None where there is none."""
        found = self.find(namespace)
        value = (found or {}).get("data", {}).get("api_key")
        try:
            return Secret(base64.b64decode(value).decode()) if value else None
        except MalformedKey:
            return None

    def holds(self, key_id: str, namespace: str | None = None) -> bool:
        key = self.read(namespace)
        return key is not None and str(key.key_id) == key_id

    def deployment(self, name: str = "shop", pod: Document | None = None, **fields: Any) -> str:
        """A Deployment whose pods read the Secret's key into their environment, ready; its API path."""
        path = self.cluster.workload(self.namespace, name, pod or ENV, **fields)
        self.cluster.wait_ready(path)
        return path

    def rolled_to(self, name: str = "shop") -> set[str]:
        """The keys that the pods of a workload were started for, those that are going too."""
        pods = self.cluster.pods(self.namespace, name)
        return {pod["metadata"].get("annotations", {}).get(NOTE, "") for pod in pods}

    def rotate(self) -> tuple[str, str]:
        """Ask for a rotation; the old key's id and, once it is promoted, the new one's."""
        old = str(self.daemon.status("checkout")["key_id"])
        self.daemon.post("/api/v1/credentials/checkout/rotate", {"emergency": False})
        new = str(self.daemon.wait_for("checkout", lambda s: s["key_id"] != old)["key_id"])
        return old, new

    def is_revoked(self, key_id: str) -> bool:
        with self.control as control:
            return control.key(key_id)["revoked_at"] is not None

    def stays_alive(self, key_id: str, seconds: float) -> None:
        """Fails if the key is revoked within that time."""
        deadline = time.monotonic() + seconds

        def look() -> bool:
            assert not self.is_revoked(key_id), f"{key_id} was revoked"
            return time.monotonic() > deadline

        wait_until(look, seconds + 10, every=0.1)

    def metrics(self) -> str:
        """The daemon's metrics as text."""
        return self.daemon.metrics()
