"""What every case of the contract suite starts from: an issuer of each kind, with the truth behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rotator.domain.ports import Issuer
from tests.contract.issuers.kinds import Bench, find_kinds


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bench" in metafunc.fixturenames:
        metafunc.parametrize("bench", find_kinds(metafunc.function), ids=str, indirect=True)


@pytest.fixture
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with request.param.open(tmp_path) as opened:
        yield opened


@pytest.fixture
def issuer(bench: Bench) -> Issuer:
    return bench.issuer
