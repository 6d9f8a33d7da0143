"""Tokens by their hashes, and the two files in the state folder."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path

import pytest

from rotator.domain.errors import Misconfigured
from rotator.server.tokens import (
    ADMIN_TOKEN_FILE,
    DAEMON_FILE,
    Caller,
    Role,
    TokenBook,
    remove_daemon_file,
    write_admin_token,
    write_daemon_file,
)


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_found_by_its_hash() -> None:
    book = TokenBook.from_config([("ci", "operator", digest("one")), ("grafana", "viewer", digest("two").upper())])
    assert book.find("one") == Caller("ci", Role.OPERATOR)
    assert book.find("two") == Caller("grafana", Role.VIEWER)


@pytest.mark.parametrize("token", ["", "three", "one ", "On" + "e", digest("one"), "one\udcff", "x" * 100_000])
def test_anything_else_is_nobody(token: str) -> None:
    assert TokenBook.from_config([("ci", "operator", digest("one"))]).find(token) is None


def test_an_empty_book_lets_nobody_in() -> None:
    assert TokenBook().find("") is None


def test_the_local_admin_comes_on_top() -> None:
    book = TokenBook.from_config([("ci", "viewer", digest("one"))]).with_admin("local")
    assert book.find("local") == Caller("local-admin", Role.ADMIN)
    assert book.find("one") == Caller("ci", Role.VIEWER)


def test_a_book_shows_no_token() -> None:
    book = TokenBook().with_admin("a-secret-token")
    assert "a-secret-token" not in repr(vars(book))


@pytest.mark.parametrize(
    ("entry", "rule"),
    [
        (("ci", "root", "0" * 64), "server.tokens: ci: role must be"),
        (("ci", "admin", "0" * 63), "server.tokens: ci: sha256 must be"),
        (("ci", "admin", "plain-token"), "server.tokens: ci: sha256 must be"),
    ],
)
def test_a_wrong_entry_is_named_without_its_value(entry: tuple[str, str, str], rule: str) -> None:
    with pytest.raises(Misconfigured, match=rule) as caught:
        TokenBook.from_config([entry])
    assert "plain-token" not in str(caught.value)


def test_roles_include_each_other() -> None:
    assert Role.VIEWER < Role.OPERATOR < Role.ADMIN


def test_the_admin_token_is_private_and_kept(tmp_path: Path) -> None:
    token = write_admin_token(tmp_path / "state")
    path = tmp_path / "state" / ADMIN_TOKEN_FILE
    assert len(token) >= 43
    assert path.read_text() == f"{token}\n"
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)
    assert write_admin_token(tmp_path / "state") == token
    assert [p.name for p in path.parent.iterdir()] == [ADMIN_TOKEN_FILE]


@pytest.mark.parametrize("loose", [0o644, 0o640, 0o604, 0o660])
def test_a_token_that_others_could_read_is_replaced(tmp_path: Path, loose: int) -> None:
    token = write_admin_token(tmp_path)
    (tmp_path / ADMIN_TOKEN_FILE).chmod(loose)
    assert write_admin_token(tmp_path) != token
    assert mode(tmp_path / ADMIN_TOKEN_FILE) == 0o600


@pytest.mark.parametrize("content", ["", "short", "x" * 300, "white space " * 4, "é" * 40])
def test_a_token_file_that_was_spoiled_is_replaced(tmp_path: Path, content: str) -> None:
    path = tmp_path / ADMIN_TOKEN_FILE
    path.write_text(content)
    path.chmod(0o600)
    assert write_admin_token(tmp_path) != content.strip()


def test_a_link_in_the_tokens_place_is_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("A" * 43)
    elsewhere.chmod(0o600)
    (tmp_path / ADMIN_TOKEN_FILE).symlink_to(elsewhere)
    assert write_admin_token(tmp_path) != "A" * 43
    assert elsewhere.read_text() == "A" * 43
    assert not (tmp_path / ADMIN_TOKEN_FILE).is_symlink()


def test_a_pipe_in_the_tokens_place_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ADMIN_TOKEN_FILE, 0o600)
    assert write_admin_token(tmp_path)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="--state-dir"):
        write_admin_token(tmp_path / "file")


def test_the_daemon_file_says_where_and_who_and_goes_with_its_owner(tmp_path: Path) -> None:
    path = write_daemon_file(tmp_path, "http://127.0.0.1:8700")
    assert json.loads(path.read_text()) == {"url": "http://127.0.0.1:8700", "pid": os.getpid()}
    assert mode(path) == 0o600
    remove_daemon_file(tmp_path)
    assert not path.exists()
    remove_daemon_file(tmp_path)


@pytest.mark.parametrize("content", ['{"url": "x", "pid": 1}', "[]", "{", ""])
def test_a_notice_of_somebody_else_stays(tmp_path: Path, content: str) -> None:
    (tmp_path / DAEMON_FILE).write_text(content)
    remove_daemon_file(tmp_path)
    assert (tmp_path / DAEMON_FILE).read_text() == content
