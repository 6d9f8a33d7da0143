"""The way to a cluster's API: from a kubeconfig, or from the pod that rotator runs in, to an HTTP client that signs its requests.

A kubeconfig that changes is read again, and so are the certificates that it names. Tokens never get into a message.
"""

from __future__ import annotations

import os
import ssl
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import msgspec
import structlog
import yaml
from lightkube.config.client_adapter import verify_cluster
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.config.models import User
from lightkube.core.exceptions import ConfigError

from rotator.domain.errors import Misconfigured
from rotator.remote.fields import is_loopback, parse_base_url
from rotator.remote.http import ensure_header_value
from rotator.targets.kubernetes.signing import PrintedToken, TokenAuth, find_in_file

__all__ = ["Clients", "ClusterAccess"]

_KEPT = 20
_EXEC_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_NOT_UNDERSTOOD = ("proxy-url", "tls-server-name", "as", "as-uid", "as-groups", "as-user-extra", "auth-provider")
"""fields that change whom we speak to, or as whom: better refused than passed over"""
_Marks = Mapping[Path, tuple[int, int] | None]

log = structlog.get_logger(__name__)


class Clients(NamedTuple):
    """Two, as each request looks at every connection of its client's: hundreds of watches would slow all others down."""

    calls: httpx2.Client
    watches: httpx2.Client

    def close(self) -> None:
        """Close both."""
        self.calls.close()
        self.watches.close()


@dataclass(slots=True, weakref_slot=True, eq=False)
class ClusterAccess:
    """One cluster as one user. Safe to be used from several threads."""

    kubeconfig: Path | None
    context: str | None
    _clients: Clients | None = field(default=None, repr=False)
    _marks: _Marks = field(default_factory=dict)
    """of each file that the client was made from"""
    _latest: Callable[[], object] | None = field(default=None, repr=False)
    _former: Callable[[], object] | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get_clients(self) -> Clients:
        """The clients, made anew where a file that they were made from has changed. Runs no program. Raises `Misconfigured`."""
        with self._lock:
            if self._clients is None or any(_find_mark(file) != mark for file, mark in self._marks.items()):
                clients, marks = self._build()
                # The one of before is left to whoever still waits for its answers; the one before that has none to wait for.
                if self._former is not None:
                    self._former()
                self._former, self._latest = self._latest, weakref.finalize(self, clients.close)
                self._clients, self._marks = clients, marks
            return self._clients

    @property
    def _where(self) -> str:
        return f"kubeconfig {self.kubeconfig}" if self.kubeconfig is not None else "the pod's service account"

    def _build(self) -> tuple[Clients, _Marks]:
        # Looked at before they are read: what changes in between is read again.
        marks = {self.kubeconfig: _find_mark(self.kubeconfig)} if self.kubeconfig is not None else {}
        try:
            config = self._load()
            marks |= {file: _find_mark(file) for file in _list_files(config)}
            assert config.user is not None
            trusted = verify_cluster(config.cluster, config.user, config.abs_file)
            # As kubectl: the authorities of many clusters are not made to the letter of the standard, which newer Pythons insist on.
            trusted.verify_flags &= ~ssl.VERIFY_X509_STRICT
            limits = httpx2.Limits(max_connections=None, max_keepalive_connections=_KEPT)
            auth, server = _choose_auth(config, self._where), self._check_server(config)
            clients = Clients(*(httpx2.Client(base_url=server, verify=trusted, auth=auth, limits=limits) for _ in Clients._fields))
        except ConfigError:
            problem = "it says too little, or what it names does not exist: see that it works with kubectl"
        except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError, msgspec.MsgspecError):
            # What these say may quote the file, and it holds tokens.
            problem = "it cannot be understood: see that it works with kubectl"
        except OSError as fault:
            problem = f"a file that it names cannot be used ({fault.strerror or type(fault).__name__})"
        else:
            return clients, marks
        raise Misconfigured(f"{self._where}: {problem}")

    def _load(self) -> SingleConfig:
        if self.kubeconfig is None:
            return _load_service_account()
        document = self._read()
        config = KubeConfig.from_dict(document, self.kubeconfig)
        names = ", ".join(sorted(config.contexts)) or "none"
        context = self.context or config.current_context
        if context not in config.contexts:
            wanted = f"has no context {self.context}" if self.context else "names no current context that it holds"
            raise Misconfigured(f"{self._where} {wanted}; its contexts: {names}")
        found = config.get(context)
        assert found is not None
        for section, name in (("cluster", found.context.cluster), ("user", found.context.user)):
            for field_name in _find_not_understood(document, section, name):
                raise Misconfigured(f"{self._where}: `{field_name}` of {section} {name} is not supported: use a context without it")
        return found if found.user is not None else found._replace(user=User())

    def _read(self) -> dict[str, Any]:
        assert self.kubeconfig is not None
        try:
            text = self.kubeconfig.read_text(encoding="utf-8")
        except OSError as fault:
            raise Misconfigured(f"{self._where} cannot be read ({fault.strerror})") from None
        document = yaml.safe_load(text)
        # kubectl writes null for what is empty.
        return {**document, **{name: document.get(name) or [] for name in ("clusters", "contexts", "users")}}

    def _check_server(self, config: SingleConfig) -> str:
        """The server's address. A warning in the log, where anybody could answer in its place."""
        server = config.cluster.server
        parts = parse_base_url(server)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise Misconfigured(f"{self._where}: its server must begin with https://: keys are sent there")
        if config.cluster.insecure:
            log.warning("the cluster's TLS certificate is not checked", action="connect", kubeconfig=str(self.kubeconfig))
        return server


