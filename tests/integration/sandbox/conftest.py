"""A sandbox per test, in a thread, whose monotonic clock stands still until the test moves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from rotator.sandbox import SandboxServer, SandboxSettings, ServiceClock
from tests.support.sandbox import SandboxControl

Start = Callable[..., SandboxControl]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a sandbox with these settings; answers a control client."""
    with ExitStack() as stack:

        def start_one(**settings: Any) -> SandboxControl:
            server = stack.enter_context(SandboxServer(SandboxSettings(**settings), clock=ServiceClock(monotonic=lambda: 1000.0)))
            return stack.enter_context(SandboxControl(server.url, server.admin_token))

        yield start_one


@pytest.fixture
def control(start: Start) -> SandboxControl:
    """A client of a sandbox with default settings."""
    return start()


@pytest.fixture(scope="module")
def shared() -> Iterator[SandboxControl]:
    """One sandbox for the tests of a module that only add keys to it."""
    with SandboxServer() as server, SandboxControl(server.url, server.admin_token) as client:
        yield client
