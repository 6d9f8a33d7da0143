"""Where the master key comes from, and what is refused."""

from __future__ import annotations

import os
import pickle
import stat
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from rotator.domain.errors import Misconfigured
from rotator.stores.embedded import master_key
from rotator.stores.embedded.master_key import (
    MasterKey,
    ensure_key_file,
    load_key_env,
    load_key_file,
    load_key_from_keyring,
)

KEY = MasterKey.generate()


def _write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "text",
    [
        KEY.render(),
        f"  {KEY.render()}\n",
        KEY.render().rstrip("=") + "=",
        KEY.reveal().hex(),
        KEY.render().replace("+", "-").replace("/", "_"),
    ],
    ids=["as made", "with white space", "padded", "hexadecimal", "url-safe"],
)
def test_a_key_is_read_from_its_usual_forms(text: str) -> None:
    assert MasterKey.parse(text, "here").reveal() == KEY.reveal()


@pytest.mark.parametrize(
    "text",
    ["", "correct horse battery staple", KEY.render()[:-8], KEY.reveal().hex() + "00", "ż" * 32, "x" * 44],
    ids=["empty", "a phrase", "too short", "too long", "not ASCII", "too many letters"],
)
def test_what_is_no_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(Misconfigured, match=r"^here: .*openssl rand") as caught:
        MasterKey.parse(text, "here")
    assert not text or text not in str(caught.value)


def test_a_key_is_not_shown_or_pickled() -> None:
    assert KEY.render() not in f"{KEY!r}{KEY}"
    assert KEY.reveal().hex() not in f"{KEY!r}{KEY}"
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(Misconfigured):
        MasterKey(b"x" * 16)


def test_a_private_file_is_read(tmp_path: Path) -> None:
    assert load_key_file(_write(tmp_path / "key", KEY.render())).reveal() == KEY.reveal()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o602, 0o666])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = _write(tmp_path / "key", KEY.render(), mode)
    with pytest.raises(Misconfigured, match=f"mode {mode:04o}.*chmod 600 {path}"):
        load_key_file(path)


def _status(mode: int, uid: int) -> os.stat_result:
    return os.stat_result((stat.S_IFREG | mode, 1, 1, 1, uid, 0, 45, 0, 0, 0))


def test_a_group_may_read_what_root_mounted_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    master_key._check_private(_status(0o440, uid=0), Path("key"))
    master_key._check_private(_status(0o400, uid=4711), Path("key"))
    for mode, uid in ((0o444, 0), (0o460, 0), (0o440, 4711)):
        with pytest.raises(Misconfigured, match="others can read"):
            master_key._check_private(_status(mode, uid), Path("key"))
    with pytest.raises(Misconfigured, match=r"belongs to another user .uid 4712"):
        master_key._check_private(_status(0o400, uid=4712), Path("key"))


def test_a_missing_file_that_was_configured_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="the master key is missing: put it back"):
        load_key_file(tmp_path / "key")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_a_key(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot be read"):
        load_key_file(tmp_path)


def test_the_default_file_is_made_once_and_private(tmp_path: Path) -> None:
    places = tmp_path / "master.key", tmp_path / "store.bin", tmp_path / "store.bin.lock"
    first = ensure_key_file(*places)
    assert stat.S_IMODE(places[0].stat().st_mode) == 0o600
    assert ensure_key_file(*places).reveal() == first.reveal()


def test_the_default_file_is_not_made_beside_a_store(tmp_path: Path) -> None:
    (tmp_path / "store.bin").write_bytes(b"sealed")
    with pytest.raises(Misconfigured, match=r"the master key of .*store.bin is missing: put it back"):
        ensure_key_file(tmp_path / "master.key", tmp_path / "store.bin", tmp_path / "store.bin.lock")
    assert not (tmp_path / "master.key").exists()


def test_half_a_key_left_by_a_crash_is_removed(tmp_path: Path) -> None:
    left = _write(tmp_path / f".master.key.{'0' * 16}.tmp", "half")
    ensure_key_file(tmp_path / "master.key", tmp_path / "store.bin", tmp_path / "store.bin.lock")
    assert not left.exists()


def test_a_key_comes_from_the_environment() -> None:
    assert load_key_env("NAME", {"NAME": KEY.render()}).reveal() == KEY.reveal()


@pytest.mark.parametrize("environ", [{}, {"NAME": ""}, {"NAME": "nonsense"}])
def test_an_environment_without_a_key_is_named(environ: dict[str, str]) -> None:
    with pytest.raises(Misconfigured, match="environment variable NAME"):
        load_key_env("NAME", environ)


def _install(monkeypatch: pytest.MonkeyPatch, backend: object, held: str | None = None) -> None:
    import keyring

    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    monkeypatch.setattr(keyring, "get_password", lambda service, user: held if (service, user) == ("rotator", "master-key") else None)


def _backend(module: str, name: str, **fields: object) -> object:
    return type(name, (SimpleNamespace,), {"__module__": module})(**fields)


SECRET_SERVICE = _backend("keyring.backends.SecretService", "Keyring")
PLAINTEXT = _backend("keyrings.alt.file", "PlaintextKeyring")


def test_a_key_comes_from_the_systems_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    chained = _backend("keyring.backends.chainer", "ChainerBackend", backends=[SECRET_SERVICE])
    for backend in (SECRET_SERVICE, chained):
        _install(monkeypatch, backend, KEY.render())
        assert load_key_from_keyring("rotator").reveal() == KEY.reveal()


def test_a_keyring_without_the_key_says_how_to_put_it_there(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, SECRET_SERVICE)
    with pytest.raises(Misconfigured, match="keyring set rotator master-key"):
        load_key_from_keyring("rotator")


def test_a_keyring_that_may_keep_plain_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in (PLAINTEXT, _backend("keyring.backends.chainer", "ChainerBackend", backends=[SECRET_SERVICE, PLAINTEXT])):
        _install(monkeypatch, backend, KEY.render())
        with pytest.raises(Misconfigured, match=r"keyrings\.alt\.file\.PlaintextKeyring is not one of the operating system's own"):
            load_key_from_keyring("rotator")


def test_a_machine_without_a_keyring_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from keyring.backends import fail

    _install(monkeypatch, fail.Keyring())  # type: ignore[no-untyped-call]
    with pytest.raises(Misconfigured, match="there is no OS keyring"):
        load_key_from_keyring("rotator")


def test_a_locked_keyring_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring
    from keyring.errors import KeyringLocked

    def locked(_service: str, _user: str) -> str:
        raise KeyringLocked

    _install(monkeypatch, SECRET_SERVICE)
    monkeypatch.setattr(keyring, "get_password", locked)
    with pytest.raises(Misconfigured, match=r"does not answer for rotator .KeyringLocked"):
        load_key_from_keyring("rotator")


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    absent: dict[str, ModuleType | None] = {"keyring": None}
    for name, module in absent.items():
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(Misconfigured, match=r"install `rotator\[keyring\]`"):
        load_key_from_keyring("rotator")
