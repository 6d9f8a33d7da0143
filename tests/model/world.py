"""What a world is: its bounds, its adversary, and the state that its parts are in."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from rotator.domain.facts import Policy
from rotator.domain.keys import Kind
from tests.model import symbols as sym
from tests.model.journal import ALIVE, SEEN_SINCE, Journal, Mem, Sight
from tests.model.stores import Lag
from tests.model.symbols import NONE

UNBORN, LIVES, REVOKED, GONE, BAD = range(5)
"""what the service makes of a key: not minted, accepted, revoked and perhaps still cached, refused for good, minted but never accepted"""

EFFECT_FAULTS = frozenset({"fail", "lost", "late", "crash", "stall"})
"""an effect fails, is applied and its answer lost, is applied later; a crash; a replica that stands still for longer than its lease"""
POLICY = Policy(sym.INSTALLATION, Kind.RK, verify_for=timedelta(minutes=8))
"""a run of refusals that outlasts the cache outlasts the patience with a new key, too"""
HOLLOW = "hollow"
"""a revoke that is acknowledged and has no effect"""
STALE = "stale"
"""a replica's reads of the store may show it as it is now, for a while"""
PROBE_FAULTS = frozenset({"refuse", "outage", "unknown", "bad"})
"""one false refusal, a service that refuses all keys, no answer, a minted key that never works"""

ACCEPTED = 3

EVENTS = (
    "due",
    "leak",
    "outsider",
    "overwrite",
    "delete",
    "restore",
    "backup",
    "kill",
    "kill-early",
    "rollback",
    "abandon",
    "accept",
    "back",
    "away",
    "lie",
    "amnesia",
    "by-hand",
)


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A target: required ones count for receipts; one that keeps no generation compares what it holds only."""

    required: bool = True
    keeps_generation: bool = True


@dataclass(frozen=True, slots=True)
class World:
    """One small world, walked exhaustively to its bounds."""

    name: str
    faults: frozenset[str] = frozenset()
    budget: int = 0
    """faults in one run, at most"""
    replicas: int = 2
    events: tuple[tuple[str, int], ...] = ()
    """what else may happen, and how often in one run"""
    targets: tuple[TargetSpec, ...] = ()
    policy: Policy = POLICY
    empty: bool = False
    """a bootstrap: neither store nor journal knows the credential"""
    new_targets: bool = False
    """targets were just added and hold nothing yet"""
    clock_jumps: bool = False
    coarse: bool = False
    """retirements are opened and closed in the look that shows them, and a proof of death comes at once or not at all: fewer states for
    worlds of two replicas, whose finer runs the worlds of one replica walk"""
    raw: bool = False
    """journals keep what no decision asks for: to see that leaving it out changes nothing"""
    store: str = "embedded"
    """which of `twofold.STORES`"""
    torn: bool = False
    """a look at a store of two parts may find a record that is older than the place; else only the AWS store's stale reads do"""
    actor: frozenset[str] = frozenset()
    """planted faults of the actor and of the store: names, see `mutations`"""
    blind: frozenset[str] = frozenset()
    """planted: these changes are committed without compare-and-set"""
    attempts: int | None = None
    """runs that would open more attempts than this are cut off there; None: opening too many is a finding"""
    liveness: bool = True


class Rep(NamedTuple):
    """One replica: its journal, and what its process keeps in memory."""

    journal: int
    hand: int = NONE
    plan: tuple[Any, ...] = ()
    """what it is about to do; empty: it will look next"""
    fresh: bool = False
    """nothing was written to the store since the look that the plan comes from"""
    tfresh: int = 0
    """mask of the targets that did not change since they were looked at"""
    barren: int = NONE
    """the attempt whose mint the issuer surely refused"""
    blocked: tuple[Any, ...] = ()
    """the action that failed last, not to be tried again at once"""
    seen: int = NONE
    """the document that was looked at, where it is another one by now"""
    step: tuple[Any, ...] = ()
    """how far a commit of several writes has come"""
    behind: int = 0
    """how often the place was written since the look that a commit comes from"""
    lag: Lag | tuple[()] = ()
    """what its reads may show instead of what is so"""


class Target(NamedTuple):
    """What is true of a target."""

    key: int
    generation: int
    lag: int = 0
    """mask of the keys that its consumer may still work with, besides `key`"""
    away: bool = False
    lies: bool = False


class Extra(NamedTuple):
    """What is true of everything else."""

    left: tuple[int, ...]
    """how often each of `EVENTS` may still happen"""
    due: int = NONE
    """the key whose rotation is due"""
    leaked: int = 0
    """mask of the keys whose leak was acknowledged"""
    wiped: int = 0
    """1: the whole document was overwritten; 2: restored from a backup; 3: a person has accepted what it holds since"""
    backup: int = NONE
    emptied: bool = False
    """what consumers read was deleted, and no person has accepted it yet"""
    used: int = 0
    """events so far that justify another mint"""


class State(NamedTuple):
    """Everything, as integers that name interned parts."""

    doc: int
    service: int
    """three bits a key"""
    targets: int
    readers: int
    """mask of the keys that some consumer of the store itself may work with"""
    extra: int
    ghosts: int
    """effects whose answers were lost, and which may yet happen"""
    reps: tuple[int, ...]
    store: int
    """what lies in the store; `doc` is what it shows"""


def service_of(state_service: int, key: int) -> int:
    """What the service makes of a key."""
    return state_service >> 3 * key & 7


def with_service(state_service: int, key: int, value: int) -> int:
    """The same with one key changed."""
    return state_service & ~(7 << 3 * key) | value << 3 * key


class Problem(Exception):
    """A property that does not hold."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Table:
    """Values by number."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.numbers: dict[Any, int] = {}

    def intern(self, value: Any) -> int:
        """The number of a value."""
        found = self.numbers.get(value)
        if found is None:
            found = self.numbers[value] = len(self.items)
            self.items.append(value)
        return found


def first_journal(world: World) -> Journal:
    """A journal that knows the credential, accepted once, and has seen its key alive; or an empty one for a bootstrap."""
    return Journal() if world.empty else Journal(memory=Mem(generation=1), sights=(Sight(sym.FIRST, ALIVE, SEEN_SINCE),))
