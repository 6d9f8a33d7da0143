"""The image does what docs/image.md says: built with `make image`, its programs run with a read-only root, as nobody in particular."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rotator import __version__
from tests.conftest import KEY_SHAPED
from tests.support.daemon import wait_until
from tests.support.image import ROOT, UID, Image, Run, Storage, build_image, get_base, open_storage, running
from tests.support.servers import say

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGE = ROOT / "docs" / "image.md"
OURS = ("etc/rotator/", "opt/rotator/", "var/lib/rotator/")
CONFIG = "installation: test\nserver: {port: 0}\n"
STRANGER = 12345


@dataclass(frozen=True, slots=True)
class Entry:
    """A path of a tree, in all that two builds could differ in."""

    mode: int
    owner: tuple[int, int]
    time: int
    content: str


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    with open_storage(tmp_path_factory.mktemp("storage")) as opened:
        yield opened


@pytest.fixture(scope="module")
def builds(storage: Storage) -> Iterator[tuple[Future[Image], Future[Image]]]:
    """The same twice. Other tests need the first; the second is made while the demo waits for its clocks."""

    def build(name: str) -> Image:
        started = time.monotonic()
        built = build_image(storage, name)
        say(f"{name} was built in {time.monotonic() - started:.0f} s")
        return built

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(build, "localhost/rotator:test"), pool.submit(build, "localhost/rotator:again")


@pytest.fixture(scope="module")
def image(builds: tuple[Future[Image], Future[Image]]) -> Image:
    return builds[0].result()


@pytest.fixture(scope="module")
def tree(image: Image) -> dict[str, Entry]:
    return gather_tree(image.root)


def gather_tree(root: Path, below: str = "") -> dict[str, Entry]:
    found = {}
    for folder, folders, files in os.walk(root / below):
        for path in (Path(folder, name) for name in [*folders, *files]):
            status = path.lstat()
            found[str(path.relative_to(root))] = Entry(
                status.st_mode, (status.st_uid, status.st_gid), int(status.st_mtime), digest_of(path, status.st_mode)
            )
    return found


def digest_of(path: Path, mode: int) -> str:
    if stat.S_ISLNK(mode):
        return str(path.readlink())
    return hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(mode) else ""


def python(image: Image, program: str, run: Run | None = None) -> subprocess.CompletedProcess[str]:
    return image.call("/opt/rotator/bin/python", "-c", program, run=run)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """With volumes for state and configuration, as an engine mounts them."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "rotator.yaml").write_text(CONFIG)
    (tmp_path / "state").mkdir(0o700)
    os.chown(tmp_path / "state", UID, UID)
    return Run(state=tmp_path / "state", config=tmp_path / "config")


def test_its_configuration_needs_neither_root_nor_a_shell(image: Image) -> None:
    configuration = image.configuration
    assert configuration["User"] == f"{UID}:{UID}"
    assert configuration["Entrypoint"] == ["/opt/rotator/bin/rotator"]
    assert configuration["Cmd"] == ["run"]
    assert configuration["Healthcheck"]["Test"] == ["CMD", "/opt/rotator/bin/rotator", "health"]
    assert configuration["StopSignal"] == "SIGTERM"
    assert configuration["WorkingDir"] == "/"
    assert list(configuration["Volumes"]) == ["/var/lib/rotator"]
    assert image.environ.keys() == {"PATH", "HOME", "PYTHONDONTWRITEBYTECODE", "ROTATOR_STATE_DIR"}
    assert image.environ["ROTATOR_STATE_DIR"] == "/var/lib/rotator"


def test_its_labels_say_what_it_is(image: Image) -> None:
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in image.configuration["Labels"].items()}
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    assert labels["title"] == "rotator"
    assert labels["version"] == __version__
    assert labels["revision"].startswith(head or "unknown")
    assert labels["licenses"] == "Apache-2.0"
    assert labels.keys() >= {"description", "source"}


def test_nothing_tells_where_packages_came_from(image: Image) -> None:
    assert "PIP_" not in json.dumps([image.configuration, *image.history])


def test_only_three_folders_are_added_to_the_base(tree: dict[str, Entry]) -> None:
    with tarfile.open(get_base()) as base:
        members = {member.name.removeprefix("./"): member for member in base.getmembers()}
    assert {path for path in tree.keys() - members.keys() if not f"{path}/".startswith(OURS)} == set()
    assert members.keys() - tree.keys() - {"."} == set()
    changed = [p for p, m in members.items() if m.isfile() and p in tree and stat.S_IMODE(tree[p].mode) != m.mode & ~0o6000]
    assert changed == []


