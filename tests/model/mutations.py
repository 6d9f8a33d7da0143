"""Faults planted into the real decisions, the real record or the actor. Each names a world that must turn red, and by which property.

A fault is planted where its guard lives: in `rotator.domain` by replacing a check for as long as the walk lasts, in the actor by a name
that `effects` knows, and in the store by committing a kind of change without compare-and-set, by a name that `twofold` knows, or by
replacing what the store's own code makes of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from unittest.mock import patch

from rotator.domain import decisions as do
from rotator.domain import record as rec
from rotator.domain import retirement, rotation, standing
from rotator.domain.errors import IllegalTransition
from rotator.domain.facts import Facts, Verdict
from rotator.domain.reasons import Reason
from rotator.domain.record import Record, Stage
from rotator.stores.aws import looks, places
from rotator.stores.vault import documents
from tests.model.world import EFFECT_FAULTS, HOLLOW, STALE, TargetSpec, World
from tests.model.worlds import CANNOT_LIST, PLAIN, TARGET, events

Plant = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Mutation:
    """A planted fault."""

    name: str
    world: World
    breaks: tuple[str, ...]
    """the properties of which the walk may find one broken"""
    plant: Plant = nullcontext


def without(module: Any, table: str, *checks: str) -> Plant:
    """A table of checks that lacks some."""
    return lambda: patch.object(module, table, tuple(c for c in getattr(module, table) if c.__name__ not in checks))


def wrapped(module: Any, name: str, change: Callable[[Any, tuple[Any, ...]], Any]) -> Plant:
    """A function whose answer is changed on its way out; tables that hold it are changed as well."""

    @contextmanager
    def plant() -> Iterator[None]:
        real = getattr(module, name)

        def planted(*args: Any) -> Any:
            return change(real(*args), args)

        tables = {t: getattr(module, t) for t in ("CHECKS", "ROUTINE_CHECKS", "EMERGENCY_CHECKS") if hasattr(module, t)}
        with patch.object(module, name, planted):
            for table, checks in tables.items():
                setattr(module, table, tuple(planted if c is real else c for c in checks))
            try:
                yield
            finally:
                for table, checks in tables.items():
                    setattr(module, table, checks)

    return plant


def _revoke_at_once(decision: do.Decision, _args: Any) -> do.Decision:
    if isinstance(decision, do.Do) and isinstance(decision.action, do.Doom):
        return do.Do(do.Revoke(decision.action.key_id))
    return decision


def _one_slot(record: Record, _args: Any) -> Record:
    newest = max((k.generation for k in record.keys if k.stage is Stage.RETIRING), default=0)
    return replace(record, keys=tuple(k for k in record.keys if k.stage is not Stage.RETIRING or k.generation == newest))


def _revoke_at_deadline(decision: do.Decision | None, _args: Any) -> do.Decision | None:
    return None if isinstance(decision, do.Park) and decision.reason is Reason.CONSUMERS_BEHIND else decision


def _mint_beside(decision: do.Decision | None, _args: Any) -> do.Decision | None:
    held = isinstance(decision, do.Wait) and decision.reason is Reason.ATTEMPT_HELD
    return do.Do(do.OpenAttempt()) if held else decision


def _open_over(record: Record | None, change: rec.OpenAttempt) -> Record:
    if record is None:
        return Record(uid=change.uid, installation=change.installation, attempt=change.attempt)
    return replace(record, attempt=change.attempt)


@contextmanager
def no_lease() -> Iterator[None]:
    """An attempt is opened beside another."""
    with patch.object(rec, "_open_attempt", _open_over), wrapped(rotation, "mint", _mint_beside)():
        yield


@contextmanager
def orphans_in_place_are_ended() -> Iterator[None]:
    """Nobody asks whether consumers find the orphan in the store's place."""
    real = rotation.end_orphans

    def end_orphans(facts: Facts, now: datetime) -> do.Decision | None:
        return real(replace(facts, current=None), now)

    with patch.object(rotation, "CHECKS", tuple(end_orphans if c is real else c for c in rotation.CHECKS)):
        yield


@contextmanager
def swept_before_a_mint_only() -> Iterator[None]:
    """No sweep when a rotation closes, and none afterwards."""
    real = rotation.close_distributed

    def close_distributed(facts: Facts, now: datetime) -> do.Decision | None:
        record = replace(facts.record, closed=()) if facts.record is not None else None
        return real(replace(facts, record=record), now)

    checks = tuple(close_distributed if c is real else c for c in rotation.CHECKS if c is not rotation.sweep_hourly)
    with patch.object(rotation, "CHECKS", checks):
        yield


