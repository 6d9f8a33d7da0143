"""Keys that people bring, driven by the engine on fakes: never two rotations with one spare, and nothing lost, wherever it dies."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from rotator.domain.errors import AnswerLost, Conflict, Misconfigured, Refused, Unreachable
from rotator.domain.facts import Verdict
from rotator.domain.keys import KeyId, Kind
from rotator.domain.ports import Holding, Issuer, MintOrder, Store
from rotator.domain.reasons import Reason
from rotator.domain.record import Change, Record, ReserveSpare
from rotator.domain.secret import Secret
from rotator.engine.engine import Engine, Hooks
from rotator.engine.look import Timing
from rotator.engine.runner import Outcome
from rotator.engine.supplying import Received, Supplying, UnknownIssuer
from rotator.issuers.manual import ManualIssuerConfig
from rotator.issuers.pool import PoolIssuerConfig
from rotator.issuers.surroundings import Surroundings
from rotator.stores.memory import MemoryStore
from tests.support.fakes import build_secret
from tests.unit.engine.conftest import QUICK, Rig, settled

NAMES = ("one", "two", "three")


class Crash(BaseException):
    """The process dies."""


@dataclass
class Bomb:
    """Dies at the n-th point, before or after a commit to any store."""

    at: int
    passed: int = 0
    points: list[str] = field(default_factory=list)

    def arm(self, *stores: MemoryStore) -> None:
        for store in stores:
            store.before_commit, store.after_commit = self._tick, self._tick

    def _tick(self, path: str, change: Change) -> None:
        self.points.append(f"{path}: {type(change).__name__}")
        if len(self.points) == self.at:
            raise Crash


class OpenStore(MemoryStore):
    """Others write to it with their own tools: the key at a path changes, and no record of ours with it."""

    def __init__(self) -> None:
        super().__init__()
        self.laid: dict[str, Secret] = {}

    def read(self, path: str) -> Holding:
        held, key = super().read(path), self.laid.get(path)
        if key is None:
            return held
        secrets = {**held.secrets, key.key_id: key}
        return replace(held, revision=f"{held.revision}+{key.key_id}", current=key.key_id, secrets=secrets)

    def commit(self, path: str, seen: Holding, change: Change) -> Holding:
        if seen.revision != self.read(path).revision:
            raise Conflict("someone else wrote")
        laid, self.laid = self.laid, {}
        try:
            super().commit(path, super().read(path), change)
        finally:
            self.laid = laid
        return self.read(path)


@dataclass
class Supplies:
    """A rig whose credentials draw from a pool, or from inboxes of their own."""

    rig: Rig
    store: MemoryStore
    issuer: Issuer
    name: str

    @property
    def supplying(self) -> Supplying:
        return Supplying(self.rig.engine)

    def bring(self, kind: Kind = Kind.RK) -> Secret:
        """A person mints a key."""
        return self.rig.service.mint(kind, "live", "by hand").secret

    def add(self, *keys: Secret) -> list[Received]:
        return list(self.supplying.add_spares(self.name, keys, None, "test"))

    def add_credential(self, name: str, **changes: object) -> None:
        policy = replace(QUICK, can_revoke=False)
        self.rig.add(name, issuer=self.issuer, issuer_name=self.name, policy=policy, targets=[], **changes)
        self.connect()

    def connect(self) -> None:
        self.rig.engine.set_credentials(self.rig.credentials, {self.name: self.issuer, "issuer": self.rig.issuer})

    def restart(self) -> None:
        """A new process over the same journal and stores."""
        old = self.rig.engine
        self.rig.engine = Engine(self.rig.journal, self.rig.clock, Timing(step_base=timedelta(seconds=1)), Hooks(), workers=2)
        self.connect()
        assert old is not self.rig.engine

    def pool(self) -> Record:
        record = self.store.read("pool").record
        assert record is not None
        return record

    def held(self) -> Counter[KeyId]:
        """How many credentials hold each key."""
        records = [self.rig.store.read(c.path).record for c in self.rig.credentials.values()]
        return Counter(key.key_id for record in records if record is not None for key in record.keys)


def _surroundings(rig: Rig, store: Store) -> Surroundings:
    return Surroundings(rig.clock, lambda *_: None, "test", {"embedded": store}, {}, NAMES)


@pytest.fixture
def pool(rig: Rig) -> Supplies:
    store = MemoryStore()
    return Supplies(rig, store, PoolIssuerConfig(path="pool").build("spares", _surroundings(rig, store)), "spares")


@pytest.fixture
def inbox(rig: Rig) -> Supplies:
    store = OpenStore()
    config = ManualIssuerConfig(inbox="inbox/{credential}", instructions="ask Ada")
    return Supplies(rig, store, config.build("by-hand", _surroundings(rig, store)), "by-hand")


def reasons(outcome: Outcome) -> set[Reason]:
    return {reason for reason, _ in outcome.view.parked}


def test_three_credentials_and_two_spares(pool: Supplies) -> None:
    for name in NAMES:
        pool.add_credential(name)
    assert all(one.accepted for one in pool.add(pool.bring(), pool.bring()))
    outcomes = [pool.rig.visit(name) for name in NAMES]
    assert [settled(outcome) for outcome in outcomes] == [True, True, False]
    ((reason, text),) = outcomes[2].view.parked
    assert reason is Reason.POOL_EMPTY
    assert "kind rk" in text
    assert "`rotator pool add spares`" in text
    assert set(pool.held().values()) == {1}
    assert pool.pool().spares == ()
    assert pool.supplying.count_spares() == {"spares": 0}


def test_a_wait_for_a_spare_is_no_failure_and_opens_no_attempt(pool: Supplies) -> None:
    pool.add_credential("one")
    pool.add(pool.bring())
    pool.rig.visit("one")
    pool.rig.operations.rotate("one", emergency=False, who="test")
    for _ in range(100):
        assert reasons(pool.rig.visit("one")) == {Reason.POOL_EMPTY}
        pool.rig.clock.advance(timedelta(seconds=30))
    rotation = pool.rig.journal.recall("one").rotation
    assert rotation is not None
    assert rotation.failures == 0
    record = pool.rig.store.read("keys/one").record
    assert record is not None
    assert len(record.closed) <= 1


def test_adding_a_spare_wakes_whoever_waits(pool: Supplies) -> None:
    pool.add_credential("one")
    pool.rig.visit("one")
    queue, stopping = pool.rig.engine.queue, pool.rig.engine.stopping
    while queue.busy():
        queue.done(queue.take(stopping, only_emergencies=False) or "")
    refused = pool.add(build_secret())
    assert (refused[0].accepted, queue.busy()) == (False, 0)
    pool.add(pool.bring())
    assert queue.take(stopping, only_emergencies=False) == "one"
    queue.done("one")
    assert settled(pool.rig.visit("one"))


def test_who_is_too_late_for_the_last_spare_waits_without_a_failure(pool: Supplies) -> None:
    """The spare goes between the preflight and the mint."""
    pool.add_credential("one")
    (received,) = pool.add(pool.bring())
    taken = []

    def take_it(path: str, change: Change) -> None:
        if path == "keys/one" and not taken:
            taken.append(change)
            pool.store.commit("pool", pool.store.read("pool"), ReserveSpare(received.key_id, "test/other/attempt", pool.rig.clock.now()))

    pool.rig.store.after_commit = take_it
    assert reasons(pool.rig.visit("one")) == {Reason.POOL_EMPTY}
    rotation = pool.rig.journal.recall("one").rotation
    assert rotation is not None
    assert rotation.failures == 0
    pool.add(pool.bring())
    assert settled(pool.rig.visit("one"))


def test_a_spare_that_leaks_is_never_given_out_and_ends_proven_dead(pool: Supplies) -> None:
    pool.add_credential("one")
    pool.add(pool.bring())
    pool.rig.visit("one")
    leaked = pool.bring()
    pool.add(leaked)
    with pytest.raises(Refused, match="no credential holds"):
        pool.rig.operations.leak(secret=Secret(f"{leaked.key_id}_{secrets.token_urlsafe(24)}"), key_id=None, who="test")
    (accepted,) = pool.rig.operations.leak(secret=leaked, key_id=None, who="test")
    assert (accepted.credential, accepted.key_id) == ("one", leaked.key_id)
    assert pool.supplying.read_pool("spares").usable == ()
    pool.rig.operations.rotate("one", emergency=False, who="test")
    assert reasons(pool.rig.visit("one")) == {Reason.POOL_EMPTY, Reason.REVOKE_BY_HAND}
    pool.rig.operations.leak(secret=leaked, key_id=None, who="test")  # once more: it is marked, as every key that is held
    pool.rig.service.revoke(leaked.key_id)
    pool.rig.live("one", lambda o: not [key for key in o.view.keys if key.stage == "retiring"])
    assert pool.pool().spares == (), "its end is settled"
    assert pool.rig.store.read("keys/one").secrets.keys() == {pool.rig.store.read("keys/one").current}


def test_a_crash_at_each_step_of_a_strike(pool: Supplies) -> None:
    pool.add_credential("one")
    pool.add(pool.bring())
    pool.rig.visit("one")
    struck = []
    for number in itertools.count(1):
        key = pool.bring()
        pool.add(key)
        bomb = Bomb(number)
        bomb.arm(pool.rig.store, pool.store)
        try:
            pool.rig.operations.strike("spares", key.key_id, "test")
        except Crash:
            Bomb(0).arm(pool.rig.store, pool.store)
            pool.restart()
        else:
            break
        assert key.key_id not in pool.supplying.read_pool("spares").usable or len(bomb.points) == 1
        # Who was never told that it is done asks again; where the strike was done, it is known by then.
        if pool.rig.store.read("keys/one").record.find(key.key_id) is None:  # type: ignore[union-attr]
            pool.rig.operations.strike("spares", key.key_id, "test")
        struck.append(key)
    Bomb(0).arm(pool.rig.store, pool.store)
    assert len(struck) == 4, "before and after each of the two commits"
    pool.rig.visit("one")
    for one in (*struck, key):
        pool.rig.service.revoke(one.key_id)
    pool.rig.live("one", settled)
    assert pool.pool().spares == ()


def test_what_cannot_be_struck_off_is_said(pool: Supplies) -> None:
    pool.add_credential("one")
    (received,) = pool.add(pool.bring())
    with pytest.raises(Refused, match="no credential of its issuer has a key yet"):
        pool.rig.operations.strike("spares", received.key_id, "test")
    pool.rig.visit("one")
    with pytest.raises(Refused, match="holds no spare"):
        pool.rig.operations.strike("spares", received.key_id, "test")
    with pytest.raises(Refused, match="holds no spare"):
        pool.rig.operations.strike("nowhere", pool.bring().key_id, "test")


def test_a_key_that_was_handed_in_and_leaks_is_struck_off(inbox: Supplies) -> None:
    inbox.add_credential("one")
    assert inbox.supplying.submit("one", inbox.bring(), "test").accepted
    inbox.rig.visit("one")
    leaked = inbox.bring()
    assert inbox.supplying.submit("one", leaked, "test").accepted
    (accepted,) = inbox.rig.operations.leak(secret=None, key_id=leaked.key_id, who="test")
    assert accepted.credential == "one"
    inbox.rig.operations.rotate("one", emergency=False, who="test")
    assert reasons(inbox.rig.visit("one")) == {Reason.KEY_WANTED, Reason.REVOKE_BY_HAND}


def _crash_points(pool: Supplies) -> Iterator[str]:
    """Dies at one point after the other, each in a world that goes on from the last; ends when a run reaches its end."""
    for number in itertools.count(1):
        bomb = Bomb(number)
        pool.add_credential(f"c{number}")
        pool.add(pool.bring(), pool.bring())
        bomb.arm(pool.rig.store, pool.store)
        try:
            pool.rig.visit(f"c{number}")
        except Crash:
            yield bomb.points[-1]
        else:
            return
        finally:
            Bomb(0).arm(pool.rig.store, pool.store)
            pool.restart()


def test_a_crash_at_each_step_of_a_take(pool: Supplies) -> None:
    points = list(_crash_points(pool))
    assert [p for p in points if "ReserveSpare" in p], points
    assert [p for p in points if "DropSpare" in p], points
    assert len(points) > 12
    names = list(pool.rig.credentials)
    for name in names:
        outcome = pool.rig.live(name, lambda o: o.view.phase is None)
        assert set(pool.held().values()) == {1}
        assert reasons(outcome) <= {Reason.REVOKE_BY_HAND}
    _end_by_hand(pool, names)
    assert {spare.label for spare in pool.pool().spares} == {None}, "everything that was reserved is settled"
    free = {spare.key_id for spare in pool.pool().spares}
    assert not free & set(pool.held())
    living = {pool.rig.store.read(c.path).current for c in pool.rig.credentials.values()}
    assert set(pool.rig.service.list_alive()) == living | free, "no orphan"


def _end_by_hand(pool: Supplies, names: list[str]) -> None:
    """A person revokes what they are asked to; everything ends by itself."""
    asked = []
    for name in names:
        for key in pool.rig.visit(name).view.keys:
            if key.stage == "retiring":
                asked.append(key.key_id)
                pool.rig.service.revoke(key.key_id)
    assert asked, "a crash between the reservation and the staging costs a spare"
    for name in names:
        pool.rig.live(name, lambda o: settled(o) and o.view.orphans == 0)
    pool.rig.clock.advance(timedelta(hours=2))
    for name in names:
        pool.rig.visit(name)


def test_a_lost_answer_costs_no_spare(pool: Supplies) -> None:
    pool.add_credential("one")
    pool.add(pool.bring())
    lost: list[Change] = []

    def lose(path: str, change: Change) -> None:
        if isinstance(change, ReserveSpare) and not lost:
            lost.append(change)
            raise AnswerLost("the answer was lost")

    for hook in ("before_commit", "after_commit"):
        lost.clear()
        setattr(pool.store, hook, lose)
        pool.rig.operations.rotate("one", emergency=False, who="test") if hook == "after_commit" else None
        pool.add(pool.bring())
        outcome = pool.rig.live("one", lambda o: o.view.phase is None)
        assert outcome.view.orphans == 0
        assert len(lost) == 1
        setattr(pool.store, hook, None)
    assert set(pool.held().values()) == {1}


def test_a_rotation_is_not_held_up_by_a_key_that_a_person_must_revoke(pool: Supplies) -> None:
    """L21: and that ends by itself."""
    pool.add_credential("one")
    pool.add(*(pool.bring() for _ in range(4)))
    pool.rig.visit("one")
    for generation in (2, 3, 4):
        pool.rig.operations.rotate("one", emergency=False, who="test")
        outcome = pool.rig.live("one", lambda o: o.view.phase is None and reasons(o) == {Reason.REVOKE_BY_HAND})
        record = pool.rig.store.read("keys/one").record
        assert record is not None
        assert (record.generation, len(record.retiring)) == (generation, generation - 1)
    outcome = pool.rig.live("one", lambda o: len(o.view.parked) == 3)
    asked = {text for _, text in outcome.view.parked}
    for key in record.retiring:
        assert any(str(key.key_id) in text for text in asked)
        pool.rig.service.revoke(key.key_id)
    assert settled(pool.rig.live("one", settled))
    pool.rig.clock.advance(timedelta(hours=2))
    pool.rig.visit("one")
    assert pool.pool().spares == ()


def test_a_key_is_revoked_by_the_issuer_that_minted_it_or_by_hand(pool: Supplies) -> None:
    """L5: a credential that changes its issuer in either direction."""
    pool.rig.add("one", targets=[])
    pool.rig.visit("one")
    pool.add_credential("one")
    pool.add(pool.bring())
    pool.rig.operations.rotate("one", emergency=False, who="test")
    pool.rig.live("one", settled)
    assert pool.rig.issuer.calls.count("revoke") == 1
    (spare,) = pool.rig.service.list_alive()
    pool.rig.add("one", targets=[])
    pool.connect()
    pool.rig.operations.rotate("one", emergency=False, who="test")
    pool.rig.live("one", lambda o: reasons(o) == {Reason.REVOKE_BY_HAND})
    assert pool.rig.issuer.calls.count("revoke") == 1
    pool.rig.service.revoke(spare)
    pool.rig.live("one", settled)


def test_an_old_spare_is_not_given_out(rig: Rig) -> None:
    store = MemoryStore()
    config = PoolIssuerConfig(path="pool", max_age=timedelta(days=7))
    pool = Supplies(rig, store, config.build("spares", _surroundings(rig, store)), "spares")
    pool.add_credential("one")
    pool.add(pool.bring())
    rig.clock.advance(timedelta(days=8))
    assert reasons(rig.visit("one")) == {Reason.POOL_EMPTY}
    pool.supplying.poll()
    assert pool.supplying.count_spares() == {"spares": 0}


def test_spares_of_another_installation_are_not_ours(pool: Supplies) -> None:
    pool.add_credential("one")
    pool.add(pool.bring())
    other = replace(_surroundings(pool.rig, pool.store), installation="staging")
    pool.issuer = PoolIssuerConfig(path="pool").build("spares", other)
    pool.add_credential("one")
    ((reason, text),) = pool.rig.visit("one").view.parked
    assert reason is Reason.PREFLIGHT_FAILED
    assert "belongs to installation 'test'" in text


def test_each_key_is_verified_before_it_counts(pool: Supplies) -> None:
    pool.add_credential("one")
    pool.rig.add("sold", issuer=pool.issuer, issuer_name="spares", policy=replace(QUICK, kind=Kind.SK, can_revoke=False), targets=[])
    pool.rig.add("elsewhere", targets=[])
    pool.connect()
    pool.rig.visit("elsewhere")
    (known,) = pool.rig.service.keys.values()
    good, again, wide, dead = pool.bring(), pool.bring(Kind.SK), pool.bring(), build_secret()
    pool.rig.service.keys[wide.key_id].tools = ("query_events", "track_event")
    brought = [good, good, again, known.secret, wide, dead, build_secret(Kind.AK), build_secret(Kind.RK, "test")]
    received = pool.add(*brought)
    assert [one.reason for one in received] == [
        None,
        Reason.ALREADY_KNOWN,
        None,
        Reason.ALREADY_KNOWN,
        Reason.BROADER_THAN_DECLARED,
        Reason.NOT_ALIVE,
        Reason.WRONG_KIND,
        Reason.WRONG_KIND,
    ]
    assert [one.key_id for one in received] == [key.key_id for key in brought]
    assert [one.reason for one in pool.add(good)] == [Reason.ALREADY_KNOWN]
    pool.rig.service.down = True
    assert [one.reason for one in pool.add(wide)] == [Reason.UNVERIFIED]
    assert {spare.key_id for spare in pool.pool().spares} == {good.key_id, again.key_id}


def test_what_no_pool_is_takes_no_spares(pool: Supplies) -> None:
    pool.add_credential("one")
    with pytest.raises(UnknownIssuer, match="configured: spares"):
        pool.supplying.add_spares("issuer", (build_secret(),), None, "test")


def test_a_key_for_one_credential_from_parked_to_done(inbox: Supplies) -> None:
    inbox.add_credential("one")
    ((reason, text),) = inbox.rig.visit("one").view.parked
    assert reason is Reason.KEY_WANTED
    for part in ("kind rk", "env live", "test/one", "`rotator submit one`", "credentials/one/submit", "inbox/one", "ask Ada"):
        assert part in text
    assert inbox.supplying.submit("one", inbox.bring(), "test").accepted
    assert settled(inbox.rig.visit("one"))
    assert inbox.store.read("inbox/one").secrets == {}


def test_each_wrong_key_for_one_credential_is_refused(inbox: Supplies) -> None:
    inbox.add_credential("one")
    inbox.add_credential("two")
    waits = inbox.bring()
    assert inbox.supplying.submit("two", waits, "test").accepted
    wide = inbox.bring()
    inbox.rig.service.keys[wide.key_id].tools = ("export_everything",)
    cases = [
        (inbox.bring(Kind.SK), Reason.WRONG_KIND),
        (waits, Reason.ALREADY_KNOWN),
        (build_secret(), Reason.NOT_ALIVE),
        (wide, Reason.BROADER_THAN_DECLARED),
    ]
    for key, reason in cases:
        received = inbox.supplying.submit("one", key, "test")
        assert (received.accepted, received.reason) == (False, reason)
    assert reasons(inbox.rig.visit("one")) == {Reason.KEY_WANTED}


def test_a_key_that_was_laid_into_the_store(inbox: Supplies) -> None:
    """Laid there by a person with the store's own tools: taken once, remembered, and not taken again when it is long dead."""
    inbox.add_credential("one")
    inbox.rig.visit("one")
    for generation in (1, 2, 3):
        laid = inbox.bring()
        _lay(inbox, laid)
        inbox.rig.clock.advance(timedelta(seconds=31))
        outcome = inbox.rig.live("one", lambda o: o.view.phase is None)
        record = inbox.rig.store.read("keys/one").record
        assert record is not None
        assert (record.generation, record.current and record.current.key_id) == (generation, laid.key_id)
        for key in record.retiring:
            inbox.rig.service.revoke(key.key_id)
        inbox.rig.live("one", settled)
        inbox.rig.operations.rotate("one", emergency=False, who="test")
        outcome = inbox.rig.visit("one")
        assert reasons(outcome) == {Reason.KEY_WANTED}
    inbox.rig.clock.advance(timedelta(hours=2))
    assert reasons(inbox.rig.visit("one")) == {Reason.KEY_WANTED}
    remembered = inbox.store.read("inbox/one").record
    assert remembered is not None
    assert [key.key_id for key in remembered.keys] == [laid.key_id]


