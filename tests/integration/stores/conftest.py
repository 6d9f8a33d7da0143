"""A stage whose keys lie in Vault, and one whose keys lie in AWS Secrets Manager as moto plays it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.scenes import CALM, Stage, open_stage
from tests.support.stores import SITES, StoreSite


@pytest.fixture(params=["vault", "aws-moto"])
def store(request: pytest.FixtureRequest) -> StoreSite:
    return SITES[request.param]()


@pytest.fixture
def stage(store: StoreSite, tmp_path: Path) -> Iterator[Stage]:
    # The server outlives the test.
    config = {"installation": f"test-{secrets.token_hex(4)}"}
    with open_stage(tmp_path, config=config, furnish=store.furnish) as stage:
        stage.control.settings(**CALM)
        yield stage


@pytest.fixture
def folder() -> str:
    """Where in the store the test's credentials lie."""
    return f"story-{secrets.token_hex(4)}"
