"""What tests of the ways to a cluster share: targets over kubeconfigs of all sorts, service accounts, certificates of the tests' own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rotator.domain.errors import RotatorError
from rotator.domain.ports import Target
from rotator.targets.kubernetes import KubernetesTargetConfig
from tests.contract.targets.kinds import SecretPlace, a_delivery, a_secret, surround
from tests.support.daemon import wait_until

RULES = ({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "patch"]},)


def build(spot: SecretPlace, kubeconfig: Path | None, **settings: Any) -> Target:
    usual = {"type": "kubernetes", "kubeconfig": kubeconfig, "namespaces": [spot.namespace], "name": spot.name, "restart": "none"}
    return KubernetesTargetConfig.model_validate({**usual, **settings}).build(surround(spot.folder))


def work(spot: SecretPlace, target: Target) -> None:
    """The whole way of a key."""
    secret = a_secret()
    before = target.observe("checkout")
    target.deliver(a_delivery(secret, (before.generation or 0) + 1), before)
    assert target.observe("checkout").key_id == secret.key_id
    assert spot.read() == secret.reveal()


def account(spot: SecretPlace, name: str = "rotator") -> str:
    """A ServiceAccount that may do what the target needs; its name."""
    spot.cluster.call("POST", f"/api/v1/namespaces/{spot.namespace}/serviceaccounts", {"metadata": {"name": name}})
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{spot.namespace}"
    spot.cluster.call("POST", f"{base}/roles", {"metadata": {"name": name}, "rules": list(RULES)})
    binding = {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": spot.namespace}],
    }
    spot.cluster.call("POST", f"{base}/rolebindings", binding)
    return name


def request_token(spot: SecretPlace, name: str = "rotator", bound_to: str = "") -> str:
    """A token of a ServiceAccount, good for as long as the Secret it is bound to is there."""
    spec: dict[str, Any] = {"expirationSeconds": 600}
    if bound_to:
        path = f"/api/v1/namespaces/{spot.namespace}/secrets"
        made = spot.cluster.call("POST", path, {"metadata": {"name": bound_to}})
        spec["boundObjectRef"] = {"kind": "Secret", "apiVersion": "v1", "name": bound_to, "uid": made["metadata"]["uid"]}
    path = f"/api/v1/namespaces/{spot.namespace}/serviceaccounts/{name}/token"
    return str(spot.cluster.call("POST", path, {"spec": spec})["status"]["token"])


def end_token(spot: SecretPlace, bound_to: str, token: str) -> None:
    """Delete what the token is bound to, and wait until the API server, which remembers tokens for some seconds, refuses it."""
    spot.cluster.call("DELETE", f"/api/v1/namespaces/{spot.namespace}/secrets/{bound_to}")
    wait_until(lambda: spot.cluster.ask("GET", spot.path, token=token).status_code == 401, every=0.3, what="the token's end")


def lay(file: Path, text: str) -> Path:
    """Replace a file whole, as the kubelet does."""
    fresh = file.with_name(f"{file.name}.new")
    fresh.touch(0o600)
    fresh.write_text(text)
    return fresh.replace(file)


def a_kubeconfig(spot: SecretPlace, user: dict[str, Any], name: str = "ways", server: str | None = None, **cluster: Any) -> Path:
    file = spot.cluster.kubeconfig(spot.folder / f"{name}.kubeconfig", "", server, user=user)
    document = yaml.safe_load(file.read_text())
    settings = {**document["clusters"][0]["cluster"], **cluster}
    document["clusters"][0]["cluster"] = {name: value for name, value in settings.items() if value is not None}
    return lay(file, yaml.safe_dump(document))


def works(target: Target) -> bool:
    try:
        target.observe("checkout")
    except RotatorError:
        return False
    return True


def ensure_silent(problem: BaseException, *words: str) -> None:
    """Neither the message nor what hangs on it holds them."""
    told: BaseException | None = problem
    while told is not None:
        text = f"{told!r} {vars(told)}"
        for word in words:
            assert word not in text
        told = told.__cause__ or (None if told.__suppress_context__ else told.__context__)


def a_certificate(name: str = "nobody", ca: Path | None = None) -> tuple[str, str]:
    """A certificate and its key, as PEM: signed by the authority in that folder (`clients.crt`, `clients.key`), or by itself."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = key
    if ca is not None:
        loaded = serialization.load_pem_private_key((ca / "clients.key").read_bytes(), None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        issuer, signer = x509.load_pem_x509_certificate((ca / "clients.crt").read_bytes()).subject, loaded
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.public_bytes(serialization.Encoding.PEM).decode(), private.decode()
