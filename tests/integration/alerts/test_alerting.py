"""The whole way once: a daemon whose key comes near its end, a Prometheus that scrapes it, an Alertmanager that tells somebody.

The rules are those of the chart, their expressions word for word, but for what time makes impossible here: a `for` is a second, unless
what it waits out is an ordinary part of a rotation, and "the last tenth of a key's life" is the last nine tenths.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alerting import RULES, find_series, list_queries, load_alerts
from tests.support.daemon import Site, wait_until
from tests.support.prometheus import Program, Receiver, running_alertmanager, running_prometheus, running_receiver
from tests.support.scenes import Scene, Stage, ensure_stays, open_stage
from tests.support.servers import find_free_ports

JOB = "rotator"
ORDINARY = ("RotatorConsumersBehind", "RotatorDeathUnproven")


@dataclass(frozen=True, slots=True)
class World:
    stage: Stage
    prometheus: Program
    alertmanager: Program
    receiver: Receiver

    def query(self, expr: str) -> list[dict[str, Any]]:
        """What Prometheus answers to it now; a warning is a failure."""
        answer = self.prometheus.ask("/api/v1/query", query=expr)
        assert answer["status"] == "success", (expr, answer)
        assert "warnings" not in answer, (expr, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def wait_scraped(self, scene: Scene) -> None:
        """Until Prometheus knows the credential."""
        wait_until(lambda: self.query(f'rotator_credential_info{{credential="{scene.name}"}}'), what=f"{scene.name} in Prometheus")

    def firing(self, name: str) -> list[str]:
        """The credentials for which Alertmanager holds an alert of that name."""
        held = self.alertmanager.ask("/api/v2/alerts", filter=f'alertname="{name}"')
        return sorted(alert["labels"].get("credential", "") for alert in held)


def shorten_rules(into: Path) -> Path:
    """A copy with waiting times and one threshold that a test can live to see."""
    document = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        if rule["alert"] not in ORDINARY:
            rule["for"] = "1s"
        if rule["alert"] == "RotatorKeyExpiring":
            before = rule["expr"]
            rule["expr"] = before.replace("0.1 *", "0.9 *")
            assert rule["expr"] != before
    into.write_text(yaml.safe_dump(document, sort_keys=False))
    return into


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("alerting")
    (port,) = find_free_ports(1)

    def furnish(site: Site) -> None:
        site.config["metrics"] = {"port": port}

    with (
        open_stage(folder, furnish=furnish) as stage,
        running_receiver() as receiver,
        running_alertmanager(folder, receiver.url) as alertmanager,
        running_prometheus(folder, {JOB: port}, shorten_rules(folder / "alerts.yaml"), alertmanager) as prometheus,
    ):
        yield World(stage, prometheus, alertmanager, receiver)


def test_nothing_is_told_of_a_daemon_that_does_its_work(world: World) -> None:
    scene = world.stage.add(rotation={"every": "30d", "max_age": "45d"})
    world.wait_scraped(scene)

    def quiet() -> bool:
        return world.query('ALERTS{alertstate="firing"}') == []

    wait_until(quiet, what="an end of the alerts of before the daemon was seen")
    scene.rotate()
    scene.wait_settled(2)
    ensure_stays(quiet, 2.0, "a world without alerts")


def test_somebody_is_told_of_a_key_that_comes_near_its_end(world: World) -> None:
    calm = world.stage.add(rotation={"every": "30d", "max_age": "45d"})
    aging = world.stage.add(rotation={"every": "8s", "max_age": "60s", "jitter": "0s"})
    world.stage.control.faults({"operation": "list", "effect": "status", "status": 503})
    try:
        first = aging.key_id

        wait_until(lambda: world.firing("RotatorKeyExpiring") == [aging.name], what="the alert in Alertmanager")
        (told,) = wait_until(lambda: world.receiver.told("RotatorKeyExpiring"), what="the note of it")
        assert told["labels"] == {"alertname": "RotatorKeyExpiring", "severity": "warning", "job": JOB, "credential": aging.name}
        assert told["annotations"]["runbook"] == "docs/runbooks/RotatorKeyExpiring.md"
        assert f"The current key of {aging.name} passes its maximum age in " in told["annotations"]["description"]
        assert calm.name not in str(world.receiver.notes)
        assert aging.key_id == first, "it was rotated, so there was nothing to tell"
    finally:
        world.stage.control.faults()
    aging.ask("retry")
    wait_until(lambda: world.receiver.told("RotatorKeyExpiring", "resolved"), what="the note that it is over")


def test_every_rule_is_evaluated_without_a_mistake(world: World) -> None:
    def evaluated() -> list[dict[str, str]]:
        groups = world.prometheus.ask("/api/v1/rules")["data"]["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        return [] if any(rule["health"] == "unknown" for rule in rules) else rules

    rules = wait_until(evaluated, what="an evaluation of each rule")
    assert sorted(rule["name"] for rule in rules) == sorted(alert.name for alert in load_alerts())
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []


def test_every_panel_of_the_dashboard_gets_an_answer(world: World) -> None:
    scene = world.stage.add(rotation={"every": "30d", "max_age": "45d"})
    world.wait_scraped(scene)
    scene.rotate()
    scene.wait_settled(2)
    # Series that exist only where something is the matter, or that need two scrapes of a counter.
    rare = {
        "rotator_credential_parked", "rotator_credential_targets", "rotator_retirements", "rotator_old_key_alive_seconds",
        "rotator_credential_compromised", "rotator_pool_spares", "rotator_leak_to_dead_seconds_bucket", "rotator_steps_total",
    }  # fmt: skip

    def find_missing() -> list[tuple[str, set[str]]]:
        empty = [(title, find_series(expr)) for title, expr in list_queries() if not world.query(expr)]
        return [(title, series) for title, series in empty if not series <= rare]

    with contextlib.suppress(AssertionError):  # what the rotation brought needs two scrapes
        wait_until(lambda: not find_missing())
    assert find_missing() == []
