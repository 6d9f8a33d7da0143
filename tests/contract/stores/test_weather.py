"""What only a real server shows: answers that are lost, requests that come late or never, and what a commit is then worth.

Each case holds for every change, at each single write that it takes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rotator.domain.errors import AnswerLost, Conflict, IllegalTransition
from rotator.domain.ports import Holding
from rotator.domain.record import Adopt, Change, Doom, Forget, MarkCompromised, Promote, Record, Retire, StageKey, apply
from rotator.domain.secret import Secret
from tests.contract.stores.build import a_key, a_note, an_adoption, an_entry, an_opening, at, commit_all, hold_current
from tests.contract.stores.sites import SITES, Site
from tests.support.cutting import CuttingProxy

PATH = "millimetric/checkout-read"


@dataclass(frozen=True)
class Case:
    """A change, and what must be there before it."""

    before: tuple[Change, ...]
    change: Change
    keys: tuple[Secret, ...] = ()


def _build_cases() -> dict[str, Case]:
    old, new, outside = a_key(), a_key(), a_key()
    first, second = an_opening("first"), an_opening("second")
    held = (first, StageKey(an_entry(old, attempt="first"), old), Promote(old.key_id, None, at(2)))
    staging = StageKey(an_entry(new, attempt="second"), new)
    promoted = (*held, second, staging, Promote(new.key_id, old.key_id, at(3)))
    return {
        "the first record": Case((), first),
        "staging": Case((*held, second), staging, (old, new)),
        "the first key": Case(held[:2], held[2], (old,)),
        "promoting": Case((*held, second, staging), promoted[-1], (old, new)),
        "bringing a former key back": Case(promoted, Promote(old.key_id, new.key_id, at(4)), (old, new)),
        "adopting into an empty place": Case((), an_adoption(outside), (outside,)),
        "giving up": Case((*held, second, staging), Retire(new.key_id, at(4)), (old, new)),
        "dooming": Case(promoted, Doom(old.key_id, at(4)), (old, new)),
        "forgetting": Case((*promoted, Doom(old.key_id, at(4))), Forget(old.key_id), (new,)),
        "a leak": Case(held, MarkCompromised(old.key_id, at(4)), (old,)),
    }


CASES = _build_cases()


@pytest.fixture(params=SITES.values(), ids=SITES.keys())
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    made: Site = request.param(tmp_path / "place")
    return made


@pytest.fixture
def proxy(site: Site) -> Iterator[CuttingProxy]:
    with site.proxy() as one:
        yield one


@pytest.mark.parametrize("fate", ["lost", "dropped"])
@pytest.mark.parametrize("name", CASES)
def test_a_lost_answer_leaves_before_or_after_and_nothing_between(site: Site, proxy: CuttingProxy, name: str, fate: str) -> None:
    case = CASES[name]
    for nth in range(1, site.writes + 1):
        path = f"{PATH}-{nth}"
        seen = commit_all(site.open(), path, *case.before) if case.before else site.open().read(path)
        after = apply(seen.record, case.change)
        store = site.open_through(proxy)
        proxy.meddle({nth: fate})
        committed: Holding | None = None
        with contextlib.suppress(AnswerLost):
            committed = store.commit(path, seen, case.change)
        if proxy.writes < nth:
            break
        proxy.meddle()
        now = site.open().read(path)
        assert now.current == (now.record.current.key_id if now.record and now.record.current else None)
        assert (
            now.record == after
            or now.record == seen.record
            or (seen.record is None and now.record == Record(after.uid, after.installation))
        )
        assert committed is None or (committed.record, committed.current) == (now.record, now.current)
        if now.record != after:
            now = site.open().commit(path, now, case.change)
        assert now.record == after
        assert {entry.key_id for entry in after.keys} == set(now.secrets)
        assert all(now.secrets[key.key_id].same_as(key) for key in case.keys)
        assert site.open().read(path) == now
    assert nth > 1


def test_a_change_that_was_begun_does_not_bind_the_next(site: Site, proxy: CuttingProxy) -> None:
    """A promotion stalls before its commit point; another daemon gives the key up and dooms it. The promotion must never happen."""
    old, new = a_key(), a_key()
    plain = site.open()
    hold_current(plain, PATH, old)
    opening = an_opening()
    seen = commit_all(plain, PATH, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    for nth in range(1, site.writes):
        proxy.meddle({nth: "late"})
        with pytest.raises(AnswerLost):
            site.open_through(proxy).commit(PATH, seen, Promote(new.key_id, old.key_id, at(3)))
        seen = plain.read(PATH)
        assert seen.current == old.key_id
        proxy.meddle()
        if nth == 1:
            seen = plain.commit(PATH, seen, a_note("elsewhere", 1))
            proxy.release()
            assert plain.read(PATH) == seen
    commit_all(plain, PATH, Retire(new.key_id, at(4)), Doom(new.key_id, at(5)))
    proxy.release()
    holding = site.open().read(PATH)
    assert (holding.current, site.fields(PATH)["api_key"]) == (old.key_id, old.reveal())
    assert holding.record is not None
    assert holding.record.is_doomed(new.key_id)
    with pytest.raises(IllegalTransition, match="doomed"):
        commit_all(plain, PATH, Promote(new.key_id, old.key_id, at(6)))


def test_a_late_promotion_is_taken_up_by_the_same_decision(site: Site, proxy: CuttingProxy) -> None:
    old, new = a_key(), a_key()
    plain = site.open()
    hold_current(plain, PATH, old)
    opening = an_opening()
    seen = commit_all(plain, PATH, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    proxy.meddle({2: "late"})
    with pytest.raises(AnswerLost):
        site.open_through(proxy).commit(PATH, seen, Promote(new.key_id, old.key_id, at(3)))
    now = commit_all(plain, PATH, Promote(new.key_id, old.key_id, at(4)))
    proxy.release()
    assert plain.read(PATH) == now
    assert now.current == new.key_id


def test_a_promotion_that_came_late_is_seen_whole(site: Site, proxy: CuttingProxy) -> None:
    """It is carried out after everybody looked: no outsider's key, but ours, with its generation."""
    old, new = a_key(), a_key()
    plain = site.open()
    before = hold_current(plain, PATH, old)
    opening = an_opening()
    seen = commit_all(plain, PATH, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    proxy.meddle({2: "late"})
    with pytest.raises(AnswerLost):
        site.open_through(proxy).commit(PATH, seen, Promote(new.key_id, old.key_id, at(3)))
    stale = plain.read(PATH)
    proxy.release()
    now = plain.read(PATH)
    assert now.record is not None
    assert before.record is not None
    assert (now.current, now.record.generation) == (new.key_id, before.record.generation + 1)
    with pytest.raises(Conflict):
        plain.commit(PATH, stale, Retire(new.key_id, at(4)))
    assert commit_all(plain, PATH, a_note("one", 1)).current == new.key_id


def test_an_outsider_over_a_promotion_that_nobody_saw_uses_no_generation_twice(site: Site, proxy: CuttingProxy) -> None:
    old, new, theirs = a_key(), a_key(), a_key()
    plain = site.open()
    hold_current(plain, PATH, old)
    opening = an_opening()
    seen = commit_all(plain, PATH, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    proxy.meddle({2: "lost"})
    with pytest.raises(AnswerLost):
        site.open_through(proxy).commit(PATH, seen, Promote(new.key_id, old.key_id, at(3)))
    promoted = plain.read(PATH)
    site.put(PATH, {"api_key": theirs.reveal()})
    now = plain.read(PATH)
    assert promoted.record is not None
    assert now.record is not None
    assert (now.current, now.record.generation) == (theirs.key_id, promoted.record.generation)
    adopted = plain.commit(PATH, now, Adopt(an_entry(theirs), at(9), now.record.uid, "test"))
    assert adopted.record is not None
    assert [entry.key_id for entry in adopted.record.retiring] == [old.key_id, new.key_id]
    assert set(adopted.secrets) == {old.key_id, new.key_id, theirs.key_id}
