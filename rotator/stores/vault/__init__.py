"""The Vault store: KV version 2 of HashiCorp Vault or OpenBao, two documents a credential.

`config` is what the user writes, `adapter` puts hvac on our own HTTP, `login` keeps a token, `faults` says in our words what the server
said, `documents` is the form of the two documents and what they mean together, `policies` the least that must be allowed, `store` the
port's verbs. The protocol is told in `docs/vault.md`.
"""

from __future__ import annotations

from rotator.stores.vault.config import VaultStoreConfig

__all__ = ["VaultStoreConfig"]
