"""The chart installed into a real cluster, and the daemon run as its pod would be: its configuration, its account, RBAC enforced."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization

from rotator.domain.keys import KeyId
from tests.support.charts import CHART, FORMER, Helm
from tests.support.daemon import DaemonProcess, wait_until
from tests.support.kubernetes import Cluster
from tests.support.releases import InstalledSite, Release, find_key_in, running_pod
from tests.support.sandbox import SandboxProcess
from tests.support.servers import KUBERNETES, find_free_ports, get_program
from tests.support.vault import VaultServer, start_dev_vault

MINIMAL = CHART / "scenarios" / "minimal.yaml"
NAME = "millimetric"
QUICK = {"catch_up": "1s", "recheck": "1s", "lease": "5s", "attempt_base": "1s", "step_base": "1s"}
POLICY = """
path "secret/data/millimetric/*" { capabilities = ["create", "patch", "read", "update"] }
path "secret/metadata/millimetric/*" { capabilities = ["read"] }
path "secret/data/rotator/millimetric/*" { capabilities = ["create", "read", "update"] }
"""


@pytest.fixture
def release(helm: Helm, cluster: Cluster, tmp_path: Path) -> Release:
    return Release(helm, cluster, tmp_path, (MINIMAL,))


@pytest.fixture
def one_release(one_helm: Helm, cluster: Cluster, tmp_path: Path) -> Release:
    """With values of its own."""
    return Release(one_helm, cluster, tmp_path)


@pytest.fixture
def vault(cluster: Cluster) -> Iterator[VaultServer]:
    """A Vault that knows the cluster's service accounts by their signature."""
    with start_dev_vault() as server:
        server.call("PUT", "sys/policies/acl/rotator", {"policy": POLICY})
        # The method of Vault's own that this build has takes the same request as its Kubernetes method.
        server.call("POST", "sys/auth/kubernetes", {"type": "jwt"})
        key = serialization.load_pem_private_key((cluster.folder / "accounts.pem").read_bytes(), None).public_key()
        public = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
        server.call("POST", "auth/kubernetes/config", {"jwt_validation_pubkeys": [public]})
        yield server


def allow(vault: VaultServer, release: Release) -> None:
    """Let the release's service account sign in, and no other."""
    role = {
        "role_type": "jwt",
        "user_claim": "sub",
        "bound_subject": f"system:serviceaccount:{release.namespace}:rotator",
        "bound_audiences": ["https://kubernetes.default.svc"],
        "token_policies": ["rotator"],
    }
    vault.call("POST", "auth/kubernetes/role/rotator", role)


def adapt(sandbox: SandboxProcess, place: str, **config: Any) -> dict[str, Any]:
    """What must differ from the documented minimal values, for these servers and this machine's ports."""
    api, metrics = find_free_ports(2)
    usual = {
        "millimetric": {"endpoint": sandbox.url, "trusted_endpoints": [sandbox.url], "cache_time": "2s"},
        "engine": QUICK,
        "server": {"port": api},
        "metrics": {"port": metrics},
        "targets": {"checkout": {"namespaces": [place]}},
    }
    return {"config": {**usual, **config}}


def adapt_alone(sandbox: SandboxProcess, place: str, **targets: Any) -> dict[str, Any]:
    """The minimal values without a Vault, and with an issuer that mints."""
    auth = {"type": "bearer", "token_file": str(sandbox.token_file)}
    values = adapt(sandbox, place, issuers={"admin": {"type": "http", "base_url": sandbox.url, "auth": auth}})
    documented = yaml.safe_load(MINIMAL.read_text())["config"]
    credential = {**documented["credentials"]["checkout-read"], "store": "embedded", "issuer": "admin"}
    target = {**documented["targets"]["checkout"], "namespaces": [place], **targets}
    values["config"] |= {"installation": "alone", "targets": {"checkout": target}, "credentials": {"checkout-read": credential}}
    return values


def build_site(release: Release, sandbox: SandboxProcess) -> InstalledSite:
    return release.build_site(sandbox.url, sandbox.token_file.read_text().strip())


def run_hook(release: Release, url: str) -> subprocess.CompletedProcess[str]:
    """What `helm test` runs in the image, with another address."""
    (pod,) = [one for one in release.helm.render() if one["kind"] == "Pod"]
    program, *arguments, _ = pod["spec"]["containers"][0]["command"]
    assert program == "python"
    return subprocess.run([sys.executable, *arguments, f"{url}/readyz"], capture_output=True, text=True, timeout=30, check=False)


def wait_first(daemon: DaemonProcess, cluster: Cluster, place: str) -> KeyId:
    """The first key, once it is in the Secret and its rotation is over: one that is asked for before is the same."""
    status = daemon.wait_for("checkout-read", lambda status: status["phase"] == "idle" and status["generation"] == 1)
    key = find_key_in(cluster, place, NAME)
    assert str(key) == status["key_id"]
    assert key is not None
    return key


def rotate(site: InstalledSite, cluster: Cluster, place: str) -> KeyId:
    """Rotate on demand; the key in the Secret, which is another than before."""
    before = find_key_in(cluster, place, NAME)
    done = site.run("rotate", "checkout-read", "--wait")
    assert done.returncode == 0, done.stderr
    after = find_key_in(cluster, place, NAME)
    assert after is not None
    assert after != before, "a new key"
    return after


