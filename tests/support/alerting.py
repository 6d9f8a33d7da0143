"""The alerting rules and the dashboard as the chart ships them, and what their expressions ask for. For every suite."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rotator.metrics import FAMILIES, Family

ROOT = Path(__file__).parents[2]
RULES = ROOT / "helm" / "files" / "alerts.yaml"
DASHBOARD = ROOT / "helm" / "files" / "dashboard.json"
CASES = ROOT / "tests" / "alerts"
RUNBOOKS = ROOT / "docs" / "runbooks"

SERIES: Mapping[str, Family] = {
    f"{family.exposed}{suffix}": family
    for family in FAMILIES
    for suffix in (("_bucket", "_sum", "_count") if family.type == "histogram" else ("",))
}
"""Every series name that can be asked for → its family."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alerting rule. Several may share a name."""

    name: str
    expr: str
    wait: str
    """its `for`, such as 15m; empty: it fires at once"""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


def load_alerts() -> list[Alert]:
    """Every alerting rule, in the file's order."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return [Alert(r["alert"], r["expr"], r.get("for", ""), r["labels"], r["annotations"]) for r in rules]


def load_panels() -> list[dict[str, Any]]:
    """Every panel of the dashboard that asks for something, those in rows included."""
    return [panel for panel in _walk(json.loads(DASHBOARD.read_text())["panels"]) if panel.get("targets")]


def list_queries() -> list[tuple[str, str]]:
    """(panel's title, expression) of each query of the dashboard, its variables filled in."""
    return [(panel["title"], fill_in(target["expr"])) for panel in load_panels() for target in panel["targets"]]


def fill_in(expr: str) -> str:
    """An expression of the dashboard as Grafana would send it with every variable at *All*."""
    return re.sub(r"\$\{?__rate_interval\}?", "5m", re.sub(r"\$\{?(?:job|namespace|credential)\}?(?![\w:])", ".*", expr))


def find_series(expr: str) -> set[str]:
    """The names of our series that an expression asks for."""
    return set(re.findall(r"\brotator_\w+", expr))


def find_unknown_labels(expr: str) -> list[str]:
    """`series{label}` for each label that an expression selects by and that the series has not got."""
    return [
        f"{series}{{{label}}}"
        for series, selectors in re.findall(r"\b(rotator_\w+)\{([^}]*)\}", expr)
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', selectors))
        if label not in (*SERIES[series].labels, *TARGET_LABELS, "le")
    ]


TARGET_LABELS = ("job", "instance", "namespace", "pod")
"""What Prometheus adds to every series of a scrape."""


def _walk(panels: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for panel in panels:
        yield panel
        yield from _walk(panel.get("panels", []))