def _stage_any(record: Record, change: rec.StageKey) -> Record:
    if record.attempt is None or record.pending is not None:
        raise IllegalTransition("no attempt is open")
    closed = (*record.closed, record.attempt)
    return replace(record, attempt=None, closed=closed, keys=(*record.keys, replace(change.entry, stage=Stage.PENDING)))


def no_attempt_id() -> AbstractContextManager[Any]:
    """A key may be staged under whatever attempt is open."""
    return patch.dict(rec._CHANGES, {rec.StageKey: _stage_any})


def _promote_doomed(record: Record, change: rec.Promote) -> Record:
    current = record.current
    if (current.key_id if current else None) != change.replaces:
        raise IllegalTransition("another key is current")
    entry = rec._get(record, change.key_id)
    return rec._make_current(record, entry, change.at)


@contextmanager
def doomed_is_promoted() -> Iterator[None]:
    """A rollback does not ask whether its key is doomed, and the record lets it pass."""
    real = rotation.roll_back

    def roll_back(facts: Facts, now: datetime) -> do.Decision | None:
        record = facts.record
        if record is not None:
            record = replace(record, keys=tuple(replace(k, doomed_at=None) for k in record.keys))
        return real(replace(facts, record=record), now)

    checks = tuple(roll_back if c is real else c for c in rotation.CHECKS)
    with patch.object(rotation, "CHECKS", checks), patch.dict(rec._CHANGES, {rec.Promote: _promote_doomed}):
        yield


@contextmanager
def older_store_is_believed() -> Iterator[None]:
    """No guard compares generations."""
    gone = standing.store_went_forward
    with ExitStack() as stack:
        for module, table in ((standing, "GUARDS"), (rotation, "CHECKS")):
            stack.enter_context(patch.object(module, table, tuple(c for c in getattr(module, table) if c is not gone)))
        yield


def current_is_taken_for_proven() -> AbstractContextManager[Any]:
    """Nobody asks the current key before it goes to targets."""
    return patch.object(rotation, "is_proven", lambda _facts, _entry: True)


def settled_by_the_sibling_alone() -> AbstractContextManager[Any]:
    """Nobody asks what an announcement has come to."""

    def settle(_path: Any, _current: Any, sibling: documents.Sibling | None) -> documents.Settled:
        return documents.Settled(sibling.record if sibling is not None else None)

    return patch.object(documents, "settle", settle)


def unclear_is_not_made() -> AbstractContextManager[Any]:
    """A document that was written more than once since a change was announced: the change counts as not made."""
    real = documents.settle

    def settle(path: documents.Document, current: Any, sibling: documents.Sibling | None) -> documents.Settled:
        announced = sibling.announced if sibling is not None else None
        if sibling is not None and announced is not None and path.version - announced.onto > 1:
            return documents.Settled(sibling.record)
        return real(path, current, sibling)

    return patch.object(documents, "settle", settle)


def _judged(change: Callable[[places.Moved, Any, places.Place], places.Moved]) -> Plant:
    real = places.judge
    return lambda: patch.object(places, "judge", lambda move, place: change(real(move, place), move, place))


announced_is_made = _judged(lambda moved, _move, _place: places.Moved.DONE if moved is places.Moved.OPEN else moved)
displaced_is_not_made = _judged(
    lambda moved, move, place: places.Moved.VOID if moved is places.Moved.DONE and move.to != place.current else moved
)


def lagging_labels_are_believed() -> AbstractContextManager[Any]:
    """A look that shows a key which the record has left behind is taken for a write from outside."""
    return patch.object(looks, "find_left_behind", lambda _record, _current: None)


def _one_probe(_dead: bool, args: Any) -> bool:
    facts, entry, _row = args
    return facts.seen(entry.key_id).answer is Verdict.DEAD and entry.doomed_at is not None


def _by_its_own_word(_since: datetime | None, args: Any) -> datetime | None:
    _facts, entry = args
    return entry.retired_at  # type: ignore[no-any-return]


def _only_if_swept_before(decision: do.Decision | None, args: Any) -> do.Decision | None:
    facts = args[0]
    return decision if facts.memory is not None and facts.memory.swept_at is not None else None


def _never_lost(decision: do.Decision | None, _args: Any) -> do.Decision | None:
    if isinstance(decision, do.Do) and isinstance(decision.action, do.CloseAttempt):
        return do.Do(replace(decision.action, lost=False))
    return decision


def _kept_for_ever(decision: do.Decision | None, args: Any) -> do.Decision | None:
    (facts, *_) = args
    return None if facts.attempt is not None and facts.attempt.in_hand else decision


