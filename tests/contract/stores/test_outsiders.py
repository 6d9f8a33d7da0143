"""Stores that others write to as well: whatever they do is seen, kept and never written over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rotator.domain.errors import Conflict, IllegalTransition, Misconfigured
from rotator.domain.ports import Store
from rotator.domain.record import Adopt, Claim, Doom, Forget, MarkCompromised, Promote, Retire, StageKey
from rotator.domain.secret import Secret
from tests.contract.stores.build import UID, a_key, a_note, an_adoption, an_entry, an_opening, at, commit_all, hold_current
from tests.contract.stores.sites import SITES, Site

PATH = "millimetric/checkout-read"
FOREIGN: dict[str, Any] = {
    "größe": 'zespół "🐢" \n\\ \u2028',
    "nested": {"empty": {}, "null": None, "list": [1, 2.5, "three", None, True]},
    "number": 12345678901,
    "fraction": 0.1,
    "null": None,
    "": "no name",
    "long": "x" * 20_000,
}


@pytest.fixture(params=SITES.values(), ids=SITES.keys())
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    made: Site = request.param(tmp_path / "place")
    return made


@pytest.fixture
def store(site: Site) -> Store:
    return site.open()


def _adopt(store: Store, key: Secret) -> None:
    store.commit(PATH, store.read(PATH), Adopt(an_entry(key), at(9), UID, "test"))


@pytest.mark.parametrize("others", [{}, {"note": "by hand"}])
def test_an_outsider_s_key_is_named_and_never_written_over(site: Site, store: Store, others: dict[str, str]) -> None:
    old, pending, theirs, opening = a_key(), a_key(), a_key(), an_opening()
    hold_current(store, PATH, old)
    seen = commit_all(store, PATH, opening, StageKey(an_entry(pending, attempt=opening.attempt.id), pending))
    site.put(PATH, {"api_key": theirs.reveal(), **others})
    for change in (Promote(pending.key_id, old.key_id, at(3)), a_note("one", 1), Retire(pending.key_id, at(3))):
        with pytest.raises(Conflict):
            store.commit(PATH, seen, change)
    now = store.read(PATH)
    assert now.record is not None
    assert now.record.current is not None
    assert (now.current, now.record.current.key_id) == (theirs.key_id, old.key_id)
    assert all(now.secrets[key.key_id].same_as(key) for key in (old, pending, theirs))
    assert now.current_since is not None
    assert now.current_since > at(3)
    with pytest.raises(IllegalTransition, match="somebody else wrote"):
        store.commit(PATH, now, Promote(pending.key_id, old.key_id, at(3)))
    _adopt(store, theirs)
    assert site.fields(PATH) == {"api_key": theirs.reveal(), **others}
    adopted = site.open().read(PATH)
    assert adopted.record is not None
    assert adopted.current == theirs.key_id
    assert {key.key_id for key in adopted.record.retiring} == {pending.key_id, old.key_id}
    assert all(adopted.secrets[key.key_id].same_as(key) for key in (old, pending, theirs))


def test_the_record_goes_on_beside_an_outsider_s_key(site: Site, store: Store) -> None:
    """A leak is accepted, a key is doomed, while the outsider's is being verified; what consumers find stays as it is."""
    older, old, theirs = a_key(), a_key(), a_key()
    hold_current(store, PATH, older)
    hold_current(store, PATH, old)
    site.put(PATH, {"api_key": theirs.reveal()})
    holding = commit_all(store, PATH, MarkCompromised(old.key_id, at(4)), Doom(older.key_id, at(5)), Forget(older.key_id), a_note("one", 1))
    assert holding.current == theirs.key_id
    assert site.fields(PATH) == {"api_key": theirs.reveal()}


def test_a_key_from_before_is_adopted_without_a_write(site: Site, store: Store) -> None:
    key = a_key()
    site.put(PATH, {"api_key": key.reveal(), **FOREIGN})
    mark = store.list_marks([PATH])
    found = store.read(PATH)
    assert (found.record, found.current) == (None, key.key_id)
    assert found.current_since is not None
    assert found.secrets[key.key_id].same_as(key)
    _adopt(store, key)
    assert store.list_marks([PATH]) == mark
    assert site.fields(PATH) == {"api_key": key.reveal(), **FOREIGN}


def test_foreign_fields_are_kept_as_they_are(site: Site, store: Store) -> None:
    many = {**FOREIGN, **{f"field-{number}": f"value {number}" for number in range(100)}}
    first, second = a_key(), a_key()
    site.put(PATH, many)
    hold_current(store, PATH, first)
    hold_current(store, PATH, second)
    assert site.fields(PATH) == {**many, "api_key": second.reveal()}
    site.put(PATH, {**many, "api_key": second.reveal(), "added": "later"})
    holding = hold_current(store, PATH, a_key())
    assert site.fields(PATH) == {**many, "added": "later", "api_key": holding.secrets[holding.current].reveal() if holding.current else ""}


