"""The schema, the example and the effective configuration."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from rotator.settings import ConfigurationProblems, config_schema, example, load_settings, show
from tests.unit.settings.writing import GOOD, load

UNMADE = re.compile(r"^( *)#(?=[^ \n])", re.MULTILINE)
EXAMPLE = example()
ALONE = [match for match in UNMADE.finditer(EXAMPLE) if EXAMPLE[match.end() :].partition("\n")[0].rstrip()[-1] != ":"]
NEEDS_MORE = re.compile(
    r"exactly one of|stands beside|mints nothing|is for a target with `client` only|is the server's port|cannot be read|is not set"
)


def test_the_example_loads_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "rotator.yaml"
    path.write_text(EXAMPLE, encoding="utf-8")
    assert load_settings(path, {}).warnings == ()


def test_the_example_is_the_same_each_time() -> None:
    assert example() == EXAMPLE


def test_its_issuers_load_when_they_are_made(tmp_path: Path) -> None:
    head, _, rest = EXAMPLE.partition("\nissuers:\n")
    issuers, _, tail = rest.partition("\n# Where consumers")
    made = "\n".join(line for line in UNMADE.sub(r"\1", issuers).splitlines() if "_env:" not in line)
    path = tmp_path / "rotator.yaml"
    path.write_text(f"{head}\nissuers:\n{made}\n\n# Where consumers{tail}", encoding="utf-8")
    assert sorted(load_settings(path, {}, files=False).settings.issuers) == ["admin", "by-hand", "our-program", "signed-in", "spares"]


def test_its_stores_load_when_they_are_made(tmp_path: Path) -> None:
    head, _, rest = EXAMPLE.partition("\n  #vault:\n")
    stores, _, tail = rest.partition("\n# What mints")
    made = UNMADE.sub(r"\1", stores)
    path = tmp_path / "rotator.yaml"
    path.write_text(f"{head}\n  vault:\n{made}\n\n# What mints{tail}", encoding="utf-8")
    ways = [f"vault-by-{way}" for way in ("jwt", "kubernetes", "token", "token-file")]
    assert sorted(load_settings(path, {}, files=False).settings.stores) == ["aws", "embedded", "vault", *ways]


def test_its_targets_load_when_they_are_made(tmp_path: Path) -> None:
    head, _, rest = EXAMPLE.partition("\n  #checkout-cluster:\n")
    targets, end, tail = rest.partition("\n# The keys")
    made = UNMADE.sub(r"\1", targets)
    path = tmp_path / "rotator.yaml"
    path.write_text(f"{head}\n  checkout-cluster:\n{made}{end}{tail}", encoding="utf-8")
    assert sorted(load_settings(path, {}, files=False).settings.targets) == ["checkout-cluster", "claude-code"]


def _settings_that_can_stand_alone() -> list[str]:
    bounds = (("\n  #vault:", "\ntargets:"), ("\n  #checkout-cluster:", "\ncredentials:"))
    sections = [range(EXAMPLE.index(begin), EXAMPLE.index(end)) for begin, end in bounds]
    return [f"{match[0]}@{match.start()}" for match in ALONE if not any(match.start() in section for section in sections)]


@pytest.mark.parametrize("place", _settings_that_can_stand_alone())
def test_each_setting_that_is_not_made_can_be(place: str, tmp_path: Path) -> None:
    start = int(place.partition("@")[2])
    text = EXAMPLE[:start] + UNMADE.sub(r"\1", EXAMPLE[start:], count=1)
    path = tmp_path / "rotator.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_settings(path, {"ROTATOR_MASTER_KEY": "x"})
    except ConfigurationProblems as caught:
        assert all(NEEDS_MORE.search(problem.rule) for problem in caught.problems), caught  # noqa: PT017


def test_the_effective_configuration_is_yaml_that_says_the_same(tmp_path: Path) -> None:
    text = GOOD + f"\nserver:\n  tokens: [{{name: a, role: viewer, sha256: {'ab' * 32}}}]\n"
    settings = load(tmp_path, text).settings
    shown = show(settings)
    assert "ab" * 32 not in shown
    plain = yaml.safe_load(shown)
    assert plain["server"]["tokens"] == [{"name": "a", "role": "viewer", "sha256": "…", "file": None}]
    plain["server"]["tokens"] = []
    (tmp_path / "shown.yaml").write_text(yaml.safe_dump(plain), encoding="utf-8")
    again = load_settings(tmp_path / "shown.yaml", {}).settings
    assert again.credentials == settings.credentials


def test_what_may_be_secret_in_a_request_is_masked(tmp_path: Path) -> None:
    text = """
    issuers:
      admin:
        type: http
        base_url: https://admin.example
        auth: {type: session, refresh_token_env: TOKEN, refresh: {body: {refresh_token: "{refresh_token}", client_secret: hush}}}
        mint: {method: POST, path: /keys, body: {label: "{label}", api_key: hush}, query: {password: hush}}
    """
    shown = show(load(tmp_path, text, {"TOKEN": "x"}).settings)
    assert "hush" not in shown
    assert "{refresh_token}" in shown
    assert "refresh_token_env: TOKEN" in shown


def test_the_schema_is_closed_and_names_every_section() -> None:
    schema = config_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["additionalProperties"] is False
    assert {"installation", "credentials", "stores", "issuers", "targets", "millimetric"} <= schema["properties"].keys()
    assert all(model.get("additionalProperties") is False for name, model in schema["$defs"].items() if "properties" in model)
    assert "mint" not in schema["$defs"]["HttpIssuerConfig"]["required"]
    assert schema["$defs"]["EmbeddedStoreConfig"]["required"] == ["type"]
    assert {"type": "string"} in schema["$defs"]["CredentialSettings"]["properties"]["targets"]["items"]["anyOf"]
