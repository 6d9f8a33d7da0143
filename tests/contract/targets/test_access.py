"""The ways to a real API server: a pod's service account, kubeconfigs, tokens in files, programs that print tokens, certificates.

Whatever is wrong is said in words that name the file or the program, without a traceback and without a token.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from lightkube.config.kubeconfig import KubeConfig

from rotator.domain.errors import Misconfigured, RotatorError, Unreachable
from tests.contract.targets.kinds import SecretPlace
from tests.contract.targets.ways import (
    RULES,
    a_certificate,
    a_kubeconfig,
    account,
    build,
    end_token,
    ensure_silent,
    lay,
    request_token,
    work,
    works,
)
from tests.support.daemon import wait_until
from tests.support.weather import Asked, Reply, WeatherProxy


@pytest.fixture
def weather(spot: SecretPlace) -> Iterator[WeatherProxy]:
    with WeatherProxy(spot.cluster.address, spot.cluster.ca_file) as proxy:
        yield proxy


class Pod:
    """What a pod sees of its service account."""

    def __init__(self, spot: SecretPlace, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.token = folder / "token"
        folder.mkdir()
        shutil.copyfile(spot.cluster.ca_file, folder / "ca.crt")
        (folder / "namespace").write_text(spot.namespace)
        host, _, port = spot.cluster.address.removeprefix("https://").partition(":")
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
        monkeypatch.setattr(KubeConfig.from_service_account.__func__, "__defaults__", (folder,))  # type: ignore[attr-defined]


def test_in_a_pod_the_service_account_is_enough_and_its_token_may_change(
    spot: SecretPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = Pod(spot, tmp_path / "account", monkeypatch)
    account(spot)
    first = request_token(spot, bound_to="first")
    lay(pod.token, first)
    target = build(spot, None)
    wait_until(lambda: works(target), what="RBAC to know the role")
    work(spot, target)
    lay(pod.token, request_token(spot, bound_to="second"))
    end_token(spot, "first", first)
    work(spot, target)
    assert first not in repr(target)


def test_a_token_that_ends_between_reading_and_asking_loses_no_request(spot: SecretPlace, weather: WeatherProxy) -> None:
    """The kubelet replaces the file just when the old token is on its way."""
    token = lay(spot.folder / "token", spot.cluster.admin)
    target = build(spot, a_kubeconfig(spot, {"tokenFile": str(token)}, server=weather.address))
    refused: list[Asked] = []

    def judge(asked: Asked) -> Reply | None:
        if refused:
            return None
        refused.append(asked)
        lay(token, f"{spot.cluster.admin}\n")
        return Reply(401, "Unauthorized")

    lay(token, "one-that-has-ended")
    weather.judge = judge
    work(spot, target)
    assert len(refused) == 1


def test_a_pod_without_its_token_says_so(spot: SecretPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = build(spot, None)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(Misconfigured, match="does not run in a cluster: name a `kubeconfig`"):
        target.observe("checkout")
    pod = Pod(spot, tmp_path / "account", monkeypatch)
    with pytest.raises(Misconfigured, match="no token here: leave `automountServiceAccountToken` on"):
        target.observe("checkout")
    lay(pod.token, spot.cluster.admin)
    work(spot, target)
    pod.token.unlink()
    with pytest.raises(Misconfigured, match=r"service account: token_file: .*/token cannot be read \(No such file"):
        target.observe("checkout")


def test_the_context_chooses_cluster_and_user(spot: SecretPlace, weather: WeatherProxy) -> None:
    file = a_kubeconfig(spot, {"token": "of-another-cluster"})
    document = yaml.safe_load(file.read_text())
    document["clusters"].append({"name": "via", "cluster": {"server": weather.address}})
    document["users"].append({"name": "admin", "user": {"token": spot.cluster.admin}})
    document["contexts"].append({"name": "via", "context": {"cluster": "via", "user": "admin", "namespace": "elsewhere"}})
    document["contexts"].append({"name": "nobody", "context": {"cluster": "via"}})
    file.write_text(yaml.safe_dump(document))
    work(spot, build(spot, file, context="via"))
    assert weather.count() > 2
    with pytest.raises(Unreachable, match="does not know us"):
        build(spot, file).observe("checkout")
    with pytest.raises(RotatorError, match="not allowed"):
        build(spot, file, context="nobody").observe("checkout")
    with pytest.raises(Misconfigured, match="has no context elsewhere; its contexts: nobody, test, via"):
        build(spot, file, context="elsewhere").observe("checkout")


def test_relative_names_in_a_kubeconfig_are_beside_it(spot: SecretPlace) -> None:
    shutil.copyfile(spot.cluster.ca_file, spot.folder / "ca.pem")
    lay(spot.folder / "token", spot.cluster.admin)
    work(spot, build(spot, a_kubeconfig(spot, {"tokenFile": "token"}, **{"certificate-authority": "ca.pem"})))


def test_an_authority_may_stand_in_thea_kubeconfig(spot: SecretPlace) -> None:
    data = base64.b64encode(spot.cluster.ca_file.read_bytes()).decode()
    named = {"certificate-authority": None, "certificate-authority-data": data}
    work(spot, build(spot, a_kubeconfig(spot, {"token": spot.cluster.admin}, **named)))


def test_a_kubeconfig_that_is_replaced_is_read_without_a_restart(spot: SecretPlace) -> None:
    file = a_kubeconfig(spot, {"token": "one-that-has-ended"})
    target = build(spot, file)
    with pytest.raises(Unreachable, match=r"does not know us \(401\)"):
        target.observe("checkout")
    for _ in range(3):
        a_kubeconfig(spot, {"token": spot.cluster.admin})
        work(spot, target)
    lay(file, "{")
    with pytest.raises(Misconfigured, match="it cannot be understood"):
        target.observe("checkout")
    file.unlink()
    with pytest.raises(Misconfigured, match=r"kubeconfig .*ways.kubeconfig cannot be read \(No such file"):
        target.observe("checkout")
    a_kubeconfig(spot, {"token": spot.cluster.admin})
    work(spot, target)


def test_an_authority_that_is_replaced_is_read_without_a_restart(spot: SecretPlace) -> None:
    ca_file = lay(spot.folder / "ca.pem", a_certificate()[0])
    target = build(spot, a_kubeconfig(spot, {"token": spot.cluster.admin}, **{"certificate-authority": str(ca_file)}))
    with pytest.raises(Unreachable, match="its TLS certificate is not trusted here: see `certificate-authority`"):
        target.observe("checkout")
    lay(ca_file, spot.cluster.ca_file.read_text())
    work(spot, target)


def test_a_watch_of_a_server_that_is_not_trusted_says_why(spot: SecretPlace) -> None:
    ca_file = lay(spot.folder / "ca.pem", a_certificate()[0])
    target = build(spot, a_kubeconfig(spot, {"token": spot.cluster.admin}, **{"certificate-authority": str(ca_file)}))
    with structlog.testing.capture_logs() as lines:
        target.follow(lambda: None)
        wait_until(lambda: any("not trusted" in str(line.get("problem")) for line in lines), what="the complaint")
        target.close()


def test_certificates_are_not_checked_only_where_that_is_asked_for_and_the_log_says_so(spot: SecretPlace) -> None:
    unchecked = {"certificate-authority": None, "insecure-skip-tls-verify": True}
    with structlog.testing.capture_logs() as lines:
        work(spot, build(spot, a_kubeconfig(spot, {"token": spot.cluster.admin}, **unchecked)))
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["the cluster's TLS certificate is not checked"]
    with pytest.raises(Unreachable, match="not trusted"):
        build(spot, a_kubeconfig(spot, {"token": spot.cluster.admin}, "checked", **{"certificate-authority": None})).observe("checkout")


def test_a_server_that_is_away_says_so(spot: SecretPlace, weather: WeatherProxy) -> None:
    with pytest.raises(Unreachable, match=r"the API server cannot be reached \(ConnectError\)"):
        build(spot, a_kubeconfig(spot, {"token": "some"}, server="https://127.0.0.1:9")).observe("checkout")
    plain = build(spot, a_kubeconfig(spot, {"token": "some"}, server=weather.address.replace("http:", "https:")))
    with pytest.raises(Unreachable, match="no TLS connection: see `server`"):
        plain.observe("checkout")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it cannot be understood"),
        ("just text", "it cannot be understood"),
        ("- a\n- list\n", "it cannot be understood"),
        ("users: [{name: a, user: {token: hush-hush", "it cannot be understood"),
        ("users: [{name: a, user: {token: [hush-hush]}}]", "it cannot be understood"),
        ("users: [{name: a, user: hush-hush}]", "it cannot be understood"),
        ("\ud800", "it cannot be understood"),
        ("clusters: null\ncontexts: null\nusers: null\n", "names no current context that it holds; its contexts: none"),
        ("current-context: there\nusers: [{name: a, user: {token: hush-hush}}]", "names no current context that it holds"),
    ],
    ids=["empty", "text", "list", "cut off", "odd token", "odd user", "no text", "nothing in it", "no contexts"],
)
def test_a_kubeconfig_that_says_too_little_is_told_of_without_its_content(spot: SecretPlace, text: str, said: str) -> None:
    file = spot.folder / "odd.kubeconfig"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(Misconfigured, match=said) as problem:
        build(spot, file).observe("checkout")
    assert str(file) in str(problem.value)
    ensure_silent(problem.value, "hush-hush")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cluster": {"proxy-url": "http://proxy.example:3128"}}, "`proxy-url` of cluster test is not supported"),
        ({"cluster": {"tls-server-name": "kubernetes"}}, "`tls-server-name` of cluster test is not supported"),
        ({"user": {"as": "somebody"}}, "`as` of user test is not supported"),
        ({"user": {"auth-provider": {"name": "oidc"}}}, "`auth-provider` of user test is not supported"),
        ({"cluster": {"server": "http://cluster.example:8080"}}, "its server must begin with https://"),
        ({"cluster": {"server": "cluster.example"}}, "it cannot be understood"),
        ({"cluster": {"certificate-authority": "/nowhere/ca.pem"}}, r"a file that it names cannot be used \(No such file"),
        ({"user": {"token": "hush\nhush"}}, "its token is empty, or has white space"),
        ({"user": {"token": "hüsh"}}, "its token is empty, or has white space"),
        ({"user": {"token": None, "tokenFile": "/nowhere/token"}}, r"token_file: /nowhere/token cannot be read \(No such file"),
        (
            {"user": {"token": None, "exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}}},
            "must be of apiVersion",
        ),
        ({"context": {"user": "nobody"}}, "it cannot be understood"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_what_would_be_passed_over_or_cannot_be_used_is_refused(spot: SecretPlace, change: dict[str, dict[str, Any]], said: str) -> None:
    file = a_kubeconfig(spot, {"token": "some"})
    document = yaml.safe_load(file.read_text())
    for section, fields in change.items():
        found = document[f"{section}s"][0][section]
        found.update(fields)
    file.write_text(yaml.safe_dump(document))
    with pytest.raises(Misconfigured, match=said) as problem:
        build(spot, file).observe("checkout")
    ensure_silent(problem.value, "hush", "hüsh")


@pytest.mark.parametrize(("content", "said"), [("", "is empty"), ("zwölf", "outside of ASCII"), ("x" * 20_000, "too long")])
def test_a_token_file_without_a_token_says_so(spot: SecretPlace, content: str, said: str) -> None:
    file = lay(spot.folder / "token", content)
    with pytest.raises(Misconfigured, match=said) as problem:
        build(spot, a_kubeconfig(spot, {"tokenFile": str(file)})).observe("checkout")
    assert str(file) in str(problem.value)
    ensure_silent(problem.value, "zwölf", "xxx")


def test_a_client_certificate_is_enough_and_may_be_replaced(spot: SecretPlace) -> None:
    user = f"by-certificate-{spot.namespace}"
    spot.cluster.grant(user, *RULES, namespace=spot.namespace)
    certificate, key = a_certificate(user)
    named = {"client-certificate": "client.crt", "client-key": "client.key"}
    lay(spot.folder / "client.crt", certificate)
    lay(spot.folder / "client.key", key)
    target = build(spot, a_kubeconfig(spot, named))
    with pytest.raises(Unreachable, match="does not know us"):
        target.observe("checkout")
    certificate, key = a_certificate(user, spot.cluster.folder)
    lay(spot.folder / "client.crt", certificate)
    lay(spot.folder / "client.key", key)
    wait_until(lambda: works(target), what="RBAC to know the role")
    work(spot, target)
    data = {f"client-{n}-data": base64.b64encode(text.encode()).decode() for n, text in (("certificate", certificate), ("key", key))}
    work(spot, build(spot, a_kubeconfig(spot, data, "data")))
    lay(spot.folder / "client.key", a_certificate()[1])
    with pytest.raises(Misconfigured, match=r"a file that it names cannot be used"):
        target.observe("checkout")