def test_a_foreign_field_that_changes_is_a_change_and_no_outsider(site: Site, store: Store) -> None:
    key = a_key()
    seen = hold_current(store, PATH, key)
    site.put(PATH, {"api_key": key.reveal(), "added": "later"})
    with pytest.raises(Conflict):
        store.commit(PATH, seen, a_note("one", 1))
    assert (store.read(PATH).current, store.read(PATH).record) == (key.key_id, seen.record)


@pytest.mark.parametrize("fields", [{}, {"api_key": ""}, {"api_key": None}, {"other": "x"}], ids=str)
def test_an_empty_secret_holds_no_key(site: Site, store: Store, fields: dict[str, Any]) -> None:
    site.put(PATH, fields)
    assert (store.read(PATH).record, store.read(PATH).current, store.read(PATH).current_since) == (None, None, None)
    key = a_key()
    assert hold_current(store, PATH, key).current == key.key_id
    assert site.fields(PATH) == {**fields, "api_key": key.reveal()}


def test_an_emptied_secret_is_not_filled_again_until_a_person_says_so(site: Site, store: Store) -> None:
    old, new, opening = a_key(), a_key(), an_opening()
    hold_current(store, PATH, old)
    seen = commit_all(store, PATH, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    site.put(PATH, {"kept": "x"})
    with pytest.raises(Conflict):
        store.commit(PATH, seen, Promote(new.key_id, old.key_id, at(3)))
    emptied = store.read(PATH)
    assert emptied.record is not None
    assert emptied.current is None
    with pytest.raises(IllegalTransition, match="somebody else removed"):
        store.commit(PATH, emptied, Promote(new.key_id, old.key_id, at(3)))
    claimed = store.commit(PATH, emptied, Claim("test", 7, UID, at(4), emptied=True))
    assert claimed.record is not None
    assert (claimed.record.vacant, claimed.record.current, [key.key_id for key in claimed.record.retiring]) == (True, None, [old.key_id])
    promoted = store.commit(PATH, claimed, Promote(new.key_id, None, at(5)))
    assert promoted.current == new.key_id
    assert site.fields(PATH) == {"kept": "x", "api_key": new.reveal()}
    assert promoted.secrets[old.key_id].same_as(old)


def test_a_deleted_secret_is_absent_and_an_undeleted_one_is_back(site: Site, store: Store) -> None:
    key = a_key()
    before, marks = hold_current(store, PATH, key), store.list_marks([PATH])
    site.delete(PATH)
    gone = store.read(PATH)
    assert (gone.current, gone.current_since, gone.record) == (None, None, before.record)
    assert gone.revision != before.revision
    assert store.list_marks([PATH]) == {}
    with pytest.raises(Conflict):
        store.commit(PATH, before, a_note("one", 1))
    site.undelete(PATH)
    assert store.read(PATH) == before
    assert store.list_marks([PATH]) == marks


@pytest.mark.parametrize("value", ["changeme", " ", 7, {"api_key": "x"}, ["x"]], ids=str)
def test_what_is_no_key_is_named_and_left_alone(site: Site, store: Store, value: Any) -> None:
    site.put(PATH, {"api_key": value})
    with pytest.raises(Misconfigured, match=r"api_key holds no Millimetric key .*write one, or empty the field") as told:
        store.read(PATH)
    assert "changeme" not in str(told.value)
    with pytest.raises(Misconfigured):
        store.check(PATH)
    assert site.fields(PATH) == {"api_key": value}


def test_another_key_under_a_known_id_is_not_taken_for_it(site: Site, store: Store) -> None:
    key = a_key()
    hold_current(store, PATH, key)
    wrong = Secret(key.reveal() + "x")
    site.put(PATH, {"api_key": wrong.reveal()})
    with pytest.raises(Misconfigured, match="is another key: put the right one back"):
        store.read(PATH)
    site.put(PATH, {"api_key": key.reveal()})
    assert store.read(PATH).secrets[key.key_id].same_as(key)


def test_a_former_key_that_an_outsider_puts_back_is_adopted_again(site: Site, store: Store) -> None:
    old, new = a_key(), a_key()
    hold_current(store, PATH, old)
    before = hold_current(store, PATH, new)
    site.put(PATH, {"api_key": old.reveal()})
    assert store.read(PATH).current == old.key_id
    now = commit_all(store, PATH, an_adoption(old, bring_secret=False))
    assert now.record is not None
    assert before.record is not None
    assert (now.current, now.record.generation) == (old.key_id, before.record.generation + 1)
    assert now.secrets[new.key_id].same_as(new)
