"""A real Kubernetes API on loopback: etcd, API server with RBAC, controller manager, and kwok, whose one fake node lets Deployments roll.

Ready some seconds after the start. There is no scheduler: workloads name the node themselves (`Cluster.deployment` does).
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import httpx
import yaml

from tests.support.daemon import wait_until
from tests.support.servers import KUBERNETES, KWOK, Spawned, find_free_ports, get_program, get_system_program

Manifest = dict[str, Any]
NODE = "fake"
_LIMITED = 128
"""users whose tokens are known from the start and who may do nothing until a test lets them"""
_counter = itertools.count(1)


@dataclass(slots=True)
class Cluster:
    """A running cluster. Use as a context manager."""

    folder: Path
    address: str = ""
    admin: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    etcd: Spawned = field(init=False)
    apiserver: Spawned = field(init=False)
    controllers: Spawned = field(init=False)
    kwok: Spawned = field(init=False)
    _limited: list[tuple[str, str]] = field(init=False, repr=False)
    _client: httpx.Client = field(init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def ca_file(self) -> Path:
        """What the API server's certificate is checked against."""
        return self.folder / "certificates" / "apiserver.crt"

    def start(self) -> None:
        """Start all four, and wait until workloads can roll."""
        ports = find_free_ports(6)
        self._limited = [(f"limited-{n}", secrets.token_urlsafe(24)) for n in range(_LIMITED)]
        self._write_files()
        self.address = f"https://127.0.0.1:{ports[2]}"
        self.etcd = self._spawn("etcd", _etcd(self.folder, ports[0], ports[1]))
        self.apiserver = self._spawn("kube-apiserver", _apiserver(self.folder, ports[2], ports[0]))
        self.etcd.start()
        self.start_apiserver()
        config = self.kubeconfig(self.folder / "admin.kubeconfig", self.admin)
        self.controllers = self._spawn("kube-controller-manager", _controllers(self.folder, config, ports[3]))
        self.kwok = self._spawn("kwok", _kwok(self.folder, config, ports[4]))
        self.controllers.start()
        self.kwok.start()
        self.call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": {"type": "kwok"}}})
        wait_until(lambda: self.ask("GET", "/api/v1/namespaces/default/serviceaccounts/default").is_success, 60, what="service accounts")

    def start_apiserver(self) -> None:
        """Start the API server, or start it again, and wait until it is ready."""
        self.apiserver.start()
        wait_until(self._is_ready, 60, what="the API server's readiness")

    def stop(self) -> None:
        """End everything; harmless where it has ended."""
        for one in ("kwok", "controllers", "apiserver", "etcd"):
            spawned = getattr(self, one, None)
            if spawned is not None:
                # What they leave behind is thrown away: there is nothing to wait for.
                spawned.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self.stop()

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None, kind: str = "", **params: str) -> httpx.Response:
        """One request as an admin, or with `token`. `kind`: the content type, JSON by default."""
        headers = {"Authorization": f"Bearer {token or self.admin}", "Content-Type": kind or "application/json"}
        content = None if body is None else body if isinstance(body, str) else json.dumps(body)
        return self._client.request(method, f"{self.address}{path}", content=content, headers=headers, params=params)

    def call(self, method: str, path: str, body: Any = None, token: str | None = None, kind: str = "", **params: str) -> Any:
        """As `ask`; its JSON. Fails for anything but success."""
        answer = self.ask(method, path, body, token, kind, **params)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.json().get('message', '')}"
        return answer.json()

    def merge(self, path: str, body: Any, **params: str) -> Any:
        """`kubectl patch --type=merge`."""
        return self.call("PATCH", path, body, kind="application/merge-patch+json", **params)

    def namespace(self, **labels: str) -> str:
        """A fresh namespace; its name."""
        name = f"test-{os.getpid()}-{next(_counter)}-{secrets.token_hex(2)}"
        self.call("POST", "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels}})
        return name

    def secret(self, namespace: str, name: str) -> Manifest:
        """A Secret, whole."""
        found: Manifest = self.call("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
        return found

    def find_secret(self, namespace: str, name: str) -> Manifest | None:
        """A Secret, or None where there is none."""
        answer = self.ask("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}")
        found: Manifest | None = answer.json() if answer.is_success else None
        return found

    def limited(self, *rules: Mapping[str, Sequence[str]], namespace: str | None = None) -> str:
        """The token of a user that may do what `rules` say, in one namespace or (None) in the whole cluster, and nothing else."""
        with self._lock:
            user, token = self._limited.pop()
        if rules:
            self.grant(user, *rules, namespace=namespace)
        return token

    def grant(self, user: str, *rules: Mapping[str, Sequence[str]], namespace: str | None = None) -> None:
        """Let a user do more."""
        kind, name = ("Role" if namespace else "ClusterRole"), f"{user}-{secrets.token_hex(3)}"
        base = "/apis/rbac.authorization.k8s.io/v1" + (f"/namespaces/{namespace}" if namespace else "")
        self.call("POST", f"{base}/{kind.lower()}s", {"metadata": {"name": name}, "rules": [rule for rule in rules if rule["verbs"]]})
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        self.call("POST", f"{base}/{kind.lower()}bindings", binding)

    def user_of(self, token: str) -> str:
        """The name of the user with that token."""
        user: str = self.call("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token)["status"]["userInfo"]["username"]
        return user

    def kubeconfig(self, file: Path, token: str, server: str | None = None, user: Manifest | None = None) -> Path:
        """Write a kubeconfig, 0600, with one context called `test`."""
        cluster: Manifest = {"server": server or self.address}
        if cluster["server"].startswith("https"):
            cluster["certificate-authority"] = str(self.ca_file)
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user or {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
        file.touch(0o600)
        file.write_text(yaml.safe_dump(document))
        return file

    def workload(self, namespace: str, name: str, spec: Manifest, kind: str = "Deployment", **fields: Any) -> str:
        """Make a workload whose pods run on the fake node with the pod spec `spec`; its API path."""
        labels = {"app": name}
        # Nobody takes the taint off that a new node has.
        pod = {"nodeName": NODE, "terminationGracePeriodSeconds": 0, "tolerations": [{"operator": "Exists"}], **spec}
        body: Manifest = {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name, "labels": labels},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}, **fields},
        }
        if kind != "DaemonSet":
            body["spec"].setdefault("replicas", 1)
        base = f"/apis/apps/v1/namespaces/{namespace}/{kind.lower()}s"
        self.call("POST", base, body)
        return f"{base}/{name}"

    def pods(self, namespace: str, app: str) -> list[Manifest]:
        """The pods of a workload, those that are going too."""
        found: list[Manifest] = self.call("GET", f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app={app}")["items"]
        return found

    def wait_ready(self, path: str, within: float = 60.0) -> Manifest:
        """A Deployment or StatefulSet once all its replicas are ready."""

        def look() -> Manifest | None:
            found: Manifest = self.call("GET", path)
            status = found.get("status", {})
            wanted = status.get("desiredNumberScheduled", found["spec"].get("replicas", 0))
            ready = status.get("readyReplicas", status.get("numberReady", 0))
            fresh = status.get("observedGeneration") == found["metadata"]["generation"]
            return found if fresh and ready == wanted > 0 else None

        found: Manifest = wait_until(look, within, every=0.2, what=f"{path} ready")
        return found

    def _spawn(self, name: str, command: list[str]) -> Spawned:
        return Spawned(command, log=self.folder / f"{name}.log")

    def _is_ready(self) -> bool:
        assert self.etcd.is_running, f"etcd ended: {self.etcd.tail()}"
        assert self.apiserver.is_running, f"the API server ended: {self.apiserver.tail()}"
        if not self.ca_file.exists():
            return False
        try:
            if not hasattr(self, "_client"):
                import ssl

                trusted = ssl.create_default_context(cafile=str(self.ca_file))
                self._client = httpx.Client(verify=trusted, trust_env=False, timeout=30)
            return self.ask("GET", "/readyz").is_success
        except httpx.TransportError:
            return False

    def _write_files(self) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        users = [("admin", self.admin, '"system:masters"'), *((name, token, "") for name, token in self._limited)]
        tokens = self.folder / "tokens.csv"
        tokens.touch(0o600)
        tokens.write_text("".join(f"{token},{name},{name},{groups}\n" for name, token, groups in users))
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        (self.folder / "accounts.pem").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        )
        _write_client_authority(self.folder)


def _write_client_authority(folder: Path) -> None:
    """What the API server takes client certificates from: `clients.crt` and `clients.key`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "clients")])
    made = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now - timedelta(hours=1), now + timedelta(days=1)
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "clients.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "clients.key").write_bytes(private)


def _etcd(folder: Path, client: int, peer: int) -> list[str]:
    urls = [f"http://127.0.0.1:{port}" for port in (client, peer)]
    return [
        str(get_system_program("etcd", "etcd-server")),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={urls[0]}",
        f"--advertise-client-urls={urls[0]}",
        f"--listen-peer-urls={urls[1]}",
        f"--initial-advertise-peer-urls={urls[1]}",
        f"--initial-cluster=default={urls[1]}",
        "--unsafe-no-fsync",
    ]


def _apiserver(folder: Path, port: int, etcd: int) -> list[str]:
    return [
        str(get_program(KUBERNETES, "kube-apiserver")),
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        f"--client-ca-file={folder / 'clients.crt'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'accounts.pem'}",
        f"--service-account-signing-key-file={folder / 'accounts.pem'}",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--endpoint-reconciler-type=none",
        # Debian's etcd is too old to serve a list by watch: clients that try it lose many seconds before they list instead.
        "--feature-gates=WatchList=false",
        "--enable-priority-and-fairness=false",
        "--max-requests-inflight=0",
        "--max-mutating-requests-inflight=0",
    ]


def _controllers(folder: Path, config: Path, port: int) -> list[str]:
    return [
        str(get_program(KUBERNETES, "kube-controller-manager")),
        f"--kubeconfig={config}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'controllers'}",
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        f"--service-account-private-key-file={folder / 'accounts.pem'}",
        "--controllers=*,-nodeipam,-nodelifecycle,-cloud-node-lifecycle,-service-lb-controller,-node-route-controller",
    ]


def _kwok(folder: Path, config: Path, port: int) -> list[str]:
    program = get_program(KWOK)
    stages = [f"--config={program.with_name(Path(file).name)}" for file in KWOK.files]
    address = f"--server-address=127.0.0.1:{port}"
    return [str(program), f"--kubeconfig={config}", "--manage-all-nodes=true", address, *stages]


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A cluster in a folder of its own, both gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="rotator-cluster-"))
    try:
        with Cluster(folder) as cluster:
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)
