"""For every suite: a clean environment, and the scan for key material in whatever a test printed, logged or left behind (I4).

A key belongs into a target: the files that tests let targets write are listed in `TARGET_NAMES`. Anywhere else below a test's folder, and
in anything that it printed, a key-shaped string fails the test.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from rotator.wiring.logs import configure_logs

# Whether an example is slow is the machine's doing: what must be fast is measured by `make bench`.
settings.register_profile("rotator", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rotator")

# A run in the background, or under nohup, inherits signals that are ignored, and so would every process that tests start and signal.
for _number, _default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _default)

# The programs that tests start need not compile the same modules each time, whatever is the rule on this machine.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

KEY_SHAPED = re.compile(rb"(?<![A-Za-z0-9])(?:rk|sk|ak|pk)_[a-z][a-z0-9]*_[A-Za-z0-9]{8}_[A-Za-z0-9_-]{12,}")
TARGET_NAMES = re.compile(
    r"(?:mcp\.json|\.claude\.json|settings\.json|config\.toml|dotfiles\.json|.*\.key|.*\.header|.*\.env|.*\.template|.*\.target)\Z"
)
KEEPS_ENVIRON = ("ROTATOR_REQUIRE_REAL", "ROTATOR_TEST_")
GROUPS = {
    "contract/targets/": "kubernetes",
    "contract/stores/test_vault_kubernetes.py": "kubernetes",
    "integration/kubernetes/": "kubernetes",
    "integration/chart/": "kubernetes",
    "integration/image/": "image",
    "clients/": "clients",
}
"""tests that one worker runs, by folder"""
_LARGEST = 64 * 1024 * 1024


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where a server must be built first, that takes minutes, and no test's time limit allows for it."""
    if session.config.option.collectonly:
        return
    from tests.support.servers import SERVERS, MissingProgram, find_program

    places = [item.nodeid.lower() for item in session.items if re.search(r"tests/(chart|contract|integration)/", item.nodeid)]
    cluster = ("kubernetes", "kwok")
    needs = {"vault": ("vault",), "kubernetes": cluster, "chart/": ("helm3", "helm4"), "integration/chart/": (*cluster, "vault")}
    needs["vault_kubernetes"] = ("vault-kubernetes",)
    for server in [name for word, names in needs.items() if any(word in place for place in places) for name in names]:
        with contextlib.suppress(MissingProgram):  # the tests say so
            find_program(SERVERS[server])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """One worker starts a server that is dear, and runs everything that needs it; the rest goes to whoever is free."""
    if config.getoption("dist") != "loadscope":
        return None
    # xdist's own groups go by marks, and have no effect with pytest 9.2.
    from xdist.scheduler import LoadScopeScheduling

    class LoadGroups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((group for folder, group in GROUPS.items() if nodeid.startswith(f"tests/{folder}")), nodeid)

    return LoadGroups(config, log)


@pytest.fixture(scope="session")
def cluster() -> Iterator[object]:
    """A real Kubernetes API, started when the first test asks for it."""
    from tests.support.kubernetes import running_cluster

    with running_cluster() as running:
        yield running


@pytest.fixture(autouse=True)
def clean_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration, proxy or state folder of the developer's own machine leaks in."""
    for name in filter(is_personal, list(os.environ)):
        monkeypatch.delenv(name)


def is_personal(name: str) -> bool:
    """Whether a variable says how the developer's own machine is set up."""
    ours = name.startswith("ROTATOR_") and not name.startswith(KEEPS_ENVIRON)
    return ours or name.startswith("XDG_") or name.lower().endswith("_proxy")


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    """As in production: one JSON object a line, tracebacks without local variables."""
    configure_logs("info", "json", _Stderr())


class _Stderr(io.TextIOBase):
    """Standard error as it is when a line is written: pytest changes it between and within tests."""

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


@pytest.fixture(autouse=True)
def scan_left_files(request: pytest.FixtureRequest) -> Iterator[None]:
    """No key-shaped string in any file that the test left, outside its targets."""
    yield
    folder = request.node.funcargs.get("tmp_path")
    if folder is None or request.node.get_closest_marker("keeps_keys") is not None:
        return
    found = [str(path.relative_to(folder)) for path in find_files(folder) if holds_key(path)]
    assert not found, f"key material outside of targets: {', '.join(sorted(found))}"


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """No key-shaped string in what a test printed or logged, or in what is printed about its failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    text = "".join(content for _, content in report.sections) + str(report.longrepr or "")
    if KEY_SHAPED.search(text.encode("utf-8", "replace")):
        report.outcome = "failed"
        report.sections = []
        report.longrepr = f"{item.nodeid}: the {call.when} phase printed a key-shaped string (withheld here): keys never belong into output"


def find_files(folder: Path) -> Iterator[Path]:
    """The regular files below a folder that are no target's."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and not TARGET_NAMES.match(path.name):
            yield path


def holds_key(path: Path) -> bool:
    """Whether a file holds something key-shaped. One that goes away meanwhile holds nothing."""
    try:
        return path.stat().st_size <= _LARGEST and KEY_SHAPED.search(path.read_bytes()) is not None
    except OSError:
        return False
