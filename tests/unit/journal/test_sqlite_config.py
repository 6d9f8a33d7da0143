"""What a user writes under `journal`."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from rotator.journal.sqlite import SqliteJournalConfig


def test_the_default_lies_in_the_state_folder() -> None:
    assert SqliteJournalConfig().get_path(Path("/state")) == Path("/state/journal.db")


@pytest.mark.parametrize(("path", "expected"), [("/data/j.db", "/data/j.db"), ("sub/j.db", "/state/sub/j.db")])
def test_a_path_is_taken_from_the_state_folder_on(path: str, expected: str) -> None:
    assert SqliteJournalConfig(path=Path(path)).get_path(Path("/state")) == Path(expected)


def test_the_home_folder_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert SqliteJournalConfig(path=Path("~/j.db")).get_path(Path("/state")) == Path("/home/somebody/j.db")


@pytest.mark.parametrize("wrong", [{"type": "postgres"}, {"pth": "x"}, {"path": 5}])
def test_anything_else_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SqliteJournalConfig.model_validate(wrong)


def test_every_field_is_described() -> None:
    assert all(field.description for field in SqliteJournalConfig.model_fields.values())