def _world(faults: set[str], budget: int, *, replicas: int = 1, targets: tuple[TargetSpec, ...] = (), **bounds: int) -> World:
    return World("planted", frozenset(faults), budget, replicas=replicas, targets=targets, events=events(**bounds), coarse=replicas > 1)


def _acting(world: World, fault: str) -> World:
    return replace(world, actor=frozenset({fault}))


def _in(store: str, world: World, *faults: str) -> World:
    return replace(world, store=store, actor=frozenset(faults))


def _blind(world: World, kind: str) -> World:
    return replace(world, blind=frozenset({kind}))


UNLISTED = replace(_world({"crash"}, 1, due=1), policy=CANNOT_LIST)
UNLISTED_GIVEN_UP = replace(_world({"fail"}, 1, due=1, abandon=1), policy=CANNOT_LIST)
UNLISTED_TWO = replace(_world({"stall"}, 1, replicas=2, due=1), policy=CANNOT_LIST)
ONE = _world(set(), 0, due=1)
TWO = _world(set(), 0, replicas=2, due=1)
STALLS = _world({"stall"}, 1, replicas=2, due=1)
FAILS = _world({"fail"}, 1, replicas=2, due=1)
FAULTY = _world(set(EFFECT_FAULTS), 1, due=1)
LATE = _world({"late"}, 1, due=1, amnesia=1)
ROLLBACK = _world(set(), 0, replicas=2, due=1, rollback=1)
AWAY = _world(set(), 0, targets=(TARGET,), due=1, away=1)
OUTSIDER = _world(set(), 0, due=1, outsider=1)
ORPHAN_IN_PLACE = _world({"fail"}, 1, due=1, outsider=1)
KILLED = _world(set(), 0, due=1, kill=1)
KILLED_EARLY = _world(set(), 0, targets=(TARGET,), due=1, kill_early=1)
LEAK = _world(set(), 0, due=1, leak=1)
LEAK_FORGOTTEN = _world(set(), 0, leak=1, amnesia=1)
NEW_TARGET = replace(TWO, targets=(TARGET,), new_targets=True)
PLAIN_TARGET = replace(TWO, targets=(PLAIN,), liveness=False)
RESTORED = _world(set(), 0, due=1, restore=1)
ROUTINE_CHECKS = (retirement, "ROUTINE_CHECKS")
LOST_WRITE = ("I1", "I2", "I3", "minting")

CRASH = _world({"crash"}, 1, due=1)
ROLLBACK_LATE = _world({"late"}, 1, due=1, rollback=1, abandon=1)
ABANDON_LATE = _world({"late"}, 1, due=1, abandon=1)
OUTSIDER_CRASH = _world({"crash"}, 1, due=1, outsider=1)
OUTSIDER_TWICE = _world({"crash"}, 1, due=1, outsider=2)
STALE_TWO = _world({STALE}, 1, replicas=2, due=1)

