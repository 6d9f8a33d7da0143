"""What only the embedded store does: its file, its configuration, damage, restore, another master key."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from pydantic import ValidationError

from rotator.domain.errors import Conflict, Misconfigured, RotatorError, Unreachable
from rotator.domain.secret import Secret
from rotator.stores.embedded import EmbeddedStore, EmbeddedStoreConfig, MasterKey
from tests.contract.stores.build import a_key, a_note, an_opening, commit_all, find_key_material, hold_current, noted

MASTER = MasterKey.generate()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.bin"


@pytest.fixture
def store(path: Path) -> EmbeddedStore:
    return EmbeddedStore(path, MASTER)


def _configured(**fields: object) -> EmbeddedStoreConfig:
    return EmbeddedStoreConfig.model_validate(fields)


def test_by_default_store_and_key_lie_in_the_state_folder(tmp_path: Path) -> None:
    state = tmp_path / "state" / "rotator"
    store = EmbeddedStoreConfig().build(state)
    commit_all(store, "path", an_opening())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in state.iterdir()}
    assert modes == {"store.bin": 0o600, "store.bin.lock": 0o600, "master.key": 0o600}
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_each_place_of_the_master_key_opens_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import keyring
    from keyring.backends import SecretService

    (tmp_path / "key").write_text(MASTER.render())
    (tmp_path / "key").chmod(0o600)
    monkeypatch.setenv("STORE_KEY", MASTER.reveal().hex())
    monkeypatch.setattr(keyring, "get_keyring", SecretService.Keyring)
    monkeypatch.setattr(keyring, "get_password", lambda *_: MASTER.render())
    commit_all(EmbeddedStore(tmp_path / "own.bin", MASTER), "path", an_opening())
    for place in ({"file": "key"}, {"file": str(tmp_path / "key")}, {"env": "STORE_KEY"}, {"keyring": "rotator"}):
        assert _configured(path="own.bin", master_key=place).build(tmp_path).paths() == ("path",)
    assert not (tmp_path / "master.key").exists()


@pytest.mark.parametrize(
    ("fields", "location", "message"),
    [
        ({"paht": "x"}, ("paht",), "Extra inputs"),
        ({"type": "vault"}, ("type",), "embedded"),
        ({"master_key": {}}, ("master_key",), "name one place of the master key"),
        ({"master_key": "x"}, ("master_key",), "name one place of the master key"),
        ({"master_key": {"file": "x", "env": "Y"}}, ("master_key",), "name one place of the master key"),
        ({"master_key": {"env": "NOT A NAME"}}, ("master_key", "env", "env"), "match pattern"),
        ({"master_key": {"file": "x", "mode": 1}}, ("master_key", "file", "mode"), "Extra inputs"),
    ],
)
def test_a_wrong_configuration_is_named(fields: dict[str, object], location: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        _configured(**fields)
    assert [(error["loc"], message in error["msg"]) for error in caught.value.errors()] == [(location, True)]


def test_every_field_of_the_configuration_is_documented() -> None:
    schema = EmbeddedStoreConfig.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    assert all(len(field["description"]) > 10 for model in models for field in model["properties"].values())


def test_a_missing_file_holds_nothing(store: EmbeddedStore, path: Path) -> None:
    commit_all(store, "path", an_opening())
    path.unlink()
    assert store.read("path").record is None
    assert store.paths() == ()
    store.check("path")
    assert not path.exists()


def test_paths_are_listed_and_not_readable_in_the_file(store: EmbeddedStore, path: Path) -> None:
    for name in ("team/b", "team/a", "größe"):
        commit_all(store, name, an_opening())
    assert store.paths() == ("größe", "team/a", "team/b")
    assert not any(part in path.read_bytes() for part in (b"team", "größe".encode(), b"test"))


def test_no_key_material_is_on_the_disk_at_any_moment(store: EmbeddedStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys: list[Secret] = []
    looks: list[list[str]] = []
    real = os.fsync

    def look(fd: int) -> None:
        looks.append(find_key_material(path.parent, *keys))
        real(fd)

    monkeypatch.setattr(os, "fsync", look)
    for _ in range(5):
        keys.append(a_key())
        hold_current(store, "path", keys[-1])
    assert looks == [[]] * (5 * 3 * 2)


def test_every_flipped_byte_is_noticed(store: EmbeddedStore, path: Path) -> None:
    keys = {name: a_key() for name in ("a", "b")}
    holdings = {name: hold_current(store, name, key) for name, key in keys.items()}
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        told = _find_damage(path, [*keys])
        assert str(path) in told, f"byte {position} of {len(whole)}"
        assert not {"delete", "remove", "start"} & {word.strip(".,:`") for word in told.split()}
    path.write_bytes(whole)
    assert {name: store.read(name) for name in keys} == holdings


def _find_damage(path: Path, names: list[str]) -> str:
    """What opening and reading everything says is wrong; empty if nothing."""
    try:
        store = EmbeddedStore(path, MASTER)
        for name in names:
            store.read(name)
    except Misconfigured as error:
        return str(error)
    return ""


def test_every_cut_and_every_addition_is_noticed(store: EmbeddedStore, path: Path) -> None:
    hold_current(store, "path", a_key())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert _find_damage(path, []), f"{length} of {len(whole)} bytes"
    path.write_bytes(whole + b"\0")
    assert "should have" in _find_damage(path, [])


def test_blobs_cannot_be_exchanged(store: EmbeddedStore, path: Path) -> None:
    for name in ("a", "b"):
        commit_all(store, name, an_opening("an-attempt"))
    whole = path.read_bytes()
    half = store.read("a"), store._look()
    snapshot = half[1]
    assert snapshot is not None
    length = snapshot.blobs["a"].length
    assert length == snapshot.blobs["b"].length
    first = snapshot.start
    path.write_bytes(whole[:first] + whole[first + length :] + whole[first : first + length])
    reopened = EmbeddedStore(path, MASTER)
    for name in ("a", "b"):
        with pytest.raises(Misconfigured, match=f"the entry of {name} is damaged"):
            reopened.read(name)


def test_an_older_state_of_one_path_cannot_be_put_back(store: EmbeddedStore, path: Path) -> None:
    seen = commit_all(store, "path", an_opening(), a_note("j", 1))
    old = path.read_bytes()
    store.commit("path", seen, a_note("j", 1))
    new = path.read_bytes()
    snapshot = store._look()
    assert snapshot is not None
    assert len(old) == len(new)
    path.write_bytes(new[: snapshot.start] + old[snapshot.start :])
    with pytest.raises(Misconfigured, match="the entry of path is damaged"):
        EmbeddedStore(path, MASTER).read("path")


def test_a_commit_copies_what_it_does_not_change(store: EmbeddedStore, path: Path) -> None:
    for name in ("a", "b", "c"):
        hold_current(store, name, a_key())
    before, whole = store._look(), path.read_bytes()
    assert before is not None
    commit_all(store, "b", a_note("j", 3))
    after, again = store._look(), path.read_bytes()
    assert after is not None
    for name in ("a", "c"):
        old, new, length = before.offsets[name], after.offsets[name], after.blobs[name].length
        assert again[new : new + length] == whole[old : old + length]
    assert after.blobs["b"] != before.blobs["b"]


def test_a_restored_older_file_is_read_as_it_is(store: EmbeddedStore, path: Path, tmp_path: Path) -> None:
    """The lifecycle sees the lower generation and parks (L2); the store only has to notice that the file is another."""
    old = hold_current(store, "path", a_key())
    shutil.copy(path, tmp_path / "backup")
    seen = hold_current(store, "path", a_key())
    shutil.copy(tmp_path / "backup", path)
    assert store.read("path") == old
    with pytest.raises(Conflict):
        store.commit("path", seen, a_note("j", 1))
    assert noted(store.commit("path", old, a_note("j", 1)), "j") == 1


def test_a_wrong_master_key_is_told(store: EmbeddedStore, path: Path) -> None:
    commit_all(store, "path", an_opening())
    with pytest.raises(Misconfigured, match="does not open this store"):
        EmbeddedStore(path, MasterKey.generate())


def test_another_master_key_rewraps_and_reseals_nothing_else(store: EmbeddedStore, path: Path) -> None:
    key, new = a_key(), MasterKey.generate()
    held = hold_current(store, "path", key)
    bystander, before = EmbeddedStore(path, MASTER), store._look()
    store.rekey(new)
    assert store.read("path") == EmbeddedStore(path, new).read("path") == held
    after = store._look()
    assert before is not None
    assert after is not None
    assert (after.read_blob("path"), after.blobs) == (before.read_blob("path"), before.blobs)
    assert noted(store.commit("path", held, a_note("j", 1)), "j") == 1
    with pytest.raises(Misconfigured, match="does not open this store"):
        bystander.read("path")


def test_another_master_key_before_the_first_commit_is_the_one_that_counts(store: EmbeddedStore, path: Path) -> None:
    new = MasterKey.generate()
    store.rekey(new)
    commit_all(store, "path", an_opening())
    assert EmbeddedStore(path, new).paths() == ("path",)


def test_a_link_is_not_followed(store: EmbeddedStore, path: Path, tmp_path: Path) -> None:
    commit_all(store, "path", an_opening())
    (tmp_path / "link.bin").symlink_to(path)
    with pytest.raises(Misconfigured, match="it is a symbolic link"):
        EmbeddedStore(tmp_path / "link.bin", MASTER)


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(RotatorError, match="it is a folder"):
        EmbeddedStore(tmp_path, MASTER)


def test_a_failed_commit_changes_nothing(store: EmbeddedStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = hold_current(store, "path", a_key())
    whole = path.read_bytes()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Unreachable, match="disk is full"):
        store.commit("path", held, a_note("j", 1))
    monkeypatch.undo()
    assert path.read_bytes() == whole
    assert sorted(file.name for file in path.parent.iterdir()) == ["store.bin", "store.bin.lock"]
    assert noted(store.commit("path", held, a_note("j", 1)), "j") == 1


def test_no_descriptor_is_left_open(store: EmbeddedStore) -> None:
    def find_open() -> list[str]:
        links = [str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        return sorted(link for link in links if link.startswith(str(store.path.parent)))

    commit_all(store, "path", an_opening())
    before = find_open()
    for number in range(50):
        commit_all(store, "path", a_note("j", number))
        EmbeddedStore(store.path, MASTER).read("path")
    assert find_open() == before


def test_a_record_of_a_newer_form_is_told(store: EmbeddedStore) -> None:
    held = commit_all(store, "path", an_opening())
    assert held.record is not None
    snapshot = store._look()
    assert snapshot is not None
    blob, sealed = snapshot.seal.seal_blob("path", json.dumps({"record": {"version": 2}, "secrets": {}}).encode())
    store._replace(snapshot.seal, {"path": blob}, iter([sealed]))
    with pytest.raises(Misconfigured, match="path: the record is of form 2"):
        store.read("path")
