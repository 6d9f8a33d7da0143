"""The chart's README says what its values are, and its archive is the same whenever it is made."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tests.support.charts import CHART, FORMER, ROOT, SCENARIOS, Helm


def load(name: str) -> ModuleType:
    """A program of `packaging`, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_is_up_to_date() -> None:
    assert (CHART / "README.md").read_text() == load("chart_readme").render(CHART), "run: make chart-readme"


def test_a_value_without_a_comment_is_told(tmp_path: Path) -> None:
    readme = load("chart_readme")
    chart = shutil.copytree(CHART, tmp_path / "chart")
    with (chart / "values.yaml").open("a") as values:
        values.write("\nnew:\n  # One that is told.\n  told: 1\n  untold: 2\n")
    with pytest.raises(readme.Undocumented, match=r"new\.untold has no comment"):
        readme.render(chart)


def test_the_archive_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        chart = shutil.copytree(CHART, tmp_path / name / "helm")
        shutil.copytree(ROOT / "packaging", tmp_path / name / "packaging")
        program = tmp_path / name / "packaging" / "chart_package.py"
        done = subprocess.run([sys.executable, program, tmp_path / name / "dist"], capture_output=True, text=True, check=True)
        assert done.stdout.strip().endswith(f"rotator-{yaml.safe_load((chart / 'Chart.yaml').read_text())['version']}.tgz")
    one, two = (next((tmp_path / name / "dist").iterdir()).read_bytes() for name in ("one", "two"))
    assert one == two


def test_the_archive_installs_what_the_folder_does(helm: Helm) -> None:
    packed = helm.home / "rotator.tgz"
    packed.write_bytes(load("chart_package").pack(CHART))
    assert helm.render(chart=packed) == helm.render()


def test_the_former_version_is_an_archive_of_ours(tmp_path: Path) -> None:
    with tarfile.open(FORMER) as archive:
        archive.extractall(tmp_path, filter="data")
    package = load("chart_package")
    assert package.get_file_name(tmp_path / "rotator") == FORMER.name
    assert package.pack(tmp_path / "rotator") == FORMER.read_bytes(), "made by chart_package.py, and nothing changed since"
    assert package.get_file_name(CHART) != FORMER.name


def test_the_page_shows_the_minimal_values_and_names_every_scenario() -> None:
    page = (ROOT / "docs" / "kubernetes-install.md").read_text()
    minimal = (CHART / "scenarios" / "minimal.yaml").read_text()
    shown = "".join(line for line in minimal.splitlines(keepends=True) if not line.startswith("#"))
    assert f"```yaml\n{shown}```" in page
    named = re.findall(r"^\| \[(\w+\.yaml)\]", page, re.MULTILINE)
    assert sorted(named) == [file.name for file in SCENARIOS]


def test_the_page_names_every_verb_that_is_granted() -> None:
    table = (ROOT / "docs" / "kubernetes-install.md").read_text().split("## What it is allowed to do")[1].split("\n## ")[0]
    granted = set(re.findall(r'"(get|create|patch|watch|delete|list)"', (CHART / "templates" / "_helpers.tpl").read_text()))
    assert granted > {"get", "create", "patch"}
    assert all(f"`{verb}`" in table for verb in granted | {"list"})