MUTATIONS: tuple[Mutation, ...] = (
    Mutation("no doomed mark before a revoke", ROLLBACK, ("I1",), wrapped(retirement, "decide_retirement", _revoke_at_once)),
    Mutation("one slot for the old key", _world(set(), 0, due=2), ("I2",), wrapped(rec, "_make_current", _one_slot)),
    Mutation("blind target write", _acting(NEW_TARGET, "blind-target"), ("I5",)),
    Mutation("store read before the targets", _acting(PLAIN_TARGET, "store-first"), ("I5",)),
    Mutation("a routine deadline revokes", AWAY, ("I1",), wrapped(retirement, "receipts", _revoke_at_deadline)),
    Mutation("no lease on minting", TWO, ("I2", "minting"), no_lease),
    Mutation("no second look after taking the lease", _acting(FAULTY, "no-second-look"), ("I2", "minting")),
    Mutation("no adoption of an outsider's key", OUTSIDER, ("I2",), without(rotation, "CHECKS", "settle_outsider")),
    Mutation("current not verified before distribution", KILLED_EARLY, ("I1",), current_is_taken_for_proven),
    Mutation("no overlap", TWO, ("I1",), without(*ROUTINE_CHECKS, "overlap")),
    Mutation("no receipts", AWAY, ("I1",), without(*ROUTINE_CHECKS, "receipts")),
    Mutation("no compare-and-set on open", _blind(TWO, "open"), LOST_WRITE),
    Mutation("no compare-and-set on stage", _blind(STALLS, "stage"), LOST_WRITE),
    Mutation("no compare-and-set on promote", _blind(LEAK, "promote"), ("I6",)),
    Mutation("no compare-and-set on doom", _blind(ROLLBACK, "doom"), LOST_WRITE),
    Mutation("one probe confirms a death", ONE, ("I3",), wrapped(retirement, "is_dead", _one_probe)),
    Mutation("no verify", _world({"bad"}, 1, due=1), ("I1",), wrapped(rotation, "verify", lambda _decision, _args: None)),
    Mutation("key in hand revoked after a failed stage", _acting(FAULTY, "revoke-in-hand"), ("I1", "I2")),
    Mutation("orphans swept before a mint only", _world({"late"}, 1, due=1), ("I2",), swept_before_a_mint_only),
    Mutation("leak not marked in the store", _acting(LEAK_FORGOTTEN, "leak-unmarked"), ("I6",)),
    Mutation("no attempt id, at an issuer that cannot list", _acting(UNLISTED_TWO, "no-attempt-id"), ("I2",), no_attempt_id),
    # Found by the model itself in the first version of the rules, or guards that the list does not name.
    Mutation("a doomed key may be promoted", ROLLBACK, ("I1",), doomed_is_promoted),
    Mutation("the overlap counts from the retirer's word", STALLS, ("I1",), wrapped(retirement, "retired_since", _by_its_own_word)),
    Mutation("who never swept never sweeps", LATE, ("I2",), wrapped(rotation, "sweep_hourly", _only_if_swept_before)),
    Mutation("a lost mint is not noted", UNLISTED, ("I2",), wrapped(rotation, "close_stale_attempt", _never_lost)),
    Mutation("a minted key that no store took is dropped unsaid", UNLISTED_GIVEN_UP, ("I2",), wrapped(rotation, "give_up", _never_lost)),
    Mutation(
        "a minted key that no store took is kept in memory for ever",
        _world({"fail"}, 1, due=1, outsider=1),
        ("I2",),
        wrapped(rotation, "close_stale_attempt", _kept_for_ever),
    ),
    Mutation("an orphan in the store's place is ended", ORPHAN_IN_PLACE, ("I1",), orphans_in_place_are_ended),
    Mutation("no look at the clock", replace(ONE, clock_jumps=True), ("I1",), without(*ROUTINE_CHECKS, "clock")),
    Mutation("a dead current key is no objection", KILLED, ("I1",), without(*ROUTINE_CHECKS, "current_is_fresh")),
    Mutation(
        "an acknowledged revoke is believed", _world({HOLLOW}, 1, due=1), ("I6",), wrapped(retirement, "is_outlived", lambda _o, _a: False)
    ),
    Mutation("an older store is believed", RESTORED, ("L2",), older_store_is_believed),
    # The stores of two parts.
    Mutation("Vault: no fence", _in("vault", ROLLBACK_LATE, "no-fence"), ("I1",)),
    Mutation("Vault: no compare-and-set on the path", _in("vault", OUTSIDER, "blind-place"), ("I2",)),
    Mutation("Vault: no compare-and-set on the sibling", _in("vault", TWO, "blind-record"), LOST_WRITE),
    Mutation("Vault: the sibling keeps no secret of the current key", _in("vault", OUTSIDER, "current-not-kept"), ("I3",)),
    Mutation("Vault: only the sibling is read", _in("vault", TWO), ("I6",), settled_by_the_sibling_alone),
    Mutation("Vault: tidied before the commit", _in("vault", ABANDON_LATE, "tidied-first"), ("I1",)),
    Mutation("Vault: what another writer may yet make is taken back", _in("vault", FAILS, "taken-back-always"), ("I6",)),
    Mutation("Vault: what cannot be told counts as not made", _in("vault", OUTSIDER_TWICE), ("I1",), unclear_is_not_made),
    Mutation("AWS: no fence", _in("aws", ROLLBACK_LATE, "no-fence"), ("I1",)),
    Mutation("AWS: AWSCURRENT moved from wherever it is", _in("aws", OUTSIDER, "blind-place"), ("I2",)),
    Mutation("AWS: the record moved from wherever it is", _in("aws", TWO, "blind-record"), LOST_WRITE),
    Mutation("AWS: the record keeps no secret of the current key", _in("aws", OUTSIDER, "current-not-kept"), ("I3",)),
    Mutation("AWS: a move counts as made before it is", _in("aws", CRASH), ("I6",), announced_is_made),
    Mutation("AWS: a move that was made and displaced counts as not made", _in("aws", OUTSIDER_CRASH), ("I1",), displaced_is_not_made),
    Mutation("AWS: labels that lag behind the record are believed", _in("aws", STALE_TWO), ("minting",), lagging_labels_are_believed),
    Mutation(
        "AWS: the overlap counts from the retirer's word",
        _in("aws", STALLS),
        ("I1",),
        wrapped(retirement, "retired_since", _by_its_own_word),
    ),
)
