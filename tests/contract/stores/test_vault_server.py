"""A server that is sealed, killed or not what it should be: told apart, each with what to do; and what stays through it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from rotator.domain.errors import AnswerLost, Conflict, Misconfigured, RateLimited, Refused, RotatorError, Unreachable
from rotator.domain.ports import Holding
from rotator.domain.record import Promote, StageKey
from rotator.stores.surroundings import Surroundings
from rotator.stores.vault import VaultStoreConfig
from rotator.stores.vault.store import VaultStore
from tests.contract.stores import vaults
from tests.contract.stores.build import a_key, a_note, an_entry, an_opening, at, commit_all, hold_current
from tests.support.fakes import FakeClock
from tests.support.vault import VaultServer, start_raft_vault

PATH = "millimetric/checkout-read"


@pytest.fixture(scope="module")
def raft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VaultServer]:
    with start_raft_vault(tmp_path_factory.mktemp("raft")) as server:
        yield server


@pytest.fixture
def on_disk(raft: VaultServer, tmp_path: Path) -> VaultStore:
    return vaults.open_store_at(vaults.lay_place(tmp_path / "place", raft, mount=raft.mount()))


@pytest.fixture
def store(tmp_path: Path) -> VaultStore:
    return vaults.open_vault(tmp_path / "place")


def test_a_server_that_is_killed_in_mid_rotation_takes_nothing_with_it(raft: VaultServer, on_disk: VaultStore) -> None:
    old, new, opening = a_key(), a_key(), an_opening()
    hold_current(on_disk, PATH, old)
    seen = commit_all(on_disk, PATH, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    raft.kill()
    with pytest.raises(Unreachable, match=r"vault cannot be reached for read .*nothing was sent"):
        on_disk.commit(PATH, seen, Promote(new.key_id, old.key_id, at(3)))
    raft.start()
    with pytest.raises(Unreachable, match=r"vault is sealed: unseal it .*goes on by itself then"):
        on_disk.read(PATH)
    raft.unseal()
    assert on_disk.read(PATH) == seen
    assert on_disk.commit(PATH, seen, Promote(new.key_id, old.key_id, at(3))).current == new.key_id


def test_a_server_that_is_sealed_changes_nothing(raft: VaultServer, on_disk: VaultStore) -> None:
    seen = hold_current(on_disk, PATH, a_key())
    raft.seal()
    try:
        for ask in (on_disk.read, on_disk.check, lambda p: on_disk.commit(p, seen, a_note("one", 1)), lambda p: on_disk.list_marks([p])):
            with pytest.raises(Unreachable, match="is sealed") as told:
                ask(PATH)
            assert not isinstance(told.value, AnswerLost)
        with pytest.raises(Unreachable, match="is sealed"):
            on_disk.find_access(PATH, writes=True)
    finally:
        raft.unseal()
    assert on_disk.read(PATH) == seen


def test_a_token_that_was_first_used_while_the_server_was_sealed_is_renewed_later(
    raft: VaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = raft.call("POST", "auth/token/create", {"policies": ["root"], "ttl": "100s"})["auth"]["client_token"]
    monkeypatch.setenv("TOKEN_OF_OURS", made)
    clock, auth = FakeClock(), {"type": "token", "token_env": "TOKEN_OF_OURS"}
    config = VaultStoreConfig.model_validate({"type": "vault", "address": raft.address, "mount": raft.mount(), "auth": auth})
    store = config.build(tmp_path, Surroundings("vault", clock))
    raft.seal()
    try:
        with pytest.raises(Unreachable, match="is sealed"):
            store.read(PATH)
    finally:
        raft.unseal()
    store.read(PATH)
    raft.call("POST", "auth/token/renew", {"token": made, "increment": "10s"})
    clock.advance(timedelta(seconds=55))
    store.read(PATH)
    assert raft.call("GET", "auth/token/lookup-self", token=made)["data"]["ttl"] > 10


def test_a_document_that_is_deleted_in_the_middle_of_a_promotion_is_looked_at_again(
    store: VaultStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, opening = a_key(), a_key(), an_opening()
    hold_current(store, PATH, old)
    seen = commit_all(store, PATH, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    real = store._adapter.request

    def request(method: str, url: str, **given: Any) -> Any:
        if method == "PATCH":
            real("DELETE", url)
        return real(method, url, **given)

    monkeypatch.setattr(store._adapter, "request", request)
    with pytest.raises(Conflict, match="someone else deleted it"):
        store.commit(PATH, seen, Promote(new.key_id, old.key_id, at(3)))
    after = store.read(PATH)
    assert after.current is None
    assert after.record is not None
    assert {old.key_id, new.key_id} <= after.record.key_ids


def test_a_look_in_the_middle_of_a_promotion_is_whole(store: VaultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two documents are read one after the other; what comes between is neither an outsider's key nor one from nowhere."""
    other, old, new, opening = vaults.open_vault(tmp_path / "place"), a_key(), a_key(), an_opening()
    hold_current(store, PATH, old)
    commit_all(store, PATH, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    real, promoted = store._read, []

    def read(path: str) -> object:
        document = real(path)
        if not promoted:
            promoted.append(commit_all(other, PATH, Promote(new.key_id, old.key_id, at(3))))
        return document

    monkeypatch.setattr(store, "_read", read)
    assert [store.read(PATH)] == promoted


def test_a_mount_of_version_1_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    server = vaults.get_server()
    mount = server.mount("1")
    store = vaults.open_store_at(vaults.lay_place(tmp_path / "place", server, mount=mount))
    for ask in (store.read, store.check, lambda p: store.commit(p, Holding("0|0"), an_opening()), lambda p: store.list_marks([p])):
        with pytest.raises(Misconfigured, match=rf"{mount} is kv of version 1, not KV version 2: .*vault kv enable-versioning {mount}"):
            ask(PATH)
    assert server.ask("LIST", f"{mount}/").status_code == 404


def test_a_mount_that_is_not_there_is_named(tmp_path: Path) -> None:
    store = vaults.open_store_at(vaults.lay_place(tmp_path / "place", vaults.get_server(), mount="nothing/here"))
    with pytest.raises(Refused, match="nothing is mounted at nothing/here, or our token may do nothing there"):
        store.read(PATH)


def test_a_mount_that_goes_away_is_named(store: VaultStore) -> None:
    seen = hold_current(store, PATH, a_key())
    vaults.get_server().call("DELETE", f"sys/mounts/{store._mount}")
    with pytest.raises(Misconfigured, match="has nothing mounted there"):
        store.commit(PATH, seen, a_note("one", 1))


def test_a_mount_that_deletes_by_itself_is_refused_before_a_key_is_minted(store: VaultStore) -> None:
    server, where = vaults.get_server(), f"{store._mount}/metadata/rotator/{PATH}"
    server.call("POST", where, {"delete_version_after": "1h"})
    commit_all(store, PATH, an_opening())
    with pytest.raises(Refused, match=r"deletes the versions of .*/rotator/.*delete_version_after"):
        store.check(PATH)


def test_one_version_is_enough(store: VaultStore) -> None:
    server = vaults.get_server()
    for path in (PATH, f"rotator/{PATH}"):
        server.call("POST", f"{store._mount}/metadata/{path}", {"max_versions": 1, "custom_metadata": {"owner": "checkout"}})
    old, new = a_key(), a_key()
    hold_current(store, PATH, old)
    holding = hold_current(store, PATH, new)
    assert store.read(PATH) == holding
    assert holding.secrets[old.key_id].same_as(old)
    said = server.call("GET", f"{store._mount}/metadata/{PATH}")["data"]
    assert (said["max_versions"], said["custom_metadata"], list(said["versions"])) == (1, {"owner": "checkout"}, ["2"])
    outside = a_key()
    server.put(store._mount, PATH, {"api_key": outside.reveal()})
    assert set(store.read(PATH).secrets) == {old.key_id, new.key_id, outside.key_id}


def test_destroyed_versions_and_a_path_begun_anew(store: VaultStore) -> None:
    server, key = vaults.get_server(), a_key()
    before = hold_current(store, PATH, key)
    server.call("POST", f"{store._mount}/destroy/{PATH}", {"versions": [1]})
    assert (store.read(PATH).current, store.list_marks([PATH])) == (None, {})
    server.call("DELETE", f"{store._mount}/metadata/{PATH}")
    assert store.read(PATH).current is None
    server.put(store._mount, PATH, {"api_key": key.reveal()})
    again = store.read(PATH)
    assert (again.current, again.record) == (key.key_id, before.record)
    assert again.revision != before.revision
    with pytest.raises(Conflict):
        store.commit(PATH, before, a_note("one", 1))
    assert hold_current(store, PATH, a_key()) == store.read(PATH)


def test_the_key_s_field_and_the_sibling_s_place_are_the_user_s(tmp_path: Path) -> None:
    server, key = vaults.get_server(), a_key()
    mount = server.mount()
    place = vaults.lay_place(tmp_path / "place", server, mount=mount, key_field="größe.key", sibling="team/{path}/.lifecycle")
    store = vaults.open_store_at(place)
    server.put(mount, PATH, {"api_key": "not ours"})
    hold_current(store, PATH, key)
    assert server.get(mount, PATH) == {"api_key": "not ours", "größe.key": key.reveal()}
    assert set(server.get(mount, f"team/{PATH}/.lifecycle")) == {"record", "secrets", "announced"}
    assert vaults.open_store_at(place).read(PATH).current == key.key_id


def test_a_document_of_someone_else_s_in_the_sibling_s_place_is_left_alone(store: VaultStore) -> None:
    server = vaults.get_server()
    server.put(store._mount, f"rotator/{PATH}", {"theirs": "x"})
    with pytest.raises(Misconfigured, match="this is no lifecycle record of rotator's"):
        store.read(PATH)
    with pytest.raises(Misconfigured):
        store.commit(PATH, Holding("0|0"), an_opening())
    assert server.get(store._mount, f"rotator/{PATH}") == {"theirs": "x"}


def test_a_refused_connection_says_that_nothing_was_sent(store: VaultStore, tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = vaults.open_store_at(tmp_path / "place", address=f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Unreachable, match="nothing was sent"):
            away.read(PATH)


class _Canned(BaseHTTPRequestHandler):
    """Says to everything the same."""

    status, body, headers_out = 200, b"{}", ()

    def do(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        for name, value in (("Content-Type", "application/json"), *self.headers_out, ("Content-Length", str(len(self.body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST = do_PATCH = do  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("status", "errors", "kind", "says"),
    [
        (500, ["local node not active but active cluster node not found"], Unreachable, "is a standby and its cluster has no active node"),
        (503, ["Vault is sealed"], Unreachable, "is sealed: unseal it"),
        (503, ["Vault is not initialized"], Unreachable, "is not initialized"),
        (429, ["rate limit quota exceeded"], RateLimited, "asked to be left alone for 7 s"),
        (307, [], Unreachable, "sends .* to another address .307., which is not followed"),
        (400, ["Upgrading from non-versioned to versioned data. This backend will be unavailable"], Unreachable, "into version 2 of KV"),
        (400, ["missing client token"], Refused, "saw no token"),
        (502, ["secret detail of theirs"], Unreachable, r"failed at .* \(502\): see its log"),
    ],
)
def test_what_the_server_says_is_told_apart(tmp_path: Path, status: int, errors: list[str], kind: type[RotatorError], says: str) -> None:
    import json

    class Handler(_Canned):
        headers_out = (("Retry-After", "7"), ("Location", "http://elsewhere.example/")) if status in (429, 307) else ()

    Handler.status, Handler.body = status, json.dumps({"errors": errors}).encode()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            server = VaultServer(f"http://127.0.0.1:{http.server_address[1]}", "token-of-nobody")
            store = vaults.open_store_at(vaults.lay_place(tmp_path / "place", server))
            with pytest.raises(kind, match=says) as told:
                store.read(PATH)
        finally:
            http.shutdown()
            thread.join()
    assert "theirs" not in str(told.value)
    assert told.value.__cause__ is None
    assert told.value.__context__ is None or told.value.__suppress_context__
    if isinstance(told.value, RateLimited):
        assert told.value.after == timedelta(seconds=7)


def _certify(folder: Path, name: str, authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None) -> tuple[Path, Path]:
    """A certificate and key in PEM files, of its own authority or another's."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    import ipaddress

    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority[0].subject if authority else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    certificate = builder.sign(authority[1] if authority else key, hashes.SHA256())
    files = folder / f"{name}.pem", folder / f"{name}-key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return files


def _load(files: tuple[Path, Path]) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(files[1].read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(files[0].read_bytes()), key


def test_tls_is_verified_and_a_client_certificate_shown(tmp_path: Path) -> None:
    ca = _certify(tmp_path, "authority")
    server_cert, client_cert = _certify(tmp_path, "server", _load(ca)), _certify(tmp_path, "client", _load(ca))
    other_ca = _certify(tmp_path, "other")
    tls = (
        f'tls_cert_file = "{server_cert[0]}"\n  tls_key_file = "{server_cert[1]}"\n'
        f'  tls_client_ca_file = "{ca[0]}"\n  tls_require_and_verify_client_cert = true'
    )
    with start_raft_vault(tmp_path / "tls", tls, ca[0], client_cert) as server:
        place = vaults.lay_place(tmp_path / "place", server)
        shown = {"client_cert_file": str(client_cert[0]), "client_key_file": str(client_cert[1])}
        key = a_key()
        good = vaults.open_store_at(place, ca_file=str(ca[0]), **shown)
        assert hold_current(good, PATH, key).current == key.key_id
        for settings, says in (
            (shown, "its TLS certificate is not trusted here; name its authority's file as ca_file"),
            ({"ca_file": str(other_ca[0]), **shown}, "its TLS certificate is not trusted here"),
            ({"ca_file": str(ca[0])}, "wants a client certificate"),
        ):
            with pytest.raises(Unreachable, match=says):
                vaults.open_store_at(place, **settings).read(PATH)
    with pytest.raises(Misconfigured, match=r"client certificate .* cannot be used"):
        vaults.open_store_at(place, ca_file=str(ca[0]), client_cert_file=str(ca[0]), client_key_file=str(other_ca[1]))
