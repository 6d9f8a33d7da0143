"""docs/kubernetes.md agrees with the code: settings, Roles, annotations, messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest
import yaml

from rotator.settings import load_settings
from rotator.targets.kubernetes import KubernetesTargetConfig, contents
from rotator.targets.kubernetes.answers import Answered, explain
from rotator.targets.kubernetes.api import ClusterApi
from rotator.targets.kubernetes.config import NamespaceSelector
from rotator.targets.kubernetes.permissions import Permissions

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
CODE = ROOT / "rotator" / "targets" / "kubernetes"
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


def rows_of(heading: str) -> list[list[str]]:
    """The cells of the rows below a heading, but for its tables' own heads."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| ")]
    return [row for row in rows if row[0].startswith("`")]


def render(name: str, target: dict[str, object]) -> str:
    config = KubernetesTargetConfig.model_validate(target)
    selected = isinstance(config.namespaces, NamespaceSelector)
    permissions = Permissions(
        api=cast("ClusterApi", None),
        target=name,
        secret=config.name,
        by_selector=selected,
        watches=config.watches > 0,
        deletes=config.on_removal == "delete",
        restarts=config.restart != "none",
        named=None if isinstance(config.restart, str) else config.restart,
    )
    return permissions.render(permissions.list_needs(() if isinstance(config.namespaces, NamespaceSelector) else config.namespaces))


def test_every_setting_has_a_row_with_its_default_and_every_row_is_a_setting() -> None:
    rows = {name: row for row in rows_of("Settings") for name in re.findall(r"`(\w+)`", row[0])}
    assert list(rows) == list(KubernetesTargetConfig.model_fields)
    shown = KubernetesTargetConfig.model_validate({"type": "kubernetes", "namespaces": ["a"], "name": "b"}).model_dump(mode="json")
    for name, row in rows.items():
        for told in re.findall(r"`([^`]+)`", row[1]):
            value = yaml.safe_load(told)
            assert value == shown[name], name


def test_its_configuration_loads(tmp_path: Path) -> None:
    examples = [block for block in BLOCKS if block.startswith("targets:")]
    assert len(examples) == 2
    for example in examples:
        document = yaml.safe_load(example)
        whole = {"issuers": {"admin": {"type": "manual"}}, **document}
        (tmp_path / "rotator.yaml").write_text(yaml.safe_dump(whole))
        loaded = load_settings(tmp_path / "rotator.yaml", {}, files=False)
        assert loaded.settings.targets.keys() == {"checkout-cluster"}


def test_its_roles_are_those_that_are_printed() -> None:
    example = yaml.safe_load(BLOCKS[0])["targets"]["checkout-cluster"]
    selector = {**example, "namespaces": {"selector": "team=checkout"}}
    printed = [
        render("checkout-cluster", example),
        render("checkout-cluster", {**example, "restart": ["deployment/checkout"]}),
        render("every-team", selector),
    ]
    assert [block for block in BLOCKS if block.startswith("apiVersion:")] == printed


def test_what_it_says_of_smaller_and_larger_roles_is_so() -> None:
    example = yaml.safe_load(BLOCKS[0])["targets"]["checkout-cluster"]

    def rules(**settings: object) -> list[dict[str, list[str]]]:
        found: list[dict[str, list[str]]] = yaml.safe_load(render("checkout-cluster", {**example, **settings}))["rules"]
        return found

    assert rules(restart="none") == rules()[:1]
    assert rules(watches=0)[0]["verbs"] == [verb for verb in rules()[0]["verbs"] if verb not in ("list", "watch")]
    assert rules(on_removal="delete")[0]["verbs"] == [*rules()[0]["verbs"], "delete"]


def test_every_label_and_annotation_of_ours_is_named() -> None:
    ours = {value for value in vars(contents).values() if isinstance(value, str) and value.startswith("rotator/")}
    assert len(ours) == 9
    assert ours - set(re.findall(r"`(rotator/[a-z-]+)`", PAGE)) == set()


def squeeze(code: str) -> str:
    """Source with its texts joined, and without what is filled in."""
    return re.sub(r"\"\n\s+f?\"|\{[^{}]*(\{[^{}]*\}[^{}]*)*\}|`", "", code)


@pytest.mark.parametrize("heading", ["What errors say", "Workloads, and what the receipt says"])
def test_its_messages_stand_in_the_code(heading: str) -> None:
    told = squeeze("".join(file.read_text() for file in CODE.glob("*.py")))
    messages = [message for row in rows_of(heading) if len(row) == 2 for message in re.findall(r"`([^`]+)`", row[0])]
    assert len(messages) >= 5
    for message in messages:
        for part in message.split("…"):
            assert part.strip(" (),") in told, message


@pytest.mark.parametrize("status", [401, 403, 404, 409, 413, 422, 429, 500, 503])
def test_every_answer_has_a_row(status: int) -> None:
    said = str(explain(Answered(status), "checkout-cluster", "applying Secret checkout/millimetric", writes=True)).replace("`", "")
    messages = [message for row in rows_of("What errors say") for message in re.findall(r"`([^`]+)`", row[0])]
    assert any(all(part.strip(" ()") in said for part in message.split("…")) for message in messages), said
