"""Rules, runbooks, dashboard and cases agree with each other and with the metrics there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rotator.domain.reasons import Reason
from rotator.metrics import PHASES, TARGET_STATES
from tests.support.alerting import (
    CASES,
    DASHBOARD,
    ROOT,
    RUNBOOKS,
    SERIES,
    TARGET_LABELS,
    Alert,
    fill_in,
    find_series,
    find_unknown_labels,
    list_queries,
    load_alerts,
    load_panels,
)  # fmt: skip

ALERTS = load_alerts()
NAMES = {alert.name for alert in ALERTS}
VALUES = {"phase": {*PHASES, "waiting", "doomed", "revoked"}, "state": {*TARGET_STATES}, "reason": {str(reason) for reason in Reason}}
"""What a label can hold, where that is a list."""


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.labels['severity']}")
def test_an_alert_says_what_to_do(alert: Alert) -> None:
    assert re.fullmatch(r"Rotator([A-Z][a-z]+)+", alert.name)
    assert alert.labels["severity"] in ("critical", "warning", "info")
    assert alert.annotations.keys() == {"summary", "description", "runbook"}
    assert alert.annotations["runbook"] == f"docs/runbooks/{alert.name}.md"
    assert alert.annotations["summary"].endswith(".")
    assert "\n" not in alert.annotations["description"]


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"} == NAMES


def test_the_index_names_every_page() -> None:
    index = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+)", (RUNBOOKS / "README.md").read_text(), re.MULTILINE)
    severities: dict[str, str] = {}
    for alert in ALERTS:  # of rules that share a name the first is the graver
        severities.setdefault(alert.name, alert.labels["severity"])
    assert {name: severity for name, _, severity in index} == severities
    assert all(name == page for name, page, _ in index)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_runbook_answers_what_is_asked_at_three_in_the_morning(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings == ["What it means", "What is at risk", "What to look at", "What to do", "When it ends by itself"]
    assert len(text.splitlines()) <= 70, "too long to be read at that time"


def test_commands_in_runbooks_and_alerts_exist() -> None:
    known = set(re.findall(r"^### `rotator (.*)`$", (ROOT / "docs" / "cli.md").read_text(), re.MULTILINE))
    pages = [page.read_text() for page in RUNBOOKS.glob("*.md")]
    texts = [*pages, *(alert.annotations["description"] for alert in ALERTS)]
    named = {words for text in texts for words in re.findall(r"(?:`|\$ )rotator ((?:pool )?[a-z]+)", text)}
    assert named
    assert named <= known


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.labels['severity']}")
def test_an_expression_asks_for_what_there_is(alert: Alert) -> None:
    ensure_known(alert.expr)


@pytest.mark.parametrize(("title", "expr"), list_queries())
def test_a_panel_asks_for_what_there_is(title: str, expr: str) -> None:
    ensure_known(expr)


def test_cases_are_made_of_series_as_the_daemon_writes_them() -> None:
    """Else a label that is wrong in a rule and in its case would go unseen."""
    for file in CASES.glob("*.yaml"):
        for series in re.findall(r"- series: '(.*)'$", file.read_text(), re.MULTILINE):
            name, labels = re.fullmatch(r"(\w+)\{(.*)\}", series).groups()  # type: ignore[union-attr]
            given = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            own = given.keys() - set(TARGET_LABELS)
            assert name == "up" or own == set(SERIES[name].labels), f"{file.name}: {series}"
            ensure_values(given, series)


def test_the_dashboard_is_one() -> None:
    document = json.loads(DASHBOARD.read_text())
    assert document["schemaVersion"] >= 39
    assert document["uid"] == "rotator"
    assert document["id"] is None
    variables = {each["name"]: each for each in document["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    for variable in variables.values():
        if variable["type"] == "query":
            assert find_series(variable["query"]["query"]) <= SERIES.keys()
    panels = document["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in load_panels())
    for panel in load_panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    for first in panels:
        for second in panels:
            assert first is second or not overlap(first["gridPos"], second["gridPos"]), (first["title"], second["title"])
    assert "$" not in "".join(fill_in(target["expr"]) for panel in load_panels() for target in panel["targets"])


def test_the_metrics_page_names_no_other_alert_and_all_of_them() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert set(re.findall(r"\[`?(Rotator\w+)`?\]\(runbooks/\1\.md\)", page)) == NAMES


def ensure_known(expr: str) -> None:
    asked = find_series(expr)
    assert asked or re.search(r"\bprocess_\w+\{", expr), "it asks for nothing of ours"
    assert asked <= SERIES.keys()
    assert find_unknown_labels(expr) == []
    for label, values in re.findall(r'(\w+)(?:=~|!~|!=|=)"([^"]*)"', expr):
        for value in values.split("|"):
            ensure_values({label: value}, expr)


def ensure_values(labels: dict[str, str], where: str) -> None:
    for label, value in labels.items():
        assert label not in VALUES or value in VALUES[label], f"{label}={value} in {where}"


def overlap(first: dict[str, Any], second: dict[str, Any]) -> bool:
    across = first["x"] < second["x"] + second["w"] and second["x"] < first["x"] + first["w"]
    return across and first["y"] < second["y"] + second["h"] and second["y"] < first["y"] + first["h"]


def test_links_between_runbooks_lead_somewhere() -> None:
    for page in RUNBOOKS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_file_is_shipped_from_where_the_chart_looks() -> None:
    assert yaml.safe_load((ROOT / "helm" / "files" / "alerts.yaml").read_text()).keys() == {"groups"}
    assert Path(DASHBOARD).is_relative_to(ROOT / "helm" / "files")
