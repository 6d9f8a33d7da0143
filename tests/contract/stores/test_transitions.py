"""Random sequences of changes, legal and not: what the store holds is the fold of `apply`, and what is illegal leaves no trace."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rotator.domain.errors import IllegalTransition
from rotator.domain.keys import KeyId
from rotator.domain.ports import Store
from rotator.domain.record import (
    AddSpare,
    Adopt,
    Attempt,
    Change,
    Claim,
    ClearLost,
    CloseAttempt,
    Describe,
    Doom,
    DoomOrphan,
    DropSpare,
    Forget,
    ForgetOrphan,
    MarkCompromised,
    NoteAudit,
    OpenAttempt,
    Orphan,
    Promote,
    Record,
    ReserveSpare,
    Retire,
    RetireOrphan,
    RetireSpare,
    Spare,
    StageKey,
    Swept,
    apply,
)
from tests.contract.stores.build import UID, a_key, an_entry, at
from tests.contract.stores.kinds import Kind

KEYS = [a_key(kind) for kind in ("rk", "rk", "sk", "ak")]
_paths = itertools.count(1)


@dataclass(frozen=True)
class Step:
    """What is drawn; the change follows from it and, where `guided`, from the record, so that sequences get deep."""

    verb: str
    key: int
    attempt: str
    minutes: int
    guided: bool
    flag: bool


LIFE = ["open", "stage", "promote", "doom", "forget"]
"""what drives a key through its life; drawn more often than the rest"""
REST = [
    "close",
    "describe",
    "retire",
    "adopt",
    "compromise",
    "doom-orphan",
    "retire-orphan",
    "retire-spare",
    "forget-orphan",
    "swept",
    "lost",
    "clear-lost",
    "claim",
    "audit",
    "add-spare",
    "reserve-spare",
    "drop-spare",
]
STEPS = st.lists(
    st.builds(
        Step,
        verb=st.sampled_from(LIFE * 4 + REST),
        key=st.integers(0, len(KEYS) - 1),
        attempt=st.sampled_from(["a", "b", "c"]),
        minutes=st.integers(0, 3000),
        guided=st.sampled_from([True, True, True, False]),
        flag=st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


def _current(record: Record | None) -> KeyId | None:
    return record.current.key_id if record and record.current else None


def _spare(guide: Record | None, otherwise: KeyId) -> KeyId:
    return guide.spares[0].key_id if guide and guide.spares else otherwise


def build_change(step: Step, record: Record | None) -> Change:
    """The change that a step asks for, legal or not."""
    guide = record if step.guided else None
    if step.verb in ("open", "close", "stage", "lost", "swept", "clear-lost", "claim", "audit"):
        return _build_record_change(step, guide)
    return _build_key_change(step, guide)


def _build_record_change(step: Step, guide: Record | None) -> Change:
    when, key = at(step.minutes), KEYS[step.key]
    attempt = guide.attempt.id if guide and guide.attempt else step.attempt
    match step.verb:
        case "open":
            return OpenAttempt(Attempt(step.attempt, when), UID, "test")
        case "close":
            return CloseAttempt(attempt, when)
        case "stage":
            return StageKey(an_entry(key, attempt=attempt, minutes=step.minutes), key)
        case "lost":
            return CloseAttempt(attempt, when, lost=True)
        case "swept":
            return Swept(when)
        case "clear-lost":
            return ClearLost()
        case "claim":
            return Claim("test" if step.flag else "other", step.minutes % 9, UID)
        case _:
            return NoteAudit(f"journal-{step.key}", "f" * (step.minutes % 64))


def _build_key_change(step: Step, guide: Record | None) -> Change:
    when, key = at(step.minutes), KEYS[step.key]
    pending = guide.pending.key_id if guide and guide.pending else key.key_id
    retiring = guide.retiring[0].key_id if guide and guide.retiring else key.key_id
    closed = guide.closed[0].id if guide and guide.closed else step.attempt
    match step.verb:
        case "describe":
            return Describe(key.key_id, ("query_events",) * step.flag)
        case "promote":
            return Promote(pending, _current(guide) if step.guided else key.key_id, when)
        case "retire":
            return Retire(pending, when)
        case "adopt":
            return Adopt(an_entry(key, minutes=step.minutes), when, UID, "test", key if step.flag else None)
        case "doom":
            return Doom(retiring, when)
        case "forget":
            return Forget(retiring)
        case "compromise":
            return MarkCompromised(key.key_id, when)
        case "doom-orphan":
            return DoomOrphan(Orphan(key.key_id, closed, "reference" if step.flag else None))
        case "retire-orphan":
            return RetireOrphan(an_entry(key, attempt=closed, minutes=step.minutes), key, when)
        case "retire-spare":
            return RetireSpare(an_entry(key, attempt="struck", minutes=step.minutes), key, when)
        case "add-spare":
            return AddSpare(Spare(key.key_id, when, "somebody", "project" if step.flag else None), key, UID, "test")
        case "reserve-spare":
            return ReserveSpare(_spare(guide, key.key_id), f"test/{UID}/{step.attempt}", when)
        case "drop-spare":
            return DropSpare(_spare(guide, key.key_id))
        case _:
            return ForgetOrphan(key.key_id)


def _fold(record: Record | None, change: Change) -> Record | None:
    """The record that should follow; None where the change is forbidden."""
    try:
        after = apply(record, change)
    except IllegalTransition:
        return None
    brings = (
        change.secret.key_id if isinstance(change, StageKey | Adopt | RetireOrphan | RetireSpare | AddSpare) and change.secret else None
    )
    held = record.key_ids if record else set()
    return after if all(key_id in held or key_id == brings for key_id in after.key_ids) else None


def _check_fold(store: Store, path: str, steps: list[Step]) -> set[tuple[str, bool]]:
    """Commit the steps one after the other and compare with the fold; gives which verbs were legal, which forbidden."""
    tried = set()
    holding = store.read(path)
    for step in steps:
        change = build_change(step, holding.record)
        expected = _fold(holding.record, change)
        tried.add((step.verb, expected is not None))
        if expected is None:
            with pytest.raises(IllegalTransition):
                store.commit(path, holding, change)
            assert store.read(path) == holding
            continue
        committed = store.commit(path, holding, change)
        assert committed.revision != holding.revision
        holding = store.read(path)
        assert holding == committed
        assert (holding.record, holding.current) == (expected, _current(expected))
        assert expected.key_ids == set(holding.secrets)
        assert all(holding.secrets[key.key_id].same_as(key) for key in KEYS if key.key_id in holding.secrets)
    return tried


def test_a_store_holds_the_fold_of_its_changes(store: Store, kind: Kind) -> None:
    @given(steps=STEPS)
    @settings(max_examples=kind.walks, deadline=None)
    def check(steps: list[Step]) -> None:
        _check_fold(store, f"path-{next(_paths)}", steps)

    check()


def test_every_change_is_tried_where_it_is_legal_and_where_it_is_forbidden(store: Store, kind: Kind) -> None:
    """Long walks, the same in every run: a generator that never draws a verb's legal case would prove nothing."""
    draw = random.Random(20260301)
    tried = set()
    for number in range(kind.walks):
        steps = [
            Step(
                draw.choice(LIFE * 4 + REST),
                draw.randrange(len(KEYS)),
                draw.choice("abc"),
                draw.randrange(3000),
                draw.random() < 0.75,
                draw.random() < 0.5,
            )
            for _ in range(25)
        ]
        tried |= _check_fold(store, f"walk-{number}", steps)
    assert {verb for verb, was_legal in tried if was_legal} == {*LIFE, *REST}
    assert {verb for verb, was_legal in tried if not was_legal} == {*LIFE, *REST} - {"claim"}
