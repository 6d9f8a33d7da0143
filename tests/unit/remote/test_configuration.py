from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rotator.domain.errors import Refused
from rotator.domain.keys import Kind, parse_key_id
from rotator.domain.ports import Issuer, MintOrder
from rotator.issuers.http import HttpIssuerConfig
from rotator.issuers.none import NoIssuer
from rotator.remote.millimetric import MillimetricConfig

BEARER = {"type": "bearer", "token_env": "ADMIN_TOKEN"}


def mistakes(kind: Any, given: dict[str, Any]) -> str:
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(given)
    return str(caught.value)


def test_the_published_endpoint_is_the_default() -> None:
    config = MillimetricConfig()
    assert config.endpoint == "https://api.millimetric.ai"
    assert config.cache_time == timedelta(minutes=5)
    assert config.timeout == timedelta(seconds=10)


@pytest.mark.parametrize(
    "url", ["https://eu.millimetric.example", "http://localhost:8787", "http://127.0.0.1:1", "http://[::1]:80", "https://a.example/base"]
)
def test_an_endpoint_that_is_listed_in_full_is_trusted(url: str) -> None:
    assert MillimetricConfig.model_validate({"endpoint": url + "/", "trusted_endpoints": [url]}).endpoint == url


@pytest.mark.parametrize(
    ("endpoint", "trusted"),
    [
        ("https://api.millimetric.ai.evil.example", []),
        ("https://evil.example", ["https://evil.example.org"]),
        ("https://evil.example/path", ["https://evil.example"]),
        ("https://api.millimetric.ai:8443", []),
        ("https://API.millimetric.ai", []),
        ("http://localhost:8787", []),
        ("http://localhost:8787", ["http://localhost:8788"]),
    ],
)
def test_an_endpoint_that_is_not_listed_is_refused(endpoint: str, trusted: list[str]) -> None:
    text = mistakes(MillimetricConfig, {"endpoint": endpoint, "trusted_endpoints": trusted})
    assert "endpoint must be https://api.millimetric.ai, or be listed in full under trusted_endpoints" in text


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("http://api.millimetric.ai", "must begin with https://"),
        ("http://10.0.0.1", "must begin with https://"),
        ("http://localhost.evil.example", "must begin with https://"),
        ("https://user:pw@evil.example", "no user name or password"),
        ("https://api.millimetric.ai@evil.example", "no user name or password"),
        ("https://a.example?x", "no query"),
        ("https://a.example#x", "no query"),
        ("https://a.example\\@b", "no"),
        ("https://a.example\r\nX: 1", "no white space"),
        ("https://ä.example", "ASCII"),
        ("ftp://a.example", "https://host"),
        ("https://", "https://host"),
        ("https://a.example:99999", "ort"),
        ("", "no white space"),
    ],
)
def test_what_is_no_safe_endpoint_names_its_rule(url: str, rule: str) -> None:
    assert rule in mistakes(MillimetricConfig, {"endpoint": url, "trusted_endpoints": [url]})


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("cache_time", 300, "a duration is text such as 30d"),
        ("cache_time", "5 minutes", "is not a duration"),
        ("timeout", "11s", "at most 10s"),
        ("timeout", "0s", "more than nothing"),
        ("rate", 0, "greater than 0"),
        ("burst", 0, "greater than or equal to 1"),
        ("endpont", "x", "Extra inputs are not permitted"),
        ("proxy", "http://u:p@proxy.example", "no user name or password"),
    ],
)
def test_mistakes_in_the_service_name_field_and_rule(field: str, value: object, rule: str) -> None:
    text = mistakes(MillimetricConfig, {field: value})
    assert field in text
    assert rule in text


def test_a_proxy_is_for_encrypted_endpoints_only() -> None:
    local = {"endpoint": "http://localhost:1", "trusted_endpoints": ["http://localhost:1"], "proxy": "http://proxy.example:3128"}
    assert "proxy is for https:// endpoints only" in mistakes(MillimetricConfig, local)
    assert MillimetricConfig.model_validate({"proxy": local["proxy"]}).proxy == local["proxy"]
    issuer = {"base_url": "http://localhost:1", "auth": BEARER, "proxy": local["proxy"]}
    assert "proxy is for an https:// base_url only" in mistakes(HttpIssuerConfig, issuer)
    assert HttpIssuerConfig.model_validate({**issuer, "base_url": "https://x.example"}).proxy == local["proxy"]