def _load_service_account() -> SingleConfig:
    if not {"KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"} <= os.environ.keys():
        raise Misconfigured("rotator does not run in a cluster: name a `kubeconfig` in the target")
    try:
        config = KubeConfig.from_service_account().get()
    except (ConfigError, OSError):
        said = "the pod's service account has no token here: leave `automountServiceAccountToken` on, or name a `kubeconfig` in the target"
        raise Misconfigured(said) from None
    assert config is not None
    return config


def _find_mark(file: Path) -> tuple[int, int] | None:
    """Another one where the file was written or replaced; None: it cannot be read, and whoever reads it says so."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def _list_files(config: SingleConfig) -> list[Path]:
    """Files that are read once, into the client."""
    user = config.user
    assert user is not None
    named = (config.cluster.certificate_auth, user.client_cert, user.client_key)
    return [Path(config.abs_file(file)) for file in named if file]


def _find_not_understood(document: Mapping[str, Any], section: str, name: str | None) -> list[str]:
    said = next((one[section] for one in document[f"{section}s"] if one["name"] == name), None) or {}
    return [one for one in _NOT_UNDERSTOOD if said.get(one)]


def _choose_auth(config: SingleConfig, where: str) -> httpx2.Auth | None:
    user = config.user
    assert user is not None
    if user.token_file:
        return TokenAuth(find_in_file(Path(config.abs_file(user.token_file)), where))
    if user.token:
        token = ensure_header_value(user.token.strip(), f"{where}: its token")
        return TokenAuth(lambda _refused: token)
    if user.exec is not None:
        if user.exec.apiVersion not in _EXEC_VERSIONS:
            raise Misconfigured(f"{where}: `exec` must be of apiVersion {' or '.join(_EXEC_VERSIONS)}")
        environ = {variable.name: variable.value for variable in user.exec.env or ()}
        return TokenAuth(PrintedToken(user.exec.apiVersion, _find_command(config), environ, config.cluster.server))
    if user.username and user.password:
        return httpx2.BasicAuth(user.username, user.password)
    return None


def _find_command(config: SingleConfig) -> tuple[str, ...]:
    assert config.user is not None
    assert config.user.exec is not None
    command = config.user.exec.command
    # As kubectl has it: a path with a separator in it is relative to the kubeconfig, a bare name is looked for on the path.
    return (str(config.abs_file(command)) if os.sep in command else command, *(config.user.exec.args or ()))
