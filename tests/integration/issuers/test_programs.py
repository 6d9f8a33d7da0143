"""The issuer `command` over programs that misbehave: nothing hangs, nothing is left running, nothing leaks, and doubt is told as doubt."""

from __future__ import annotations

import json
import os
import stat
import sys
import textwrap
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from rotator.domain.errors import AnswerLost, Misconfigured, RateLimited, Refused, Unreachable
from rotator.domain.keys import Kind, parse_key_id
from rotator.domain.ports import MintOrder
from rotator.issuers.command import CommandIssuer, CommandIssuerConfig
from rotator.issuers.programs import quote
from rotator.issuers.surroundings import Surroundings
from tests.support.daemon import wait_until
from tests.support.fakes import build_secret

SOON = 30.0
"""seconds: far longer than any of these takes, and shorter than what it must not wait for"""
ORDER = MintOrder("prod/uid/attempt", Kind.RK, "live", "web", "checkout")
GIVES = 'key = "_".join(("rk", "live", "abcd1234", "s3cr3t" * 8))\nanswer = json.dumps({"key": key})\n'


class Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


@dataclass
class Workshop:
    """Makes programs and the issuers that run them."""

    folder: Path
    environ: dict[str, str]

    def build(self, body: str, **config: object) -> CommandIssuer:
        """An issuer whose program is this Python, after it has read its request."""
        program = self.folder / "program.py"
        program.write_text(f"#!{sys.executable}\nimport json, os, signal, sys, time\n{textwrap.dedent(body)}\n")
        program.chmod(stat.S_IRWXU)
        return self.build_for(str(program), **config)

    def build_for(self, program: str, **config: object) -> CommandIssuer:
        given = {"command": [program], "list": True, "revoke": True, "timeout": "10s", **config}
        around = Surroundings(Clock(), lambda *_: None, "prod", {}, self.environ, ("checkout",))
        return CommandIssuerConfig.model_validate(given).build("program", around)


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path, {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", "TOKEN_OF_OURS": "hidden"})


def test_it_gets_the_request_and_little_else(workshop: Workshop, tmp_path: Path) -> None:
    workshop.environ["WANTED"] = "yes"
    issuer = workshop.build(
        f"""
        import subprocess
        seen = {{"request": json.load(sys.stdin), "environ": sorted(os.environ), "argv": sys.argv[1:], "cwd": os.getcwd()}}
        seen["files"] = sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1] if os.path.isdir("/proc/self/fd") else [0, 1, 2]
        seen["session"] = os.getsid(0) == os.getpid()
        open({str(tmp_path / "seen.json")!r}, "w").write(json.dumps(seen))
        {GIVES.replace(chr(10), chr(10) + "        ")}
        print(answer)
        """,
        environment=["WANTED", "NOT_SET"],
    )
    held = (tmp_path / "ours").open("w")
    os.set_inheritable(held.fileno(), True)
    issued = issuer.mint(ORDER)
    held.close()
    assert issued.secret.key_id == parse_key_id("rk_live_abcd1234")
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert seen["request"] == {
        "version": 1,
        "operation": "mint",
        "label": "prod/uid/attempt",
        "kind": "rk",
        "env": "live",
        "project": "web",
        "credential": "checkout",
    }
    assert set(seen["environ"]) <= {"PATH", "HOME", "LANG", "WANTED", "LC_CTYPE", "PWD"}
    assert (seen["argv"], seen["cwd"], seen["files"], seen["session"]) == ([], "/", [0, 1, 2], True)


def test_one_that_hangs_is_ended_in_time(workshop: Workshop) -> None:
    issuer = workshop.build('signal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint("{", flush=True)\ntime.sleep(600)', timeout="1s")
    started = time.monotonic()
    with pytest.raises(AnswerLost, match=r"longer than 1 s for mint.*may have been carried out"):
        issuer.mint(ORDER)
    assert time.monotonic() - started < SOON
    assert find_running(workshop.folder) == []


@pytest.mark.parametrize("ends", [True, False])
def test_its_children_end_with_it(workshop: Workshop, ends: bool) -> None:
    """A grandchild in the same session that ignores SIGTERM and holds the pipes open."""
    rest = f"{GIVES}print(answer)" if ends else "time.sleep(600)"
    stays = "if os.fork() == 0:\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    signal.alarm(600)\n    signal.pause()\n"
    issuer = workshop.build(f"{stays}{rest}", timeout="10s" if ends else "1s")
    started = time.monotonic()
    if ends:
        issuer.mint(ORDER)
    else:
        with pytest.raises(AnswerLost):
            issuer.mint(ORDER)
    assert time.monotonic() - started < SOON
    wait_until(lambda: find_running(workshop.folder) == [], what="the end of its children")


def test_one_that_leaves_the_session_with_the_pipes_holds_nothing_up(workshop: Workshop, tmp_path: Path) -> None:
    issuer = workshop.build(
        f"""
        if os.fork() == 0:
            os.setsid()
            open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
            time.sleep(600)
        while not os.path.exists({str(tmp_path / "pid")!r}) or not open({str(tmp_path / "pid")!r}).read():
            time.sleep(0.01)
        {GIVES.replace(chr(10), chr(10) + "        ")}
        print(answer)
        """
    )
    started = time.monotonic()
    issuer.mint(ORDER)
    assert time.monotonic() - started < SOON
    psutil.Process(int((tmp_path / "pid").read_text())).kill()


def test_a_flood_on_stderr_is_read_to_its_end(workshop: Workshop) -> None:
    """100 MB, and the last line counts."""
    flood = 'chunk = b"x" * 999 + b"\\n"\nfor _ in range(100_000):\n    os.write(2, chunk)\nos.write(2, b"the last word\\n")\n'
    issued = workshop.build(f"{flood}{GIVES}print(answer)").mint(ORDER)
    assert issued.secret.key_id.prefix == "abcd1234"
    with pytest.raises(AnswerLost) as caught:
        workshop.build(f"{flood}sys.exit(1)").mint(ORDER)
    assert "the last word" in str(caught.value)
    assert len(str(caught.value)) < 3000


def test_a_key_on_stderr_is_not_repeated(workshop: Workshop) -> None:
    issuer = workshop.build(f'{GIVES}print("minted", key, "with Bearer abcdefghijklmnop", key[5:], file=sys.stderr)\nsys.exit(1)')
    with pytest.raises(AnswerLost) as caught:
        issuer.mint(ORDER)
    assert "rk_live_abcd1234_…" in str(caught.value)
    assert "s3cr3t" not in repr(caught.value)
    assert "abcdefghijklmnop" not in str(caught.value)


def test_what_is_quoted_never_begins_in_the_middle_of_a_key() -> None:
    key = build_secret().reveal()
    part = key.split("_", 3)[3]
    for said in (f"{key}", f"…{part}", f"{key[:12]}\x00{key[12:]}", "\x00".join(key), f"token={part}"):
        for cut in (True, False):
            assert part not in quote(said.encode(), cut=cut)
    assert quote(f"{part}\nthe rest".encode(), cut=True) == "the rest"


@pytest.mark.parametrize("nonsense", ["hello", "[]", "null", "{", '{"key": 7}', '{"key": "rk_live_"}', "{}", "[" * 100_000, ""])
def test_nonsense_for_a_key_is_a_key_that_nobody_can_use(workshop: Workshop, nonsense: str) -> None:
    body = f"sys.stdout.write({nonsense[:50]!r} * {max(1, len(nonsense) // 50)})"
    with pytest.raises(Refused, match="correct the program"):
        workshop.build(body).mint(ORDER)
    with pytest.raises(AnswerLost, match="correct the program"):
        workshop.build(body, list=False).mint(ORDER)


def test_too_long_an_answer_is_cut_off(workshop: Workshop) -> None:
    issuer = workshop.build('while True:\n    sys.stdout.write("x" * 65536)')
    started = time.monotonic()
    with pytest.raises(Refused, match="longer than"):
        issuer.mint(ORDER)
    assert time.monotonic() - started < SOON
    assert find_running(workshop.folder) == []


def test_one_that_closes_stdin_early_may_answer_all_the_same(workshop: Workshop) -> None:
    long = MintOrder("prod/uid/" + "a" * 500_000, Kind.RK, "live")
    issued = workshop.build(f"os.close(0)\n{GIVES}print(answer)").mint(long)
    assert issued.secret.key_id.prefix == "abcd1234"


def test_one_that_never_reads_is_ended_all_the_same(workshop: Workshop) -> None:
    long = MintOrder("prod/uid/" + "a" * 500_000, Kind.RK, "live")
    with pytest.raises(AnswerLost):
        workshop.build("time.sleep(600)", timeout="1s").mint(long)


def test_what_cannot_be_started_was_surely_not_done(workshop: Workshop, tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("not a program")
    for program in (str(plain), str(tmp_path / "missing"), str(tmp_path), "no-such-program-anywhere"):
        with pytest.raises(Misconfigured, match="cannot be started"):
            workshop.build_for(program).mint(ORDER)


def test_one_that_a_signal_ends_leaves_doubt(workshop: Workshop) -> None:
    with pytest.raises(AnswerLost, match="ended by signal 9"):
        workshop.build("os.kill(os.getpid(), signal.SIGKILL)").mint(ORDER)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("", Refused),
        ("{}", Refused),
        ('{"retry": false}', Refused),
        ('{"retry": true}', Unreachable),
        ('{"retry_after": 30}', RateLimited),
        ('{"retry_after": -1}', Refused),
        ('{"retry_after": 1e400}', Refused),
        ('{"retry_after": true}', Refused),
    ],
)
def test_exit_code_2_is_surely_not_done(workshop: Workshop, answer: str, kind: type[Exception]) -> None:
    issuer = workshop.build(f'sys.stdout.write({answer!r})\nprint("the budget is spent", file=sys.stderr)\nsys.exit(2)')
    with pytest.raises(kind, match="the budget is spent") as caught:
        issuer.mint(ORDER)
    assert not isinstance(caught.value, AnswerLost)
    if isinstance(caught.value, RateLimited):
        assert caught.value.after == timedelta(seconds=30)


