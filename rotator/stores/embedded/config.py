"""What the user writes for an embedded store, and how it becomes one. Imports nothing heavy: every command loads it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from rotator.domain.errors import Misconfigured
from rotator.stores.embedded.files import explained
from rotator.stores.embedded.master_key import MasterKey, ensure_key_file, load_key_env, load_key_file, load_key_from_keyring
from rotator.stores.embedded.store import EmbeddedStore, find_lock

_CLOSED = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class KeyFromFile(BaseModel):
    """The master key in a file of its own."""

    model_config = _CLOSED

    file: Path
    """A file that holds the key as text, readable by nobody else (0600). It must be there; a relative path starts in the state folder."""


class KeyFromEnv(BaseModel):
    """The master key in the environment."""

    model_config = _CLOSED

    env: str = Field(min_length=1, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """The name of the environment variable that holds the key as text."""


class KeyFromKeyring(BaseModel):
    """The master key in the operating system's keyring (needs the `keyring` extra)."""

    model_config = _CLOSED

    keyring: str = Field(min_length=1)
    """The service name under which the keyring holds the key; its user name is `master-key`."""


def _find_place(value: Any) -> str | None:
    places = ("file", "env", "keyring")
    named = [place for place in places if (place in value if isinstance(value, dict) else hasattr(value, place))]
    return named[0] if len(named) == 1 else None


MasterKeyPlace = Annotated[
    Annotated[KeyFromFile, Tag("file")] | Annotated[KeyFromEnv, Tag("env")] | Annotated[KeyFromKeyring, Tag("keyring")],
    Discriminator(
        _find_place,
        custom_error_type="master_key_place",
        custom_error_message="name one place of the master key: {file: PATH}, {env: NAME} or {keyring: SERVICE}",
    ),
]


class EmbeddedStoreConfig(BaseModel):
    """One encrypted file on this machine. For one machine, demos and tests; as crash-safe as the others."""

    model_config = _CLOSED

    type: Literal["embedded"] = "embedded"
    """The kind of store."""

    path: Path | None = None
    """The encrypted file; default: `store.bin` in the state folder, where a relative path starts too."""

    master_key: MasterKeyPlace | None = None
    """Where the key that opens the file lives: `{file: PATH}`, `{env: NAME}` or `{keyring: SERVICE}`. Default: the file `master.key` in the
    state folder, made at the first start, 0600. That protects copies of the store that travel without it, not against someone who can
    read the state folder."""

    @property
    def place(self) -> tuple[object, ...]:
        """Where its keys are: two configured stores of one place would be one store."""
        return (self.type, self.path)

    def build(self, state_dir: Path) -> EmbeddedStore:
        """The open store. Makes the state folder (0700) and the default key file where they are missing. Raises `Misconfigured`."""
        path = self._get_path(state_dir)
        return EmbeddedStore(path, self._load_key(state_dir, path))

    def find_unmade(self, state_dir: Path) -> Path | None:
        """The encrypted file where the first start has yet to make it; None where it is there. Makes nothing.

        Raises `Misconfigured` for what would stop that start: a named master key that can't be used, a folder that can't be written.
        """
        path = self._get_path(state_dir)
        if os.path.lexists(path):
            return None
        if self.master_key is not None:
            self._load_key(state_dir, path)
        for folder in {path.parent, state_dir}:
            there = next(one for one in (folder, *folder.parents) if one.exists())
            if not os.access(there, os.W_OK | os.X_OK):
                raise Misconfigured(f"{path} cannot be made: {there} is not writable; change that, or name another `path` or state folder")
        return path

    def _get_path(self, state_dir: Path) -> Path:
        return state_dir / (self.path or Path("store.bin")).expanduser()

    def _load_key(self, state_dir: Path, path: Path) -> MasterKey:
        place = self.master_key
        if isinstance(place, KeyFromFile):
            return load_key_file(state_dir / place.file.expanduser())
        if isinstance(place, KeyFromEnv):
            return load_key_env(place.env, os.environ)
        if isinstance(place, KeyFromKeyring):
            return load_key_from_keyring(place.keyring)
        with explained("creating", state_dir):
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        return ensure_key_file(state_dir / "master.key", path, find_lock(path))
