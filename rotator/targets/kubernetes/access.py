"""The way to a cluster's API: from a kubeconfig, or from the pod that rotator runs in, to an HTTP client that signs its requests.

A kubeconfig that changes is read again; the token of a service account, which is replaced every hour, is read again when it is refused; a
program that makes tokens (`exec`) runs again before its token expires. Tokens and what such programs print never get into a message.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import weakref
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import yaml
from lightkube.config.client_adapter import BearerAuth, BearerTokenFileAuth, verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from rotator.domain.errors import Misconfigured, Unreachable

__all__ = ["ClusterAccess"]

_EXEC_LIMIT = 10.0
_KEPT = 20
_EARLY = timedelta(seconds=60)
"""A token that ends within a minute is not used any more."""
_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")


@dataclass(slots=True, weakref_slot=True, eq=False)
class ClusterAccess:
    """One cluster as one user. Safe to be used from several threads."""

    kubeconfig: Path | None
    context: str | None
    _client: httpx2.Client | None = field(default=None, repr=False)
    _mark: tuple[int, int] | None = None
    _latest: Callable[[], object] | None = field(default=None, repr=False)
    _former: Callable[[], object] | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get_client(self) -> httpx2.Client:
        """The client, made anew where the kubeconfig has changed. Raises `Misconfigured`."""
        with self._lock:
            mark = self._find_mark()
            if self._client is None or mark != self._mark:
                client = self._build()
                # The one of before is left to whoever still waits for its answers; the one before that has none to wait for.
                if self._former is not None:
                    self._former()
                self._former, self._latest = self._latest, weakref.finalize(self, client.close)
                self._client, self._mark = client, mark
            return self._client

    def _find_mark(self) -> tuple[int, int] | None:
        if self.kubeconfig is None:
            return None
        try:
            status = self.kubeconfig.stat()
        except OSError as problem:
            raise Misconfigured(f"kubeconfig {self.kubeconfig} cannot be read ({problem.strerror})") from None
        return status.st_mtime_ns, status.st_ino

    def _build(self) -> httpx2.Client:
        where = f"kubeconfig {self.kubeconfig}" if self.kubeconfig is not None else "the pod's service account"
        try:
            config = self._load()
            user = config.user
            assert user is not None
            trusted = verify_cluster(config.cluster, user, config.abs_file)
            # Watches hold their connections, so there is no most.
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=_KEPT)
            return httpx2.Client(base_url=config.cluster.server, verify=trusted, auth=_choose_auth(config), limits=limits)
        except ConfigError:
            problem = "it says too little, or what it names does not exist: see that it works with kubectl"
        except (KeyError, TypeError, ValueError, yaml.YAMLError, msgspec.MsgspecError):
            # What these say may quote the file, and it holds tokens.
            problem = "it cannot be understood: see that it works with kubectl"
        except OSError as fault:
            problem = f"a file that it names cannot be used ({fault.strerror or type(fault).__name__})"
        raise Misconfigured(f"{where}: {problem}")

    def _load(self) -> SingleConfig:
        from lightkube.config.models import User

        if self.kubeconfig is None:
            if "KUBERNETES_SERVICE_HOST" not in os.environ:
                raise Misconfigured("rotator does not run in a cluster: name a `kubeconfig` in the target")
            found = KubeConfig.from_service_account().get()
            assert found is not None
            return found
        config = KubeConfig.from_file(self.kubeconfig)
        names = ", ".join(sorted(config.contexts)) or "none"
        if (self.context or config.current_context) not in config.contexts:
            wanted = f"has no context {self.context}" if self.context else "names no current context that it holds"
            raise Misconfigured(f"kubeconfig {self.kubeconfig} {wanted}; its contexts: {names}")
        found = config.get(self.context)
        assert found is not None
        return found if found.user is not None else found._replace(user=User())


def _choose_auth(config: SingleConfig) -> httpx2.Auth | None:
    user = config.user
    assert user is not None
    if user.token_file is not None:
        return BearerTokenFileAuth(str(config.abs_file(user.token_file)))
    if user.token is not None:
        return BearerAuth(user.token)
    if user.exec is not None:
        return _ExecAuth(user.exec.apiVersion, _find_command(config), {v.name: v.value for v in user.exec.env or ()}, config.cluster.server)
    if user.username and user.password:
        return httpx2.BasicAuth(user.username, user.password)
    if user.auth_provider:
        raise ConfigError("auth-provider")
    return None


def _find_command(config: SingleConfig) -> tuple[str, ...]:
    assert config.user is not None
    assert config.user.exec is not None
    command = config.user.exec.command
    # As kubectl has it: a path with a separator in it is relative to the kubeconfig, a bare name is looked for on the path.
    return (str(config.abs_file(command)) if os.sep in command else command, *(config.user.exec.args or ()))


class _ExecAuth(httpx2.Auth):
    """Signs requests with the token that a program prints (`ExecCredential`)."""

    def __init__(self, version: str, command: tuple[str, ...], environ: dict[str, str], server: str) -> None:
        if version not in _EXEC_VERSIONS:
            raise ConfigError("exec version")
        info = {"apiVersion": version, "kind": "ExecCredential", "spec": {"cluster": {"server": server}, "interactive": False}}
        self._command = command
        self._environ = {**environ, "KUBERNETES_EXEC_INFO": json.dumps(info)}
        self._token: str | None = None
        self._until: datetime | None = None
        self._lock = threading.Lock()

    def sync_auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        used = self._get_token(refused=None)
        request.headers["Authorization"] = f"Bearer {used}"
        response = yield request
        if response.status_code == httpx2.codes.UNAUTHORIZED:
            request.headers["Authorization"] = f"Bearer {self._get_token(refused=used)}"
            yield request

    def _get_token(self, refused: str | None) -> str:
        with self._lock:
            now = datetime.now(UTC)
            if self._token is None or self._token == refused or (self._until is not None and self._until - _EARLY <= now):
                self._token, self._until = self._run()
            return self._token

    def _run(self) -> tuple[str, datetime | None]:
        program = Path(self._command[0]).name
        try:
            done = subprocess.run(  # noqa: S603  # the user's own program, no shell
                self._command,
                env={**os.environ, **self._environ},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_EXEC_LIMIT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            raise Unreachable(f"{program}, which the kubeconfig names to sign in, did not do it ({type(problem).__name__})") from None
        if done.returncode:
            raise Unreachable(f"{program}, which the kubeconfig names to sign in, ended with exit code {done.returncode}: run it by hand")
        try:
            status: dict[str, Any] = json.loads(done.stdout)["status"]
            until = status.get("expirationTimestamp")
            return str(status["token"]), datetime.fromisoformat(until) if until else None
        except (ValueError, KeyError, TypeError):
            said = f"{program}, which the kubeconfig names to sign in, printed no token (client certificates are not supported)"
            raise Misconfigured(said) from None