def test_install_upgrade_roll_back_uninstall(release: Release, cluster: Cluster, vault: VaultServer, sandbox: SandboxProcess) -> None:
    place = cluster.namespace()
    store = {"vault": {"address": vault.address, "auth": {"jwt_file": str(release.token_file)}}}
    values = adapt(sandbox, place, stores=store)
    allow(vault, release)
    notes = release.install(values, FORMER).partition("NOTES:")[2]
    assert "exec statefulset/rotator -- rotator check --live\n" in notes
    assert f"kubectl --namespace {release.namespace} exec statefulset/rotator -- rotator status\n" in notes
    site = build_site(release, sandbox)
    with running_pod(site) as daemon:
        assert run_hook(release, daemon.url).returncode == 0
        spares = "\n".join(sandbox.control.mint().reveal() for _ in range(4))
        assert site.run("pool", "add", "spares", stdin=spares).returncode == 0
        wait_first(daemon, cluster, place)
        rotate(site, cluster, place)
    assert run_hook(release, daemon.url).returncode == 1, "nobody answers any more"

    before = release.get("statefulsets", "apis/apps/v1")
    release.upgrade(values)
    after = release.get("statefulsets", "apis/apps/v1")
    assert before["metadata"]["labels"]["helm.sh/chart"] != after["metadata"]["labels"]["helm.sh/chart"]
    site = build_site(release, sandbox)
    report = json.loads(site.run("check", "--live", "--json").stdout)
    assert report["ok"], report
    with running_pod(site):
        rotate(site, cluster, place)

    release.rollback(1)
    site = build_site(release, sandbox)
    with running_pod(site) as daemon:
        last = rotate(site, cluster, place)
        assert daemon.status("checkout-read")["key_id"] == str(last)

    release.uninstall()
    assert find_key_in(cluster, place, NAME) == last, "the Secret is the consumers'"
    assert cluster.ask("GET", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place}/roles/rotator-checkout").status_code == 404
    assert cluster.ask("GET", f"/api/v1/namespaces/{release.namespace}/configmaps/rotator").status_code == 404


def test_a_permission_taken_away(one_release: Release, cluster: Cluster, sandbox: SandboxProcess) -> None:
    release, place = one_release, cluster.namespace()
    release.install(adapt_alone(sandbox, place))
    site = build_site(release, sandbox)
    checked = site.run("check", "--live")
    assert checked.returncode == 0, checked.stdout + checked.stderr

    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{place}/roles"
    role = cluster.call("GET", f"{roles}/rotator-checkout")
    cluster.call("DELETE", f"{roles}/rotator-checkout")
    wait_until(lambda: site.run("check", "--live").returncode == 1, what="the authorizer's notice")
    told = site.run("check", "--live", "--json").stdout
    (line,) = [one for one in json.loads(told)["lines"] if one["part"] == "target checkout (checkout-read)"]
    assert line["text"].startswith("not allowed: "), line
    for verb in ("get", "create", "patch", "list", "watch"):
        assert f"{verb} secrets/{NAME} in namespace {place}" in line["text"]
    assert f"patch deployments in namespace {place}" in line["text"]
    assert site.run("run", "--once").returncode != 0
    assert sandbox.control.list() == [], "nothing is minted that can't be put anywhere"
    assert find_key_in(cluster, place, NAME) is None

    kubectl = str(get_program(KUBERNETES, "kubectl"))
    environ = {"HOME": str(release.folder), "PATH": "", "KUBECONFIG": str(release.helm.kubeconfig)}
    subprocess.run([kubectl, "apply", "-f", "-"], input=line["policy"], text=True, check=True, capture_output=True, env=environ)
    assert cluster.call("GET", f"{roles}/rotator-checkout")["rules"] == role["rules"], "what is printed is what the chart makes"
    wait_until(lambda: site.run("check", "--live").returncode == 0, what="the authorizer's notice")
    done = site.run("run", "--once")
    assert done.returncode == 0, done.stderr
    assert find_key_in(cluster, place, NAME) is not None
    assert len(sandbox.control.list()) == 1


def test_workloads_are_restarted_before_the_old_key_dies(one_release: Release, cluster: Cluster, sandbox: SandboxProcess) -> None:
    place = cluster.namespace()
    values = adapt_alone(sandbox, place)
    credential = values["config"]["credentials"]["checkout-read"]
    credential |= {"rotation": {"overlap": {"min": "1s", "max": "60s"}}, "targets": [{"name": "checkout", "settle": "0s"}]}
    one_release.install(values)
    site = build_site(one_release, sandbox)
    with running_pod(site) as daemon:
        first = wait_first(daemon, cluster, place)
        spec = {"containers": [{"name": "web", "image": "web", "envFrom": [{"secretRef": {"name": NAME}}]}]}
        web = cluster.workload(place, "web", spec)
        cluster.wait_ready(web)
        before = {pod["metadata"]["uid"] for pod in cluster.pods(place, "web")}
        second = rotate(site, cluster, place)
        assert str(second) in cluster.call("GET", web)["spec"]["template"]["metadata"]["annotations"].values()
        wait_until(lambda: sandbox.control.key(first)["revoked_at"], what="the end of the old key")
        assert not before & {pod["metadata"]["uid"] for pod in cluster.pods(place, "web")}, "no pod of before was left"


def test_a_namespace_that_comes_later(one_release: Release, cluster: Cluster, sandbox: SandboxProcess) -> None:
    """Selector mode, with the rights of its ClusterRole."""
    release, label = one_release, f"team-{cluster.namespace()}"
    release.install(adapt_alone(sandbox, "", namespaces={"selector": f"millimetric={label}"}))
    place = cluster.namespace(millimetric=label)
    site = build_site(release, sandbox)
    assert site.run("check", "--live").returncode == 0
    done = site.run("run", "--once")
    assert done.returncode == 0, done.stderr
    assert find_key_in(cluster, place, NAME) is not None
    release.uninstall()
    assert cluster.ask("GET", f"/apis/rbac.authorization.k8s.io/v1/clusterroles/{release.namespace}-rotator-checkout").status_code == 404