def test_doubt_about_what_only_reads_is_no_doubt(workshop: Workshop) -> None:
    issuer = workshop.build("sys.exit(1)")
    for verb in (lambda: issuer.check(ORDER), lambda: issuer.list_labelled("prod/")):
        with pytest.raises(Unreachable) as caught:
            verb()
        assert not isinstance(caught.value, AnswerLost)
    with pytest.raises(AnswerLost):
        issuer.revoke(parse_key_id("rk_live_abcd1234"), None)


@pytest.mark.parametrize(
    "keys", ['{"keys": {}}', '{"keys": [7]}', '{"keys": [{"key_id": "x", "label": "prod/"}]}', '{"keys": [{"label": 1}]}']
)
def test_a_list_that_cannot_be_read_is_refused(workshop: Workshop, keys: str) -> None:
    with pytest.raises(Refused, match="correct the program"):
        workshop.build(f"print({keys!r})").list_labelled("prod/")


def test_what_it_cannot_do_it_is_not_asked_for(workshop: Workshop) -> None:
    issuer = workshop.build("sys.exit(1)", list=False, revoke=False)
    assert (issuer.abilities.mint, issuer.abilities.list, issuer.abilities.revoke) == (True, False, False)
    for verb in (lambda: issuer.list_labelled("prod/"), lambda: issuer.revoke(parse_key_id("rk_live_abcd1234"), None)):
        with pytest.raises(Refused):
            verb()


def find_running(folder: Path) -> list[int]:
    """Processes that run a program of this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for word in process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found
