"""`rotator check`: the configuration, and with `--live` everything that it names, asked without changing anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rotator.daemon import SystemClock
from rotator.domain.credential import BoundTarget, Credential
from rotator.domain.errors import KeyWanted, Refused, RotatorError
from rotator.domain.facts import Verdict
from rotator.domain.ports import Access, Answer, Clock, Holding, Issuer, MintOrder, Store
from rotator.domain.record import Change
from rotator.metrics import Metrics
from rotator.settings import Settings, load_settings
from rotator.settings.credentials import NO_ISSUER
from rotator.stores.changes import ABSENT
from rotator.stores.surroundings import Surroundings
from rotator.wiring.logs import configure_logs
from rotator.wiring.runtime import RemoteObserver, build_credential, build_issuers, build_prober, build_targets, find_config_or_fail

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One thing that was looked at."""

    part: str
    ok: bool
    text: str
    policy: str = ""
    """what would allow it, ready to paste; empty where nothing is missing"""


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that was looked at."""

    lines: tuple[CheckLine, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(line.ok for line in self.lines)


def check(config: Path | None, state_dir: Path, *, live: bool) -> CheckReport:
    """Validate the configuration (raises `Misconfigured`); `live`: reach stores, issuers and targets too. Makes and changes nothing."""
    path = find_config_or_fail(config)
    loaded = load_settings(path, os.environ)
    # What parts have to say goes where every log goes: standard output is the report's.
    configure_logs(loaded.settings.log.level, loaded.settings.log.format)
    lines = [CheckLine("configuration", True, f"{path}: {_count(len(loaded.settings.credentials))}")]
    lines += [CheckLine("configuration", True, warning) for warning in loaded.warnings]
    if live:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            lines += pool.map(lambda ask: ask(), _gather_questions(loaded.settings, state_dir))
    return CheckReport(tuple(lines))


class _Unmade:
    """A store whose file the first start makes: opening it would make its key. It holds nothing and takes nothing."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self, path: str) -> Holding:  # noqa: ARG002  # the port's signature
        return Holding(ABSENT)

    def commit(self, path: str, seen: Holding, change: Change) -> Holding:  # noqa: ARG002  # the port's signature
        raise Refused(f"{self.file} is not made yet: {path} cannot be written")

    def check(self, path: str) -> None:
        """See `Store.check`: `find_unmade` has looked already."""

    def list_marks(self, paths: Sequence[str]) -> Mapping[str, str]:  # noqa: ARG002  # the port's signature
        return {}

    def find_access(self, path: str, *, writes: bool) -> Access:  # noqa: ARG002  # the port's signature
        return Access()


_Question = Callable[[], CheckLine]


def _gather_questions(settings: Settings, state_dir: Path) -> Iterator[_Question]:
    clock, observe = SystemClock(), Metrics().on_remote
    stores = _open_stores(settings, state_dir, clock, observe)
    issuers: Mapping[str, Issuer] = build_issuers(settings, clock, observe, stores)
    targets, prober = build_targets(settings, state_dir, clock, observe), build_prober(settings, clock, observe)
    credentials = [build_credential(settings, name, stores, issuers, targets, prober) for name in sorted(settings.credentials)]
    for name in sorted({c.issuer_name for c in credentials} - {NO_ISSUER}):
        users = [c for c in credentials if c.issuer_name == name]
        yield partial(_check_issuer, f"issuer {name}", issuers[name], _build_orders(settings.installation, users))
    for store, path in _gather_places(settings):
        yield partial(_check_store, store, stores[store], path, writes=True)
    for credential in credentials:
        yield from _question_credential(credential)


def _gather_places(settings: Settings) -> Iterator[tuple[str, str]]:
    """What issuers keep in stores."""
    for name, issuer in sorted(settings.issuers.items()):
        users = [credential for credential, c in sorted(settings.credentials.items()) if c.issuer == name]
        yield from ((store, path) for _, store, path in issuer.list_places(users))


def _build_orders(installation: str, credentials: Sequence[Credential]) -> Sequence[MintOrder]:
    """An order for every kind of key that these credentials want."""
    orders: dict[object, MintOrder] = {}
    for c in credentials:
        order = MintOrder(f"{installation}/check/check", c.policy.kind, c.env, c.project, c.name)
        orders.setdefault((order.kind, order.env, order.project), order)
    return tuple(orders.values())


