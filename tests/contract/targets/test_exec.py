"""Programs that print tokens (`exec` in a kubeconfig), before a real API server: run when needed, ended when they hang, never quoted."""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from rotator.domain.errors import Misconfigured, RotatorError, Unreachable
from rotator.domain.ports import Target
from rotator.targets.kubernetes import signing
from tests.contract.targets.kinds import SecretPlace
from tests.contract.targets.ways import a_certificate, a_kubeconfig, build, end_token, ensure_silent, lay, request_token, work
from tests.support.daemon import wait_until

V1, V1BETA1 = "client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"
PROGRAM = f"""#!{sys.executable} -IS
import json, os, sys
folder = os.path.dirname(os.path.abspath(sys.argv[0]))
with open(folder + "/runs", "a") as runs:
    runs.write(json.dumps([sys.argv[1:], os.environ.get("COLOUR"), json.loads(os.environ["KUBERNETES_EXEC_INFO"])]) + "\\n")
with open(folder + "/code") as code:
    exec(code.read())
with open(folder + "/printed") as printed:
    sys.stdout.write(printed.read())
"""


@dataclass
class Plugin:
    """A program that prints what it is told to, and notes how it was run."""

    folder: Path

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.file = lay(self.folder / "sign-in", PROGRAM)
        self.file.chmod(0o700)
        self.act("pass")

    def act(self, code: str) -> None:
        """What it does before it prints."""
        lay(self.folder / "code", code)

    def prints(self, text: str) -> None:
        lay(self.folder / "printed", text)

    def says(self, token: str | None, ends: str | None = None, version: str = V1, **status: Any) -> None:
        status = {**status, **({"token": token} if token is not None else {}), **({"expirationTimestamp": ends} if ends else {})}
        self.prints(json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status}))

    @property
    def runs(self) -> list[Any]:
        noted = self.folder / "runs"
        return [json.loads(line) for line in noted.read_text().splitlines()] if noted.exists() else []

    def user(self, version: str = V1, **settings: Any) -> dict[str, Any]:
        return {"exec": {"apiVersion": version, "command": str(self.file), "interactiveMode": "IfAvailable", **settings}}


@pytest.fixture
def plugin(tmp_path: Path) -> Plugin:
    return Plugin(tmp_path / "bin")


def in_seconds(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


@pytest.mark.parametrize("version", [V1, V1BETA1])
def test_a_program_is_run_once_for_a_token_that_lives_on(spot: SecretPlace, plugin: Plugin, version: str) -> None:
    plugin.says(spot.cluster.admin, in_seconds(3600), version)
    user = plugin.user(version, args=["get", "token"], env=[{"name": "COLOUR", "value": "green"}])
    work(spot, build(spot, a_kubeconfig(spot, user)))
    info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"cluster": {"server": spot.cluster.address}, "interactive": False}}
    assert plugin.runs == [[["get", "token"], "green", info]]


def test_a_token_without_an_end_is_kept(spot: SecretPlace, plugin: Plugin) -> None:
    plugin.says(spot.cluster.admin)
    target = build(spot, a_kubeconfig(spot, plugin.user()))
    work(spot, target)
    work(spot, target)
    assert len(plugin.runs) == 1


