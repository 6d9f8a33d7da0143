"""Stores that daemons share with outsiders: a running server, what a daemon's configuration says of it, and the plain `vault` or `aws`
command line of everybody else, who knows a path and a field and nothing of rotator.

Key material goes into a program by its standard input and comes out by its standard output, never by a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from rotator.domain.secret import Secret
from tests.support.aws import ENVIRON, REGION, get_moto, run_cli
from tests.support.aws_fake import Call, FakeServer
from tests.support.cutting import CuttingProxy
from tests.support.daemon import Document, Site
from tests.support.servers import VAULT, get_program
from tests.support.vault import VaultServer, start_dev_vault

FIELD = "api_key"
MOUNT = "secret"
STORE = "shared"
"""what configurations call the store"""

POLICY = f"""
path "{MOUNT}/data/test/*" {{ capabilities = ["create", "patch", "read", "update"] }}
path "{MOUNT}/metadata/test/*" {{ capabilities = ["read"] }}
path "{MOUNT}/data/rotator/test/*" {{ capabilities = ["create", "read", "update"] }}
path "sys/capabilities-self" {{ capabilities = ["update"] }}
path "auth/token/lookup-self" {{ capabilities = ["read"] }}
path "auth/token/renew-self" {{ capabilities = ["update"] }}
"""
"""What `rotator check --live` prints for each credential, for all below one folder."""

Meddle = Callable[[str, str], None]
"""Called with `before` or `after` and the path in the store, around each write of a daemon to what lies there or to its record."""


class Place(Protocol):
    """A store as a daemon and outsiders see it."""

    @property
    def name(self) -> str:
        """For what tests print."""

    def furnish(self, site: Site) -> None:
        """Make it the store of a site, under the name `STORE`."""

    def read(self, path: str) -> Secret:
        """What a consumer reads, by the command line."""

    def write(self, path: str, key: Secret) -> None:
        """What an outsider writes, by the command line: the key, and nothing else."""

    def create(self, path: str, key: Secret, **fields: str) -> None:
        """A secret that was not there, with the key and other fields."""

    def fields(self, path: str) -> Document:
        """All that a consumer reads."""

    def count_writes(self, path: str) -> int:
        """How often anybody wrote what consumers read, or moved a label of it."""

    def history(self, path: str) -> list[str]:
        """The ids of the keys that consumers could ever read at the path, in their order, a run of one key once."""

    def meddle(self, meddle: Meddle | None) -> None:
        """Call this around the writes of daemons from now on."""


@dataclass
class VaultPlace:
    """A real Vault; where there is a proxy, daemons speak to that, so that their writes can be stopped at."""

    server: VaultServer
    proxy: CuttingProxy | None = None
    name: str = "vault"

    def furnish(self, site: Site) -> None:
        self.sign_in(site, POLICY)
        auth = {"type": "token-file", "token_file": str(site.folder / "vault.token")}
        address = self.server.address if self.proxy is None else self.proxy.address
        site.config["stores"] = {STORE: {"type": "vault", "address": address, "mount": MOUNT, "auth": auth}}

    def sign_in(self, site: Site, policy: str) -> None:
        """Give the site a token that may do this and nothing else."""
        token = site.folder / "vault.token"
        token.touch(0o600)
        token.write_text(self.server.token(policy))

    def read(self, path: str) -> Secret:
        return Secret(self._run("kv", "get", f"-mount={MOUNT}", f"-field={FIELD}", path).strip())

    def write(self, path: str, key: Secret) -> None:
        self._run("kv", "put", f"-mount={MOUNT}", path, f"{FIELD}=-", stdin=key.reveal())

    def create(self, path: str, key: Secret, **fields: str) -> None:
        self._run("kv", "put", f"-mount={MOUNT}", path, f"{FIELD}=-", *(f"{k}={v}" for k, v in fields.items()), stdin=key.reveal())

    def fields(self, path: str) -> Document:
        found: Document = self.server.get(MOUNT, path)
        return found

    def count_writes(self, path: str) -> int:
        return self.server.version(MOUNT, path)

    def history(self, path: str) -> list[str]:
        versions = self.server.version(MOUNT, path)
        return _runs([_find_id(self.server.get(MOUNT, path, version)) for version in range(1, versions + 1)])

    def meddle(self, meddle: Meddle | None) -> None:
        def around(when: str, where: str) -> None:
            path = where.partition(f"/{MOUNT}/data/")[2].partition("?")[0]
            if meddle is not None and path:
                meddle(when, path.removeprefix("rotator/"))

        assert self.proxy is not None, "this Vault stands behind no proxy"
        self.proxy.watch = around

    def _run(self, *words: str, stdin: str = "") -> str:
        names = ("VAULT_ADDR", "BAO_ADDR"), ("VAULT_TOKEN", "BAO_TOKEN")
        values = self.server.address, self.server.root
        environ = {name: value for both, value in zip(names, values, strict=True) for name in both}
        done = subprocess.run(
            [str(get_program(VAULT)), *words],
            env={**environ, "PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent"},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"vault {' '.join(words)}: {done.stderr}"
        return done.stdout


@dataclass
class AwsPlace:
    """AWS Secrets Manager at an address: moto's server, or the strict fake."""

    url: str
    name: str
    fake: FakeServer | None = None
    _history: dict[str, list[str]] = field(default_factory=dict)
    _meddle: Meddle | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.fake is not None:
            self.fake.fake.before, self.fake.fake.after = self._before, self._after

    def furnish(self, site: Site) -> None:
        site.config["stores"] = {STORE: {"type": "aws", "region": REGION, "endpoint_url": self.url, "create": True}}
        site.added_environ.update(ENVIRON)

    def read(self, path: str) -> Secret:
        return Secret(self.fields(path)[FIELD])

    def write(self, path: str, key: Secret) -> None:
        words = ("put-secret-value", "--secret-id", path, "--secret-string", "file:///dev/stdin")
        run_cli(self.url, "secretsmanager", *words, stdin=json.dumps({FIELD: key.reveal()}))

    def create(self, path: str, key: Secret, **fields: str) -> None:
        words = ("create-secret", "--name", path, "--secret-string", "file:///dev/stdin")
        run_cli(self.url, "secretsmanager", *words, stdin=json.dumps({**fields, FIELD: key.reveal()}))

    def fields(self, path: str) -> Document:
        # On moto the default version does not follow AWSCURRENT: tests/contract/stores/test_aws_moto.py.
        words = ("get-secret-value", "--secret-id", path, "--version-stage", "AWSCURRENT", "--query", "SecretString", "--output", "text")
        found: Document = json.loads(run_cli(self.url, "secretsmanager", *words))
        return found

    def count_writes(self, path: str) -> int:
        assert self.fake is not None, "only the strict fake counts"
        return sum(call.writes and call.name == path for call in self.fake.fake.calls)

    def history(self, path: str) -> list[str]:
        assert self.fake is not None, "only the strict fake keeps a history"
        return _runs(self._history.get(path, []))

    def meddle(self, meddle: Meddle | None) -> None:
        self._meddle = meddle

    def _before(self, call: Call) -> None:
        self._tell("before", call)

    def _after(self, call: Call) -> None:
        path = call.name.removeprefix("rotator/")
        if self.fake is not None and call.writes:
            with self._lock:
                text = self.fake.fake.text(path)
                if text is not None:
                    self._history.setdefault(path, []).append(_find_id(json.loads(text)))
        self._tell("after", call)

    def _tell(self, when: str, call: Call) -> None:
        if self._meddle is not None and call.writes:
            self._meddle(when, call.name.removeprefix("rotator/"))


@contextlib.contextmanager
def open_place(kind: str, *, gated: bool = False) -> Iterator[Place]:
    """`vault` (`gated`: `meddle` works), `moto`, or `aws` for the strict fake; the server ends with the block."""
    if kind == "vault":
        with start_dev_vault() as server, contextlib.ExitStack() as stack:
            yield VaultPlace(server, stack.enter_context(CuttingProxy(server.address)) if gated else None)
    elif kind == "moto":
        get_moto().reset()
        yield AwsPlace(get_moto().url, "moto")
    else:
        with FakeServer() as fake:
            yield AwsPlace(fake.url, "strict fake of AWS", fake)


def _find_id(document: Document) -> str:
    return str(Secret(document[FIELD]).key_id) if document.get(FIELD) else ""


def _runs(ids: list[str]) -> list[str]:
    return [one for before, one in zip(["", *ids], ids, strict=False) if one != before]
