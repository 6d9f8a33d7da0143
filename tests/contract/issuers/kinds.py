"""The kinds of issuer that the contract suite runs over. A new kind joins by one line in `KINDS`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from rotator.domain.keys import KeyId
from rotator.domain.ports import Issuer
from rotator.domain.secret import Secret
from rotator.issuers.http import HttpIssuerConfig, build
from rotator.sandbox import SandboxServer, SandboxSettings
from tests.support.sandbox import SandboxControl


class Bench(Protocol):
    """An issuer, and the truth behind it."""

    issuer: Issuer

    def living(self) -> set[str]:
        """Key ids of all keys that are not revoked."""

    def works(self, key: Secret) -> bool:
        """Whether the service accepts the key, its caches aside."""

    def lose(self, operation: str, *, applied: bool) -> None:
        """The answer to the next `mint`, `list` or `revoke` is lost, after or without its effect."""

    def slow_down(self, operation: str, seconds: int) -> None:
        """The next call is told to come back after that time."""


@dataclass(frozen=True)
class Kind:
    """How the suite gets at one kind of issuer."""

    name: str
    open: Callable[[Path], AbstractContextManager[Bench]]

    def __str__(self) -> str:
        return self.name


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass(slots=True)
class HttpBench:
    issuer: Issuer
    control: SandboxControl

    def living(self) -> set[str]:
        return self.control.living()

    def works(self, key: Secret) -> bool:
        self.control.flush()
        return self.control.probe(key).alive

    def lose(self, operation: str, *, applied: bool) -> None:
        self.control.faults({"operation": operation, "effect": "drop_after" if applied else "drop_before", "times": 1})

    def slow_down(self, operation: str, seconds: int) -> None:
        self.control.faults({"operation": operation, "effect": "rate_limited", "seconds": seconds, "times": 1})


@contextlib.contextmanager
def _open_http(place: Path) -> Iterator[Bench]:
    token_file = place / "token"
    with SandboxServer(SandboxSettings(workers=1)) as server, SandboxControl(server.url, server.admin_token) as control:
        token_file.write_text(server.admin_token + "\n")
        token_file.chmod(0o600)
        config = HttpIssuerConfig.model_validate({"base_url": server.url, "auth": {"type": "bearer", "token_file": str(token_file)}})
        issuer = build("admin", config, RealClock())
        yield HttpBench(issuer, control)
        issuer.close()


KINDS = {kind.name: kind for kind in (Kind("http", _open_http),)}
ALL = list(KINDS.values())
UNKNOWN_KEY = "rk_live_00000000"
"""A key id that no issuer ever gave out."""


def key_ids(keys: object) -> set[str]:
    """Of listed keys, as text."""
    assert isinstance(keys, list)
    ids = {key.key_id for key in keys}
    assert all(isinstance(one, KeyId) for one in ids)
    return {str(one) for one in ids}
