"""Small, deterministic stand-ins for the ports, for tests of the engine and of what stands above it.

    clock = FakeClock()
    service = FakeService(clock, cached_for=timedelta(minutes=5))
    credential = build_credential("checkout-read", store=MemoryStore(), service=service, targets=[FakeTarget("cluster")])

`FakeService` is the truth about keys; `FakeIssuer` and `FakeProber` are two views of it. Weather is made by `before` and `after` hooks:
each gets the name of the operation and may raise (`before`: nothing happened, `after`: it happened and the answer is lost).
"""

from __future__ import annotations

import secrets
import string
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from rotator.domain.credential import BoundTarget, Credential
from rotator.domain.errors import Conflict, Refused, Unreachable
from rotator.domain.facts import Level, Policy, Verdict
from rotator.domain.keys import PUBLISHED_TOOLS, KeyId, Kind
from rotator.domain.ports import Abilities, Access, Answer, Clock, Delivery, Issued, ListedKey, MintOrder, Observation, Store
from rotator.domain.reasons import Reason
from rotator.domain.secret import Secret
from rotator.domain.timing import Schedule

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
Hook = Callable[[str], None]


def _calm(_operation: str) -> None:
    """No weather."""


def build_secret(kind: Kind = Kind.RK, env: str = "live") -> Secret:
    """A random key: none stands in any file."""
    prefix = "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(8))
    return Secret("_".join((kind, env, prefix, secrets.token_urlsafe(24))))


class FakeClock:
    """A clock that the test moves. Safe from any thread."""

    def __init__(self, start: datetime = NOON) -> None:
        self._start, self._passed = start, timedelta()
        self._lock = threading.Lock()

    def now(self) -> datetime:
        return self._start + self._passed

    def monotonic(self) -> float:
        return self._passed.total_seconds()

    def advance(self, span: timedelta) -> datetime:
        """Let time pass; the new now."""
        with self._lock:
            self._passed += span
            return self.now()


@dataclass(slots=True)
class FakeKey:
    """A key as the service knows it."""

    secret: Secret
    label: str
    minted_at: datetime
    tools: tuple[str, ...]
    revoked_at: datetime | None = None


class FakeService:
    """Every key there is. A new key works `learned_after` its mint, a revoked one goes on working for `cached_for`."""

    def __init__(self, clock: Clock, *, cached_for: timedelta = timedelta(0), learned_after: timedelta = timedelta(0)) -> None:
        self.clock = clock
        self.cached_for = cached_for
        self.learned_after = learned_after
        self.down = False
        self.keys: dict[KeyId, FakeKey] = {}
        self._lock = threading.Lock()

    def mint(self, kind: Kind, env: str, label: str) -> FakeKey:
        """A key is born."""
        secret = build_secret(kind, env)
        key = FakeKey(secret, label, self.clock.now(), tuple(sorted(PUBLISHED_TOOLS[kind])))
        with self._lock:
            self.keys[secret.key_id] = key
        return key

    def revoke(self, key_id: KeyId) -> None:
        """A key is told to end. Unknown and revoked ones stay as they are."""
        with self._lock:
            key = self.keys.get(key_id)
            if key is not None and key.revoked_at is None:
                key.revoked_at = self.clock.now()

    def judge(self, secret: Secret) -> Verdict:
        """Whether a key works now."""
        now, key = self.clock.now(), self.keys.get(secret.key_id)
        if self.down:
            return Verdict.UNKNOWN
        if key is None or not key.secret.same_as(secret) or now < key.minted_at + self.learned_after:
            return Verdict.DEAD
        return Verdict.ALIVE if key.revoked_at is None or now < key.revoked_at + self.cached_for else Verdict.DEAD

    def list_alive(self) -> list[KeyId]:
        """The keys that were not revoked, in the order of their birth."""
        with self._lock:
            return [key_id for key_id, key in self.keys.items() if key.revoked_at is None]


@dataclass(slots=True)
class FakeIssuer:
    """Fulfils `Issuer` over a `FakeService`."""

    service: FakeService
    abilities: Abilities = field(default_factory=Abilities)
    before: Hook = _calm
    after: Hook = _calm
    calls: list[str] = field(default_factory=list)
    """the operations that were asked for"""
    hollow: int = 0
    """how many revokes are acknowledged and have no effect"""

    def mint(self, order: MintOrder) -> Issued:
        self._begin("mint", self.abilities.mint)
        key = self.service.mint(order.kind, order.env, order.label)
        self.after("mint")
        return Issued(key.secret, f"ref-{key.secret.key_id.prefix}", key.minted_at)

    def list_labelled(self, prefix: str, credential: str = "") -> Sequence[ListedKey]:  # noqa: ARG002
        self._begin("list", self.abilities.list)
        keys = [key for key in list(self.service.keys.values()) if key.label.startswith(prefix)]
        self.after("list")
        return [ListedKey(k.secret.key_id, k.label, f"ref-{k.secret.key_id.prefix}", k.revoked_at is not None) for k in keys]

    def revoke(self, key_id: KeyId, reference: str | None) -> None:  # noqa: ARG002
        self._begin("revoke", self.abilities.revoke)
        if self.hollow:
            self.hollow -= 1
        else:
            self.service.revoke(key_id)
        self.after("revoke")

    def settle(self, label: str, credential: str = "") -> None:
        """Nothing is kept."""

    def check(self, order: MintOrder) -> None:  # noqa: ARG002
        self._begin("check", self.abilities.mint)

    def _begin(self, operation: str, able: bool) -> None:
        self.calls.append(operation)
        self.before(operation)
        if not able:
            raise Refused(f"this issuer cannot {operation}")


