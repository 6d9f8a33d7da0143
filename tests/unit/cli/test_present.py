"""What is printed, as golden texts at two widths. `python -m tests.unit.cli.golden_texts` writes them anew; read the difference."""

from __future__ import annotations

import pytest

from rotator.cli.present.blocks import Note, Table, render
from rotator.cli.present.status import build_status
from tests.unit.cli.build import NEW, NOW, a_status
from tests.unit.cli.golden_texts import CASES, GOLDEN, WIDTHS


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", CASES)
def test_a_screen_is_as_it_was_agreed(name: str, width: int) -> None:
    assert render(CASES[name], width) == (GOLDEN / f"{name}-{width}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [40, *WIDTHS])
@pytest.mark.parametrize("name", CASES)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    assert [line for line in render(CASES[name], width).splitlines() if len(line) > width] == []


@pytest.mark.parametrize("name", CASES)
def test_without_a_terminal_no_word_is_torn_apart_and_nothing_is_coloured(name: str) -> None:
    text = render(CASES[name], 10_000)
    assert "\x1b" not in text
    assert not [line for line in text.splitlines() if len(line) > 400]


def test_a_terminal_gets_colour() -> None:
    assert "\x1b[" in render([Note("all is well", "green")], 80, colour=True)


def test_foreign_text_cannot_steer_the_terminal() -> None:
    shown = render([Note("be\x1b[2Jware\u202e\x07"), Table(CASES["plan"][0] and (), ())], 80)
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "be\\x1b[2Jware\\u202e\\x07" in shown


@pytest.mark.parametrize(("width", "lost"), [(80, set()), (76, {"NEXT"}), (68, {"NEXT", "AGE"}), (60, {"NEXT", "AGE", "EXPIRES"})])
def test_a_narrow_terminal_costs_columns_and_tears_no_name_apart(width: int, lost: set[str]) -> None:
    name = "reports-of-the-night"
    head, row, *_ = render(build_status([a_status(name)], NOW, verbose=False), width).splitlines()
    assert {"CREDENTIAL", "KEY", "AGE", "EXPIRES", "PHASE", "CONSUMERS", "NEXT"} - set(head.split()) == lost
    assert row.startswith(f"{name}  {NEW}  ")


def test_what_a_person_is_asked_to_do_is_not_said_twice() -> None:
    text = "secret/a: the field api_key holds no key"
    waits = [{"reason": "misconfigured", "until": None, "names": [text]}, {"reason": "targets-behind", "until": None, "names": ["a"]}]
    row = a_status(phase="parked", parked=[{"reason": "preflight-failed", "text": f"nothing is minted: {text}"}], waiting=waits)
    shown = render(build_status([row], NOW, verbose=True), 400)
    assert (shown.count(text), shown.count("waits: ")) == (1, 1)


def test_a_credential_that_cannot_be_read_is_not_well() -> None:
    waits = [{"reason": "store-unreachable", "until": None, "names": ["vault is sealed"]}]
    shown = render(build_status([a_status(phase="unreadable", waiting=waits)], NOW, verbose=True), 140)
    assert "1 not readable now" in shown
    assert "all well" not in shown
    assert shown.count("vault is sealed") == 1
