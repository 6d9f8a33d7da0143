"""The chart renders in every documented scenario, safe by default, and hands rotator's configuration on as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rotator import __version__
from rotator.settings import load_settings
from tests.support.charts import CHART, ROOT, SCENARIOS, Helm, Manifest, gather_pods, get_one, list_environ, pick
from tests.support.servers import HELM3, HELM4, get_program

MINIMAL = CHART / "scenarios" / "minimal.yaml"
AWKWARD = {
    "installation": "yes",
    "millimetric": {"rate": 1000000, "burst": 50, "cache_time": "12h"},
    "targets": {
        "numbers": {"type": "file", "path": "/tmp/12:30:45", "template": "{key}\n  {{\"a\": 010}}\n# no comment: {{ 'x' }}\n"},
        "long": {"type": "file", "path": f"/tmp/{'a b ' * 60}c", "content": "key"},
    },
}


def read_config(manifests: list[Manifest], folder: Path) -> Path:
    file = folder / "rotator.yaml"
    file.write_text(get_one(manifests, "ConfigMap", "rotator")["data"]["rotator.yaml"])
    return file


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda file: file.stem)
def test_every_scenario_passes_lint(helm: Helm, scenario: Path) -> None:
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART), "--values", str(scenario)).stdout


def test_the_chart_passes_lint_as_it_is(helm: Helm) -> None:
    helm.run("lint", "--strict", str(CHART))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda file: file.stem)
def test_every_scenario_says_what_it_is_and_its_configuration_loads(one_helm: Helm, scenario: Path, tmp_path: Path) -> None:
    assert scenario.read_text().startswith("# ")
    config = read_config(one_helm.render(scenario), tmp_path)
    loaded = load_settings(config, {}, files=False)
    assert loaded.warnings == ()
    assert loaded.settings.credentials
    assert yaml.safe_load(config.read_text()) == yaml.safe_load(scenario.read_text())["config"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda file: file.stem)
def test_both_versions_of_helm_render_the_same(scenario: Path, tmp_path: Path) -> None:
    def render(program: Path) -> list[Manifest]:
        made = Helm(program, tmp_path).render(scenario)
        return sorted(made, key=lambda one: (one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]))

    assert render(get_program(HELM3)) == render(get_program(HELM4))


def test_the_minimal_values_are_short() -> None:
    assert len(MINIMAL.read_text().splitlines()) <= 25


def test_awkward_values_reach_rotator_as_they_are(helm: Helm, tmp_path: Path) -> None:
    loaded = load_settings(read_config(helm.render(values={"config": AWKWARD}), tmp_path), {}, files=False)
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(AWKWARD))
    assert loaded.settings == load_settings(tmp_path / "plain.yaml", {}, files=False).settings
    assert loaded.settings.millimetric.rate == 1000000


def test_the_whole_example_is_taken(helm: Helm, tmp_path: Path) -> None:
    example = ROOT / "config.example.yaml"
    config = yaml.safe_load(example.read_text())
    loaded = load_settings(read_config(helm.render(values={"config": config}), tmp_path), {}, files=False)
    assert loaded.settings == load_settings(example, {}, files=False).settings


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda file: file.stem)
def test_every_pod_is_restricted(one_helm: Helm, scenario: Path) -> None:
    pods = gather_pods(one_helm.render(scenario))
    assert len(pods) == 2
    for pod in pods:
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (65532, 65532, 65532)
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        # Or else the cluster lets the group into the state folder at every mount, and rotator refuses to start there.
        assert context["fsGroupChangePolicy"] == "OnRootMismatch"
        assert pod["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod.get("volumes", ()))
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize(
    ("config", "token"),
    [
        ({}, False),
        ({"targets": {"a": {"type": "kubernetes", "namespaces": ["x"], "name": "s"}}}, True),
        ({"targets": {"a": {"type": "kubernetes", "kubeconfig": "/k", "namespaces": ["x"], "name": "s"}}}, False),
        ({"targets": {"a": {"type": "file", "path": "/tmp/k", "content": "key"}}}, False),
        ({"stores": {"v": {"type": "vault", "auth": {"type": "kubernetes"}}}}, True),
        ({"stores": {"v": {"type": "vault", "auth": {"type": "kubernetes", "jwt_file": "/run/own/token"}}}}, False),
        ({"stores": {"v": {"type": "vault", "auth": {"type": "approle"}}}}, False),
        ({"stores": {"v": {"type": "aws"}}}, False),
    ],
)
def test_the_token_is_mounted_where_it_is_read(one_helm: Helm, config: dict[str, Any], token: bool) -> None:
    manifests = one_helm.render(values={"config": config})
    assert get_one(manifests, "ServiceAccount")["automountServiceAccountToken"] is False
    assert get_one(manifests, "StatefulSet")["spec"]["template"]["spec"]["automountServiceAccountToken"] is token
    assert get_one(manifests, "Pod")["spec"]["automountServiceAccountToken"] is False
    for word, forced in (("always", True), ("never", False)):
        manifests = one_helm.render(values={"config": config, "serviceAccount": {"token": word}})
        assert get_one(manifests, "StatefulSet")["spec"]["template"]["spec"]["automountServiceAccountToken"] is forced


def test_the_daemon_is_reached_and_stopped_as_it_needs(one_helm: Helm) -> None:
    manifests = one_helm.render(MINIMAL)
    pod = get_one(manifests, "StatefulSet")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert list_environ(manifests) == {
        "ROTATOR_CONFIG": "/etc/rotator/rotator.yaml",
        "ROTATOR_STATE_DIR": "/var/lib/rotator/state",
        "HOME": "/tmp",
        "ROTATOR_SERVER__BIND": "0.0.0.0",
        "ROTATOR_METRICS__PORT": "9464",
    }
    assert {probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "startupProbe": {"path": "/healthz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }
    assert pod["terminationGracePeriodSeconds"] > 30, "a step in hand"
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/var/lib/rotator", "/tmp"}
    volumes = {volume["name"] for volume in pod["volumes"]}
    claims = {claim["metadata"]["name"] for claim in get_one(manifests, "StatefulSet")["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes | claims
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8700, "metrics": 9464}
    service = get_one(manifests, "Service")["spec"]
    assert {port["name"]: port["targetPort"] for port in service["ports"]} == {"http": "http", "metrics": "metrics"}
    labels = get_one(manifests, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    assert not service["selector"].items() <= get_one(manifests, "Pod")["metadata"]["labels"].items(), "the test is no backend"


def test_ports_follow_the_configuration(one_helm: Helm) -> None:
    manifests = one_helm.render(values={"config": {"server": {"port": 8123, "bind": "::"}, "metrics": {"port": 9999}}})
    (container,) = get_one(manifests, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert [port["containerPort"] for port in container["ports"]] == [8123, 9999]
    assert "ROTATOR_SERVER__BIND" not in list_environ(manifests), "what the configuration says is not overridden"
    assert ":8123/readyz" in get_one(manifests, "Pod")["spec"]["containers"][0]["command"][-1]
    manifests = one_helm.render(values={"metrics": {"enabled": False}})
    assert [port["name"] for port in get_one(manifests, "Service")["spec"]["ports"]] == ["http"]
    assert len(get_one(manifests, "NetworkPolicy")["spec"]["ingress"]) == 1


def test_the_pod_restarts_for_another_configuration_and_for_nothing_else(one_helm: Helm) -> None:
    def template(**values: Any) -> Any:
        return get_one(one_helm.render(MINIMAL, values=values), "StatefulSet")["spec"]["template"]

    assert template() != template(config={"installation": "staging"})
    assert template() == template(alerts={"enabled": True}, service={"annotations": {"a": "b"}})


def test_what_cannot_change_in_a_statefulset_holds_nothing_that_changes(one_helm: Helm) -> None:
    spec = get_one(one_helm.render(MINIMAL), "StatefulSet")["spec"]
    fixed = {"app.kubernetes.io/name": "rotator", "app.kubernetes.io/instance": "rotator"}
    assert spec["selector"]["matchLabels"] == fixed
    assert spec["volumeClaimTemplates"][0]["metadata"] == {"name": "state", "labels": fixed}
    assert spec["replicas"] == 1


def test_the_network_policy_lets_in_and_out_what_is_named(one_helm: Helm) -> None:
    peer = {"namespaceSelector": {"matchLabels": {"team": "platform"}}}
    policy = {"from": [peer], "metricsFrom": [peer], "egressPorts": [443], "egressCidrs": ["10.0.0.0/8"], "dnsPorts": [53, 5353]}
    manifests = one_helm.render(values={"networkPolicy": policy})
    spec = get_one(manifests, "NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    http, metrics = spec["ingress"]
    assert http["ports"] == [{"port": "http", "protocol": "TCP"}]
    test = {"podSelector": {"matchLabels": get_one(manifests, "Pod")["metadata"]["labels"]}}
    assert http["from"] == [peer, test]
    assert metrics == {"ports": [{"port": "metrics", "protocol": "TCP"}], "from": [peer]}
    dns, named = spec["egress"]
    assert {(port["port"], port["protocol"]) for port in dns["ports"]} == {(53, "UDP"), (53, "TCP"), (5353, "UDP"), (5353, "TCP")}
    assert named == {"ports": [{"port": 443, "protocol": "TCP"}], "to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}


def test_the_default_network_policy_leaves_the_metadata_service_out(one_helm: Helm) -> None:
    _, named = get_one(one_helm.render(MINIMAL), "NetworkPolicy")["spec"]["egress"]
    assert 80 not in {port["port"] for port in named["ports"]}


def test_monitoring_hands_its_files_on_as_they_are(one_helm: Helm) -> None:
    manifests = one_helm.render(CHART / "scenarios" / "monitoring.yaml")
    assert get_one(manifests, "PrometheusRule")["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    dashboard = get_one(manifests, "ConfigMap", "rotator-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["data"]["rotator.json"].strip() == (CHART / "files" / "dashboard.json").read_text().strip()
    monitor = get_one(manifests, "ServiceMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= get_one(manifests, "Service")["metadata"]["labels"].items()
    assert [endpoint["port"] for endpoint in monitor["endpoints"]] == ["metrics"]
    plain = one_helm.render(MINIMAL)
    assert not [one for kind in ("PrometheusRule", "ServiceMonitor", "Ingress") for one in pick(plain, kind)]


def test_the_ingress_leads_to_the_api(one_helm: Helm) -> None:
    manifests = one_helm.render(CHART / "scenarios" / "ingress.yaml")
    spec = get_one(manifests, "Ingress")["spec"]
    (rule,) = spec["rules"]
    assert (rule["host"], spec["tls"]) == ("rotator.example", [{"hosts": ["rotator.example"], "secretName": "rotator-tls"}])
    assert rule["http"]["paths"][0]["backend"]["service"] == {
        "name": get_one(manifests, "Service")["metadata"]["name"],
        "port": {"name": "http"},
    }


def test_everything_else_that_can_be_set_arrives(helm: Helm) -> None:
    manifests = helm.render(
        values={
            "image": {"repository": "registry.example/rotator", "digest": f"sha256:{'0' * 64}", "pullSecrets": ["pull"]},
            "persistence": {"size": "5Gi", "storageClass": "fast"},
            "labels": {"team": "platform"},
            "podLabels": {"kind": "daemon"},
            "podAnnotations": {"note": "x"},
            "extraEnv": [{"name": "VAULT_TOKEN", "valueFrom": {"secretKeyRef": {"name": "vault", "key": "token"}}}],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
            "priorityClassName": "high",
            "uid": None,
            "fullnameOverride": "keys",
        }
    )
    statefulset = get_one(manifests, "StatefulSet", "keys")
    template = statefulset["spec"]["template"]
    pod = template["spec"]
    assert pod["containers"][0]["image"] == f"registry.example/rotator@sha256:{'0' * 64}"
    assert pod["imagePullSecrets"] == [{"name": "pull"}]
    claim = statefulset["spec"]["volumeClaimTemplates"][0]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "5Gi")
    assert all(one["metadata"]["labels"]["team"] == "platform" for one in manifests if one["kind"] != "Pod")
    assert template["metadata"]["labels"].items() >= {"team": "platform", "kind": "daemon"}.items()
    assert template["metadata"]["annotations"]["note"] == "x"
    assert pod["containers"][0]["env"][-1]["valueFrom"]["secretKeyRef"] == {"name": "vault", "key": "token"}
    assert (pod["nodeSelector"], pod["tolerations"][0]["key"], pod["priorityClassName"]) == ({"disk": "ssd"}, "a", "high")
    assert pod["affinity"] == {"nodeAffinity": {}}
    assert pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"] == statefulset["spec"]["selector"]["matchLabels"]
    assert "runAsUser" not in pod["securityContext"], "the cluster chooses"


def test_without_a_volume_the_state_is_the_pod_s(one_helm: Helm) -> None:
    statefulset = get_one(one_helm.render(CHART / "scenarios" / "aws.yaml", values={"persistence": {"enabled": False}}), "StatefulSet")
    assert "volumeClaimTemplates" not in statefulset["spec"]
    assert {"name": "state", "emptyDir": {}} in statefulset["spec"]["template"]["spec"]["volumes"]


def test_the_chart_is_of_this_rotator() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_names_that_look_like_numbers_stay_text(one_helm: Helm) -> None:
    values = {
        "serviceAccount": {"name": "1e3"},
        "persistence": {"storageClass": "7", "size": "5000000000"},
        "ingress": {"enabled": True, "host": "8.example", "className": "0x1", "tlsSecret": "0123"},
        "image": {"pullSecrets": ["12"], "tag": "1.10"},
        "priorityClassName": "100",
        "config": {"targets": {"1": {"type": "kubernetes", "namespaces": ["2024"], "name": "42", "restart": ["deployment/7"]}}},
    }
    named = one_helm.name_values((), values)
    rendered = one_helm.run("template", "rotator", str(CHART), "--namespace", "2023", *named).stdout
    manifests = [one for one in yaml.safe_load_all(rendered) if one]
    assert {one["metadata"]["namespace"] for one in manifests} == {"2023", "2024"}
    role = get_one(manifests, "Role")
    assert [rule.get("resourceNames") for rule in role["rules"]] == [["42"], None, ["7"]]
    assert get_one(manifests, "RoleBinding")["subjects"] == [{"kind": "ServiceAccount", "name": "1e3", "namespace": "2023"}]
    statefulset = get_one(manifests, "StatefulSet")["spec"]
    pod, claim = statefulset["template"]["spec"], statefulset["volumeClaimTemplates"][0]["spec"]
    assert (pod["serviceAccountName"], pod["priorityClassName"], pod["imagePullSecrets"]) == ("1e3", "100", [{"name": "12"}])
    assert pod["containers"][0]["image"] == "rotator:1.10"
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("7", "5000000000")
    ingress = get_one(manifests, "Ingress")["spec"]
    assert (ingress["ingressClassName"], ingress["tls"][0]["secretName"]) == ("0x1", "0123")