def test_no_file_lends_another_users_rights_and_none_is_open_to_write(tree: dict[str, Entry]) -> None:
    assert [path for path, entry in tree.items() if stat.S_ISREG(entry.mode) and entry.mode & 0o6000] == []
    ours = {path: entry for path, entry in tree.items() if f"{path}/".startswith(OURS)}
    assert len(ours) > 1000
    assert [path for path, entry in ours.items() if not stat.S_ISLNK(entry.mode) and entry.mode & 0o022] == []
    assert {entry.owner for path, entry in ours.items() if path != "var/lib/rotator"} == {(0, 0)}
    state = tree["var/lib/rotator"]
    assert (stat.S_IMODE(state.mode), state.owner) == (0o700, (UID, UID))


def test_no_tool_of_the_build_and_no_key_is_left(image: Image, tree: dict[str, Entry]) -> None:
    ours = [path for path in tree if path.startswith("opt/rotator/")]
    tools = re.compile(r"site-packages/(?:pip|setuptools|wheel|hatchling|_distutils_hack)\b|/include/|direct_url\.json$")
    assert [path for path in ours if tools.search(path)] == []
    assert {path.rpartition("/")[2] for path in ours if path.startswith("opt/rotator/bin/")} - {
        "python3.11",
        "python3.12",
        "python3.13",
    } == {
        "python",
        "python3",
        "rotator",
    }
    caches = [
        p
        for p in tree
        if re.search(r"(?:^|/)\.cache(?:/|$)|pip[-/](?:cache|http)|\.whl$", p) and not p.startswith("usr/share/python-wheels/")
    ]
    assert caches == []
    compilers = re.compile(r"(?:^|/)bin/(?:[a-z0-9_-]+-)?(?:gcc|cc|g\+\+|clang|ld|make|cmake|cargo|rustc|go)(?:-[0-9.]+)?$")
    assert [path for path in tree if compilers.search(path)] == []
    assert [p for p in ours if stat.S_ISREG(tree[p].mode) and KEY_SHAPED.search((image.root / p).read_bytes())] == []


def test_every_module_is_compiled_and_no_clock_is_asked_whether_it_still_is(image: Image, tree: dict[str, Entry]) -> None:
    compiled = [image.root / path for path in tree if path.startswith("opt/rotator/") and path.endswith(".pyc")]
    sources = [path for path in tree if path.startswith("opt/rotator/lib/") and path.endswith(".py")]
    assert len(compiled) == len(sources)
    assert {path.read_bytes()[4:8] for path in compiled} == {b"\x01\0\0\0"}


@pytest.mark.parametrize("uid", [UID, STRANGER])
def test_any_user_can_start_it_and_has_no_right_to_change_it(image: Image, uid: int) -> None:
    assert image.rotator("--version", run=Run(uid)).stdout == f"rotator {__version__}\n"
    assert "credentials:" in image.rotator("config", "example", run=Run(uid)).stdout
    tried = python(
        image,
        "import os\n"
        "print(os.getpid(), os.getuid(), os.getgroups())\n"
        "lines = dict(line.split(':', 1) for line in open('/proc/self/status').read().splitlines())\n"
        "print(lines['CapEff'].strip(), lines['NoNewPrivs'].strip(), bool(os.statvfs('/').f_flag & os.ST_RDONLY))\n"
        "open('/tmp/writable', 'w').close()",
        Run(uid),
    )
    assert tried.stdout.splitlines() == [f"1 {uid} []", "0000000000000000 1 True"], tried.stderr


def test_the_demo_runs_as_nobody_with_a_read_only_root(image: Image) -> None:
    done = image.rotator("demo", timeout=180)
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"


def test_aws_and_kubernetes_have_what_they_need(image: Image) -> None:
    services = ("secretsmanager", "sts", "sso", "sso-oidc", "signin")
    done = python(image, f"import boto3, lightkube\nfor name in {services}: boto3.client(name, region_name='eu-west-1')")
    assert done.returncode == 0, done.stderr


