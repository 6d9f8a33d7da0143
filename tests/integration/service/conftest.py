"""One daemon against one sandbox whose weather the tests make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.scenes import CALM, Stage, open_stage


@pytest.fixture(scope="module")
def module_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with open_stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(module_stage: Stage) -> Iterator[Stage]:
    """The module's stage, in calm weather before and after the test."""
    yield module_stage
    module_stage.control.faults()
    module_stage.control.settings(**CALM)
