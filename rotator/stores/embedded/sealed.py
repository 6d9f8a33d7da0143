"""The format of the embedded store's file: bytes in, bytes out, no disk.

    header     magic, format version, uuid of the file, fingerprint of the master key,
               data key wrapped by the master key (AES key wrap), nonce and length of the index
    index      AES-256-GCM under the data key, bound to the header: path, revision, nonce and length of every blob
    blobs      AES-256-GCM under the data key, one per path, in the index's order, each bound to file, path and revision

Nothing can be swapped, mixed or read without the master key: a blob opens only at the path, revision and file for which it was sealed, with
the nonce that the authenticated index names. What this cannot show is a whole older file put in place of a newer one (L2 does).
Nonces are random: below 2^31 commits under one data key, their collision is no concern.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from rotator.domain.errors import Misconfigured
from rotator.stores.embedded.master_key import MasterKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"rotator\x1a"
VERSION = 1
_HEADER = struct.Struct(">8sH16s8s40s12sI")
HEADER_LENGTH = _HEADER.size
_COUNT = struct.Struct(">I")
_ENTRY = struct.Struct(">H16s12sI")
_KEY = 32
_NONCE = 12
_REVISION = 16
_TAG = 16
_MAX_PATH = 0xFFFF
_RESTORE = "put it back from a backup"


@dataclass(frozen=True, slots=True)
class Header:
    """The part in the open."""

    file_id: bytes
    fingerprint: bytes
    wrapped_key: bytes
    index_nonce: bytes
    index_length: int

    def render(self) -> bytes:
        """Its bytes in the file, which the index is bound to."""
        return _HEADER.pack(MAGIC, VERSION, self.file_id, self.fingerprint, self.wrapped_key, self.index_nonce, self.index_length)


def parse_header(data: bytes, where: str) -> Header:
    """The header of a file that starts with `data`. Raises `Misconfigured` for one that is foreign, cut short or too new."""
    if data[: len(MAGIC)] != MAGIC[: len(data)]:
        raise Misconfigured(f"{where}: this is not a rotator store: configure another path, or {_RESTORE}")
    if len(data) < len(MAGIC) + 2:
        raise Misconfigured(f"{where}: the file is cut short ({len(data)} bytes): {_RESTORE}")
    (version,) = struct.unpack_from(">H", data, len(MAGIC))
    if version > VERSION:
        raise Misconfigured(f"{where}: a newer rotator wrote this store (format {version}, this one reads {VERSION}): run that version")
    if version < 1:
        raise Misconfigured(f"{where}: the file's header is damaged: {_RESTORE}")
    if len(data) < HEADER_LENGTH:
        raise Misconfigured(f"{where}: the file is cut short ({len(data)} bytes): {_RESTORE}")
    return Header(*_HEADER.unpack_from(data)[2:])


@dataclass(frozen=True, slots=True)
class Blob:
    """What the index says of one path."""

    revision: bytes
    nonce: bytes
    length: int


class Seal:
    """The opened lock of one file: its uuid, its data key, and that key as the master key wraps it."""

    def __init__(self, file_id: bytes, data_key: bytes, master_key: MasterKey) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.keywrap import aes_key_wrap

        self.file_id = file_id
        self._data_key = data_key
        self._cipher: AESGCM = AESGCM(data_key)
        self._fingerprint = master_key.fingerprint
        self._wrapped_key = aes_key_wrap(master_key.reveal(), data_key)

    @classmethod
    def generate(cls, master_key: MasterKey) -> Seal:
        """For a new file."""
        return cls(os.urandom(16), os.urandom(_KEY), master_key)

    @classmethod
    def open(cls, header: Header, master_key: MasterKey, where: str) -> Seal:
        """For a file that is there. Raises `Misconfigured` where the master key is another, or the header damaged."""
        from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap

        if header.fingerprint != master_key.fingerprint:
            raise Misconfigured(
                f"{where}: the master key {master_key.fingerprint.hex()} does not open this store, which was sealed with "
                f"{header.fingerprint.hex()}: configure that one under `master_key`, or put the two that belong together back from a backup"
            )
        try:
            data_key = aes_key_unwrap(master_key.reveal(), header.wrapped_key)
        except InvalidUnwrap:
            raise Misconfigured(f"{where}: the file's header is damaged: {_RESTORE}") from None
        return cls(header.file_id, data_key, master_key)

    def under(self, master_key: MasterKey) -> Seal:
        """The same data key, wrapped by another master key."""
        return Seal(self.file_id, self._data_key, master_key)

    def seal_blob(self, path: str, plain: bytes) -> tuple[Blob, bytes]:
        """A new revision of a path: what the index says of it, and its ciphertext."""
        revision, nonce = os.urandom(_REVISION), os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce, plain, self._binding(path, revision))
        return Blob(revision, nonce, len(sealed)), sealed

    def open_blob(self, path: str, blob: Blob, sealed: bytes, where: str) -> bytes:
        """The plain bytes of a path. Raises `Misconfigured` where they are not what was sealed."""
        return self._open(blob.nonce, sealed, self._binding(path, blob.revision), f"{where}: the entry of {path}")

    def seal_index(self, blobs: Mapping[str, Blob]) -> bytes:
        """Header and index of a file that holds these blobs, in this order."""
        plain = [_COUNT.pack(len(blobs))]
        for path, blob in blobs.items():
            name = encode_path(path)
            plain += (_ENTRY.pack(len(name), blob.revision, blob.nonce, blob.length), name)
        nonce, joined = os.urandom(_NONCE), b"".join(plain)
        header = Header(self.file_id, self._fingerprint, self._wrapped_key, nonce, len(joined) + _TAG).render()
        return header + self._cipher.encrypt(nonce, joined, header)

    def open_index(self, header: Header, sealed: bytes, where: str) -> dict[str, Blob]:
        """Path to blob, in the order of the file."""
        plain = self._open(header.index_nonce, sealed, header.render(), f"{where}: the index")
        (count,) = _COUNT.unpack_from(plain)
        blobs: dict[str, Blob] = {}
        at = _COUNT.size
        for _ in range(count):
            name_length, revision, nonce, length = _ENTRY.unpack_from(plain, at)
            at += _ENTRY.size
            blobs[plain[at : at + name_length].decode()] = Blob(revision, nonce, length)
            at += name_length
        return blobs

    def _open(self, nonce: bytes, sealed: bytes, binding: bytes, what: str) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(nonce, sealed, binding)
        except (InvalidTag, ValueError):
            raise Misconfigured(f"{what} is damaged, or was put there by someone else: {_RESTORE}") from None

    def _binding(self, path: str, revision: bytes) -> bytes:
        return b"".join((b"rotator blob", _COUNT.pack(VERSION), self.file_id, revision, encode_path(path)))


def find_offsets(blobs: Mapping[str, Blob], start: int) -> dict[str, int]:
    """Where each blob starts in a file whose blobs start at `start`."""
    return dict(zip(blobs, accumulate((blob.length for blob in blobs.values()), initial=start), strict=False))


def encode_path(path: str) -> bytes:
    """A path's bytes. Raises `Misconfigured` for one that no file could hold."""
    try:
        name = path.encode()
    except UnicodeEncodeError:
        raise Misconfigured(f"path {path!a}: it is not valid text: configure another") from None
    if not name or len(name) > _MAX_PATH:
        raise Misconfigured(f"path of {len(name)} bytes: it must have 1 to {_MAX_PATH}: configure another")
    return name
