"""What each verb of the store port promises, case by case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rotator.domain.errors import Conflict, IllegalTransition
from rotator.domain.ports import Holding, Store
from rotator.domain.record import (
    AddSpare,
    Adopt,
    CloseAttempt,
    Doom,
    DoomOrphan,
    DropSpare,
    Forget,
    MarkCompromised,
    Orphan,
    Promote,
    ReserveSpare,
    Retire,
    RetireOrphan,
    Spare,
    StageKey,
)
from rotator.domain.secret import Secret
from tests.contract.stores.build import (
    UID,
    a_key,
    a_note,
    an_adoption,
    an_entry,
    an_opening,
    at,
    commit_all,
    find_key_material,
    hold_current,
    noted,
)
from tests.contract.stores.kinds import Kind

PATH = "millimetric/checkout-read"


def test_a_store_fulfils_the_port(store: Store) -> None:
    assert isinstance(store, Store)


def test_an_absent_path_is_data(store: Store) -> None:
    holding = store.read(PATH)
    assert (holding.record, holding.current, holding.current_since, dict(holding.secrets)) == (None, None, None, {})


def test_checking_an_absent_path_writes_nothing(store: Store) -> None:
    before = store.read(PATH)
    store.check(PATH)
    assert store.read(PATH) == before


def test_the_first_commit_creates_the_record(store: Store) -> None:
    opening = an_opening()
    committed = store.commit(PATH, store.read(PATH), opening)
    assert committed.record is not None
    assert (committed.record.uid, committed.record.attempt) == (UID, opening.attempt)
    assert store.read(PATH) == committed


def test_what_a_commit_gives_is_what_is_read(store: Store, sibling: Store) -> None:
    committed = hold_current(store, PATH, a_key())
    assert store.read(PATH) == sibling.read(PATH) == committed


def test_marks_differ_after_every_change_of_what_consumers_find(store: Store, sibling: Store) -> None:
    other = f"{PATH}-other"
    assert store.list_marks([PATH, other]) == {}
    hold_current(store, PATH, a_key())
    first = sibling.list_marks([PATH, other])
    assert set(first) == {PATH}
    assert store.list_marks([PATH]) == first
    hold_current(store, PATH, a_key())
    assert sibling.list_marks([PATH])[PATH] != first[PATH]


def test_nothing_is_missing_where_everything_is_allowed(store: Store) -> None:
    assert store.find_access(PATH, writes=True).missing == ()
    hold_current(store, PATH, a_key())
    assert store.find_access(PATH, writes=True).missing == store.find_access(PATH, writes=False).missing == ()


def test_a_staged_key_comes_with_its_secret(store: Store) -> None:
    key, opening = a_key(), an_opening()
    holding = commit_all(store, PATH, opening, StageKey(an_entry(key, attempt=opening.attempt.id), key))
    assert holding.current is None
    assert store.read(PATH).secrets[key.key_id].same_as(key)


def test_a_promoted_key_is_what_consumers_find(store: Store) -> None:
    key = a_key()
    hold_current(store, PATH, key)
    holding = store.read(PATH)
    assert (holding.current, holding.current_since) == (key.key_id, at(2))


def test_a_key_stays_readable_until_it_is_forgotten(store: Store, sibling: Store) -> None:
    old, new = a_key(), a_key()
    hold_current(store, PATH, old)
    hold_current(store, PATH, new)
    for change in (MarkCompromised(old.key_id, at(3)), Doom(old.key_id, at(4))):
        commit_all(store, PATH, change)
        assert sibling.read(PATH).secrets[old.key_id].same_as(old)
    commit_all(store, PATH, Forget(old.key_id))
    assert set(sibling.read(PATH).secrets) == {new.key_id}


def test_a_pending_key_that_is_given_up_stays_readable(store: Store) -> None:
    key, opening = a_key(), an_opening()
    commit_all(store, PATH, opening, StageKey(an_entry(key, attempt=opening.attempt.id), key), Retire(key.key_id, at(3)))
    assert store.read(PATH).secrets[key.key_id].same_as(key)


def test_an_adoption_may_bring_its_secret(store: Store) -> None:
    key = a_key()
    assert commit_all(store, PATH, an_adoption(key)).current == key.key_id
    assert store.read(PATH).secrets[key.key_id].same_as(key)


def test_an_adoption_of_a_held_key_needs_no_secret(store: Store) -> None:
    old, new = a_key(), a_key()
    hold_current(store, PATH, old)
    hold_current(store, PATH, new)
    commit_all(store, PATH, an_adoption(old, bring_secret=False))
    holding = store.read(PATH)
    assert holding.current == old.key_id
    assert holding.secrets[old.key_id].same_as(old)


def test_a_key_without_its_secret_is_refused(store: Store) -> None:
    with pytest.raises(IllegalTransition, match="was not handed in"):
        store.commit(PATH, store.read(PATH), an_adoption(a_key(), bring_secret=False))
    assert store.read(PATH).record is None


def test_a_key_with_another_keys_secret_is_refused(store: Store) -> None:
    opening, entry = an_opening(), an_entry(a_key())
    commit_all(store, PATH, opening)
    with pytest.raises(IllegalTransition, match="the secret handed in is of key"):
        commit_all(store, PATH, StageKey(replace(entry, attempt=opening.attempt.id), a_key()))


def test_a_forbidden_change_writes_nothing(store: Store) -> None:
    key = a_key()
    before = hold_current(store, PATH, key)
    for change in (Forget(key.key_id), Doom(key.key_id, at(3)), CloseAttempt("none", at(3)), Promote(a_key().key_id, None, at(3))):
        with pytest.raises(IllegalTransition):
            store.commit(PATH, before, change)
    assert store.read(PATH) == before


def test_a_doomed_key_never_becomes_current_again(store: Store) -> None:
    old, new = a_key(), a_key()
    hold_current(store, PATH, old)
    hold_current(store, PATH, new)
    commit_all(store, PATH, Doom(old.key_id, at(3)))
    for change in (Promote(old.key_id, new.key_id, at(4)), an_adoption(old)):
        with pytest.raises(IllegalTransition, match="doomed"):
            commit_all(store, PATH, change)


def test_every_change_gives_a_new_revision(store: Store) -> None:
    seen = {store.read(PATH).revision}
    holding = commit_all(store, PATH, an_opening())
    for _ in range(20):
        assert holding.revision not in seen
        seen.add(holding.revision)
        holding = store.commit(PATH, holding, a_note("journal", 1))


def test_a_change_onto_something_old_is_a_conflict(store: Store, sibling: Store) -> None:
    seen = commit_all(store, PATH, an_opening())
    now = sibling.commit(PATH, seen, a_note("sibling", 1))
    with pytest.raises(Conflict, match=PATH):
        store.commit(PATH, seen, a_note("mine", 1))
    assert store.read(PATH) == now


def test_a_conflict_is_told_before_legality(store: Store, sibling: Store) -> None:
    seen = commit_all(store, PATH, an_opening())
    attempt = seen.record.attempt if seen.record else None
    assert attempt is not None
    sibling.commit(PATH, seen, CloseAttempt(attempt.id, at(1)))
    with pytest.raises(Conflict):
        store.commit(PATH, seen, CloseAttempt(attempt.id, at(1)))


def test_a_stalled_writer_cannot_create_over_what_was_created(store: Store, sibling: Store) -> None:
    stalled = store.read(PATH)
    key = a_key()
    now = hold_current(sibling, PATH, key)
    for change in (an_opening(), an_adoption(a_key())):
        with pytest.raises(Conflict):
            store.commit(PATH, stalled, change)
    assert store.read(PATH) == now


def test_a_stalled_writer_loses_after_any_number_of_changes(store: Store, sibling: Store) -> None:
    stalled = hold_current(store, PATH, a_key())
    for number in range(1, 6):
        commit_all(sibling, PATH, a_note("sibling", number))
        with pytest.raises(Conflict):
            store.commit(PATH, stalled, a_note("mine", number))


def test_a_made_up_holding_is_a_conflict(store: Store) -> None:
    commit_all(store, PATH, an_opening())
    with pytest.raises(Conflict):
        store.commit(PATH, Holding("made-up"), a_note("mine", 1))


def test_paths_do_not_touch_each_other(store: Store, sibling: Store) -> None:
    keys = {f"team-{number % 7}/credential-{number}": a_key() for number in range(60)}
    for path, key in keys.items():
        hold_current(store, path, key)
    for number, path in enumerate(list(keys)[::3], 1):
        commit_all(sibling, path, a_note("sibling", number))
    for path, key in keys.items():
        holding = store.read(path)
        assert holding.current == key.key_id
        assert holding.secrets[key.key_id].same_as(key)


def test_text_of_any_script_survives(kind: Kind, place: Path) -> None:
    path, label = "zespół/größe/漢字 🐢", 'żółw "🐢"\n\\ \u2028 \u202e'
    key, orphan = a_key(), a_key()
    adoption = Adopt(replace(an_entry(key), reference=label), at(1), UID, label, key)
    store = kind.open(place)
    holding = commit_all(store, path, adoption, an_opening("a"), CloseAttempt("a", at(2)), DoomOrphan(Orphan(orphan.key_id, "a", label)))
    assert kind.open(place).read(path) == holding
    assert holding.record is not None
    assert (holding.record.installation, holding.record.orphans[0].reference) == (label, label)


def test_a_new_client_reads_what_an_old_one_wrote(kind: Kind, store: Store, place: Path) -> None:
    committed = hold_current(store, PATH, a_key())
    assert kind.open(place).read(PATH) == committed


def test_secrets_are_never_shown(store: Store) -> None:
    key = a_key()
    holding = hold_current(store, PATH, key)
    shown = f"{holding!r} {holding} {store!r} {dict(holding.secrets)!r}"
    assert key.reveal() not in shown
    assert key.reveal().split("_", 3)[3] not in shown


def test_no_key_material_lies_on_the_disk(store: Store, place: Path) -> None:
    keys = [a_key() for _ in range(5)]
    for key in keys:
        hold_current(store, PATH, key)
    assert place.exists() is False or find_key_material(place, *keys) == []


def test_a_note_is_counted(store: Store) -> None:
    commit_all(store, PATH, an_opening(), a_note("one", 7), a_note("two", 8), a_note("one", 9))
    assert (noted(store.read(PATH), "one"), noted(store.read(PATH), "two")) == (9, 8)


def a_spare(key: Secret, *, installation: str = "test") -> AddSpare:
    return AddSpare(Spare(key.key_id, at(1), "somebody", "project"), key, UID, installation)


def test_spares_stay_readable_until_they_are_dropped(store: Store, sibling: Store) -> None:
    keys = [a_key() for _ in range(3)]
    commit_all(store, PATH, *(a_spare(key) for key in keys), ReserveSpare(keys[1].key_id, "test/uid/a", at(2)))
    holding = sibling.read(PATH)
    assert holding.current is None
    assert holding.record is not None
    assert [spare.key_id for spare in holding.record.spares] == [key.key_id for key in keys]
    assert [spare.label for spare in holding.record.spares] == [None, "test/uid/a", None]
    assert all(holding.secrets[key.key_id].same_as(key) for key in keys)
    commit_all(sibling, PATH, DropSpare(keys[1].key_id))
    assert set(store.read(PATH).secrets) == {keys[0].key_id, keys[2].key_id}


def test_a_spare_is_reserved_once_and_for_good(store: Store, sibling: Store) -> None:
    key = a_key()
    seen = commit_all(store, PATH, a_spare(key))
    now = sibling.commit(PATH, seen, ReserveSpare(key.key_id, "test/uid/a", at(2)))
    with pytest.raises(Conflict):
        store.commit(PATH, seen, ReserveSpare(key.key_id, "test/uid/b", at(2)))
    for label in ("test/uid/a", "test/uid/b"):
        with pytest.raises(IllegalTransition, match="is reserved"):
            store.commit(PATH, now, ReserveSpare(key.key_id, label, at(3)))
    assert store.read(PATH) == now


def test_what_is_no_new_spare_is_refused(store: Store) -> None:
    spare, current = a_key(), a_key()
    hold_current(store, PATH, current)
    seen = commit_all(store, PATH, a_spare(spare))
    for change, words in (
        (a_spare(spare), "already"),
        (a_spare(current), "already"),
        (a_spare(a_key(), installation="other"), "belongs to installation"),
        (DropSpare(current.key_id), "no spare"),
        (ReserveSpare(a_key().key_id, "test/uid/a", at(2)), "no spare"),
    ):
        with pytest.raises(IllegalTransition, match=words):
            store.commit(PATH, seen, change)
    assert store.read(PATH) == seen


def test_an_orphan_whose_secret_is_known_is_kept_condemned(store: Store) -> None:
    key = a_key()
    retiring = RetireOrphan(an_entry(key, attempt="a"), key, at(3))
    seen = commit_all(store, PATH, an_opening("a"))
    with pytest.raises(IllegalTransition, match="is not closed"):
        store.commit(PATH, seen, retiring)
    holding = commit_all(store, PATH, CloseAttempt("a", at(2)), DoomOrphan(Orphan(key.key_id, "a")), retiring)
    assert holding.record is not None
    assert holding.record.orphans == ()
    assert [(k.key_id, k.doomed_at, k.generation) for k in holding.record.retiring] == [(key.key_id, at(3), 0)]
    assert store.read(PATH).secrets[key.key_id].same_as(key)
    with pytest.raises(IllegalTransition, match="doomed"):
        commit_all(store, PATH, Promote(key.key_id, None, at(4)))
    assert commit_all(store, PATH, Forget(key.key_id)).secrets == {}
