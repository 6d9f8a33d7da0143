"""The embedded store: every credential's record and secrets in one encrypted file on this machine.

`config` is what the user writes, `master_key` where the outer key comes from, `sealed` the file's format (bytes in, bytes out), `files` the
disk (lock, atomic replace, errors in our words), `store` the port's verbs. The format is told in `docs/embedded-store.md`.
"""

from __future__ import annotations

from rotator.stores.embedded.config import EmbeddedStoreConfig
from rotator.stores.embedded.master_key import MasterKey
from rotator.stores.embedded.store import EmbeddedStore

__all__ = ["EmbeddedStore", "EmbeddedStoreConfig", "MasterKey"]
