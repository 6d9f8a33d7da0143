"""A stage whose keys lie in Vault, and one whose keys lie in AWS Secrets Manager as moto plays it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.places import Place, open_place
from tests.support.scenes import CALM, Stage, open_stage


@pytest.fixture(params=["vault", "moto"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with open_place(request.param) as opened:
        yield opened


@pytest.fixture
def stage(place: Place, tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path, config={"installation": f"test-{secrets.token_hex(4)}"}, furnish=place.furnish) as stage:
        stage.control.settings(**CALM)
        yield stage
