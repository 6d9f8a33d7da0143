"""Consumers of a credential: threads that read the key from a target's file, over and over, and call the service with it (I1, I5)."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from rotator.domain.keys import KeyId
from rotator.domain.secret import Secret

_KEY = re.compile(r"rk_[a-z0-9]+_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{12,}")
_CALL = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
_DEADLINE = 10.0


def find_key(file: Path) -> Secret | None:
    """The key in a target's file; None where there is no file yet."""
    try:
        found = _KEY.search(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    return Secret(found.group()) if found else None


@dataclass(slots=True)
class Consumer:
    """One that reads its keys from `files`. What it saw, and every refusal of a key that still stood in the file."""

    url: str
    files: tuple[Path, ...]
    every: float = 0.05
    calls: int = 0
    refusals: list[str] = field(default_factory=list)
    held: dict[Path, list[KeyId]] = field(default_factory=dict)
    """file → its keys in the order in which they were seen there, each run of one key once"""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _connection: http.client.HTTPConnection | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="consumer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look once more, and end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_DEADLINE)
        self.look()
        if self._connection is not None:
            self._connection.close()

    def look(self) -> None:
        """Use each file's key once. Files that hold the same key are asked for together."""
        asked: dict[KeyId, bool] = {}
        for file in self.files:
            key = self._read(file)
            while key is not None:
                if key.key_id not in asked:
                    asked[key.key_id] = self._works(key)
                if asked[key.key_id]:
                    break
                # Refused: excused only if the file holds another key by now, which then must work.
                again = self._read(file)
                if again is not None and again.key_id == key.key_id:
                    self.refusals.append(f"{file.name}: {key.key_id}")
                    break
                key = again

    def _read(self, file: Path) -> Secret | None:
        key = find_key(file)
        held = self.held.setdefault(file, [])
        if key is None:
            if held:
                self.refusals.append(f"{file.name}: its key {held[-1]} is gone")
        elif not held or held[-1] != key.key_id:
            held.append(key.key_id)
        return key

    def _run(self) -> None:
        while not self._stop.wait(self.every):
            self.look()

    def _works(self, key: Secret) -> bool:
        self.calls += 1
        headers = {"Authorization": f"Bearer {key.reveal()}", "Content-Type": "application/json", "Accept": "application/json"}
        if self._connection is None:
            address = urlsplit(self.url)
            self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_DEADLINE)
        self._connection.request("POST", key.key_id.kind.mcp_path, _CALL, headers)
        answer = self._connection.getresponse()
        answer.read()
        return answer.status == http.client.OK


@contextlib.contextmanager
def consuming(url: str, *files: Path, every: float = 0.05) -> Iterator[Consumer]:
    """A consumer of these files, until the end of the block."""
    consumer = Consumer(url, files, every)
    consumer.start()
    try:
        yield consumer
    finally:
        consumer.stop()