def test_another_s_inbox_that_cannot_be_read_holds_nobody_up(inbox: Supplies, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's typing error in one inbox, say."""
    inbox.add_credential("one")
    inbox.add_credential("two")
    assert inbox.supplying.submit("one", inbox.bring(), "test").accepted
    old = inbox.rig.visit("one").view.keys[0].key_id
    real = inbox.store.read

    def read(path: str) -> Holding:
        if path == "inbox/two":
            raise Misconfigured("inbox/two holds no key")
        return real(path)

    monkeypatch.setattr(inbox.store, "read", read)
    assert inbox.supplying.submit("one", inbox.bring(), "test").accepted
    inbox.rig.operations.rotate("one", emergency=False, who="test")
    inbox.rig.live("one", lambda outcome: Reason.REVOKE_BY_HAND in reasons(outcome))
    inbox.rig.service.revoke(old)
    assert settled(inbox.rig.live("one", settled))


def test_a_spare_that_was_reserved_is_given_out_though_the_store_goes_away(pool: Supplies, monkeypatch: pytest.MonkeyPatch) -> None:
    spare = pool.bring()
    pool.add_credential("one")
    assert all(one.accepted for one in pool.add(spare))
    real = pool.store.commit

    def commit(path: str, seen: Holding, change: Change) -> Holding:
        after = real(path, seen, change)
        monkeypatch.setattr(pool.store, "read", _away)
        return after

    monkeypatch.setattr(pool.store, "commit", commit)
    order = MintOrder("test/uid/attempt", Kind.RK, "live")
    assert pool.issuer.mint(order).secret.same_as(spare)


def test_a_pool_that_does_not_answer_is_told_of_once(pool: Supplies, monkeypatch: pytest.MonkeyPatch) -> None:
    supplying = pool.supplying
    pool.add_credential("one")
    monkeypatch.setattr(pool.store, "read", _away)
    with capture_logs() as logs:
        for _ in range(3):
            supplying.poll()
    assert [line["event"] for line in logs] == ["the pool does not answer"]


def _away(path: str) -> Holding:
    raise Unreachable(f"{path} cannot be read")


def test_a_laid_key_that_is_wrong_is_told(inbox: Supplies) -> None:
    inbox.add_credential("one")
    inbox.add_credential("two")
    key = inbox.bring()
    inbox.supplying.submit("two", key, "test")
    inbox.rig.visit("two")
    for laid, words in ((inbox.bring(Kind.SK), "is not of kind rk"), (key, "known already: two has it")):
        _lay(inbox, laid)
        inbox.rig.clock.advance(timedelta(seconds=31))
        ((reason, text),) = inbox.rig.visit("one").view.parked
        assert reason is Reason.KEY_WANTED
        assert f"key {laid.key_id} {words}" in text or f"key {laid.key_id} is {words}" in text
    assert inbox.rig.service.judge(key) is Verdict.ALIVE


def _lay(inbox: Supplies, key: Secret) -> None:
    assert isinstance(inbox.store, OpenStore)
    inbox.store.laid["inbox/one"] = key
