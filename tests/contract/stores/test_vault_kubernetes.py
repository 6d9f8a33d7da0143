"""Signing in by Vault's Kubernetes auth: a real Vault that asks a real API server (TokenReview) about a pod's own token."""

from __future__ import annotations

import hashlib
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rotator.domain.errors import Misconfigured, Refused, Unreachable
from rotator.domain.record import Doom, Forget, Promote, StageKey
from rotator.stores.surroundings import Surroundings
from rotator.stores.vault import VaultStoreConfig
from rotator.stores.vault.store import VaultStore
from tests.contract.stores import vaults
from tests.contract.stores.build import a_key, an_entry, an_opening, at, commit_all, hold_current
from tests.support.daemon import wait_until
from tests.support.fakes import FakeClock
from tests.support.kubernetes import Cluster
from tests.support.servers import VAULT_KUBERNETES, get_program
from tests.support.vault import VaultServer, start_dev_vault

PATH = "millimetric/checkout-read"
PLUGIN = "vault-plugin-auth-kubernetes"
SYSTEM = "kube-system"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultServer]:
    """A Vault that knows the Kubernetes auth, which the builds of the tests lack, as a plug-in."""
    folder = tmp_path_factory.mktemp("plugins").resolve()
    plugin = folder / PLUGIN
    shutil.copy(get_program(VAULT_KUBERNETES), plugin)
    with start_dev_vault(folder) as running:
        body = {"type": "auth", "command": PLUGIN, "sha256": hashlib.sha256(plugin.read_bytes()).hexdigest()}
        running.call("PUT", f"sys/plugins/catalog/auth/{PLUGIN}", body)
        yield running