def _check_issuer(part: str, issuer: Issuer, orders: Sequence[MintOrder]) -> CheckLine:
    wanted = []
    try:
        for order in orders:
            try:
                issuer.check(order)
            except KeyWanted as problem:  # it does what it is there for: a person brings its keys when they are wanted
                wanted.append(str(problem))
    except RotatorError as problem:
        return CheckLine(part, False, str(problem))
    return CheckLine(part, True, "; ".join(["answers, and may be asked for keys" if not wanted else "answers", *wanted]))


def _open_stores(settings: Settings, state_dir: Path, clock: Clock, observe: RemoteObserver) -> Mapping[str, Store]:
    opened: dict[str, Store] = {}
    for name, config in settings.stores.items():
        unmade = config.find_unmade(state_dir)
        opened[name] = config.build(state_dir, Surroundings(name, clock, observe)) if unmade is None else _Unmade(unmade)
    return opened


def _question_credential(credential: Credential) -> Iterator[_Question]:
    yield partial(_check_store, credential.store_name, credential.store, credential.path, writes=not credential.read_only)
    for bound in credential.targets:
        yield partial(_check_target, bound, credential.name)
    yield partial(_check_key, credential)


def _check_target(bound: BoundTarget, credential: str) -> CheckLine:
    part = f"target {bound.name} ({credential})"
    try:
        access = bound.target.find_access(credential)
        if access.missing:
            return CheckLine(part, False, f"not allowed: {', '.join(access.missing)}", access.policy)
    except RotatorError as problem:
        return CheckLine(part, False, str(problem))
    return _line(part, partial(bound.target.check, credential), "a key could be written")


def _check_store(name: str, store: Store, path: str, *, writes: bool) -> CheckLine:
    part = f"store {name}: {path}"
    try:
        access = store.find_access(path, writes=writes)
        if access.missing:
            return CheckLine(part, False, f"not allowed: {', '.join(access.missing)}", access.policy)
    except RotatorError as problem:
        return CheckLine(part, False, str(problem))
    if isinstance(store, _Unmade):
        return CheckLine(part, True, f"{store.file} will be made at the first start")
    if writes:
        return _line(part, partial(store.check, path), "readable and writable")
    return _line(part, partial(store.read, path), "readable")


def _check_key(credential: Credential) -> CheckLine:
    part = f"key of {credential.name}"
    try:
        holding = credential.store.read(credential.path)
        if holding.current is None:
            return CheckLine(part, True, _say_none(credential))
        answer = credential.prober.probe(holding.secrets[holding.current])
    except RotatorError as problem:
        return CheckLine(part, False, str(problem))
    where = credential.prober.endpoint(holding.current.kind)
    return CheckLine(part, answer.verdict is Verdict.ALIVE, f"{holding.current} {_judge(credential, answer, where)}")


def _say_none(credential: Credential) -> str:
    if credential.issuer_name == NO_ISSUER:
        return f"none yet, and nothing mints one: put it at {credential.path} in the store {credential.store_name}"
    return "none yet: the first one is minted by `rotator run`"


def _judge(credential: Credential, answer: Answer, where: str) -> str:
    detail = f" ({answer.detail})" if answer.detail else ""
    if answer.verdict is Verdict.ALIVE:
        return f"is alive{detail} at {where}"
    if answer.verdict is Verdict.UNKNOWN:
        return f"is not known to work: the endpoint gave no answer{detail} at {where}"
    if credential.issuer_name == NO_ISSUER:
        return f"is dead{detail} at {where}: put a working key into the store {credential.store_name}"
    return f"is dead{detail} at {where}: replace it with `rotator rotate {credential.name}`"


def _count(credentials: int) -> str:
    return f"{credentials} credential{'' if credentials == 1 else 's'}"


def _line(part: str, ask: Callable[[], object], good: str) -> CheckLine:
    try:
        ask()
    except RotatorError as problem:
        return CheckLine(part, False, str(problem))
    return CheckLine(part, True, good)
