from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from rotator.domain.secret import Secret
from rotator.remote.millimetric import MillimetricConfig, MillimetricProber
from rotator.sandbox import SandboxServer, SandboxSettings
from tests.integration.remote.stub import Stub, start_stub
from tests.support.sandbox import SandboxControl


class RealClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


@pytest.fixture
def clock() -> RealClock:
    return RealClock()


@pytest.fixture
def stub() -> Iterator[Stub]:
    with start_stub() as one:
        yield one


@pytest.fixture
def second_stub() -> Iterator[Stub]:
    with start_stub() as one:
        yield one


@pytest.fixture
def sandbox() -> Iterator[SandboxControl]:
    with SandboxServer(SandboxSettings(workers=1)) as server, SandboxControl(server.url, server.admin_token) as control:
        yield control


@pytest.fixture
def a_key() -> Callable[..., Secret]:
    """A key that no service ever minted."""

    def build(kind: str = "rk") -> Secret:
        return Secret(f"{kind}_live_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}")

    return build


@pytest.fixture
def prober_of(clock: RealClock) -> Iterator[Callable[..., MillimetricProber]]:
    made: list[MillimetricProber] = []

    def build(url: str, **config: object) -> MillimetricProber:
        given = {"endpoint": url, "trusted_endpoints": [url], **config}
        made.append(MillimetricProber(MillimetricConfig.model_validate(given), clock))
        return made[-1]

    yield build
    for one in made:
        one.close()
