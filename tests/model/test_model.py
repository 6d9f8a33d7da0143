"""The model check's quick tier: every world holds, and every planted fault is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.model.explorer import Explorer
from tests.model.mutations import MUTATIONS, Mutation
from tests.model.world import World
from tests.model.worlds import LONG, QUICK

Record = Callable[[str, object], None]

WALKED = {replace(w, name="planted") for w in QUICK}
UNPLANTED = tuple(w for w in dict.fromkeys(replace(m.world, actor=frozenset(), blind=frozenset()) for m in MUTATIONS) if w not in WALKED)


@pytest.mark.slow
@pytest.mark.parametrize("world", QUICK, ids=lambda w: w.name)
def test_world_holds(world: World, record_property: Record) -> None:
    result = Explorer(world).run()
    record_property("walked", str(result))
    record_property("states", result.states)
    assert result.found is None, f"{world.name}\n{result.found}"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda m: m.name)
def test_planted_fault_is_found(mutation: Mutation, record_property: Record) -> None:
    with mutation.plant():
        result = Explorer(mutation.world).run()
    assert result.found is not None, f"{mutation.name}: no property breaks in {result.states} states: the model is too weak"
    assert result.found.rule in mutation.breaks, str(result.found)
    record_property("walked", f"planted: {mutation.name}: breaks {result.found.rule} in {len(result.found.trace)} steps")


@pytest.mark.parametrize("world", UNPLANTED, ids=lambda w: str(w.events))
def test_world_of_a_planted_fault_holds_without_it(world: World) -> None:
    result = Explorer(world).run()
    assert result.found is None, str(result.found)


def test_quick_tier_is_large_enough_to_mean_something() -> None:
    assert len({w.name for w in (*QUICK, *LONG)}) == len(QUICK) + len(LONG)


def test_world_holds_with_journals_that_keep_everything() -> None:
    world = replace(next(w for w in QUICK if w.name == "routine, one replica"), budget=1, raw=True)
    assert Explorer(world).run().found is None


def test_walk_is_the_same_every_time() -> None:
    world = next(w for w in QUICK if w.name == "journal lost")
    assert Explorer(world).run().states == Explorer(world).run().states
