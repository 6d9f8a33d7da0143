"""`run`, `check`, `config`, `sandbox`, `demo`: what runs here, on real configurations."""

from __future__ import annotations

import json
import signal
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cli.conftest import Call
from tests.unit.cli.test_startup import start

_DEADLINE = 60.0


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with nothing to reach."""
    path = tmp_path / "rotator.yaml"
    path.write_text("installation: test\ncredentials: {}\n")
    return path


def test_check_says_that_all_is_well(call: Call, config: Path) -> None:
    result = call("check", "-c", str(config))
    assert result.exit_code == 0, result.output
    assert "all is well" in result.stdout
    answer = json.loads(call("check", "--json").stdout)
    assert answer["ok"] is True
    assert {"part", "ok", "text"} == set(answer["lines"][0])


@pytest.mark.parametrize("command", [("check",), ("run", "--once"), ("config", "show")])
def test_mistakes_in_the_configuration_are_exit_code_3_one_a_line(command: tuple[str, ...], call: Call, config: Path) -> None:
    config.write_text("installation: test\ncredentals: {}\nengine: {workers: many}\n")
    result = call(*command, "-c", str(config))
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 2
    assert f"{config}:2" in result.stderr
    assert "Traceback" not in result.output


def test_what_is_not_well_is_exit_code_1(call: Call, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rotator.wiring import checking

    report = checking.CheckReport((checking.CheckLine("issuer admin", False, "does not answer"),))
    asked: list[Any] = []
    monkeypatch.setattr(checking, "check", lambda *args, **kwargs: asked.append((args, kwargs)) or report)
    result = call("check", "-c", str(config), "--live")
    assert result.exit_code == 1
    assert "FAILED" in result.stdout
    assert asked[0][0][0] == config
    assert asked[0][1] == {"live": True}


def test_schema_and_example_and_show(call: Call, config: Path) -> None:
    assert "properties" in json.loads(call("config", "schema").stdout)
    assert yaml.safe_load(call("config", "example").stdout)["credentials"]
    shown = call("config", "show", "-c", str(config))
    assert yaml.safe_load(shown.stdout)["installation"] == "test"
    assert json.loads(call("config", "show", "--json").stdout) == yaml.safe_load(shown.stdout)


@pytest.mark.parametrize("code", [0, 1, 4])
def test_run_ends_with_the_daemon_s_code(code: int, call: Call, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rotator.wiring import running

    asked: list[Any] = []
    monkeypatch.setattr(running, "run_daemon", lambda *args, **kwargs: asked.append((args, kwargs)) or code)
    assert call("run", "--once", "-c", str(config), "--state-dir", str(tmp_path / "state")).exit_code == code
    assert asked == [((config, tmp_path / "state"), {"once": True})]


def test_demo_ends_with_the_story_s_code(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rotator.cli.demo.run_demo", lambda: 1)
    assert call("demo").exit_code == 1


def test_the_sandbox_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    with start(
        "sandbox", "--port", "0", "--ready-file", str(ready), "--state-dir", str(tmp_path / "state"), "--cache-time", "1s"
    ) as process:
        wait_until(ready.exists)
        request = urllib.request.Request(f"{json.loads(ready.read_text())['url']}/mcp", data=b"{}", method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 401
        refused.value.close()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=_DEADLINE)
    assert process.returncode in (0, 130)
    assert "the sandbox serves at" in out
    assert "Traceback" not in err
    assert (tmp_path / "state" / "sandbox.token").stat().st_mode & 0o777 == 0o600


def test_the_sandbox_must_forget(call: Call) -> None:
    assert call("sandbox", "--cache-time", "never").exit_code == 2


def test_a_wrong_configuration_in_json(call: Call, config: Path) -> None:
    config.write_text("installation: test\ncredentals: {}\nengine: {workers: many}\n")
    result = call("check", "--json", "-c", str(config))
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert [(line["part"], line["ok"]) for line in answer["lines"]] == [("configuration", False)] * 2


def test_a_configuration_that_cannot_be_read_is_exit_code_3(call: Call, tmp_path: Path) -> None:
    for name in (".", "none.yaml"):
        result = call("check", "-c", str(tmp_path / name))
        assert result.exit_code == 3
        assert str(tmp_path / name) in result.stderr


_CREDENTIAL = """
installation: test
millimetric: {endpoint: "http://127.0.0.1:1", trusted_endpoints: ["http://127.0.0.1:1"]}
issuers: {admin: {type: http, base_url: "http://127.0.0.1:1", auth: {type: bearer, token_env: HOME}}}
credentials: {a: {kind: rk, path: test/a, issuer: admin}}
"""


def test_live_makes_nothing_before_the_first_start(call: Call, config: Path, tmp_path: Path) -> None:
    config.write_text(_CREDENTIAL)
    state = tmp_path / "deep" / "state"
    result = call("check", "--live", "-c", str(config), "--state-dir", str(state))
    assert result.exit_code == 1, result.output
    assert "will be made at the first start" in result.stdout
    assert "Connection refused" in result.stdout
    assert "Errno" not in result.output
    assert not state.parent.exists()


@pytest.mark.parametrize(
    ("verdict", "ok", "text"),
    [("alive", True, "is alive"), ("dead", False, "`rotator rotate a`"), ("unknown", False, "the endpoint gave no answer")],
)
def test_live_says_whether_the_current_key_works(verdict: str, ok: bool, text: str) -> None:
    from datetime import UTC, datetime
    from types import SimpleNamespace

    from rotator.domain.facts import Verdict
    from rotator.domain.keys import parse_key_id
    from rotator.domain.ports import Answer
    from rotator.wiring.checking import _check_key

    key = parse_key_id("rk_live_99887766")
    holding = SimpleNamespace(current=key, secrets={key: None})
    answer = Answer(Verdict(verdict), datetime.now(UTC))
    prober = SimpleNamespace(probe=lambda _: answer, endpoint=lambda _: "http://127.0.0.1:1")
    store = SimpleNamespace(read=lambda _: holding)
    credential: Any = SimpleNamespace(name="a", path="p", store_name="s", store=store, prober=prober, issuer_name="admin")
    line = _check_key(credential)
    assert line.ok is ok
    assert text in line.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_demo_that_is_told_to_end_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    def running() -> bool:
        return any(tmp_path.glob("rotator-demo-*/state/daemon.json"))

    def children() -> list[str]:
        named = f"{tmp_path}/rotator-demo-".encode()
        return [p.parent.name for p in Path("/proc").glob("[0-9]*/environ") if _holds(p, named)]

    with start("demo", TMPDIR=str(tmp_path)) as process:
        wait_until(running)
        assert children()
        process.send_signal(number)
        _, err = process.communicate(timeout=_DEADLINE)
    assert process.returncode == 128 + number
    assert "Traceback" not in err
    assert list(tmp_path.glob("rotator-demo-*")) == []
    assert children() == []


def _holds(environ: Path, text: bytes) -> bool:
    try:
        return text in environ.read_bytes()
    except OSError:  # it has ended, or is another's
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    """Waits for a condition, at most until the deadline."""
    pause = threading.Event()
    for _ in range(int(_DEADLINE / 0.05)):
        if holds():
            return
        pause.wait(0.05)
    raise AssertionError("it did not come true in time")
