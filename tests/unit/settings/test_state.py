"""The state folder: where it is, and that nobody else can look into it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rotator.domain.errors import Misconfigured
from rotator.settings import state_dir


def test_the_option_wins_then_the_variable_then_xdg_then_home(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    assert state_dir(None, environ) == tmp_path / "home/.local/state/rotator"
    environ["XDG_STATE_HOME"] = "relative"
    assert state_dir(None, environ) == tmp_path / "home/.local/state/rotator"
    environ["XDG_STATE_HOME"] = str(tmp_path / "xdg")
    assert state_dir(None, environ) == tmp_path / "xdg/rotator"
    environ["ROTATOR_STATE_DIR"] = str(tmp_path / "variable")
    assert state_dir(None, environ) == tmp_path / "variable"
    assert state_dir(tmp_path / "option", environ) == tmp_path / "option"


def test_it_is_made_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = state_dir(tmp_path / "a" / "b", {})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o700
    assert state_dir(path, {}) == path


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o770, 0o701])
def test_one_that_others_can_enter_is_refused(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(Misconfigured, match="chmod it to 0700"):
        state_dir(path, {})


def test_one_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(Misconfigured, match="belongs to another user"):
        state_dir(tmp_path / "state", {})


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(Misconfigured, match="is a file"):
        state_dir(tmp_path / "state", {})
    with pytest.raises(Misconfigured, match="cannot be made"):
        state_dir(tmp_path / "state" / "below", {})


def test_who_only_looks_makes_none(tmp_path: Path) -> None:
    assert state_dir(tmp_path / "state", {}, make=False) == tmp_path / "state"
    assert not (tmp_path / "state").exists()
