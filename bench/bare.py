"""The comparison: the same HTTP calls as a run of rotations made, by plain `httpx` clients in a thread pool, and nothing else.

Nothing is stored, remembered, checked or written: what rotator costs beyond this is what it does about crashes.
"""

from __future__ import annotations

import json
import resource
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx

MOUNT = "secret"
MESSAGE = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}

_RECORD, _SECRETS = 900, 120
"""characters; what a credential in mid-rotation has in its sibling"""


@dataclass(frozen=True, slots=True)
class Mix:
    """How many calls of each kind one run makes."""

    mints: int
    lists: int
    probes_alive: int
    probes_refused: int
    revokes: int
    vault: Mapping[str, int] = field(default_factory=dict)
    """calls to Vault by what the daemon's metrics call them"""

    @property
    def total(self) -> int:
        return self.mints + self.lists + self.probes_alive + self.probes_refused + self.revokes + sum(self.vault.values())


def share(total: int, part: int, parts: int) -> int:
    """The part's share of a total that is dealt out evenly."""
    return total * (part + 1) // parts - total * part // parts


class BareLoop:
    """Rotates keys that nobody keeps: mint, list, ask, revoke, ask; and reads and writes documents that nobody reads."""

    def __init__(self, url: str, admin_token: str, workers: int, vault: tuple[str, str] | None = None) -> None:
        """`vault`: its address and a token."""
        self._url = url
        self._vault = vault
        self._admin = {"Authorization": f"Bearer {admin_token}"}
        self._workers = workers
        self._local = threading.local()

    def run(self, mix: Mix, credentials: int) -> dict[str, float]:
        """The whole mix, one task per credential; wall and processor seconds."""
        before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
        with ThreadPoolExecutor(self._workers) as pool:
            for future in [pool.submit(self._rotate, mix, number, credentials) for number in range(credentials)]:
                future.result()
        after = resource.getrusage(resource.RUSAGE_SELF)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {"wall": time.monotonic() - started, "cpu": cpu}

    def _rotate(self, mix: Mix, number: int, parts: int) -> None:
        client = self._client()
        self._keep(mix, number, parts)

        def times(total: int, call: Callable[[], object]) -> None:
            for _ in range(share(total, number, parts)):
                call()

        key, key_id = "", ""

        def mint() -> None:
            nonlocal key, key_id
            body = {"kind": "rk", "env": "live", "project": "default", "label": f"bare/{number}"}
            answer = client.post("/admin/v1/keys", json=body, headers=self._admin).json()
            key, key_id = answer["key"], answer["id"]

        query = {"label_prefix": f"bare/{number}", "limit": "200", "cursor": ""}
        times(mix.lists, lambda: client.get("/admin/v1/keys", params=query, headers=self._admin).json())
        times(mix.mints, mint)
        bearer = {"Authorization": f"Bearer {key}"}
        times(mix.probes_alive, lambda: client.post("/mcp", json=MESSAGE, headers=bearer).json())
        times(mix.revokes, lambda: client.delete(f"/admin/v1/keys/{key_id}", headers=self._admin).json())
        # Of a key that never was: refused at once, where the one just revoked may still stand in a cache.
        nobody = {"Authorization": f"Bearer {key[:-4]}zzzz"}
        times(mix.probes_refused, lambda: client.post("/mcp", json=MESSAGE, headers=nobody).json())

    def _keep(self, mix: Mix, number: int, parts: int) -> None:
        """The same reads and writes of KV version 2 as the rotations made, of documents as large as theirs."""
        if self._vault is None:
            return
        address, token = self._vault
        client, headers = self._client(address), {"X-Vault-Token": token}
        document = {"data": {"record": "r" * _RECORD, "secrets": "s" * _SECRETS}}
        where = f"/v1/{MOUNT}/data/bare/{number}"
        client.post(where, json=document, headers=headers).raise_for_status()
        patch = {**headers, "Content-Type": "application/merge-patch+json"}
        calls: dict[str, Callable[[], httpx.Response]] = {
            "read": lambda: client.get(where, headers=headers),
            "read-metadata": lambda: client.get(f"/v1/{MOUNT}/metadata/bare/{number}", headers=headers),
            "write": lambda: client.post(where, json=document, headers=headers),
            "patch": lambda: client.patch(where, content=json.dumps({"data": {"api_key": "k" * 40}}), headers=patch),
        }
        for operation, total in mix.vault.items():
            call = calls.get(operation, calls["read"])
            for _ in range(share(total, number, parts)):
                call().raise_for_status().json()

    def _client(self, url: str | None = None) -> httpx.Client:
        clients: dict[str, httpx.Client] | None = getattr(self._local, "clients", None)
        if clients is None:
            clients = self._local.clients = {}
        base = url or self._url
        if base not in clients:
            # One client per thread: a shared one would lose time to its pool's lock, and the comparison would be kinder to us.
            clients[base] = httpx.Client(base_url=base, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), trust_env=False, timeout=30.0)
        return clients[base]
