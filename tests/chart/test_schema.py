"""Wrong values are refused before anything is installed, with a message that names the field."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from rotator.settings.models import Settings
from tests.support.charts import CHART, Helm

SECRET = {"type": "kubernetes", "namespaces": ["checkout"], "name": "millimetric"}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"imagee": {"repository": "x"}}, "imagee"),
    ({"image": {"tagg": "1"}}, "tagg"),
    ({"image": {"tag": 1.0}}, "/image/tag"),
    ({"image": {"repository": ""}}, "/image/repository"),
    ({"image": {"digest": "latest"}}, "/image/digest"),
    ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
    ({"serviceAccount": {"annotations": {"role": 1}}}, "/serviceAccount/annotations/role"),
    ({"serviceAccount": {"token": "yes please"}}, "/serviceAccount/token"),
    ({"rbac": True}, "/rbac"),
    ({"persistence": {"size": "much"}}, "/persistence/size"),
    ({"persistence": {"enabled": "true"}}, "/persistence/enabled"),
    ({"service": {"type": "ExternalName"}}, "/service/type"),
    ({"ingress": {"hosts": ["rotator.example"]}}, "hosts"),
    ({"metrics": {"port": 70000}}, "/metrics/port"),
    ({"metrics": {"serviceMonitor": {"interval": "often"}}}, "/metrics/serviceMonitor/interval"),
    ({"networkPolicy": {"egressCidrs": ["vault.example"]}}, "/networkPolicy/egressCidrs/0"),
    ({"networkPolicy": {"egressPorts": ["443"]}}, "/networkPolicy/egressPorts/0"),
    ({"networkPolicy": {"from": {"podSelector": {}}}}, "/networkPolicy/from"),
    ({"podDisruptionBudget": {"maxUnavailable": "50%"}}, "/podDisruptionBudget/maxUnavailable"),
    ({"terminationGracePeriodSeconds": 10}, "/terminationGracePeriodSeconds"),
    ({"uid": 0}, "/uid"),
    ({"replicas": 2}, "replicas"),
    ({"extraEnv": [{"name": "VAULT_TOKEN", "value": "plain"}]}, "/extraEnv/0"),
    ({"extraEnv": {"AWS_REGION": "eu-west-1"}}, "/extraEnv"),
    ({"extraVolumes": [{"secret": {"secretName": "x"}}]}, "/extraVolumes/0"),
    ({"labels": {"team": 1}}, "/labels/team"),
    ({"config": "installation: production"}, "/config"),
    ({"config": None}, "config"),
    ({"metrics": None}, "metrics"),
    ({"image": {"repository": None}}, "repository"),
    ({"labels": {"app.kubernetes.io/managed-by": "us"}}, "/labels/app.kubernetes.io~1managed-by"),
    ({"podLabels": {"app.kubernetes.io/name": "us"}}, "/podLabels/app.kubernetes.io~1name"),
    ({"config": {"credental": {}}}, "credental"),
    ({"config": {"targets": {"a": {**SECRET, "namespaces": ["x", "x"]}}}}, "/config/targets/a/namespaces"),
    ({"config": {"targets": {"a": {**SECRET, "namespaces": {"selectr": "x"}}}}}, "selectr"),
    ({"config": {"targets": {"a": {**SECRET, "restart": "always"}}}}, "/config/targets/a/restart"),
    ({"config": {"targets": {"a": {**SECRET, "restart": ["web"]}}}}, "/config/targets/a/restart/0"),
    ({"config": {"targets": {"a": {**SECRET, "watches": "many"}}}}, "/config/targets/a/watches"),
    ({"config": {"targets": {"a": {**SECRET, "namespaces": "checkout"}}}}, "/config/targets/a/namespaces"),
    ({"config": {"targets": {"a": {**SECRET, "on_removal": "forget"}}}}, "/config/targets/a/on_removal"),
    ({"config": {"server": {"port": 0}}}, "/config/server/port"),
]
INCONSISTENT: list[tuple[dict[str, Any], str]] = [
    ({"config": {"targets": {"a": {"type": "kubernetes", "name": "s"}}}}, "config.targets.a.namespaces is missing"),
    ({"config": {"targets": {"a": {"type": "kubernetes", "namespaces": ["x"]}}}}, "config.targets.a.name is missing"),
    ({"config": {"server": {"bind": "127.0.0.1"}}}, "config.server.bind: 127.0.0.1 cannot be reached by the pod's probes"),
    ({"ingress": {"enabled": True}}, "ingress.host: name the host"),
    ({"metrics": {"port": 8700}}, "metrics.port: 8700 is the API's"),
    ({"config": {"server": {"port": 9464}}}, "metrics.port: 9464 is the API's"),
    ({"metrics": {"enabled": False, "serviceMonitor": {"enabled": True}}}, "metrics.serviceMonitor.enabled: there is no port"),
    (
        {"persistence": {"enabled": False}, "config": {"credentials": {"a": {"kind": "rk", "path": "p"}}}},
        "persistence.enabled: the keys in the embedded store embedded would be lost",
    ),
]


@pytest.mark.parametrize(("values", "named"), WRONG, ids=[named for _, named in WRONG])
def test_a_wrong_value_is_refused_by_its_name(helm: Helm, values: dict[str, Any], named: str) -> None:
    assert f"{named}'" in helm.refuse(values), "the field is named"


@pytest.mark.parametrize(("values", "told"), INCONSISTENT, ids=[told.partition(" ")[0] for _, told in INCONSISTENT])
def test_what_does_not_fit_together_is_refused(one_helm: Helm, values: dict[str, Any], told: str) -> None:
    assert told in one_helm.refuse(values)


def test_the_sections_of_the_configuration_are_those_that_rotator_knows() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert schema["definitions"]["config"]["properties"].keys() == Settings.model_fields.keys()


@pytest.mark.parametrize("place", ["config", "extraEnv", "podAnnotations"])
def test_a_key_in_the_values_is_refused_and_not_repeated(helm: Helm, place: str) -> None:
    key = f"rk_live_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}"
    values: dict[str, Any] = {
        "config": {"config": {"installation": key}},
        "extraEnv": {"extraEnv": [{"name": "A", "value": f"Bearer {key}"}]},
        "podAnnotations": {"podAnnotations": {"a": key}},
    }[place]
    told = helm.refuse(values)
    (helm.home / "values.yaml").unlink()
    assert "treat it as leaked" in told
    assert key not in told


def test_plain_variables_are_taken(one_helm: Helm) -> None:
    one_helm.render(values={"extraEnv": [{"name": "AWS_REGION", "value": "eu-west-1"}, {"name": "ROTATOR_LOG__LEVEL", "value": "debug"}]})


def test_as_another_chart_s_dependency_it_is_taken(one_helm: Helm) -> None:
    one_helm.render(values={"global": {"anything": 1}})


def walk(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object of the schema by its path; rotator's own configuration is left out."""
    if schema.get("type") == "object" and not path.endswith(".config"):
        yield path, schema
        for name, inner in schema.get("properties", {}).items():
            yield from walk(inner, f"{path}.{name}")


def test_the_schema_is_closed_and_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    free = {".global", ".resources.requests", ".resources.limits", ".affinity"}
    for path, part in walk(schema):
        assert (part.get("additionalProperties") is False) != (path in free), path
        here: Any = values
        for name in filter(None, path.split(".")):
            here = here.get(name, {})
        if path not in free:
            assert part["properties"].keys() - {"global", "claims"} == here.keys(), path