def test_a_program_runs_again_a_minute_before_its_token_ends(spot: SecretPlace, plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [datetime.now(UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # noqa: ARG003
            return now[0]

    monkeypatch.setattr(signing, "datetime", Clock)
    plugin.says(spot.cluster.admin, in_seconds(600))
    target = build(spot, a_kubeconfig(spot, plugin.user()))
    target.observe("checkout")
    now[0] += timedelta(seconds=530)
    target.observe("checkout")
    assert len(plugin.runs) == 1
    now[0] += timedelta(seconds=15)
    plugin.says(spot.cluster.admin, (now[0] + timedelta(seconds=600)).isoformat())
    target.observe("checkout")
    target.observe("checkout")
    assert len(plugin.runs) == 2


def test_a_token_that_is_refused_is_asked_for_once_more_and_no_request_is_lost(spot: SecretPlace, plugin: Plugin) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{spot.namespace}/rolebindings"
    subject = {"kind": "ServiceAccount", "name": "default", "namespace": spot.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}
    spot.cluster.call("POST", path, {"metadata": {"name": "us"}, "roleRef": role, "subjects": [subject]})
    accounts = f"/api/v1/namespaces/{spot.namespace}/serviceaccounts/default"
    wait_until(lambda: spot.cluster.ask("GET", accounts).is_success, what="the namespace's account")
    first = request_token(spot, "default", bound_to="first")
    wait_until(lambda: spot.cluster.ask("GET", spot.path, token=first).status_code == 404, what="RBAC to know the role")
    plugin.says(first, in_seconds(3600))
    target = build(spot, a_kubeconfig(spot, plugin.user()))
    work(spot, target)
    end_token(spot, "first", first)
    plugin.says(request_token(spot, "default"), in_seconds(3600))
    work(spot, target)
    assert len(plugin.runs) == 2


def test_a_program_that_goes_on_printing_a_dead_token_is_run_once_a_request(spot: SecretPlace, plugin: Plugin) -> None:
    plugin.says("one-that-has-ended", in_seconds(3600))
    target = build(spot, a_kubeconfig(spot, plugin.user()))
    with pytest.raises(Unreachable, match=r"does not know us \(401\)") as problem:
        target.observe("checkout")
    ensure_silent(problem.value, "one-that-has-ended")
    assert len(plugin.runs) == 2


@pytest.mark.parametrize(("ends", "refused"), [(3600, True), (30, False)])
def test_a_program_that_has_no_better_token_is_not_run_for_each_of_many_requests(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch, ends: float, refused: bool
) -> None:
    plugin.says("short-lived-or-dead", in_seconds(ends))
    find = signing.PrintedToken(V1, (str(plugin.file),), {}, "https://api")
    first = find(None)
    assert {find(first if refused else None) for _ in range(5)} == {first}
    assert len(plugin.runs) == 1 + refused
    monkeypatch.setattr(signing.time, "monotonic", lambda: 1e9)
    find(first if refused else None)
    assert len(plugin.runs) == 2 + refused


def test_a_program_that_prints_without_an_end_is_ended(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing, "_MOST_BYTES", 10_000)
    plugin.act("while True: sys.stdout.write('hush-hush' * 1000)")
    with pytest.raises(Misconfigured, match=r"sign-in, .* printed more than 9 KiB: run it by hand") as told:
        signing.PrintedToken(V1, (str(plugin.file),), {}, "https://api")(None)
    ensure_silent(told.value, "hush-hush")


def test_threads_that_ask_together_run_it_once(spot: SecretPlace, plugin: Plugin) -> None:
    namespaces = [spot.namespace, *(spot.cluster.namespace() for _ in range(7))]
    plugin.says(spot.cluster.admin, in_seconds(3600))
    target = build(spot, a_kubeconfig(spot, plugin.user()), namespaces=namespaces)
    target.observe("checkout")
    assert len(plugin.runs) == 1


CREDENTIAL = {"kind": "ExecCredential", "apiVersion": V1}


@pytest.mark.parametrize(
    ("printed", "said"),
    [
        ("", "printed no ExecCredential"),
        ("hush-hush", "printed no ExecCredential"),
        ("[1]", "printed no ExecCredential"),
        ('{"status": {"token": "hush-hush"', "printed no ExecCredential"),
        (json.dumps(CREDENTIAL), "printed no ExecCredential"),
        (json.dumps({**CREDENTIAL, "status": ["hush-hush"]}), "printed no ExecCredential"),
        (json.dumps({**CREDENTIAL, "status": {"token": None}}), "printed no ExecCredential"),
        (json.dumps({**CREDENTIAL, "status": {"token": 17}}), "printed no ExecCredential"),
        (json.dumps({**CREDENTIAL, "status": {"token": "hush-hush", "expirationTimestamp": "soon"}}), "printed no ExecCredential"),
        (json.dumps({**CREDENTIAL, "status": {"token": "hush-hush", "expirationTimestamp": 17}}), "printed no ExecCredential"),
        (
            json.dumps({**CREDENTIAL, "status": {"token": "hush-hush", "expirationTimestamp": "2031-01-01T00:00:00"}}),
            "printed no ExecCredential",
        ),
        (json.dumps({**CREDENTIAL, "status": {"token": ""}}), "the token that sign-in, .* printed is empty"),
        (json.dumps({**CREDENTIAL, "status": {"token": "hush\nhush"}}), "the token that sign-in, .* printed is empty, or has white space"),
    ],
)
def test_what_a_program_prints_wrongly_is_told_of_and_not_quoted(spot: SecretPlace, plugin: Plugin, printed: str, said: str) -> None:
    plugin.prints(printed)
    with pytest.raises(Misconfigured, match=said) as problem:
        build(spot, a_kubeconfig(spot, plugin.user())).observe("checkout")
    assert "sign-in, which the kubeconfig names to sign in" in str(problem.value)
    ensure_silent(problem.value, "hush", spot.cluster.admin)


def test_a_client_certificate_is_not_taken_for_a_token(spot: SecretPlace, plugin: Plugin) -> None:
    certificate, key = a_certificate()
    plugin.says(None, clientCertificateData=certificate, clientKeyData=key)
    with pytest.raises(Misconfigured, match=r"sign-in, .* printed a client certificate: only tokens are understood") as problem:
        build(spot, a_kubeconfig(spot, plugin.user())).observe("checkout")
    ensure_silent(problem.value, "BEGIN")


def test_a_program_that_fails_is_named_with_its_exit_code(spot: SecretPlace, plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin.says(spot.cluster.admin)
    plugin.act("print('hush-hush'); print('hush-hush', file=sys.stderr); sys.exit(7)")
    target = build(spot, a_kubeconfig(spot, plugin.user()))
    for _ in range(3):
        with pytest.raises(Unreachable, match="sign-in, which the kubeconfig names to sign in, ended with exit code 7") as told:
            target.observe("checkout")
        ensure_silent(told.value, "hush-hush")
    assert len(plugin.runs) == 1  # nobody waits for it again at once
    plugin.act("pass")
    monkeypatch.setattr(signing, "_PAUSE", 0.0)
    work(spot, target)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("nowhere-to-be-found", r"nowhere-to-be-found, which .* cannot be started \(No such file or directory\): install it"),
        ("./bin/nothing", r"nothing, which .* cannot be started \(No such file or directory\)"),
        ("./bin/printed", r"printed, which .* cannot be started \(Permission denied\)"),
    ],
)
def test_a_program_that_is_not_there_is_named(spot: SecretPlace, plugin: Plugin, command: str, said: str) -> None:
    plugin.prints("")
    with pytest.raises(Misconfigured, match=said):
        build(spot, a_kubeconfig(spot, plugin.user(command=command))).observe("checkout")


def test_a_program_is_found_beside_the_kubeconfig_or_on_the_path(
    spot: SecretPlace, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin.says(spot.cluster.admin)
    work(spot, build(spot, a_kubeconfig(spot, plugin.user(command="./bin/sign-in"))))
    monkeypatch.setenv("PATH", str(plugin.folder), prepend=":")
    work(spot, build(spot, a_kubeconfig(spot, plugin.user(command="sign-in"), "path")))


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


HANG = """
import subprocess, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open(folder + "/child", "w") as noted:
    noted.write(str(child.pid))
time.sleep(60)
"""


def test_a_program_that_hangs_is_ended_with_its_children_and_holds_up_no_other_cluster(
    spot: SecretPlace, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One daemon, two clusters: what the surroundings share is shared by both."""
    assert signing._LIMIT <= 10
    monkeypatch.setattr(signing, "_LIMIT", 8.0)
    plugin.act(HANG)
    names = [spot.namespace, *(spot.cluster.namespace() for _ in range(40))]
    slow, quick = build(spot, a_kubeconfig(spot, plugin.user()), namespaces=names), spot.build()
    ended: list[tuple[float, RotatorError]] = []

    def look(target: Target) -> None:
        try:
            target.observe("checkout")
        except RotatorError as problem:
            ended.append((time.monotonic(), problem))

    started = time.monotonic()
    with ThreadPoolExecutor(2) as threads:
        hanging = threads.submit(look, slow)
        wait_until(lambda: plugin.runs, what="the program")
        work(spot, quick)
        assert not hanging.done()
        hanging.result(60)
    assert ended[0][0] - started < 40
    assert "sign-in, which the kubeconfig names to sign in, took more than 8 s: run it by hand" in str(ended[0][1])
    assert len(plugin.runs) == 1
    child = int((plugin.folder / "child").read_text())
    wait_until(lambda: not _is_there(child), what="the end of the program's child")
    assert threading.active_count() < 200


def test_a_program_whose_child_keeps_its_output_open_is_not_waited_for_without_end(
    spot: SecretPlace, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "_LIMIT", 2.0)
    plugin.says(spot.cluster.admin)
    plugin.act(HANG.rpartition("time.sleep")[0])
    with pytest.raises(Unreachable, match="took more than 2 s"):
        build(spot, a_kubeconfig(spot, plugin.user())).observe("checkout")
    child = int((plugin.folder / "child").read_text())
    wait_until(lambda: not _is_there(child), what="the end of the program's child")


def test_a_kubeconfig_is_replaced_while_the_program_of_the_former_hangs(
    spot: SecretPlace, plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signing, "_LIMIT", 8.0)
    plugin.act(HANG)
    target = build(spot, a_kubeconfig(spot, plugin.user()))
    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(target.observe, "checkout")
        wait_until(lambda: plugin.runs, what="the program")
        a_kubeconfig(spot, {"token": spot.cluster.admin})
        work(spot, target)
        assert not hanging.done()
        with pytest.raises(Unreachable, match="took more than 8 s"):
            hanging.result(60)