@dataclass(slots=True)
class FakeProber:
    """Fulfils `Prober` over a `FakeService`."""

    service: FakeService
    clock_offset: timedelta = timedelta(0)

    def probe(self, secret: Secret) -> Answer:
        verdict = self.service.judge(secret)
        key = self.service.keys.get(secret.key_id)
        tools = key.tools if verdict is Verdict.ALIVE and key is not None else None
        offset = None if verdict is Verdict.UNKNOWN else self.clock_offset
        return Answer(verdict, self.service.clock.now(), tools=tools, clock_offset=offset)

    def endpoint(self, kind: Kind) -> str:
        return f"https://api.example.test{kind.mcp_path}"


class FakeTarget:
    """Fulfils `Target`: one slot per credential. `away` makes it unreachable, `refuses` makes it refuse deliveries."""

    def __init__(self, name: str, *, best_level: Level = Level.PLACED, activation: str = "now") -> None:
        self.name = name
        self._best_level, self._activation = best_level, activation
        self.away = False
        self.refuses = False
        self.held: dict[str, Observation] = {}
        self.deliveries: list[KeyId] = []
        self.looks: list[bool] = []
        """whether each look was to be a fresh one"""
        self.followers: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    @property
    def best_level(self) -> Level:
        return self._best_level

    @property
    def activation(self) -> str:
        return self._activation

    def observe(self, credential: str, *, fresh: bool = False) -> Observation:
        self._ensure_there()
        self.looks.append(fresh)
        return self.held.get(credential, Observation("absent", level=self._best_level))

    def deliver(self, delivery: Delivery, seen: Observation) -> Observation:
        self._ensure_there()
        if self.refuses:
            raise Refused(f"{self.name} does not take it: look at its owner", reason=Reason.FOREIGN_ENTRY)
        with self._lock:
            held = self.observe(delivery.credential)
            if held.revision != seen.revision or (held.generation or 0) > delivery.generation:
                raise Conflict(f"{self.name} changed since it was read")
            if held.key_id == delivery.secret.key_id and held.generation == delivery.generation:
                return held
            placed = Observation(secrets.token_hex(4), delivery.secret.key_id, delivery.generation, self._best_level)
            self.held[delivery.credential] = placed
            self.deliveries.append(delivery.secret.key_id)
            return placed

    def check(self, credential: str) -> None:  # noqa: ARG002
        self._ensure_there()

    def follow(self, changed: Callable[[], None]) -> None:
        self.followers.append(changed)

    def close(self) -> None:
        self.followers.clear()

    def find_access(self, credential: str) -> Access:  # noqa: ARG002
        return Access()

    def preview(self, delivery: Delivery) -> str:
        self._ensure_there()
        return f"+{delivery.secret.key_id}\n"

    def withdraw(self, credential: str) -> bool:
        self._ensure_there()
        return self.held.pop(credential, None) is not None

    def _ensure_there(self) -> None:
        if self.away:
            raise Unreachable(f"{self.name} does not answer")


def build_credential(
    name: str,
    *,
    store: Store,
    service: FakeService,
    issuer: FakeIssuer | None = None,
    targets: Sequence[FakeTarget] = (),
    policy: Policy | None = None,
    schedule: Schedule | None = None,
    **changes: Any,
) -> Credential:
    """A credential on the fakes. `policy` is made to fit the issuer's abilities."""
    issuer = issuer or FakeIssuer(service)
    able = issuer.abilities
    credential = Credential(
        name=name,
        policy=replace(policy or Policy("test", Kind.RK), can_mint=able.mint, can_list=able.list, can_revoke=able.revoke),
        store_name="store",
        path=f"keys/{name}",
        store=store,
        issuer_name="issuer",
        issuer=issuer,
        prober=FakeProber(service),
        schedule=schedule or Schedule(every=timedelta(days=30), max_age=timedelta(days=45)),
        targets=tuple(BoundTarget(target.name, target, settle=timedelta(0)) for target in targets),
    )
    return replace(credential, **changes)
