"""Where the configuration comes from: the file, the secrets directory, the environment."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from rotator.settings import find_config, load_settings
from tests.unit.settings.writing import GOOD, find_problems, load, make_key, write


def test_a_good_file_loads(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD)
    assert loaded.path == tmp_path / "rotator.yaml"
    assert loaded.warnings == ()
    assert [use.name for use in loaded.settings.credentials["checkout-read"].targets] == ["laptop"]
    assert list(loaded.settings.stores) == ["embedded"]


def test_yaml_words_stay_what_they_look_like(tmp_path: Path) -> None:
    text = """
    credentials:
      on: {kind: rk, path: no, issuer: none, project: 12:30:45, justification: 010}
      null: {kind: rk, path: 2026-01-01, issuer: none, project: "12"}
    log:
    """
    credentials = load(tmp_path, text).settings.credentials
    assert [(name, one.path, one.project, one.justification) for name, one in credentials.items()] == [
        ("on", "no", "12:30:45", "010"),
        ("null", "2026-01-01", "12", None),
    ]


def test_a_section_with_nothing_in_it_is_none(tmp_path: Path) -> None:
    assert load(tmp_path, "stores:\nengine:\ncredentials:\n").settings.engine.workers == 8


def test_the_environment_wins_over_the_secrets_directory_and_that_over_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "rotator_engine__workers").write_text("5\n")
    (folder / "rotator_log__level").write_text("debug\n")
    (folder / "..data").mkdir()
    (folder / "unrelated").write_bytes(b"\xff")
    environ = {"ROTATOR_SECRETS_DIR": str(folder), "ROTATOR_ENGINE__WORKERS": "6"}
    settings = load(tmp_path, "engine: {workers: 4, lease: 10s}\n", environ).settings
    assert (settings.engine.workers, settings.engine.lease, settings.log.level) == (6, timedelta(seconds=10), "debug")


def test_every_depth_can_be_overridden(tmp_path: Path) -> None:
    environ = {
        "ROTATOR_INSTALLATION": "staging",
        "ROTATOR_CREDENTIALS__checkout-read__ROTATION__MAX_AGE": "10d",
        "ROTATOR_CREDENTIALS__CHECKOUT_READ__ROTATION__OVERLAP__MIN": "2h",
        "ROTATOR_CREDENTIALS__checkout-read__TARGETS": json.dumps([{"name": "dotenv", "required": False}]),
        "ROTATOR_CREDENTIALS__other": json.dumps({"kind": "rk", "path": "x", "issuer": "none"}),
        "ROTATOR_TARGETS__laptop__ENVIRON": json.dumps({"CLAUDE_CONFIG_DIR": "/x"}),
        "ROTATOR_TARGETS__dotenv__CONTENT": "header",
        "ROTATOR_MILLIMETRIC__TRUSTED_ENDPOINTS": '["http://127.0.0.1:1"]',
        "ROTATOR_MILLIMETRIC__ENDPOINT": "http://127.0.0.1:1",
        "ROTATOR_MILLIMETRIC__RATE": "null",
        "ROTATOR_SERVER__TOKENS": json.dumps([{"name": "a", "role": "viewer", "sha256": "A" * 64}]),
        "ROTATOR_METRICS__PORT": "9464",
        "ROTATOR_JOURNAL__PATH": "/x/journal.db",
        "ROTATOR_STORES__embedded__TYPE": "embedded",
        "ROTATOR_STORES__embedded__PATH": "/x/store.bin",
    }
    settings = load(tmp_path, GOOD, environ).settings
    credential = settings.credentials["checkout-read"]
    assert settings.installation == "staging"
    assert credential.rotation.max_age == timedelta(days=10)
    assert credential.rotation.overlap.min == timedelta(hours=2)
    assert [(use.name, use.required) for use in credential.targets] == [("dotenv", False)]
    assert settings.credentials["other"].path == "x"
    assert settings.targets["laptop"].environ == {"CLAUDE_CONFIG_DIR": "/x"}
    assert settings.targets["dotenv"].content == "header"
    assert (settings.millimetric.endpoint, settings.millimetric.rate) == ("http://127.0.0.1:1", None)
    assert [token.sha256 for token in settings.server.tokens] == ["a" * 64]
    assert settings.metrics.port == 9464
    assert settings.journal.path == Path("/x/journal.db")
    assert settings.stores["embedded"].path == Path("/x/store.bin")


def test_the_environment_alone_will_do() -> None:
    loaded = load_settings(None, {"ROTATOR_INSTALLATION": "staging", "HOME": "/nowhere"})
    assert (loaded.path, loaded.settings.installation) == (None, "staging")


@pytest.mark.parametrize(
    ("name", "text", "path", "rule"),
    [
        ("ROTATOR_ENGINE__WORKERS", "many", "engine.workers", "must be a whole number"),
        ("ROTATOR_ENGINE__WROKERS", "4", "engine.wrokers", "is not a setting; did you mean workers?"),
        ("ROTATOR_CREDENTIALS__checkout-read__KIND", "pk", "credentials.checkout-read.kind", "browser key"),
        ("ROTATOR_CREDENTIALS__checkout-read__ISSUER", "nobody", "credentials.checkout-read.issuer", "no issuer called nobody"),
        ("ROTATOR_CREDENTIALS__checkout-read__TARGETS", "laptop", "", "must be written as JSON"),
        ("ROTATOR_CREDENTIALS__checkout-read__TARGETS", '["nowhere"]', "credentials.checkout-read.targets[0]", "no target called nowhere"),
        ("ROTATOR_CREDENTIALS", "[", "", "must be written as JSON"),
        ("ROTATOR_MILLIMETRIC__ENDPOINT", "https://api.example", "millimetric.endpoint", "trusted_endpoints"),
        ("ROTATOR_SERVER__PORT", "70000", "server.port", "at most 65535"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(name: str, text: str, path: str, rule: str, tmp_path: Path) -> None:
    (problem,) = find_problems(write(tmp_path, GOOD)[0], {name: text})
    assert (str(problem.origin), problem.path) == (name, path)
    assert rule in problem.rule


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("ROTATOR_ENGIN__WORKERS", "there is no section called ENGIN; did you mean ROTATOR_ENGINE__WORKERS?"),
        ("rotator_sever__port", "there is no section called sever; did you mean rotator_server__port?"),
        ("ROTATOR_XYZ__A__B", "there is no section called XYZ; known are credentials, engine"),
    ],
)
def test_a_section_that_does_not_exist_is_a_mistake_in_variables_and_secrets_files(name: str, rule: str, tmp_path: Path) -> None:
    (problem,) = find_problems(write(tmp_path, GOOD)[0], {name: "4"})
    assert str(problem).startswith(f"{name}: {rule}")
    (tmp_path / name).write_text("4")
    (problem,) = find_problems(write(tmp_path, GOOD)[0], {"ROTATOR_SECRETS_DIR": str(tmp_path)})
    assert str(problem).startswith(f"{tmp_path / name}: {rule}")


def test_what_kubernetes_puts_into_the_environment_is_no_section(tmp_path: Path) -> None:
    environ = {"ROTATOR__A_SERVICE_HOST": "10.0.0.1", "ROTATOR__A_PORT": "tcp://10.0.0.1:80"}
    assert load_settings(write(tmp_path, GOOD)[0], environ).warnings == ()


def test_a_mistake_in_a_secrets_directory_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "rotator_server__port").write_text("none")
    (problem,) = find_problems(write(tmp_path, GOOD)[0], {"ROTATOR_SECRETS_DIR": str(tmp_path)})
    assert str(problem) == f"{tmp_path}/rotator_server__port: server.port: must be a whole number"


def test_a_secrets_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    (problem,) = find_problems(write(tmp_path, GOOD)[0], {"ROTATOR_SECRETS_DIR": "/nowhere"})
    assert str(problem) == "ROTATOR_SECRETS_DIR: the folder /nowhere cannot be read (No such file or directory)"


def test_a_key_in_a_variable_is_refused_and_never_repeated(tmp_path: Path) -> None:
    key = make_key()
    (problem,) = find_problems(write(tmp_path, GOOD)[0], {"ROTATOR_CREDENTIALS__checkout-read__PROJECT": key})
    assert str(problem.origin) == "ROTATOR_CREDENTIALS__checkout-read__PROJECT"
    assert "full key" in problem.rule
    assert key[17:] not in str(problem)


def test_one_underscore_too_few_is_a_warning(tmp_path: Path) -> None:
    environ = {
        "ROTATOR_ENGINE_WORKERS": "4",
        "ROTATOR_SERVER_SERVICE_HOST": "10.0.0.1",
        "ROTATOR_SERVER_PORT": "tcp://10.0.0.1:8700",
        "ROTATOR_TOKEN": "x",
    }
    assert load(tmp_path, GOOD, environ).warnings == (
        "ROTATOR_ENGINE_WORKERS is not used: two underscores separate names, as in ROTATOR_ENGINE__WORKERS",
    )


def test_a_window_that_nothing_waits_for_is_a_warning(tmp_path: Path) -> None:
    text = GOOD + '    rotation:\n      window: "09:00-16:00 UTC"\n'
    (warning,) = load(tmp_path, text).warnings
    assert warning == f"{tmp_path}/rotator.yaml:12:7: credentials.checkout-read.rotation.window: has no effect without `every` or `cron`"


def test_files_need_not_be_there_where_nobody_reads_them(tmp_path: Path) -> None:
    text = "stores:\n  s: {type: embedded, master_key: {file: /nowhere/master.key}}\n"
    assert load_settings(write(tmp_path, text)[0], {}, files=False).settings.stores


def test_a_placeholder_in_a_request_is_no_variable(tmp_path: Path) -> None:
    text = """
    issuers:
      admin:
        type: http
        base_url: https://admin.example
        auth: {type: bearer, token_env: TOKEN}
        mint: {method: POST, path: /keys, body: {env: "{env}", label: "{label}"}}
    """
    assert load(tmp_path, text, {"TOKEN": "x"}).settings.issuers["admin"].mint.path == "/keys"


class TestTheFile:
    def test_order(self, tmp_path: Path) -> None:
        home, here = tmp_path / "home", tmp_path / "here"
        ours = home / ".config" / "rotator" / "rotator.yaml"
        ours.parent.mkdir(parents=True)
        here.mkdir()
        environ = {"HOME": str(home)}
        assert find_config(None, environ, here) is None
        ours.touch()
        assert find_config(None, environ, here) == ours
        assert find_config(None, {**environ, "XDG_CONFIG_HOME": str(tmp_path)}, here) is None
        (here / "rotator.yaml").touch()
        assert find_config(None, environ, here) == here / "rotator.yaml"
        assert find_config(None, {**environ, "ROTATOR_CONFIG": "/x.yaml"}, here) == Path("/x.yaml")
        assert find_config(Path("/y.yaml"), {**environ, "ROTATOR_CONFIG": "/x.yaml"}, here) == Path("/y.yaml")

    def test_none_names_every_place(self) -> None:
        (problem,) = find_problems(None, {"HOME": "/nowhere"})
        for words in ("--config", "ROTATOR_CONFIG", "/nowhere/.config/rotator/rotator.yaml", "/etc/rotator/rotator.yaml"):
            assert words in str(problem)

    def test_missing(self) -> None:
        (problem,) = find_problems(Path("/nowhere/rotator.yaml"))
        assert str(problem) == "/nowhere/rotator.yaml: does not exist"

    def test_a_folder(self, tmp_path: Path) -> None:
        (problem,) = find_problems(tmp_path)
        assert str(problem) == f"{tmp_path}: is a folder: name the file in it"

    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n"])
    def test_empty(self, text: str, tmp_path: Path) -> None:
        (problem,) = find_problems(write(tmp_path, text)[0])
        assert str(problem) == f"{tmp_path}/rotator.yaml: is empty: `rotator config example` prints one to begin with"

    def test_not_utf_8(self, tmp_path: Path) -> None:
        path = tmp_path / "rotator.yaml"
        path.write_bytes(b"log:\n  level: \xe9\n")
        (problem,) = find_problems(path)
        assert str(problem) == f"{path}:2:10: is not UTF-8 text: save it as UTF-8"

    def test_a_byte_order_mark_is_none_of_our_business(self, tmp_path: Path) -> None:
        path = tmp_path / "rotator.yaml"
        path.write_bytes(b"\xef\xbb\xbflog: {level: debug}\n")
        assert load_settings(path, {}).settings.log.level == "debug"

    def test_control_characters(self, tmp_path: Path) -> None:
        path = tmp_path / "rotator.yaml"
        path.write_bytes(b"log: \x00\n")
        (problem,) = find_problems(path)
        assert "is not YAML: " in str(problem)

    def test_two_documents(self, tmp_path: Path) -> None:
        (problem,) = find_problems(write(tmp_path, "log: {}\n---\nlog: {}\n")[0])
        assert (problem.origin.line, "is not YAML" in problem.rule) == (2, True)

    def test_a_small_file_with_very_many_aliases(self, tmp_path: Path) -> None:
        lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
        (problem,) = find_problems(write(tmp_path, "\n".join(lines))[0])
        assert "too large with all its aliases" in problem.rule

    def test_very_deep(self, tmp_path: Path) -> None:
        # Deep enough to end a process that composes it.
        (problem,) = find_problems(write(tmp_path, "a: " + "[" * 600_000)[0])
        assert "nested too deeply" in problem.rule

    def test_unreadable(self, tmp_path: Path) -> None:
        path = tmp_path / "rotator.yaml"
        path.symlink_to(path)
        (problem,) = find_problems(path)
        assert "cannot be read (" in problem.rule

    def test_nothing_of_this_process_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(os.environ, "ROTATOR_ENGINE__WORKERS", "99")
        assert load(tmp_path, GOOD).settings.engine.workers == 8
