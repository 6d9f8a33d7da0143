"""docs/cli.md says what the commands say."""

from __future__ import annotations

from tests.unit.cli.reference import PAGE, render_page
from tests.unit.cli.test_commands import COMMANDS


def test_the_page_is_as_the_commands_are() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == render_page(page), "run `python -m tests.unit.cli.reference`"


def test_every_command_has_its_section() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [path for path in COMMANDS if f"\n### `rotator {' '.join(path)}`\n" not in page] == []


def test_the_page_tells_how_to_complete_in_each_shell() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [shell for shell in ("bash", "zsh", "fish") if f"_ROTATOR_COMPLETE={shell}_source" not in page] == []
