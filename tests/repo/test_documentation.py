"""The pages agree with the code."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from rotator.domain.reasons import Reason
from rotator.settings import load_settings
from rotator.stores.vault.policies import OWN_TOKEN, gather_needs, render_policy

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_reason_has_a_row_and_every_row_is_a_reason() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted(Reason)


def test_every_parking_reason_says_what_to_do() -> None:
    parked = (DOCS / "errors.md").read_text().split("## Waiting")[0]
    for row in re.findall(r"^\| `[a-z-]+` \|.*$", parked, re.MULTILINE):
        assert row.count(" | ") == 3, row


def test_the_readme_s_configuration_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    whole = [block for block in blocks if "installation:" in block]
    assert len(whole) == 1
    (tmp_path / "rotator.yaml").write_text(whole[0])
    loaded = load_settings(tmp_path / "rotator.yaml", {}, files=False)
    assert loaded.warnings == ()
    assert loaded.settings.credentials.keys() == {"checkout-read"}


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *DOCS.glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_every_package_has_a_row_in_the_architecture_page() -> None:
    page = (DOCS / "architecture.md").read_text()
    parts = [p for p in (ROOT / "rotator").iterdir() if (p.is_dir() and (p / "__init__.py").exists()) or p.suffix == ".py"]
    for part in parts:
        if not part.name.startswith("__"):
            assert f"`{part.name}{'/' if part.is_dir() else ''}`" in page, part.name


def test_the_messages_of_the_vault_store_stand_in_the_code() -> None:
    table = (DOCS / "vault.md").read_text().split("## What errors say")[1]
    messages = [message for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for message in re.findall(r"`([^`]+)`", row)]
    code = "".join(file.read_text() for folder in ("stores/vault", "remote") for file in (ROOT / "rotator" / folder).glob("*.py"))
    told = re.sub(r"\"\n\s+f?\"|\{[^{}]*\}", "", code)
    assert len(messages) > 15
    for message in messages:
        for part in message.split("…"):
            assert part.strip() in told, message


def test_what_stores_say_stands_in_their_code() -> None:
    table = (DOCS / "errors.md").read_text().split("## What a store says")[1]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines() if row.startswith("| ")][2:]
    assert len(rows) > 12
    reasons = {str(reason) for reason in Reason}
    for column, kind in ((1, "vault"), (2, "aws")):
        code = "".join(file.read_text() for folder in (f"stores/{kind}", "remote") for file in (ROOT / "rotator" / folder).glob("*.py"))
        told = re.sub(r"\"\n\s+f?\"|\{[^{}]*\}|`", "", code)
        for row in rows:
            for message in re.findall(r"`([^`]+)`", row[column]):
                assert message in reasons or all(part.strip(" ;,") in told for part in message.split("…")), message


def test_the_policy_in_the_vault_page_is_the_one_that_is_printed() -> None:
    needs = gather_needs("secret", "millimetric/checkout-read", "rotator/millimetric/checkout-read", writes=True)
    assert f"```hcl\n{render_policy({**needs, **OWN_TOKEN})}```" in (DOCS / "vault.md").read_text()


def test_the_issuers_page_s_configuration_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "issuers.md").read_text(), re.DOTALL)
    documents = [yaml.safe_load(block) for block in blocks]
    config = {"issuers": {}, "credentials": {}}
    for document in documents:
        for section, entries in document.items():
            config[section].update(entries)
    (tmp_path / "rotator.yaml").write_text(yaml.safe_dump(config))
    loaded = load_settings(tmp_path / "rotator.yaml", {}, files=False)
    assert loaded.settings.issuers.keys() == {"spares", "by-hand", "ours"}


def test_the_issuers_page_has_a_row_for_every_kind() -> None:
    rows = re.findall(r"^\| `([a-z]+)` \| [a-z]", (DOCS / "issuers.md").read_text(), re.MULTILINE)
    assert rows[1:5] == ["http", "pool", "manual", "command"]