@pytest.fixture(scope="module")
def reviewer(cluster: Cluster) -> str:
    """The token by which Vault may ask about tokens, and nothing else."""
    name = f"vault-{secrets.token_hex(3)}"
    cluster.call("POST", f"/api/v1/namespaces/{SYSTEM}/serviceaccounts", {"metadata": {"name": name}})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": SYSTEM}],
    }
    cluster.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    token = str(cluster.call("POST", f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{name}/token", {"spec": {}})["status"]["token"])
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    wait_until(lambda: cluster.ask("POST", path, review, token).is_success, what="RBAC to know the binding")
    return token


@dataclass
class Pod:
    """A namespace with the ServiceAccount `rotator`, its token's file, and the role `rotator` in a Vault that trusts the cluster."""

    cluster: Cluster
    server: VaultServer
    folder: Path
    namespace: str
    mount: str
    auth_mount: str

    @property
    def file(self) -> Path:
        return self.folder / "token"

    def request(self, account: str = "rotator", audience: str = "", bound_to: str = "") -> str:
        spec: dict[str, Any] = {"audiences": [audience]} if audience else {}
        if bound_to:
            made = self.cluster.call("POST", f"/api/v1/namespaces/{self.namespace}/secrets", {"metadata": {"name": bound_to}})
            spec["boundObjectRef"] = {"kind": "Secret", "apiVersion": "v1", "name": bound_to, "uid": made["metadata"]["uid"]}
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        return str(self.cluster.call("POST", path, {"spec": spec})["status"]["token"])

    def lay(self, token: str) -> str:
        """Replace the file whole, as the kubelet does."""
        fresh = self.folder / "token.new"
        fresh.write_text(token)
        fresh.chmod(0o644)
        fresh.replace(self.file)
        return token

    def open(self, clock: FakeClock, **auth: str) -> VaultStore:
        settings = {"type": "kubernetes", "role": "rotator", "jwt_file": str(self.file), "mount": self.auth_mount, **auth}
        config = {"type": "vault", "address": self.server.address, "mount": self.mount, "auth": settings}
        return VaultStoreConfig.model_validate(config).build(Path("/nowhere"), Surroundings("vault", clock))


@pytest.fixture
def pod(cluster: Cluster, server: VaultServer, reviewer: str, tmp_path: Path) -> Pod:
    namespace, mount, auth_mount = cluster.namespace(), server.mount(), f"kubernetes-{secrets.token_hex(4)}"
    for account in ("rotator", "other"):
        cluster.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": account}})
    server.call("POST", f"sys/auth/{auth_mount}", {"type": PLUGIN})
    config = {
        "kubernetes_host": cluster.address,
        "kubernetes_ca_cert": cluster.ca_file.read_text(),
        "token_reviewer_jwt": reviewer,
        "disable_local_ca_jwt": True,
    }
    server.call("POST", f"auth/{auth_mount}/config", config)
    root = vaults.open_store_at(vaults.lay_place(tmp_path / "root", server, mount=mount))
    server.call("PUT", f"sys/policies/acl/{auth_mount}", {"policy": root.find_access(PATH, writes=True).policy})
    role = {
        "bound_service_account_names": ["rotator"],
        "bound_service_account_namespaces": [namespace],
        "token_policies": [auth_mount],
        "token_no_default_policy": True,
        "token_ttl": "100s",
    }
    server.call("POST", f"auth/{auth_mount}/role/rotator", role)
    server.call("POST", f"auth/{auth_mount}/role/by-audience", {**role, "audience": "vault"})
    return Pod(cluster, server, tmp_path, namespace, mount, auth_mount)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_pod_s_own_token_is_enough_for_the_whole_life_of_a_key(pod: Pod, clock: FakeClock) -> None:
    pod.lay(pod.request())
    store, first, second, opening = pod.open(clock), a_key(), a_key(), an_opening()
    store.check(PATH)
    hold_current(store, PATH, first)
    commit_all(store, PATH, opening, StageKey(an_entry(second, attempt=opening.attempt.id), second))
    commit_all(store, PATH, Promote(second.key_id, first.key_id, at(3)), Doom(first.key_id, at(4)), Forget(first.key_id))
    assert store.read(PATH).current == second.key_id
    assert store.find_access(PATH, writes=True).missing == ()


def test_a_token_for_an_audience_of_its_own(pod: Pod, clock: FakeClock) -> None:
    pod.lay(pod.request(audience="vault"))
    hold_current(pod.open(clock, role="by-audience"), PATH, a_key())


@pytest.mark.parametrize(
    ("audience", "account", "auth", "said"),
    [
        ("somebody-else", "rotator", {"role": "by-audience"}, "vault forbids signing in by kubernetes"),
        ("", "rotator", {"role": "nobody"}, r"vault refused signing in by kubernetes \(400\)"),
        ("", "other", {}, "vault forbids signing in by kubernetes"),
        ("", "rotator", {"mount": "not-there"}, "vault forbids signing in by kubernetes"),
    ],
    ids=["audience", "role", "service account", "mount"],
)
def test_what_does_not_fit_is_refused_in_words(
    pod: Pod, clock: FakeClock, audience: str, account: str, auth: dict[str, str], said: str
) -> None:
    token = pod.lay(pod.request(account, audience))
    with pytest.raises(Refused, match=f"{said}: check role, ids and how the auth method is set up") as told:
        pod.open(clock, **auth).read(PATH)
    assert token not in str(told.value)
    assert token.split(".")[2] not in str(told.value)


def test_another_namespace_s_account_of_the_same_name_is_refused(pod: Pod, clock: FakeClock) -> None:
    elsewhere = Pod(pod.cluster, pod.server, pod.folder, pod.cluster.namespace(), pod.mount, pod.auth_mount)
    pod.cluster.call("POST", f"/api/v1/namespaces/{elsewhere.namespace}/serviceaccounts", {"metadata": {"name": "rotator"}})
    pod.lay(elsewhere.request())
    with pytest.raises(Refused, match="signing in by kubernetes"):
        pod.open(clock).read(PATH)


def test_a_projected_token_that_was_replaced_is_read_at_the_next_login(pod: Pod, clock: FakeClock) -> None:
    first = pod.lay(pod.request(bound_to="first"))
    store, key = pod.open(clock), a_key()
    hold_current(store, PATH, key)
    token = store._adapter._get_token()
    pod.cluster.call("DELETE", f"/api/v1/namespaces/{pod.namespace}/secrets/first")
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    wait_until(lambda: pod.cluster.ask("POST", path, {}, first).status_code == 401, every=0.3, what="the first token's end")
    assert store.read(PATH).current == key.key_id  # what was signed in lives on
    pod.server.revoke(token)
    with pytest.raises(Refused, match="signing in by kubernetes"):
        store.read(PATH)
    pod.lay(pod.request())
    assert store.read(PATH).current == key.key_id
    assert store._adapter._get_token() != token


def test_a_token_of_vault_s_is_renewed_without_the_pod_s(pod: Pod, clock: FakeClock) -> None:
    pod.lay(pod.request())
    store, key = pod.open(clock), a_key()
    hold_current(store, PATH, key)
    token = store._adapter._get_token()
    pod.file.unlink()
    clock.advance(timedelta(seconds=60))
    assert store._adapter._get_token() == token
    pod.server.revoke(token)
    with pytest.raises(Misconfigured, match=r"stores\.vault\.auth\.jwt_file: .*/token cannot be read"):
        store.read(PATH)


def test_a_vault_that_cannot_ask_the_cluster_says_nothing_of_the_token(pod: Pod, clock: FakeClock) -> None:
    token = pod.lay(pod.request())
    body = {"kubernetes_host": "https://127.0.0.1:9", "disable_local_ca_jwt": True}
    pod.server.call("POST", f"auth/{pod.auth_mount}/config", {**body, "kubernetes_ca_cert": pod.cluster.ca_file.read_text()})
    with pytest.raises((Refused, Unreachable), match="signing in by kubernetes") as told:
        pod.open(clock).read(PATH)
    assert token not in str(told.value)