def test_the_daemon_is_healthy_and_ends_on_sigterm_with_its_journal_released(image: Image, run: Run, tmp_path: Path) -> None:
    check = image.configuration["Healthcheck"]["Test"][1:]
    assert image.call(*check, run=run).returncode == 5
    words = [*image.configuration["Entrypoint"], *image.configuration["Cmd"]]
    with running(image, *words, run=run, log=tmp_path / "daemon.log") as daemon:
        wait_until(lambda: '"started"' in daemon.log.read_text(), what="the daemon")
        healthy = image.call(*check, run=run)
        assert healthy.returncode == 0, healthy.stderr
        assert image.rotator("run", "--once", run=run).returncode == 1  # the journal is held
        started = time.monotonic()
        daemon.tell(signal.SIGTERM)
        assert daemon.end(15) == 0, daemon.log.read_text()
        say(f"ended {time.monotonic() - started:.1f} s after SIGTERM")
    assert "Traceback" not in daemon.log.read_text()
    assert image.call(*check, run=run).returncode == 5
    assert image.rotator("run", "--once", run=run).returncode == 0


def test_a_state_folder_of_ones_own_serves_any_user(image: Image, run: Run) -> None:
    assert run.state is not None
    refused = image.rotator("run", "--once", run=Run(STRANGER, run.state, run.config))
    assert refused.returncode == 3
    assert "another user" in refused.stderr or "cannot be made or read" in refused.stderr
    os.chown(run.state, STRANGER, STRANGER)
    assert image.rotator("run", "--once", run=Run(STRANGER, run.state, run.config)).returncode == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_first_process_that_only_waits_ends_on_a_signal(
    image: Image, run: Run, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    assert run.state is not None
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing, "w"):
        words = [*image.configuration["Entrypoint"], "leak"]
        named = Run(run.uid, run.state, run.config, {"ROTATOR_URL": "http://127.0.0.1:9", "ROTATOR_TOKEN": "none"})
        with running(image, *words, run=named, log=tmp_path / "leak.log", stdin=reading) as waiting:
            wait_until(lambda: "pipe" in Path(f"/proc/{waiting.pid}/wchan").read_text(), what="the program to wait for its input")
            waiting.tell(number)
            assert waiting.end(10) == code


def test_processes_that_others_left_behind_are_taken_note_of(image: Image) -> None:
    program = """
import os, subprocess, time
from rotator.daemon import Strays, _gather_ended_children
subprocess.run(["/opt/rotator/bin/python", "-c", "import os; os.fork() or os.setsid()"], check=True)
mine = subprocess.Popen(["/opt/rotator/bin/python", "-c", "raise SystemExit(7)"])
deadline = time.monotonic() + 90
while len(found := set(_gather_ended_children())) < 2 and time.monotonic() < deadline:
    os.sched_yield()
print(len(found), mine.pid in found)
strays = Strays()
strays.reap(0.0)
print(mine.wait())
strays.reap(59.0)
print(len(set(_gather_ended_children())))
strays.reap(60.0)
print(len(set(_gather_ended_children())))
"""
    done = python(image, program)
    assert done.stdout.splitlines() == ["2 True", "7", "1", "0"], done.stderr


def test_two_builds_are_the_same(tree: dict[str, Entry], storage: Storage, builds: tuple[Future[Image], Future[Image]]) -> None:
    first, second = (build.result() for build in builds)
    again = gather_tree(second.root)
    assert {path for path in tree.keys() | again.keys() if tree.get(path) != again.get(path)} == set()
    assert layers_of(storage, second.name) == layers_of(storage, first.name)


def layers_of(storage: Storage, name: str) -> Any:
    return json.loads(storage.run("inspect", "--type", "image", name))["OCIv1"]["rootfs"]["diff_ids"]


def test_the_page_lists_what_is_in_it(image: Image, storage: Storage) -> None:
    report = storage.make("image-report", f"IMAGE={image.name}")
    say(report)
    page = PAGE.read_text()
    assert packages_in(report) == packages_in(page), "put the output of make image-report into docs/image.md"
    for part in ("the base", "`/opt/rotator`", "the image"):
        told, found = size_of(part, page), size_of(part, report)
        assert abs(told - found) <= 0.15 * found, f"{part}: {found} MB, and docs/image.md says {told}"


def packages_in(text: str) -> list[str]:
    listed = re.search(r"^All \d+: (.*)\.$", text, re.MULTILINE)
    assert listed is not None
    return listed[1].split(", ")


def size_of(part: str, text: str) -> float:
    row = re.search(rf"^\| {re.escape(part)}[^|]*\|[^|]*\| (\d+) \|$", text, re.MULTILINE)
    assert row is not None, part
    return float(row[1])
