"""The JSON form of a record: everything survives, and what is not understood is an error that names its place."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rotator.domain.errors import Misconfigured
from rotator.domain.record import Attempt, KeyEntry, Orphan, Record, Spare, Stage
from rotator.stores.codec import parse_record, parse_secrets, render_record, render_secrets
from tests.contract.stores.build import a_key, at

_KEYS = [a_key(kind) for kind in ("rk", "sk", "ak", "rk")]
_KEY_IDS = st.sampled_from([key.key_id for key in _KEYS])
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
_INSTANTS = st.integers(0, 10**7).map(at)
_ATTEMPTS = st.builds(Attempt, _TEXT, _INSTANTS)
_ENTRIES = st.builds(
    KeyEntry,
    key_id=_KEY_IDS,
    stage=st.sampled_from(Stage),
    minted_at=_INSTANTS,
    attempt=st.none() | _TEXT,
    reference=st.none() | _TEXT,
    replaces=st.none() | _KEY_IDS,
    generation=st.integers(0, 10**6),
    promoted_at=st.none() | _INSTANTS,
    retired_at=st.none() | _INSTANTS,
    doomed_at=st.none() | _INSTANTS,
    compromised_at=st.none() | _INSTANTS,
    tools=st.none() | st.lists(_TEXT, max_size=3).map(tuple),
    issuer=st.none() | _TEXT,
    staged_at=st.none() | _INSTANTS,
)
_RECORDS = st.builds(
    Record,
    uid=_TEXT,
    installation=_TEXT,
    generation=st.integers(0, 10**6),
    keys=st.lists(_ENTRIES, max_size=4).map(tuple),
    attempt=st.none() | _ATTEMPTS,
    closed=st.lists(_ATTEMPTS, max_size=3).map(tuple),
    orphans=st.lists(st.builds(Orphan, _KEY_IDS, _TEXT, st.none() | _TEXT), max_size=3).map(tuple),
    lost=st.lists(_ATTEMPTS, max_size=3).map(tuple),
    audit=st.dictionaries(_TEXT, _TEXT, max_size=3).map(lambda heads: tuple(heads.items())),
    vacant=st.booleans(),
    spares=st.lists(
        st.builds(Spare, _KEY_IDS, _INSTANTS, _TEXT, st.none() | _TEXT, st.none() | _TEXT, st.none() | _INSTANTS), max_size=3
    ).map(tuple),
)
FULL = Record(
    uid="uid",
    installation="test",
    generation=3,
    keys=(
        KeyEntry(
            _KEYS[0].key_id, Stage.CURRENT, at(0), "a", "r", _KEYS[1].key_id, 3, at(1), at(2), at(3), at(4), ("query_events",), "i", at(0)
        ),
    ),
    attempt=Attempt("b", at(5)),
    closed=(Attempt("a", at(6)),),
    orphans=(Orphan(_KEYS[2].key_id, "a", "r"),),
    lost=(Attempt("c", at(7)),),
    audit=(("journal", "head"),),
    vacant=True,
    spares=(Spare(_KEYS[3].key_id, at(8), "someone", "project", "test/uid/d", at(9)),),
)


@given(_RECORDS)
def test_a_record_survives_as_json(record: Record) -> None:
    assert parse_record(json.loads(json.dumps(render_record(record))), "here") == record


@pytest.mark.parametrize("part", [FULL, FULL.keys[0], FULL.attempt, FULL.orphans[0], FULL.spares[0]], ids=lambda part: type(part).__name__)
def test_every_field_of_the_domain_is_rendered(part: Any) -> None:
    """A field that the domain gains and the codec forgets would be dropped by the next write."""
    shown = render_record(FULL)
    rendered = {
        Record: shown,
        KeyEntry: shown["keys"][0],
        Attempt: shown["attempt"],
        Orphan: shown["orphans"][0],
        Spare: shown["spares"][0],
    }[type(part)]
    assert {field.name for field in fields(part)} == set(rendered) - {"version"}
    assert parse_record(shown, "here") == FULL


def test_a_record_has_no_secret() -> None:
    assert all(key.reveal() not in json.dumps(render_record(FULL)) for key in _KEYS)


def _change(path: str, value: object) -> dict[str, Any]:
    data: Any = json.loads(json.dumps(render_record(FULL)))
    *parents, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    inner = data
    for step in parents:
        inner = inner[step]
    inner[last] = value
    assert isinstance(data, dict)
    return data


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "form 2"),
        ("surprise", 1, "unknown fields surprise"),
        ("keys.0.surprise", 1, r"keys\.0: unknown fields surprise"),
        ("attempt.surprise", 1, r"attempt: unknown fields"),
        ("orphans.0.surprise", 1, r"orphans\.0: unknown fields"),
        ("uid", 1, "uid: must be text"),
        ("generation", True, "generation: must be a whole number"),
        ("generation", -1, "generation: must be a whole number"),
        ("keys", {}, "keys: must be a list"),
        ("keys.0", [], r"keys\.0: must be an object"),
        ("keys.0.key_id", "rk_live", r"keys\.0\.key_id: a key id has three parts"),
        ("keys.0.stage", "past", r"keys\.0\.stage: must be one of pending"),
        ("keys.0.minted_at", "yesterday", r"keys\.0\.minted_at: must be an instant"),
        ("keys.0.minted_at", "2026-03-01T12:00:00", r"keys\.0\.minted_at: must name its time zone"),
        ("closed.0.at", 5, r"closed\.0\.at: must be text"),
        ("vacant", 0, "vacant: must be true or false"),
        ("audit", [], "audit: must be an object"),
        ("audit.journal", 5, r"audit\.journal: must be text"),
    ],
)
def test_what_is_not_a_record_is_named(path: str, value: object, message: str) -> None:
    with pytest.raises(Misconfigured, match=f"^here.*{message}"):
        parse_record(_change(path, value), "here")


@pytest.mark.parametrize("name", ["version", "uid", "generation", "keys", "attempt", "audit", "vacant"])
def test_a_missing_field_is_named(name: str) -> None:
    data = render_record(FULL)
    del data[name]
    with pytest.raises(Misconfigured, match=f"the field {name} is missing"):
        parse_record(data, "here")


def test_an_instant_of_another_zone_is_kept_as_utc() -> None:
    record = parse_record(_change("keys.0.minted_at", "2026-03-01T13:30:00+01:30"), "here")
    assert record == FULL
    assert record.keys[0].minted_at.utcoffset() == at(0).utcoffset()


def test_a_naive_instant_is_not_rendered() -> None:
    with pytest.raises(TypeError, match="aware"):
        render_record(replace(FULL, attempt=Attempt("a", at(0).replace(tzinfo=None))))


def test_secrets_survive() -> None:
    shown = json.loads(json.dumps(render_secrets({key.key_id: key for key in _KEYS})))
    parsed = parse_secrets(shown, "here")
    assert all(parsed[key.key_id].same_as(key) for key in _KEYS)


def test_a_secret_under_another_name_is_refused_without_being_shown() -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_secrets({str(_KEYS[0].key_id): _KEYS[1].reveal()}, "here")
    assert _KEYS[1].reveal() not in str(caught.value)


@pytest.mark.parametrize("value", ["rk_live", "", 5, None])
def test_what_is_no_key_is_refused(value: object) -> None:
    with pytest.raises(Misconfigured, match="is not a key"):
        parse_secrets({str(_KEYS[0].key_id): value}, "here")


def test_a_full_key_as_a_name_is_refused_without_being_shown() -> None:
    with pytest.raises(Misconfigured) as caught:
        parse_secrets({_KEYS[0].reveal(): _KEYS[0].reveal()}, "here")
    assert _KEYS[0].reveal() not in str(caught.value)