def test_the_sandbox_profile_is_the_default_and_can_be_left_in_parts() -> None:
    config = HttpIssuerConfig.model_validate({"base_url": "https://x.example/", "auth": BEARER})
    assert (config.mint.path, config.list_ is not None, config.revoke is not None) == ("/admin/v1/keys", True, True)
    config = HttpIssuerConfig.model_validate({"base_url": "https://x.example", "auth": BEARER, "list": None})
    assert (config.list_, config.revoke is not None) == (None, True)
    assert HttpIssuerConfig.model_validate(config.model_dump(by_alias=True)) == config
    assert HttpIssuerConfig.model_validate(config.model_dump()) == config
    schema = HttpIssuerConfig.model_json_schema()
    assert "list" in schema["properties"]
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"base_url": "http://x.example"}, "must begin with https://"),
        ({"auth": {"type": "bearer"}}, "name exactly one of token_file and token_env"),
        ({"auth": {**BEARER, "token_file": "/x"}}, "name exactly one of token_file and token_env"),
        ({"auth": {"type": "bearer", "token": "INLINE"}}, "a token never stands in the configuration"),
        ({"auth": {"type": "session", "refresh_token": "INLINE"}}, "a token never stands in the configuration"),
        ({"auth": {"type": "session"}}, "name exactly one of refresh_token_file and refresh_token_env"),
        ({"auth": {"type": "bearer", "token_env": "IN-LINE"}}, "the name of an environment variable"),
        ({"auth": {"type": "session", "refresh_token_env": "X", "refresh": {"next_refresh_token": "r"}}}, "needs refresh_token_file"),
        ({"auth": {"type": "session", "refresh_token_env": "X", "refresh": {"body": "{token}"}}}, "no placeholder {token}"),
        ({"auth": {"type": "basic"}}, "bearer"),
        ({"profile": None}, "mint"),
        ({"profile": "millimetric"}, "sandbox"),
        ({"mint": {"method": "POST", "path": "keys"}}, "pattern"),
        ({"mint": {"method": "POST", "path": "/keys?x=1"}}, "pattern"),
        ({"mint": {"method": "TRACE", "path": "/keys"}}, "GET"),
        ({"mint": {"method": "POST", "path": "/keys", "body": {"l": "{lable}"}}}, "there is no placeholder {lable} here"),
        ({"mint": {"method": "POST", "path": "/keys", "headers": {}}}, "Extra inputs are not permitted"),
        ({"revoke": {"method": "DELETE", "path": "/keys/{label}"}}, "there is no placeholder {label} here"),
        ({"list": {"method": "GET", "path": "/keys"}}, "only the first page would be read"),
        ({"timeout": "1m"}, "at most 10s"),
    ],
)
def test_mistakes_in_an_issuer_name_the_rule_and_show_no_input(change: dict[str, Any], rule: str) -> None:
    text = mistakes(HttpIssuerConfig, {"base_url": "https://x.example", "auth": BEARER, **change})
    assert rule in text
    assert "INLINE" not in text


def test_home_folders_are_written_out() -> None:
    config = HttpIssuerConfig.model_validate({"base_url": "https://x.example", "auth": {"type": "bearer", "token_file": "~/t"}})
    assert config.auth.type == "bearer"
    assert config.auth.token_file == Path.home() / "t"


def test_every_setting_is_documented() -> None:
    import ast
    import inspect

    from rotator.issuers import http
    from rotator.remote import millimetric, sessions

    for module in (http, sessions, millimetric):
        for node in ast.parse(inspect.getsource(module)).body:
            if not (isinstance(node, ast.ClassDef) and hasattr(getattr(module, node.name), "model_fields")):
                continue
            for place, statement in enumerate(node.body):
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.target.id != "type":
                    after = node.body[place + 1]
                    assert isinstance(after, ast.Expr), f"{node.name}.{statement.target.id}"
                    assert isinstance(after.value, ast.Constant), f"{node.name}.{statement.target.id}"


def test_no_issuer_can_do_nothing_and_says_so() -> None:
    issuer: Issuer = NoIssuer()
    assert isinstance(issuer, Issuer)
    able = issuer.abilities
    assert (able.mint, able.list, able.revoke) == (False, False, False)
    for verb in (
        lambda: issuer.check(MintOrder("a/b/c", Kind.RK, "live")),
        lambda: issuer.mint(MintOrder("a/b/c", Kind.RK, "live")),
        lambda: issuer.list_labelled("a/"),
        lambda: issuer.revoke(parse_key_id("rk_live_00000000"), None),
    ):
        with pytest.raises(Refused, match="`issuer: none`"):
            verb()
