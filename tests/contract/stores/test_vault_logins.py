"""Ways to sign in to a real server: tokens are renewed in time, got anew once when they are refused, and stand in no message."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from structlog.testing import capture_logs

from rotator.domain.errors import Misconfigured, Refused
from rotator.stores.surroundings import Surroundings
from rotator.stores.vault import VaultStoreConfig
from rotator.stores.vault.store import VaultStore
from tests.contract.stores import vaults
from tests.contract.stores.build import a_key, hold_current
from tests.support.fakes import FakeClock
from tests.support.vault import VaultServer

PATH = "millimetric/checkout-read"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server() -> VaultServer:
    return vaults.get_server()


@pytest.fixture
def mount(server: VaultServer) -> str:
    return server.mount()


@pytest.fixture
def policy(server: VaultServer, mount: str, tmp_path: Path) -> str:
    root = vaults.open_store_at(vaults.lay_place(tmp_path / "root", server, mount=mount))
    name = f"rotator-{secrets.token_hex(4)}"
    server.call("PUT", f"sys/policies/acl/{name}", {"policy": root.find_access(PATH, writes=True).policy})
    return name


def _open(address: str, mount: str, clock: FakeClock, auth: dict[str, Any]) -> VaultStore:
    config = VaultStoreConfig.model_validate({"type": "vault", "address": address, "mount": mount, "auth": auth})
    return config.build(Path("/nowhere"), Surroundings("vault", clock))


def _lay(path: Path, text: str) -> str:
    path.touch(0o600)
    path.write_text(text + "\n")
    return str(path)


class Role:
    """An AppRole of its own."""

    def __init__(self, server: VaultServer, folder: Path, policy: str, **settings: Any) -> None:
        self.server, self.folder = server, folder
        self.method = f"approle-{secrets.token_hex(4)}"
        server.call("POST", f"sys/auth/{self.method}", {"type": "approle"})
        settings = {"token_policies": [policy], "token_no_default_policy": True, **settings}
        server.call("POST", f"auth/{self.method}/role/rotator", settings)
        self.role_id = server.call("GET", f"auth/{self.method}/role/rotator/role-id")["data"]["role_id"]
        self.file = folder / "secret-id"

    def lay_secret_id(self) -> str:
        said = self.server.call("POST", f"auth/{self.method}/role/rotator/secret-id")
        return _lay(self.file, said["data"]["secret_id"])

    def lay_wrapped(self) -> str:
        headers = {"X_Vault_Wrap_TTL": "60s"}
        said = self.server.call("POST", f"auth/{self.method}/role/rotator/secret-id", **headers)
        return _lay(self.file, said["wrap_info"]["token"])

    def auth(self, **more: Any) -> dict[str, Any]:
        return {"type": "approle", "role_id": self.role_id, "secret_id_file": str(self.file), "mount": self.method, **more}


def test_approle_signs_in_once_and_again_when_the_token_is_revoked(
    server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path
) -> None:
    role = Role(server, tmp_path, policy)
    role.lay_secret_id()
    store = _open(server.address, mount, clock, role.auth())
    key = a_key()
    hold_current(store, PATH, key)
    first = store._adapter._get_token()
    assert store._adapter._get_token() == first
    server.revoke(first)
    assert store.read(PATH).current == key.key_id
    assert store._adapter._get_token() != first


def test_threads_that_are_refused_together_sign_in_once(
    server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path
) -> None:
    role = Role(server, tmp_path, policy, secret_id_num_uses=0)
    role.lay_secret_id()
    store = _open(server.address, mount, clock, role.auth())
    key = a_key()
    hold_current(store, PATH, key)
    server.revoke(store._adapter._get_token())
    barrier = threading.Barrier(6)

    def read() -> object:
        barrier.wait(60)
        return store.read(PATH).current

    with ThreadPoolExecutor(6) as threads:
        assert {future.result(90) for future in [threads.submit(read) for _ in range(6)]} == {key.key_id}
    accessors = [
        server.call("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]["path"]
        for accessor in server.call("LIST", "auth/token/accessors")["data"]["keys"]
    ]
    assert accessors.count(f"auth/{role.method}/login") == 1


def test_what_is_forbidden_is_not_asked_twice(server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path) -> None:
    role = Role(server, tmp_path, policy)
    role.lay_secret_id()
    store = _open(server.address, mount, clock, role.auth())
    hold_current(store, PATH, a_key())
    token = store._adapter._get_token()
    with pytest.raises(Refused, match="our token lacks `read` on"):
        store.read("elsewhere")
    assert store._adapter._get_token() == token


def test_a_token_is_renewed_at_half_of_its_life_and_replaced_near_the_end_of_all(
    server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path
) -> None:
    role = Role(server, tmp_path, policy, token_ttl="100s", token_max_ttl="120s")
    role.lay_secret_id()
    store = _open(server.address, mount, clock, role.auth())
    first = store._adapter._get_token()
    server.call("POST", "auth/token/renew", {"token": first, "increment": "10s"})
    clock.advance(timedelta(seconds=49))
    assert store._adapter._get_token() == first
    assert server.call("GET", "auth/token/lookup-self", token=first)["data"]["ttl"] <= 10
    clock.advance(timedelta(seconds=2))
    assert store._adapter._get_token() == first
    assert server.call("GET", "auth/token/lookup-self", token=first)["data"]["ttl"] > 90
    # From here on a renewal gives less than half: the server's clock is made to agree with ours by a shorter life of the role.
    server.call("POST", f"auth/{role.method}/role/rotator", {"token_max_ttl": "5s", "token_ttl": "5s"})
    clock.advance(timedelta(seconds=51))
    second = store._adapter._get_token()
    assert second != first


def test_a_token_that_cannot_be_renewed_is_replaced_in_time(
    server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path
) -> None:
    role = Role(server, tmp_path, policy, token_ttl="100s", token_type="batch")
    role.lay_secret_id()
    store = _open(server.address, mount, clock, role.auth())
    first = store._adapter._get_token()
    clock.advance(timedelta(seconds=60))
    assert store._adapter._get_token() == first
    clock.advance(timedelta(seconds=10))
    assert store._adapter._get_token() != first


def test_a_living_token_is_used_while_the_server_is_away(
    server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path
) -> None:
    role = Role(server, tmp_path, policy, token_ttl="100s")
    role.lay_secret_id()
    store = _open(server.address, mount, clock, role.auth())
    first = store._adapter._get_token()
    store._adapter._remote.base_url = "http://127.0.0.1:9"
    clock.advance(timedelta(seconds=60))
    assert store._adapter._get_token() == first


def test_a_living_token_is_used_to_its_end_where_no_new_one_can_be_had(
    server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path
) -> None:
    role = Role(server, tmp_path, policy, token_ttl="100s", token_type="batch")
    role.lay_secret_id()
    store = _open(server.address, mount, clock, role.auth())
    first = store._adapter._get_token()
    role.file.unlink()
    with capture_logs() as logs:
        for _ in range(3):
            clock.advance(timedelta(seconds=31))
            assert store._adapter._get_token() == first
            assert store._adapter._get_token() == first
    assert [str(role.file) in line["problem"] for line in logs if line["log_level"] == "warning"] == [True]
    clock.advance(timedelta(seconds=10))
    with pytest.raises(Misconfigured, match="secret_id_file"):
        store._adapter._get_token()


def test_a_wrapped_secret_id_is_unwrapped_once(server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path) -> None:
    role = Role(server, tmp_path, policy)
    role.lay_wrapped()
    store = _open(server.address, mount, clock, role.auth(wrapped=True))
    key = a_key()
    hold_current(store, PATH, key)
    server.revoke(store._adapter._get_token())
    assert store.read(PATH).current == key.key_id
    again = _open(server.address, mount, clock, role.auth(wrapped=True))
    with pytest.raises(Misconfigured, match=r"used up or expired.*somebody else has unwrapped it.*Put a new wrapping token there") as told:
        again.read(PATH)
    assert role.file.read_text().strip() not in str(told.value)
    role.lay_wrapped()
    assert again.read(PATH).current == key.key_id


def test_a_secret_id_that_is_wrong_is_refused_in_words(
    server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path
) -> None:
    role = Role(server, tmp_path, policy)
    secret_id = _lay(role.file, "wrong-secret-id") and "wrong-secret-id"
    with pytest.raises(Refused, match=r"refused signing in by approle \(400\): check role, ids") as told:
        _open(server.address, mount, clock, role.auth()).read(PATH)
    assert secret_id not in str(told.value)
    role.file.chmod(0o644)
    with pytest.raises(Misconfigured, match="can be read by everybody"):
        _open(server.address, mount, clock, role.auth()).read(PATH)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _sign(key: ec.EllipticCurvePrivateKey, claims: dict[str, Any]) -> str:
    text = ".".join(_b64(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT"}, claims))
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def test_a_signed_token_is_read_at_each_login(server: VaultServer, mount: str, policy: str, clock: FakeClock, tmp_path: Path) -> None:
    signing, method, now = ec.generate_private_key(ec.SECP256R1()), f"jwt-{secrets.token_hex(4)}", int(datetime.now(UTC).timestamp())
    public = signing.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    server.call("POST", f"sys/auth/{method}", {"type": "jwt"})
    server.call("POST", f"auth/{method}/config", {"jwt_validation_pubkeys": [public]})
    role = {"role_type": "jwt", "user_claim": "sub", "bound_audiences": ["vault"], "token_policies": [policy]}
    server.call("POST", f"auth/{method}/role/rotator", role)
    claims = {"sub": "rotator", "aud": "vault", "iat": now, "nbf": now - 5, "exp": now + 600}
    file = tmp_path / "jwt"
    _lay(file, _sign(signing, claims))
    file.chmod(0o644)
    store = _open(server.address, mount, clock, {"type": "jwt", "role": "rotator", "jwt_file": str(file), "mount": method})
    key = a_key()
    assert hold_current(store, PATH, key).current == key.key_id
    server.revoke(store._adapter._get_token())
    _lay(file, _sign(signing, {**claims, "aud": "another"}))
    with pytest.raises(Refused, match="signing in by jwt") as told:
        store.read(PATH)
    assert file.read_text().strip() not in str(told.value)
    _lay(file, _sign(signing, claims))
    assert store.read(PATH).current == key.key_id


def test_a_pod_s_service_account_signs_in_within_a_namespace_of_vault_s(tmp_path: Path, clock: FakeClock) -> None:
    """Which only Vault Enterprise has; without one, a real Vault is signed in to in test_vault_kubernetes.py."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.headers["X-Vault-Namespace"]))
            body = json.dumps({"auth": {"client_token": "token-of-the-pod", "lease_duration": 3600, "renewable": True}}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    jwt = _lay(tmp_path / "sa", "header.claims.signature")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            auth = {"type": "kubernetes", "role": "rotator", "jwt_file": jwt, "mount": "clusters/one"}
            config = VaultStoreConfig.model_validate(
                {"type": "vault", "address": f"http://127.0.0.1:{http.server_address[1]}", "auth": auth, "namespace": "platform/team"}
            )
            store = config.build(tmp_path, Surroundings("vault", clock))
            assert store._adapter._get_token() == "token-of-the-pod"
        finally:
            http.shutdown()
            thread.join()
    assert asked == [("/v1/auth/clusters/one/login", {"role": "rotator", "jwt": "header.claims.signature"}, "platform/team")]


def test_a_token_file_is_read_at_each_use(server: VaultServer, mount: str, clock: FakeClock, tmp_path: Path) -> None:
    first, second = (server.token(f'path "{mount}/*" {{ capabilities = ["create", "read", "update", "patch"] }}') for _ in range(2))
    file = _lay(tmp_path / "token", first)
    store = _open(server.address, mount, clock, {"type": "token-file", "token_file": file})
    key = a_key()
    hold_current(store, PATH, key)
    server.revoke(first)
    with pytest.raises(Refused, match=r"does not know our token \(any more\): the file .*token holds no living one.*Vault Agent") as told:
        store.read(PATH)
    assert first not in str(told.value)
    _lay(tmp_path / "token", second)
    assert store.read(PATH).current == key.key_id


def test_a_token_of_the_environment_is_renewed_and_missed_in_words(
    server: VaultServer, mount: str, policy: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"policies": [policy], "no_default_policy": True, "ttl": "100s"}
    token = server.call("POST", "auth/token/create", body)["auth"]["client_token"]
    monkeypatch.setenv("TOKEN_OF_OURS", token)
    store = _open(server.address, mount, clock, {"type": "token", "token_env": "TOKEN_OF_OURS"})
    key = a_key()
    hold_current(store, PATH, key)
    for _ in range(3):
        server.call("POST", "auth/token/renew", {"token": token, "increment": "10s"})
        clock.advance(timedelta(seconds=55))
        assert store.read(PATH).current == key.key_id
        assert server.call("GET", "auth/token/lookup-self", token=token)["data"]["ttl"] > 10
    server.revoke(token)
    with pytest.raises(Refused, match="put a living one into the environment variable TOKEN_OF_OURS and start anew") as told:
        store.read(PATH)
    assert token not in str(told.value)
    assert token not in f"{store!r} {store._adapter!r} {store.__dict__!r}"


def test_a_token_never_stands_in_the_configuration() -> None:
    with pytest.raises(ValueError, match="token"):
        VaultStoreConfig.model_validate({"type": "vault", "address": "https://vault.example", "auth": {"type": "token", "token": "hush"}})
