"""Runs helm as a user does, over the chart of this repository. For every suite."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.servers import Server, get_program

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
SCENARIOS = tuple(sorted((CHART / "scenarios").glob("*.yaml")))
FORMER = ROOT / "tests" / "charts" / "rotator-0.1.0.tgz"
"""the chart as it was released before"""

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Helm:
    """One version of helm, with a home folder of its own."""

    program: Path
    home: Path
    kubeconfig: Path | None = None

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        environ = {"HOME": str(self.home), "PATH": "", "KUBECONFIG": str(self.kubeconfig or self.home / "none")}
        command = [str(self.program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environ)
        assert not check or done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
        return done

    def render(self, *files: Path, values: Mapping[str, Any] | None = None, chart: Path = CHART) -> list[Manifest]:
        """`helm template`: every object."""
        done = self.run("template", "rotator", str(chart), "--namespace", "keys", *self.name_values(files, values))
        return [one for one in yaml.safe_load_all(done.stdout) if one]

    def refuse(self, values: Mapping[str, Any]) -> str:
        """What `helm template` says of values that it must not take."""
        done = self.run("template", "rotator", str(CHART), *self.name_values((), values), check=False)
        assert done.returncode != 0, "it was taken"
        return done.stderr

    def name_values(self, files: Sequence[Path], values: Mapping[str, Any] | None) -> list[str]:
        """The options that hand these values over; those of `values` win."""
        named = [*files]
        if values is not None:
            named.append(self.home / "values.yaml")
            named[-1].write_text(json.dumps(values))  # JSON is YAML, in which no text can be taken for anything else
        return [word for file in named for word in ("--values", str(file))]


def get_helm(server: Server, home: Path, kubeconfig: Path | None = None) -> Helm:
    """That version of helm, for a test; see `get_program`."""
    return Helm(get_program(server), home, kubeconfig)


def pick(manifests: Sequence[Manifest], kind: str) -> list[Manifest]:
    """The objects of a kind."""
    return [one for one in manifests if one["kind"] == kind]


def get_one(manifests: Sequence[Manifest], kind: str, name: str = "") -> Manifest:
    """The only object of a kind, or the one of that name."""
    (found,) = (one for one in pick(manifests, kind) if not name or one["metadata"]["name"] == name)
    return found


def gather_pods(manifests: Sequence[Manifest]) -> list[Manifest]:
    """The spec of every pod that the objects are or make."""
    return [one["spec"] if one["kind"] == "Pod" else one["spec"]["template"]["spec"] for one in manifests if one["kind"] in _POD_KINDS]


def list_environ(manifests: Sequence[Manifest]) -> dict[str, str]:
    """The daemon's plain variables."""
    (container,) = get_one(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one["value"] for one in container["env"] if "value" in one}


_POD_KINDS = ("Pod", "StatefulSet")
