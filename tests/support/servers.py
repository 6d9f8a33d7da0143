"""The programs that tests need besides Python's own: found, or built with Go into a cache folder outside of the repository.

Each is pinned by a Go module of the tests' own below `tests/servers`, with the hash of every source. What is built stays in
`~/.cache/rotator-tests/NAME-VERSION`: the programs and nothing else; other versions of the same are removed. `make test-servers` does it
ahead (some 15 minutes on two cores, once). Environment variables such as ROTATOR_TEST_VAULT name a program to take instead.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_MODULES = Path(__file__).parents[1] / "servers"


class MissingProgram(Exception):
    """A program is not here, and cannot be built."""


@dataclass(frozen=True, slots=True, eq=False)
class Server:
    """Programs of one source, built together."""

    name: str
    package: str
    """the Go module whose version is pinned"""
    programs: Mapping[str, str]
    """program → the Go package that it is built from"""
    names: tuple[str, ...] = ()
    """names under which a program of the user's own is looked for on the path, where any version does"""
    flags: tuple[str, ...] = ()
    ldflags: str = "-s -w"
    """{version}, {major} and {minor} are filled in"""
    files: tuple[str, ...] = ()
    """files of the pinned module that the program needs when it runs; kept beside it under their own names"""

    @property
    def version(self) -> str:
        """As the module pins it, without its v."""
        pinned = re.search(rf"{re.escape(self.package)} v(\S+)", (_MODULES / self.name / "go.mod").read_text())
        assert pinned is not None
        return pinned[1]

    @property
    def folder(self) -> Path:
        """Where its programs are kept."""
        # Tests run without the XDG variables of the developer; the cache is his all the same.
        return _CACHE / f"{self.name}-{self.version}"


_KUBERNETES_VERSION = (
    "-s -w -X k8s.io/component-base/version.gitVersion=v{version} -X k8s.io/component-base/version.gitMajor={major} "
    "-X k8s.io/component-base/version.gitMinor={minor} -X k8s.io/client-go/pkg/version.gitVersion=v{version}"
)
_KWOK_STAGES = (
    "node/fast/node-initialize",
    "node/heartbeat/node-heartbeat",
    "pod/fast/pod-ready",
    "pod/fast/pod-complete",
    "pod/fast/pod-delete",
)

VAULT = Server("vault", "github.com/hashicorp/vault", {"vault": "github.com/hashicorp/vault"}, ("vault", "bao"), ("-tags", "minimal"))
# A build of Vault with the tag `minimal` has no Kubernetes auth in it: this is the same code as a plug-in.
VAULT_KUBERNETES = Server(
    "vault-kubernetes",
    "github.com/hashicorp/vault-plugin-auth-kubernetes",
    {"vault-plugin-auth-kubernetes": "github.com/hashicorp/vault-plugin-auth-kubernetes/cmd/vault-plugin-auth-kubernetes"},
)
KUBERNETES = Server(
    "kubernetes",
    "k8s.io/kubernetes",
    {name: f"k8s.io/kubernetes/cmd/{name}" for name in ("kube-apiserver", "kube-controller-manager", "kubectl")},
    ldflags=_KUBERNETES_VERSION,
)
KWOK = Server(
    "kwok", "sigs.k8s.io/kwok", {"kwok": "sigs.k8s.io/kwok/cmd/kwok"}, files=tuple(f"kustomize/stage/{s}.yaml" for s in _KWOK_STAGES)
)
HELM3 = Server("helm3", "helm.sh/helm/v3", {"helm": "helm.sh/helm/v3/cmd/helm"})
HELM4 = Server("helm4", "helm.sh/helm/v4", {"helm": "helm.sh/helm/v4/cmd/helm"})
SERVERS: Mapping[str, Server] = {s.name: s for s in (VAULT, VAULT_KUBERNETES, KUBERNETES, KWOK, HELM3, HELM4)}


def cache_folder() -> Path:
    """Where what takes long to make is kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rotator-tests"


_CACHE = cache_folder()


def find_program(server: Server, program: str = "") -> Path:
    """The program; built where it is nowhere. Raises `MissingProgram`."""
    program = program or next(iter(server.programs))
    variable = f"ROTATOR_TEST_{program.upper().replace('-', '_')}"
    named = os.environ.get(variable)
    found = named or next(filter(None, map(shutil.which, server.names)), None)
    if not found:
        return _build_once(server) / program
    if shutil.which(found) is None:
        raise MissingProgram(f"{variable} names {found}, which is no program")
    return Path(found)


def get_program(server: Server, program: str = "") -> Path:
    """The program, for a test: where there is none the test is skipped, or fails where ROTATOR_REQUIRE_REAL=1."""
    try:
        return find_program(server, program)
    except MissingProgram as missing:
        _give_up(str(missing))


def get_system_program(name: str, package: str) -> Path:
    """A program that comes with the system's packages, for a test; see `get_program`."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/bin")
    if found is None:
        _give_up(f"{name} is not installed (Debian: {package})")
    return Path(found)


