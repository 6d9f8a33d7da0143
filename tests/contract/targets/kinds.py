"""The kinds of target that the contract suite runs over. A new kind joins by one line in `KINDS`."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rotator.domain.keys import KeyId
from rotator.domain.ports import Delivery, Target
from rotator.domain.secret import Secret
from rotator.targets.file.config import FileTargetConfig
from rotator.targets.kubernetes import KubernetesTargetConfig
from rotator.targets.surroundings import TargetSurroundings
from tests.support.kubernetes import Cluster

URL = "https://api.millimetric.ai/mcp"


class WallClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.now().timestamp()


def a_secret() -> Secret:
    return Secret(f"rk_live_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}")


def a_delivery(secret: Secret, generation: int = 1, *, ours: frozenset[KeyId] = frozenset(), rotation: str | None = None) -> Delivery:
    return Delivery("checkout", secret, generation, URL, ours, rotation)


def surround(folder: Path, name: str = "place", installation: str = "test") -> TargetSurroundings:
    return TargetSurroundings(name, installation, folder / "state", WallClock(), {}, folder, "linux")


@dataclass
class Place:
    """Somewhere that a target writes to, and how an outsider gets at it."""

    build: Callable[..., Target]
    """a new client of the place, with settings of the kind in place of the usual ones"""
    read: Callable[[], str | None]
    """the raw key that a consumer finds there; None: nothing"""
    overwrite: Callable[[str], None]
    """an outsider puts something else there"""
    remove: Callable[[], None]
    """an outsider takes it away"""


@dataclass(frozen=True)
class Kind:
    name: str
    make: Callable[[Path, Callable[[], Cluster]], Place]

    def __str__(self) -> str:
        return self.name


def _make_file(folder: Path, _cluster: Callable[[], Cluster]) -> Place:
    file = folder / "place.key"

    def build(**settings: Any) -> Target:
        return FileTargetConfig.model_validate({"type": "file", "path": file, "content": "key", **settings}).build(surround(folder))

    def read() -> str | None:
        return file.read_text().strip() if file.exists() else None

    return Place(build, read, lambda text: void(file.write_text(text)), file.unlink)


@dataclass
class SecretPlace:
    """A Secret in a namespace of its own."""

    cluster: Cluster
    folder: Path
    name: str = "millimetric"
    namespace: str = field(init=False)

    def __post_init__(self) -> None:
        self.namespace = self.cluster.namespace()

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/secrets/{self.name}"

    def config(self, **settings: Any) -> KubernetesTargetConfig:
        self.folder.mkdir(parents=True, exist_ok=True)
        token = settings.pop("token", self.cluster.admin)
        server = settings.pop("server", None)
        kubeconfig = self.cluster.kubeconfig(self.folder / f"{secrets.token_hex(4)}.kubeconfig", token, server)
        usual = {"type": "kubernetes", "kubeconfig": kubeconfig, "namespaces": [self.namespace], "name": self.name, "restart": "none"}
        return KubernetesTargetConfig.model_validate({**usual, **settings})

    def build(self, **settings: Any) -> Target:
        installation = settings.pop("installation", "test")
        return self.config(**settings).build(surround(self.folder, installation=installation))

    def find(self) -> Any:
        return self.cluster.find_secret(self.namespace, self.name)

    def read(self) -> str | None:
        found = self.find()
        value = (found or {}).get("data", {}).get("api_key")
        return base64.b64decode(value).decode() if value is not None else None

    def overwrite(self, text: str) -> None:
        data = {"api_key": base64.b64encode(text.encode()).decode()}
        if self.find() is None:
            self.cluster.call("POST", self.path.rpartition("/")[0], {"metadata": {"name": self.name}, "data": data})
        else:
            self.cluster.merge(self.path, {"data": data}, fieldManager="kubectl-edit")

    def remove(self) -> None:
        self.cluster.call("DELETE", self.path)


def _make_kubernetes(folder: Path, cluster: Callable[[], Cluster]) -> Place:
    place = SecretPlace(cluster(), folder)
    return Place(place.build, place.read, place.overwrite, place.remove)


def void(_value: object) -> None:
    """For a callable that should return nothing."""


KINDS = (Kind("file", _make_file), Kind("kubernetes", _make_kubernetes))


def dump(found: Any) -> str:
    """A Secret as text, for tests that look for something anywhere in it."""
    return json.dumps(found)
