"""The file target on real files: what it writes, what it refuses, and what it leaves alone."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rotator.domain.errors import Conflict, Misconfigured, Refused, Unreachable
from rotator.domain.keys import KeyId, Kind
from rotator.domain.ports import Delivery
from rotator.domain.reasons import Reason
from rotator.domain.secret import Secret
from rotator.targets.contents import TemplateContent
from rotator.targets.file.backups import KEPT
from rotator.targets.file.building import build_file_target
from rotator.targets.file.config import FileTargetConfig
from rotator.targets.file.target import MOST_REWRITES, FileTarget

CLIENT_FILES = {
    "claude-code": ".claude.json",
    "cursor": ".cursor/mcp.json",
    "vscode": ".config/Code/User/mcp.json",
    "gemini-cli": ".gemini/settings.json",
    "codex": ".codex/config.toml",
}
URL = "https://api.millimetric.ai/mcp"


class HandClock:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.at.timestamp()


def a_secret(kind: str = "rk") -> Secret:
    return Secret(f"{kind}_live_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}")


def a_delivery(secret: Secret, generation: int = 1, *, ours: frozenset[KeyId] = frozenset()) -> Delivery:
    return Delivery("checkout", secret, generation, URL, ours)


class Place:
    """A home folder, and targets in it."""

    def __init__(self, tmp_path: Path) -> None:
        self.home = tmp_path / "home"
        self.state = tmp_path / "state"
        self.clock = HandClock()
        for folder in (".claude", ".cursor", ".config/Code/User", ".gemini", ".codex"):
            (self.home / folder).mkdir(parents=True)

    def target(self, **config: object) -> FileTarget:
        if "client" in config:
            config.setdefault("home", self.home)
        return build_file_target("t", FileTargetConfig.model_validate(config), self.state, self.clock, {}, self.home, "linux")

    def bring(self, target: FileTarget, secret: Secret, generation: int = 1, *, ours: frozenset[KeyId] = frozenset()) -> None:
        after = target.deliver(a_delivery(secret, generation, ours=ours), target.observe("checkout"))
        assert after.key_id == secret.key_id
        assert after.generation == generation


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("client", sorted(CLIENT_FILES))
def test_a_client_file_gets_the_key_and_its_successor(place: Place, client: str) -> None:
    target = place.target(client=client)
    path = place.home / CLIENT_FILES[client]
    assert target.path == path
    for generation in (1, 2, 3):
        secret = a_secret()
        place.bring(target, secret, generation)
        text = path.read_text()
        data = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
        assert f"Bearer {secret.reveal()}" in json.dumps(data)
        assert text.count(secret.reveal()) == 1
        assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("client", sorted(CLIENT_FILES))
def test_everything_else_in_a_client_file_stays_and_a_withdrawal_restores_its_bytes(place: Place, client: str) -> None:
    target = place.target(client=client)
    path = place.home / CLIENT_FILES[client]
    before = b'# mine\nmodel = "x"\n' if path.suffix == ".toml" else b'{\r\n\t"numStartups": 12.50,\r\n\t"a": [1,2]\r\n}\r\n'
    path.write_bytes(before)
    path.chmod(0o600)
    place.bring(target, a_secret(), 1)
    place.bring(target, a_secret(), 2)
    assert target.withdraw("checkout") is True
    assert path.read_bytes() == before
    assert target.withdraw("checkout") is False


@pytest.mark.parametrize("client", sorted(CLIENT_FILES))
def test_a_delivery_can_be_shown_before_it_is_made(place: Place, client: str) -> None:
    target = place.target(client=client)
    path = place.home / CLIENT_FILES[client]
    path.write_bytes(b'model = "x"\n' if path.suffix == ".toml" else b'{"a": 1}\n')
    path.chmod(0o600)
    before, first, second = path.read_bytes(), a_secret(), a_secret()
    shown = target.preview(a_delivery(first))
    assert path.read_bytes() == before
    added = [line for line in shown.splitlines() if line.startswith("+")]
    assert any(f"{first.key_id}_…" in line for line in added)
    assert first.reveal() not in shown
    place.bring(target, first)
    assert target.preview(a_delivery(first)) == ""
    shown = target.preview(a_delivery(second, 2))
    assert f"{first.key_id}_…" in shown
    assert f"{second.key_id}_…" in shown


def test_a_file_is_kept_as_it_was_before_each_change_with_our_keys_masked(place: Place) -> None:
    target = place.target(client="cursor")
    path = place.home / CLIENT_FILES["cursor"]
    path.write_text('{"theirs": "their-own-secret"}')
    path.chmod(0o600)
    given = [a_secret() for _ in range(6)]
    for generation, secret in enumerate(given, 1):
        place.bring(target, secret, generation)
    copies = sorted(place.state.glob("backups/*/*"))
    assert len(copies) == KEPT
    texts = [copy.read_text() for copy in copies]
    assert all(copy.stat().st_mode & 0o777 == 0o600 and copy.parent.stat().st_mode & 0o777 == 0o700 for copy in copies)
    assert all("their-own-secret" in text for text in texts)
    assert [secret.key_id for text in texts for secret in given if str(secret.key_id) in text] == [s.key_id for s in given[2:5]]
    assert not [text for text in texts for secret in given if secret.reveal() in text]
    assert target.withdraw("checkout")
    assert str(given[5].key_id) in max(place.state.glob("backups/*/*")).read_text()


def test_what_somebody_else_put_in_place_of_our_key_is_not_taken_out(place: Place) -> None:
    target = place.target(client="cursor")
    path = place.home / CLIENT_FILES["cursor"]
    place.bring(target, a_secret())
    theirs = path.read_text().replace(str(target.observe("checkout").key_id), "rk_live_theirs00")
    path.write_text(theirs)
    with pytest.raises(Refused, match="left alone"):
        target.withdraw("checkout")
    assert path.read_text() == theirs


def test_raw_header_and_template(place: Place, tmp_path: Path) -> None:
    secret = a_secret()
    wanted: list[tuple[dict[str, object], str]] = [
        ({"content": "key"}, f"{secret.reveal()}\n"),
        ({"content": "header"}, f"Bearer {secret.reveal()}\n"),
        ({"template": "K={key}\nID={key_id} {{x}} {endpoint}"}, f"K={secret.reveal()}\nID={secret.key_id} {{x}} {URL}"),
    ]
    for number, (config, text) in enumerate(wanted):
        target = place.target(path=str(tmp_path / f"consumer-{number}.key"), **config)
        place.bring(target, secret)
        assert target.path.read_text() == text
        assert target.path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("template", ["no key", "{key} {other}", "{key", "{}", "{0} {key}"])
def test_a_template_without_the_key_or_with_unknown_fields_is_refused(template: str) -> None:
    with pytest.raises(Misconfigured):
        TemplateContent(template)


def test_a_file_that_others_can_read_is_tightened_and_this_is_said(place: Place) -> None:
    target = place.target(client="cursor")
    path = place.home / CLIENT_FILES["cursor"]
    path.write_text("{}")
    path.chmod(0o644)
    after = target.deliver(a_delivery(a_secret()), target.observe("checkout"))
    assert "tightened to 0600" in after.text
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_write_is_conditional_on_what_was_read(place: Place) -> None:
    target = place.target(client="cursor")
    seen = target.observe("checkout")
    (place.home / CLIENT_FILES["cursor"]).write_text('{"changed": true}')
    with pytest.raises(Conflict):
        target.deliver(a_delivery(a_secret()), seen)
    assert (place.home / CLIENT_FILES["cursor"]).read_text() == '{"changed": true}'


def test_never_from_a_newer_generation_to_an_older_one(place: Place) -> None:
    target = place.target(client="cursor")
    newer, older = a_secret(), a_secret()
    place.bring(target, newer, 5)
    with pytest.raises(Conflict, match="generation 5"):
        target.deliver(a_delivery(older, 4, ours=frozenset({newer.key_id})), target.observe("checkout"))
    assert target.observe("checkout").key_id == newer.key_id


def test_an_entry_that_is_not_ours_is_left_alone_unless_told(place: Place) -> None:
    target = place.target(client="cursor")
    path = place.home / CLIENT_FILES["cursor"]
    theirs = a_secret()
    text = json.dumps({"mcpServers": {"millimetric": {"url": URL, "headers": {"Authorization": f"Bearer {theirs.reveal()}"}}}})
    path.write_text(text)
    path.chmod(0o600)
    seen = target.observe("checkout")
    assert (seen.problem, seen.key_id) == (Reason.FOREIGN_ENTRY, theirs.key_id)
    with pytest.raises(Refused) as refusal:
        target.deliver(a_delivery(a_secret()), seen)
    assert refusal.value.reason is Reason.FOREIGN_ENTRY
    with pytest.raises(Refused):
        target.check("checkout")
    assert path.read_text() == text
    # A key of this very credential was written by a sibling daemon: it may be replaced.
    place.bring(target, a_secret(), 2, ours=frozenset({theirs.key_id}))
    path.write_text(text)
    place.bring(place.target(client="cursor", adopt=True), a_secret(), 3)


def test_a_value_that_a_user_edited_is_theirs(place: Place) -> None:
    target = place.target(client="cursor")
    mine, theirs = a_secret(), a_secret()
    place.bring(target, mine)
    path = place.home / CLIENT_FILES["cursor"]
    path.write_text(path.read_text().replace(mine.reveal(), theirs.reveal()))
    assert target.observe("checkout").problem is Reason.FOREIGN_ENTRY


@pytest.mark.parametrize("text", ["{", '{"mcpServers": []}', '{"mcpServers": {}, "mcpServers": {}}', "// no\n{}", "\xff"])
def test_a_malformed_or_odd_file_is_reported_and_not_touched(place: Place, text: str) -> None:
    target = place.target(client="cursor")
    path = place.home / CLIENT_FILES["cursor"]
    path.write_bytes(text.encode("latin-1"))
    seen = target.observe("checkout")
    assert seen.problem in (Reason.MALFORMED_FILE, Reason.UNSAFE_FILE)
    assert str(path) in seen.text
    with pytest.raises(Refused):
        target.deliver(a_delivery(a_secret()), seen)
    assert path.read_bytes() == text.encode("latin-1")


def _tracked(path: Path) -> None:
    path.write_text("{}")
    git = ["git", "-C", str(path.parent), "-c", "user.name=t", "-c", "user.email=t@example.invalid"]
    for command in (["init", "-q"], ["add", path.name], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True, capture_output=True)


def _hard_linked(path: Path) -> None:
    path.write_text("{}")
    os.link(path, path.with_name("other"))


def _read_only(path: Path) -> None:
    path.write_text("{}")
    path.chmod(0o400)


def _linked_outside(path: Path) -> None:
    outside = path.parents[2] / "dotfiles.json"
    outside.write_text("{}")
    path.symlink_to(outside)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(_tracked, "tracked by git"), (_hard_linked, "hard links"), (_read_only, "read-only"), (_linked_outside, "outside the home folder")],
)
def test_an_unsafe_file_is_refused_with_what_to_do(place: Place, spoil: Callable[[Path], None], words: str) -> None:
    target = place.target(client="cursor")
    path = place.home / CLIENT_FILES["cursor"]
    spoil(path)
    before = path.read_bytes()
    seen = target.observe("checkout")
    assert seen.problem is Reason.UNSAFE_FILE
    assert words in seen.text
    with pytest.raises(Refused, match=words):
        target.deliver(a_delivery(a_secret()), seen)
    with pytest.raises(Refused, match=words):
        target.check("checkout")
    assert path.read_bytes() == before


def test_a_file_that_becomes_unsafe_after_a_look_is_not_written_and_said_a_moment_later(place: Place) -> None:
    target = place.target(client="cursor")
    path = place.home / CLIENT_FILES["cursor"]
    path.write_text("{}")
    seen = target.observe("checkout")
    assert seen.problem is None
    os.link(path, path.with_name("other"))
    with pytest.raises(Refused, match="hard links"):
        target.deliver(a_delivery(a_secret()), seen)
    with pytest.raises(Refused, match="hard links"):
        target.check("checkout")
    place.clock.at += timedelta(seconds=6)
    assert [target.observe("checkout").problem for _ in range(2)] == [Reason.UNSAFE_FILE] * 2
    path.with_name("other").unlink()
    assert target.observe("checkout").problem is None, "what was put right is still complained about"


def test_what_another_process_wrote_down_is_read(place: Place) -> None:
    target, secret = place.target(client="cursor"), a_secret()
    assert target.observe("checkout").generation is None
    place.bring(place.target(client="cursor"), secret, 3)
    assert target.observe("checkout").generation == 3
    place.bring(place.target(client="cursor"), secret, 4)
    assert target.observe("checkout").generation == 4


def test_a_synced_folder_is_refused(place: Place, tmp_path: Path) -> None:
    (tmp_path / "Dropbox").mkdir()
    target = place.target(path=str(tmp_path / "Dropbox" / "app.key"), content="key")
    with pytest.raises(Refused, match="synced folder"):
        target.check("checkout")


def test_a_link_inside_the_home_folder_is_kept(place: Place) -> None:
    target = place.target(client="cursor")
    path = place.home / CLIENT_FILES["cursor"]
    real = place.home / "dotfiles.json"
    real.write_text("{}")
    path.symlink_to(real)
    secret = a_secret()
    place.bring(target, secret)
    assert path.is_symlink()
    assert secret.reveal() in real.read_text()


def test_a_client_that_is_not_installed_gets_no_file(place: Place) -> None:
    (place.home / ".cursor").rmdir()
    target = place.target(client="cursor")
    with pytest.raises((Refused, Unreachable)):
        target.check("checkout")
    assert not (place.home / ".cursor").exists()


def test_a_client_that_keeps_writing_its_old_copy_back_is_not_fought_for_ever(place: Place) -> None:
    target = place.target(client="gemini-cli")
    path = place.home / CLIENT_FILES["gemini-cli"]
    secret = a_secret()
    place.bring(target, secret)
    for _ in range(MOST_REWRITES):
        path.write_text("{}")
        place.bring(target, secret)
    path.write_text("{}")
    with pytest.raises(Refused, match="restart that client"):
        target.deliver(a_delivery(secret), target.observe("checkout"))
    place.clock.at += timedelta(days=1, seconds=1)
    place.bring(target, secret)


def test_nothing_is_written_where_the_key_is_already(place: Place) -> None:
    target = place.target(client="cursor")
    secret = a_secret()
    place.bring(target, secret)
    before = target.path.stat()
    place.bring(target, secret)
    after = target.path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_what_a_killed_daemon_left_beside_the_file_is_removed(place: Place) -> None:
    target = place.target(client="cursor")
    leftover = place.home / ".cursor" / f".rotator-{secrets.token_hex(8)}"
    leftover.write_text("left")
    place.bring(target, a_secret())
    assert not leftover.exists()


def test_the_ownership_record_holds_no_key(place: Place) -> None:
    secret = a_secret()
    place.bring(place.target(client="codex"), secret)
    kept = "".join(p.read_text() for p in place.state.rglob("*") if p.is_file())
    assert str(secret.key_id) in kept
    assert secret.reveal().split("_", 3)[-1][:10] not in kept


def test_the_command_runs_after_a_change_and_its_failure_is_told(place: Place, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    target = place.target(path=str(tmp_path / "consumer.key"), content="key", command=["touch", str(mark)])
    place.bring(target, a_secret())
    assert mark.exists()
    target = place.target(path=str(tmp_path / "consumer.key"), content="key", command=["false"])
    after = target.deliver(a_delivery(a_secret(), 2), target.observe("checkout"))
    assert "exit code 1" in after.text


def test_two_daemons_on_one_file_never_overwrite_each_other_unseen(tmp_path: Path) -> None:
    first, second = Place(tmp_path), Place.__new__(Place)
    second.home, second.state, second.clock = first.home, tmp_path / "state-2", first.clock
    one, two = first.target(client="cursor"), second.target(client="cursor")
    old, new = a_secret(), a_secret()
    first.bring(one, old)
    seen = two.observe("checkout")
    first.bring(one, new, 2)
    with pytest.raises(Conflict):
        two.deliver(a_delivery(old, 1, ours=frozenset({old.key_id, new.key_id})), seen)
    assert one.observe("checkout").key_id == new.key_id


def test_the_kinds_endpoint_stands_in_the_entry(place: Place) -> None:
    target = place.target(client="cursor")
    secret = a_secret(Kind.AK)
    target.deliver(Delivery("checkout", secret, 1, f"{URL}/account"), target.observe("checkout"))
    assert json.loads(target.path.read_text())["mcpServers"]["millimetric"]["url"] == f"{URL}/account"