def _give_up(why: str) -> None:
    if os.environ.get("ROTATOR_REQUIRE_REAL") == "1":
        pytest.fail(why)
    pytest.skip(why)


@functools.cache
def _build_once(server: Server) -> Path:
    folder = server.folder
    if _is_whole(server):
        return folder
    if shutil.which("go") is None:
        raise MissingProgram(f"there is no {server.name} here, and no go to build one")
    _CACHE.mkdir(parents=True, exist_ok=True)
    with (_CACHE / f"{server.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _is_whole(server):
            say(f"building {', '.join(server.programs)} {server.version}: minutes, once")
            _build(server, folder)
            _remove_others(server)
    return folder


def _is_whole(server: Server) -> bool:
    needed = (*server.programs, *(Path(file).name for file in server.files))
    return all((server.folder / name).exists() for name in needed)


def _build(server: Server, folder: Path) -> None:
    temporary = folder.with_name(f"{folder.name}.building")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    major, minor, *_ = server.version.split(".")
    ldflags = server.ldflags.format(version=server.version, major=major, minor=minor)
    try:
        _go(server, "build", "-trimpath", "-ldflags", ldflags, *server.flags, "-o", f"{temporary}{os.sep}", *server.programs.values())
        if server.files:
            source = Path(_go(server, "list", "-m", "-f", "{{.Dir}}", server.package).strip())
            for file in server.files:
                shutil.copyfile(source / file, temporary / Path(file).name)
        shutil.rmtree(folder, ignore_errors=True)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _go(server: Server, *arguments: str) -> str:
    # Politely: whoever builds on two cores wants to go on working.
    environ = {**os.environ, "GOFLAGS": os.environ.get("GOFLAGS") or "-p=2"}
    command = [*(["nice", "-n", "19"] if shutil.which("nice") else []), "go", *arguments]
    done = subprocess.run(command, cwd=_MODULES / server.name, capture_output=True, text=True, check=False, env=environ)
    if done.returncode:
        raise MissingProgram(f"building {server.name} failed: {done.stderr[-2000:]}")
    return done.stdout


def _remove_others(server: Server) -> None:
    for folder in _CACHE.glob(f"{server.name}-[0-9]*"):
        if folder != server.folder and not folder.name.endswith(".building"):
            shutil.rmtree(folder, ignore_errors=True)


def say(text: str) -> None:
    """Tell whoever waits, whatever captures the output."""
    with contextlib.suppress(OSError):
        assert sys.__stderr__ is not None  # the real one: tests capture theirs, and somebody waits
        sys.__stderr__.write(f"{text}\n")
        sys.__stderr__.flush()


def dying(command: Sequence[str]) -> list[str]:
    """The command line of a child that dies with whoever starts it, however that ends; where the system has no such thing, as it is."""
    guard = shutil.which("setpriv")
    return [*([guard, "--pdeathsig", "KILL"] if guard else []), *command]


def find_free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@dataclass(slots=True)
class Spawned:
    """A child process of the tests'. It dies with the process that started it, however that ends."""

    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    log: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with (self.log or Path(os.devnull)).open("ab") as out:
            self.process = subprocess.Popen(
                dying(self.command), env={**os.environ, **self.environ}, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def tail(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:] if self.log is not None and self.log.exists() else ""

    def kill(self) -> None:
        """SIGKILL; harmless where it has ended."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, within: float = 10.0) -> None:
        """SIGTERM, then SIGKILL; harmless where it has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(within)
            except subprocess.TimeoutExpired:
                self.kill()


def build_ahead(names: Sequence[str]) -> int:
    """Find or build what is named, or all; how many are missing."""
    missing = 0
    for server in [SERVERS[name] for name in names] or SERVERS.values():
        try:
            where = find_program(server)
        except MissingProgram as problem:
            missing += 1
            say(f"{problem}: the tests that need it will be skipped")
        else:
            sys.stdout.write(f"{server.name}: {where}\n")
    return missing


if __name__ == "__main__":
    build_ahead(sys.argv[1:])
