"""The admin token's file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from rotator.domain.errors import Misconfigured
from rotator.sandbox.sessions import ensure_token_file


def test_a_missing_file_is_made_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = ensure_token_file(path)
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ensure_token_file(path) == token


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("a" * 40, encoding="ascii")
    path.chmod(0o640)
    with pytest.raises(Misconfigured, match="chmod 600"):
        ensure_token_file(path)


@pytest.mark.parametrize("content", ["", "short\n", "ü" * 40])
def test_a_file_without_a_token_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(Misconfigured, match="token file"):
        ensure_token_file(path)


def test_links_and_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("a" * 40, encoding="ascii")
    (tmp_path / "real").chmod(0o600)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "link", tmp_path / "folder", tmp_path / "missing" / "token"):
        with pytest.raises(Misconfigured):
            ensure_token_file(path)
