"""The embedded store's master key: 32 random bytes that wrap the file's data key, and the three places where they may live.

The key is never derived from a passphrase, never logged, and never made where the user named a place for it: a missing key that was
configured is a mistake to report, only the default key file is made (once, before there is a store that would need an older one).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Never, final

from rotator.domain.errors import Misconfigured
from rotator.stores.embedded.files import hold_lock, remove_leftovers, replace_file

LENGTH = 32
KEYRING_USER = "master-key"
_FORM = "32 random bytes in base64 or hex, such as `openssl rand -base64 32` prints"
_PATIENCE = 10.0
_MAX_FILE = 4096
_TRUSTED_BACKENDS = (
    "keyring.backends.macOS.",
    "keyring.backends.Windows.",
    "keyring.backends.SecretService.",
    "keyring.backends.kwallet.",
    "keyring.backends.libsecret.",
)
"""Other backends (keyrings.alt) may keep what they are given in a plain file without saying so."""


@final
class MasterKey:
    """The outer key. Cannot be printed or pickled by accident."""

    __slots__ = ("_value", "fingerprint")

    fingerprint: bytes
    """8 bytes that tell one master key from another and reveal nothing of it"""

    def __init__(self, value: bytes) -> None:
        if len(value) != LENGTH:
            raise Misconfigured(f"a master key must be {_FORM}")
        self._value = value
        self.fingerprint = hashlib.sha256(b"rotator embedded store master key\0" + value).digest()[:8]

    @classmethod
    def generate(cls) -> MasterKey:
        """A new random key."""
        return cls(os.urandom(LENGTH))

    @classmethod
    def parse(cls, text: str, where: str) -> MasterKey:
        """The key of its text form. `where` names the source in the message of `Misconfigured`, which never repeats the text."""
        compact = text.strip()
        for decode in (_from_hex, _from_base64):
            with suppress(binascii.Error, ValueError):
                value = decode(compact)
                if len(value) == LENGTH:
                    return cls(value)
        raise Misconfigured(f"{where}: this is not a master key; it must be {_FORM}")

    def reveal(self) -> bytes:
        """The key itself."""
        return self._value

    def render(self) -> str:
        """Its text form (base64), for the key file."""
        return base64.b64encode(self._value).decode()

    def __repr__(self) -> str:
        return f"<MasterKey {self.fingerprint.hex()}>"

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a MasterKey cannot be pickled or copied")


def _from_hex(text: str) -> bytes:
    return bytes.fromhex(text)


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)


def load_key_file(path: Path) -> MasterKey:
    """The key in a file that nobody else can read. Raises `Misconfigured` where it is missing, open to others, or holds no key."""
    try:
        with path.open("rb") as file:
            _check_private(os.fstat(file.fileno()), path)
            text = file.read(_MAX_FILE)
    except FileNotFoundError as error:
        raise Misconfigured(
            f"{path}: the master key is missing: put it back from a backup or, for a new store, make one with "
            f"`(umask 077; openssl rand -base64 32 > {path})`"
        ) from error
    except OSError as error:
        raise Misconfigured(f"{path}: the master key cannot be read ({error.strerror}): let uid {os.geteuid()} read it") from error
    return MasterKey.parse(text.decode("ascii", "replace"), str(path))


def _check_private(status: os.stat_result, path: Path) -> None:
    own = status.st_uid == os.geteuid()
    if not own and status.st_uid != 0:
        raise Misconfigured(f"{path}: the master key belongs to another user (uid {status.st_uid}): chown it to uid {os.geteuid()}")
    # A key that root mounts into a container reaches us through its group; only then may a group read it.
    open_to = status.st_mode & (0o077 if own else 0o027)
    if open_to:
        raise Misconfigured(
            f"{path}: others can read the master key (mode {stat.S_IMODE(status.st_mode):04o}): run `chmod 600 {path}`, and consider who "
            "may have read it and a copy of the store"
        )


def ensure_key_file(path: Path, store: Path, lock: Path) -> MasterKey:
    """The key in the default key file, made at the first start. Never made beside a store that was sealed with another key."""
    remove_leftovers(path, lock, _PATIENCE)
    if not path.exists():
        with hold_lock(lock, _PATIENCE):
            # Looked at again under the lock: another daemon may have had its first start meanwhile.
            if not path.exists():
                if os.path.lexists(store):
                    raise Misconfigured(
                        f"{path}: the master key of {store} is missing: put it back from a backup, or name its place under `master_key`"
                    )
                os.close(replace_file(path, [f"{MasterKey.generate().render()}\n".encode()]))
    return load_key_file(path)


def load_key_env(name: str, environ: Mapping[str, str]) -> MasterKey:
    """The key in an environment variable."""
    text = environ.get(name)
    if not text:
        raise Misconfigured(f"the environment variable {name}, which should hold the store's master key, is not set: set it to {_FORM}")
    return MasterKey.parse(text, f"environment variable {name}")


def load_key_from_keyring(service: str) -> MasterKey:
    """The key in the OS keyring, under the service's name and the user name `master-key`."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise Misconfigured("`master_key: {keyring: …}` needs the keyring extra: install `rotator[keyring]`") from None
    _check_backend(keyring.get_keyring())
    try:
        text = keyring.get_password(service, KEYRING_USER)
    except KeyringError as error:
        raise Misconfigured(f"the OS keyring does not answer for {service} ({type(error).__name__}): unlock it, and try again") from error
    if not text:
        raise Misconfigured(
            f"the OS keyring holds no {KEYRING_USER} for {service}: put it there with `keyring set {service} {KEYRING_USER}`; "
            f"it must be {_FORM}"
        )
    return MasterKey.parse(text, f"OS keyring, {service}")


def _check_backend(backend: Any) -> None:
    name = f"{type(backend).__module__}.{type(backend).__qualname__}"
    if name == "keyring.backends.chainer.ChainerBackend":
        for member in backend.backends:
            _check_backend(member)
    elif name.startswith("keyring.backends.fail."):
        raise Misconfigured("there is no OS keyring on this machine: keep the master key in a file or the environment instead")
    elif not name.startswith(_TRUSTED_BACKENDS):
        raise Misconfigured(
            f"the keyring backend {name} is not one of the operating system's own and may keep secrets in a plain file: choose another "
            "with PYTHON_KEYRING_BACKEND, or keep the master key in a file or the environment"
        )
