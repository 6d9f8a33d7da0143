"""Ten thousand credentials: a scrape and a list are a handful of queries. The bounds are far off, for slow and busy machines."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from rotator.domain.facts import Memory
from rotator.domain.keys import KeyId, Kind
from rotator.domain.ports import HeldKey, Placement, SaveMemory, SavePlacement, SaveView, View
from tests.integration.server.conftest import World

MANY = 10_000


@pytest.mark.slow
def test_ten_thousand_credentials_are_told_of_quickly(world: World) -> None:
    (pattern,) = world.configure("pattern")
    now = world.clock.now()
    credentials = {}
    for number in range(MANY):
        name = f"credential-{number:05}"
        credentials[name] = replace(pattern, name=name)
        key = KeyId(Kind.RK, "live", f"{number:08}")
        view = View(
            now, now + timedelta(hours=1), now + timedelta(days=1), now + timedelta(days=9), (HeldKey(key, "current", now, 1, now),)
        )
        placed = [SavePlacement(Placement(target, key, now, 1)) for target in world.targets]
        world.journal.commit(name, SaveMemory(Memory(f"uid-{number}", 1, "store:x")), SaveView(view), *placed)
    world.engine._credentials = credentials

    timings = {}
    for path in ("/metrics", "/metrics", "/api/v1/credentials", "/api/v1/credentials/credential-09999"):
        client = world.client("viewer")
        client.timeout = 60.0
        started = time.monotonic()
        answer = client.get(path)
        timings[path] = time.monotonic() - started
        assert answer.status_code == 200
        assert "credential-09999" in answer.text
    assert timings["/metrics"] < 30
    assert timings["/api/v1/credentials"] < 30
    assert timings["/api/v1/credentials/credential-09999"] < 10
