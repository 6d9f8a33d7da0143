"""A real Vault for tests, on a free loopback port: started, stopped, killed, started again.

The program is what ROTATOR_TEST_VAULT names, else `vault` or `bao` on the path, else built (`tests.support.servers`). Nothing here depends
on which it is.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx

from tests.support.daemon import wait_until
from tests.support.sandbox import TRUSTS_NOBODY
from tests.support.servers import VAULT, dying, find_free_ports, get_program

_mounts = itertools.count(1)


@dataclass(slots=True)
class VaultServer:
    """A running server, and its root token. Use as a context manager."""

    address: str
    root: str = field(repr=False)
    ca_file: Path | None = None
    command: Sequence[str] = ()
    environ: dict[str, str] = field(default_factory=dict, repr=False)
    unseal_key: str = field(default="", repr=False)
    process: subprocess.Popen[bytes] | None = None
    client_cert: tuple[Path, Path] | None = None

    def call(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Any:
        """One request as root, or with `token`; its JSON. Fails for anything but success."""
        answer = self.ask(method, path, body, token, **headers)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.json() if answer.content else ''}"
        return answer.json() if answer.content else {}

    def ask(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> httpx.Response:
        """One request as root, or with `token`."""
        headers = {"X-Vault-Token": self.root if token is None else token, **{k.replace("_", "-"): v for k, v in headers.items()}}
        if method == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        verify: Any = TRUSTS_NOBODY
        if self.ca_file is not None:
            import ssl

            verify = ssl.create_default_context(cafile=str(self.ca_file))
            if self.client_cert is not None:
                verify.load_cert_chain(*map(str, self.client_cert))
        with httpx.Client(verify=verify, trust_env=False, timeout=30) as client:
            content = None if body is None else body if isinstance(body, str) else json.dumps(body)
            return client.request(method, f"{self.address}/v1/{path}", content=content, headers=headers)

    def mount(self, version: str = "2") -> str:
        """A fresh KV mount; its path."""
        name = f"kv-{os.getpid()}-{next(_mounts)}-{secrets.token_hex(2)}"
        self.call("POST", f"sys/mounts/{name}", {"type": "kv", "options": {"version": version}})
        if version == "2":
            wait_until(lambda: self.ask("GET", f"{name}/config").is_success, what="the mount")
        return name

    def put(self, mount: str, path: str, data: Any) -> int:
        """`vault kv put`: what an outsider does. The version."""
        return int(self.call("POST", f"{mount}/data/{path}", {"data": data})["data"]["version"])

    def get(self, mount: str, path: str, version: int | None = None) -> Any:
        """The data that a consumer reads."""
        return self.call("GET", f"{mount}/data/{path}" + (f"?version={version}" if version else ""))["data"]["data"]

    def version(self, mount: str, path: str) -> int:
        """The number of the newest version; 0 where there is none."""
        answer = self.ask("GET", f"{mount}/metadata/{path}")
        return int(answer.json()["data"]["current_version"]) if answer.is_success else 0

    def token(self, policy: str, **settings: Any) -> str:
        """A token that may do what the policy says and nothing else, not even what `default` says."""
        name = f"policy-{secrets.token_hex(4)}"
        self.call("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        body = {"policies": [name], "no_default_policy": True, "ttl": "1h", **settings}
        return str(self.call("POST", "auth/token/create", body)["auth"]["client_token"])

    def revoke(self, token: str) -> None:
        """End a token."""
        self.call("POST", "auth/token/revoke", {"token": token})

    def start(self) -> None:
        """Start the process, and unseal it where that is needed."""
        log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        self.process = subprocess.Popen(
            dying(self.command), env={**os.environ, **self.environ}, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
        wait_until(self._answers, 60, what="Vault's answer")
        log.close()

    def unseal(self) -> None:
        """Unseal, and wait until it serves."""
        self.call("POST", "sys/unseal", {"key": self.unseal_key}, token="")
        wait_until(lambda: self.ask("GET", "sys/health").status_code == 200, 60, what="an active Vault")

    def seal(self) -> None:
        """Seal it."""
        self.call("POST", "sys/seal")

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it; harmless where it has ended."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "Vault ended before it answered"
        try:
            return self.ask("GET", "sys/seal-status").is_success
        except httpx.TransportError:
            return False


def start_dev_vault(plugins: Path | None = None) -> VaultServer:
    """In memory, unsealed, with KV version 2 at `secret`. `plugins`: a folder with plug-ins; they are yet to be registered."""
    port, *_ = find_free_ports(1)
    root = secrets.token_urlsafe(24)
    # The token comes by the environment: a command line is for everybody to read.
    environ = {"VAULT_DEV_ROOT_TOKEN_ID": root, "BAO_DEV_ROOT_TOKEN_ID": root, "VAULT_DEV_LISTEN_ADDRESS": f"127.0.0.1:{port}",
               "BAO_DEV_LISTEN_ADDRESS": f"127.0.0.1:{port}"}  # fmt: skip
    command = [str(get_program(VAULT)), "server", "-dev", "-dev-no-store-token"]
    if plugins is not None:
        config = plugins / "plugins.hcl"
        config.write_text(f'plugin_directory = "{plugins}"\n')
        command += ["-config", str(config)]
    server = VaultServer(f"http://127.0.0.1:{port}", root, command=command, environ=environ)
    server.start()
    return server


_CONFIG = """
disable_mlock = true
api_addr = "{scheme}://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster}"
storage "raft" {{
  path = "{data}"
  node_id = "one"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  {tls}
}}
"""


def start_raft_vault(folder: Path, tls: str = "", ca_file: Path | None = None, client: tuple[Path, Path] | None = None) -> VaultServer:
    """On disk, with integrated storage, initialised and unsealed, KV version 2 at `secret`; survives `kill`, `start`, `unseal`."""
    port, cluster = find_free_ports(2)
    data = folder / "raft"
    data.mkdir(parents=True)
    config = folder / "vault.hcl"
    scheme = "https" if tls else "http"
    config.write_text(_CONFIG.format(scheme=scheme, port=port, cluster=cluster, data=data, tls=tls or "tls_disable = true"))
    server = VaultServer(f"{scheme}://127.0.0.1:{port}", "", ca_file, [str(get_program(VAULT)), "server", "-config", str(config)])
    server.client_cert = client
    server.start()
    said = server.call("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token="")
    server.root, server.unseal_key = said["root_token"], said["keys_base64"][0]
    server.unseal()
    server.call("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    wait_until(lambda: server.ask("GET", "secret/config").is_success, what="the mount")
    return server
