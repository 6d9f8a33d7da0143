"""The alerting rules through promtool: they load, and each fires when it should and keeps still when it should."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alerting import CASES, RULES, find_series, load_alerts
from tests.support.servers import get_system_program

FILES = sorted(CASES.glob("*.yaml"))
ALERTS = load_alerts()
NAMES = sorted({alert.name for alert in ALERTS})


def run_promtool(*arguments: str | Path) -> None:
    promtool = get_system_program("promtool", "prometheus")
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def load_cases(file: Path) -> list[dict[str, Any]]:
    """The file's looks at alerts, each with the series of its test."""
    tests = yaml.safe_load(file.read_text())["tests"]
    return [{**look, "series": test["input_series"]} for test in tests for look in test["alert_rule_test"]]


def test_the_rules_load() -> None:
    run_promtool("check", "rules", RULES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_alerts_fire_when_they_should_and_keep_still_otherwise(file: Path) -> None:
    run_promtool("test", "rules", file)


@pytest.mark.parametrize("name", NAMES)
def test_each_alert_has_a_case_that_fires_and_one_that_does_not(name: str) -> None:
    looks = [look for file in FILES for look in load_cases(file) if look["alertname"] == name]
    asked = set().union(*(find_series(alert.expr) for alert in ALERTS if alert.name == name))
    quiet = [look for look in looks if not look["exp_alerts"]]
    assert any(look["exp_alerts"] for look in looks), "no case in which it fires"
    # Without a series that the alert asks for there is nothing that could fire.
    assert any(asked & find_series(str(look["series"])) for look in quiet), "no case in which it keeps still though it sees something"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: f"{alert.name}-{alert.labels['severity']}")
def test_each_rule_fires_in_some_case(alert: Any) -> None:
    fired = [fired for file in FILES for look in load_cases(file) if look["alertname"] == alert.name for fired in look["exp_alerts"]]
    assert alert.labels["severity"] in {each["exp_labels"]["severity"] for each in fired}


def test_no_case_is_about_an_alert_that_there_is_not() -> None:
    assert {look["alertname"] for file in FILES for look in load_cases(file)} <= set(NAMES)
    assert [file.stem for file in FILES] == NAMES
