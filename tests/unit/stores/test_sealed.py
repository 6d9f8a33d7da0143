"""The file's format: what opens, and that nothing else does."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from rotator.domain.errors import Misconfigured
from rotator.stores.embedded.master_key import MasterKey
from rotator.stores.embedded.sealed import HEADER_LENGTH, MAGIC, Blob, Seal, encode_path, find_offsets, parse_header

MASTER = MasterKey.generate()


def _a_blob(number: int) -> Blob:
    return Blob(bytes([number]) * 16, bytes([number]) * 12, number)


def test_a_blob_opens_where_it_was_sealed_and_nowhere_else() -> None:
    seal = Seal.generate(MASTER)
    blob, sealed = seal.seal_blob("path", b"plain")
    assert seal.open_blob("path", blob, sealed, "file") == b"plain"
    other_file = Seal(b"x" * 16, seal._data_key, MASTER)
    for opening, path, known in (
        (seal, "other", blob),
        (seal, "path", replace(blob, revision=b"r" * 16)),
        (seal, "path", replace(blob, nonce=b"n" * 12)),
        (other_file, "path", blob),
        (Seal.generate(MASTER), "path", blob),
    ):
        with pytest.raises(Misconfigured, match=f"^file: the entry of {path} is damaged"):
            opening.open_blob(path, known, sealed, "file")


def test_every_sealing_has_its_own_revision_and_nonce() -> None:
    seal = Seal.generate(MASTER)
    blobs = [seal.seal_blob("path", b"plain")[0] for _ in range(100)]
    assert len({blob.revision for blob in blobs}) == len({blob.nonce for blob in blobs}) == 100


def test_an_index_opens_under_its_own_header_only() -> None:
    seal = Seal.generate(MASTER)
    blobs = {"a": _a_blob(1), "größe/漢字": _a_blob(2)}
    data = seal.seal_index(blobs)
    header, sealed = parse_header(data, "file"), data[HEADER_LENGTH:]
    opened = Seal.open(header, MASTER, "file")
    assert opened.open_index(header, sealed, "file") == blobs
    assert list(opened.open_index(header, sealed, "file")) == list(blobs)
    for changed in (
        replace(header, file_id=b"x" * 16),
        replace(header, fingerprint=b"x" * 8),
        replace(header, wrapped_key=b"x" * 40),
        replace(header, index_length=1),
    ):
        with pytest.raises(Misconfigured, match="the index is damaged"):
            opened.open_index(changed, sealed, "file")


def test_paths_are_not_readable() -> None:
    data = Seal.generate(MASTER).seal_index({"millimetric/checkout": _a_blob(1)})
    assert b"checkout" not in data


def test_offsets_follow_the_order() -> None:
    assert find_offsets({"a": _a_blob(5), "b": _a_blob(0), "c": _a_blob(7)}, 100) == {"a": 100, "b": 105, "c": 105}
    assert find_offsets({}, 100) == {}


def test_another_master_key_does_not_open_it() -> None:
    header, other = parse_header(Seal.generate(MASTER).seal_index({}), "file"), MasterKey.generate()
    with pytest.raises(Misconfigured, match=f"{other.fingerprint.hex()} does not open.*sealed with {MASTER.fingerprint.hex()}"):
        Seal.open(header, other, "file")


def test_a_damaged_wrapped_key_is_not_taken_for_another_master_key() -> None:
    header = parse_header(Seal.generate(MASTER).seal_index({}), "file")
    with pytest.raises(Misconfigured, match="header is damaged"):
        Seal.open(replace(header, wrapped_key=b"x" * 40), MASTER, "file")


def test_rewrapping_keeps_the_data_key() -> None:
    seal, other = Seal.generate(MASTER), MasterKey.generate()
    blob, sealed = seal.seal_blob("path", b"plain")
    header = parse_header(seal.under(other).seal_index({"path": blob}), "file")
    assert Seal.open(header, other, "file").open_blob("path", blob, sealed, "file") == b"plain"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut short"),
        (MAGIC[:4], "cut short"),
        (MAGIC + struct.pack(">H", 1), "cut short"),
        (b"SQLite format 3\0" * 10, "not a rotator store"),
        (b"{}", "not a rotator store"),
        (MAGIC + struct.pack(">H", 2) + b"\0" * 200, "a newer rotator wrote this store .format 2, this one reads 1"),
        (MAGIC + struct.pack(">H", 0) + b"\0" * 200, "header is damaged"),
    ],
)
def test_what_is_no_store_is_said_and_nobody_is_told_to_delete_it(data: bytes, message: str) -> None:
    with pytest.raises(Misconfigured, match=f"^file: .*{message}") as caught:
        parse_header(data, "file")
    assert not {"delete", "remove", "rm"} & set(str(caught.value).split())


@pytest.mark.parametrize("path", ["", "x" * 65536, "\ud800"])
def test_a_path_that_no_file_can_hold_is_refused(path: str) -> None:
    with pytest.raises(Misconfigured, match="configure another"):
        encode_path(path)
