"""The AWS store's pure parts: labels and the moves they tell of, names, values, the record's JSON, and the configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rotator.domain.errors import Misconfigured
from rotator.domain.record import KeyEntry, Record, Stage
from rotator.stores.aws import AwsStoreConfig
from rotator.stores.aws.document import Document, Move, parse_document, render_document
from rotator.stores.aws.names import build_name, gather_prefixes
from rotator.stores.aws.places import Moved, Place, find_stranger, judge, plan_labels, settle, version_for
from rotator.stores.aws.values import find_key, render_value
from tests.contract.stores.build import a_key, at

OLD, NEW = a_key(), a_key()
BEFORE = Record("uid", "test", 1, (KeyEntry(OLD.key_id, Stage.CURRENT, at(0)), KeyEntry(NEW.key_id, Stage.PENDING, at(1))))
AFTER = Record("uid", "test", 2, (KeyEntry(OLD.key_id, Stage.RETIRING, at(0)), KeyEntry(NEW.key_id, Stage.CURRENT, at(1))))
SECRETS = {OLD.key_id: OLD, NEW.key_id: NEW}
MOVE = Move(NEW.key_id, "v1", "v2", AFTER)
ANNOUNCED = Document(7, BEFORE, SECRETS, {OLD.key_id: "v1"}, MOVE)


def _place(**labels: str) -> Place:
    return Place(exists=True, labels={name.replace("_", "-"): version for name, version in labels.items()})


@pytest.mark.parametrize(
    ("place", "move", "moved"),
    [
        (_place(AWSCURRENT="v1"), None, Moved.NONE),
        (_place(AWSCURRENT="v1", AWSPREVIOUS="v0"), MOVE, Moved.OPEN),
        (_place(AWSCURRENT="v2", AWSPREVIOUS="v1"), MOVE, Moved.DONE),
        (_place(AWSCURRENT="stranger", AWSPREVIOUS="v2"), MOVE, Moved.DONE),
        (_place(AWSCURRENT="v1", AWSPREVIOUS="v2"), MOVE, Moved.DONE),
        (_place(AWSCURRENT="stranger", AWSPREVIOUS="v1"), MOVE, Moved.VOID),
        (_place(AWSCURRENT="stranger", AWSPREVIOUS="another"), MOVE, Moved.DONE),
        (Place(), replace(MOVE, source=None), Moved.OPEN),
        (_place(AWSCURRENT="v2"), replace(MOVE, source=None), Moved.DONE),
        (_place(AWSCURRENT="stranger"), replace(MOVE, source=None), Moved.VOID),
        (_place(AWSCURRENT="stranger", AWSPREVIOUS="v2"), replace(MOVE, source=None), Moved.DONE),
    ],
)
def test_labels_tell_whether_a_move_took_place(place: Place, move: Move | None, moved: Moved) -> None:
    assert judge(move, place) is moved


def test_a_move_that_took_place_is_the_record() -> None:
    settled = settle(ANNOUNCED, Moved.DONE)
    assert (settled.record, settled.versions, settled.move) == (AFTER, {OLD.key_id: "v1", NEW.key_id: "v2"}, None)
    assert settle(ANNOUNCED, Moved.OPEN) is ANNOUNCED
    assert settle(ANNOUNCED, Moved.VOID) == replace(ANNOUNCED, move=None)


def test_the_same_step_has_the_same_version_id_and_no_other_has() -> None:
    step = ("uid", 2, NEW.key_id, "v1", "api_key")
    others = [
        ("other", 2, NEW.key_id, "v1", "api_key"),
        ("uid", 3, NEW.key_id, "v1", "api_key"),
        ("uid", 2, OLD.key_id, "v1", "api_key"),
        ("uid", 2, NEW.key_id, "v3", "api_key"),
        ("uid", 2, NEW.key_id, None, "api_key"),
        ("uid", 2, NEW.key_id, "v1", None),
    ]
    assert version_for(*step) == version_for(*step)
    assert len({version_for(*one) for one in (step, *others)}) == 7


def test_aws_previous_follows_by_itself() -> None:
    place = _place(AWSCURRENT="v1", AWSPREVIOUS="v0").moved("AWSCURRENT", "v2")
    assert place.labels == {"AWSCURRENT": "v2", "AWSPREVIOUS": "v1"}
    assert place.moved("AWSPENDING", "v3").moved("AWSPENDING", None) == place


def test_labels_come_right_after_a_promotion() -> None:
    document = Document(8, AFTER, SECRETS, {OLD.key_id: "v1", NEW.key_id: "v2"})
    labels = {"AWSCURRENT": "v2", "AWSPREVIOUS": "v1", "AWSPENDING": "v2", "ROTATOR-PENDING": "v2", "ROTATOR-RETIRING-1": "v0"}
    place = Place(exists=True, labels=labels)
    for relabel in plan_labels(document, place):
        place = place.moved(relabel.label, relabel.to)
    assert place.labels == {"AWSCURRENT": "v2", "AWSPREVIOUS": "v1", "ROTATOR-RETIRING-2": "v1"}
    assert plan_labels(document, place) == ()


def test_a_strangers_label_is_left_and_ours_are_known() -> None:
    strange = _place(AWSCURRENT="v1", AWSPENDING="v9", ROTATOR_PENDING="v2")
    document = Document(8, BEFORE, SECRETS, {OLD.key_id: "v1", NEW.key_id: "v2"})
    assert find_stranger(document, strange) == "v9"
    assert plan_labels(document, strange) == ()
    for place in (_place(AWSCURRENT="v1"), _place(AWSCURRENT="v1", AWSPENDING="v1"), _place(AWSCURRENT="v1", AWSPENDING="v2")):
        assert find_stranger(document, place) is None


def test_a_document_survives_its_json() -> None:
    text = render_document(ANNOUNCED, "here")
    read = parse_document(text, "here")
    assert replace(read, secrets={}) == replace(ANNOUNCED, secrets={})
    assert all(read.secrets[key].same_as(secret) for key, secret in SECRETS.items())
    assert parse_document(render_document(Document(1), "here"), "here") == Document(1)


@pytest.mark.parametrize("text", [None, "", "hush", "[]", "{}", '{"rotator": 2}', '{"rotator": 1, "record": "hush"}', '{"rotator": 1}'])
def test_what_is_no_document_is_told_and_not_repeated(text: str | None) -> None:
    with pytest.raises(Misconfigured, match="here") as caught:
        parse_document(text, "here")
    assert "hush" not in str(caught.value)


def test_a_record_that_aws_would_not_take_is_told() -> None:
    with pytest.raises(Misconfigured, match="65536 bytes"):
        render_document(Document(1, replace(BEFORE, installation="x" * 66_000)), "here")


def test_names_are_the_paths_where_aws_takes_them() -> None:
    assert build_name("millimetric/a_b+c=d.e@f-1") == "millimetric/a_b+c=d.e@f-1"
    assert build_name("größe 1") == "gr=C3=B6=C3=9Fe=201"
    assert build_name("größe=C3") == "gr=C3=B6=C3=9Fe=3DC3"
    with pytest.raises(Misconfigured, match="512"):
        build_name("a" * 513)


@settings(deadline=None)
@given(st.text(min_size=1, max_size=40), st.text(min_size=1, max_size=40))
def test_two_odd_paths_never_share_a_name(one: str, two: str) -> None:
    odd, other = f"{one}ä", f"{two}ä"
    assert (build_name(odd) == build_name(other)) == (odd == other)


@settings(deadline=None)
@given(st.lists(st.text(alphabet="ab/", min_size=1, max_size=12), min_size=1, max_size=60))
def test_prefixes_cover_every_name(names: list[str]) -> None:
    prefixes = gather_prefixes(names)
    assert len(prefixes) <= 10
    assert all(name.startswith(prefixes) for name in names) or prefixes == ()


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=8), st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text(), max_size=2)), max_size=8))
def test_another_key_changes_nothing_else(fields: dict[str, object]) -> None:
    fields.pop("api_key", None)
    for text in (json.dumps(fields), json.dumps({**fields, "api_key": OLD.reveal()}, indent=2, ensure_ascii=False)):
        written = render_value(text, "api_key", NEW, "here")
        assert json.loads(written) == {**fields, "api_key": NEW.reveal()}
        found = find_key(written, "api_key", "here")
        assert found is not None
        assert found.same_as(NEW)


@pytest.mark.parametrize(
    "fields",
    [
        {"region": "Ireland"},
        {"timeout": "11s"},
        {"timeout": "0s"},
        {"record_prefix": ""},
        {"key_field": ""},
        {"endpoint_url": "http://aws.example"},
        {"assume_role": {"arn": "rotator"}},
        {"assume_role": {"arn": "arn:aws:iam::123456789012:role/a", "session_name": "with space"}},
        {"secret_access_key": "hush"},
    ],
)
def test_a_wrong_setting_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        AwsStoreConfig.model_validate({"type": "aws", **fields})
    assert "hush" not in str(caught.value)


def test_building_a_store_opens_nothing_and_the_configuration_imports_nothing_heavy(tmp_path: Path) -> None:
    config = AwsStoreConfig(region="eu-west-1")
    assert config.find_unmade(tmp_path) is None
    assert repr(config.build(tmp_path)) == "<AwsStore eu-west-1>"
    code = "import sys, rotator.settings, rotator.cli; print([m for m in sys.modules if m.startswith(('boto', 'urllib3'))])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
