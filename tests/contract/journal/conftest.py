"""What every case of the contract suite starts from: a kind, a place of its own, and the journal there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rotator.journal.sql import SqlJournal
from tests.contract.journal.kinds import KINDS, Kind


@pytest.fixture(params=KINDS.values(), ids=str)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def journal(kind: Kind, place: Path) -> Iterator[SqlJournal]:
    opened = kind.open(place)
    yield opened
    kind.close(opened)
