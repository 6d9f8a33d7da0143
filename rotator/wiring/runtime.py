"""Builders: from settings to ports, and from ports to credentials."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from rotator.domain.credential import BoundTarget, Credential
from rotator.domain.errors import Misconfigured
from rotator.domain.ports import Clock, Issuer, Prober, Store, Target
from rotator.domain.timing import Calendar
from rotator.journal.sqlite import SqliteJournal
from rotator.metrics import Metrics
from rotator.settings import Settings, policy_of, schedule_of
from rotator.stores.surroundings import Surroundings
from rotator.targets.surroundings import TargetSurroundings

RemoteObserver = Callable[[str, str, str, float], None]


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that is built from a configuration and may be built anew at a reload."""

    stores: Mapping[str, Store]
    issuers: Mapping[str, Issuer]
    targets: Mapping[str, Target]
    prober: Prober
    credentials: Mapping[str, Credential]


def build_parts(settings: Settings, state_dir: Path, clock: Clock, metrics: Metrics, former: tuple[Settings, Parts] | None = None) -> Parts:
    """All ports and credentials of a configuration, or an error and nothing. Opens no connection.

    `former`: the configuration until now and what was built of it. A store whose settings are the same is kept: it is signed in, which a
    wrapped secret id allows once, and it knows what it has seen.
    """
    kept = {name: former[1].stores[name] for name, c in settings.stores.items() if former[0].stores.get(name) == c} if former else {}
    stores = {**build_stores(settings, state_dir, clock, metrics.on_remote, settings.stores.keys() - kept.keys()), **kept}
    issuers = build_issuers(settings, clock, metrics.on_remote, stores)
    targets = build_targets(settings, state_dir, clock, metrics.on_remote)
    prober = build_prober(settings, clock, metrics.on_remote)
    credentials = {name: build_credential(settings, name, stores, issuers, targets, prober) for name in settings.credentials}
    return Parts(stores, issuers, targets, prober, credentials)


def build_stores(settings: Settings, state_dir: Path, clock: Clock, observe: RemoteObserver, names: Collection[str]) -> dict[str, Store]:
    """Those of the configured stores, by name."""
    return {name: settings.stores[name].build(state_dir, Surroundings(name, clock, observe)) for name in names}


def build_issuers(settings: Settings, clock: Clock, observe: RemoteObserver, stores: Mapping[str, Store]) -> dict[str, Issuer]:
    """The configured issuers by name, and `none`."""
    from rotator.issuers.none import NoIssuer
    from rotator.issuers.surroundings import Surroundings

    def around(issuer: str) -> Surroundings:
        users = tuple(name for name, credential in settings.credentials.items() if credential.issuer == issuer)
        return Surroundings(clock, observe, settings.installation, stores, dict(os.environ), users)

    issuers: dict[str, Issuer] = {name: config.build(name, around(name)) for name, config in settings.issuers.items()}
    return {"none": NoIssuer(), **issuers}


def build_prober(settings: Settings, clock: Clock, observe: RemoteObserver) -> Prober:
    """The one that asks the service."""
    from rotator.remote.millimetric import MillimetricProber

    return MillimetricProber(settings.millimetric, clock, observe)


def build_targets(settings: Settings, state_dir: Path, clock: Clock, observe: RemoteObserver | None = None) -> dict[str, Target]:
    """The configured targets by name."""
    shared: dict[object, object] = {}
    environ, home = dict(os.environ), Path.home()

    def surround(name: str) -> TargetSurroundings:
        return TargetSurroundings(name, settings.installation, state_dir, clock, environ, home, sys.platform, shared, observe)

    return {name: config.build(surround(name)) for name, config in settings.targets.items()}


def build_journal(settings: Settings, state_dir: Path, clock: Clock) -> SqliteJournal:
    """The journal, held for this process alone."""
    return SqliteJournal(settings.journal.get_path(state_dir), clock.now())


def build_credential(
    settings: Settings,
    name: str,
    stores: Mapping[str, Store],
    issuers: Mapping[str, Issuer],
    targets: Mapping[str, Target],
    prober: Prober,
) -> Credential:
    """One credential, bound to its ports."""
    config = settings.credentials[name]
    issuer = issuers[config.issuer]
    abilities = issuer.abilities
    return Credential(
        name=name,
        policy=policy_of(settings, name, abilities),
        store_name=config.store,
        path=config.path,
        store=stores[config.store],
        issuer_name=config.issuer,
        issuer=issuer,
        prober=prober,
        schedule=schedule_of(settings, name),
        calendar=build_calendar(config.rotation.cron),
        targets=tuple(BoundTarget(t.name, targets[t.name], t.required, t.settle) for t in config.targets),
        env=config.env,
        project=config.project,
        read_only=config.read_only,
    )


def build_calendar(cron: str | None) -> Calendar | None:
    """The calendar of a cron expression."""
    if cron is None:
        return None
    from rotator.scheduling.cron import parse_cron

    return parse_cron(cron)


def find_config_or_fail(path: Path | None) -> Path:
    """The configuration file. Raises `Misconfigured` naming every place that was looked at."""
    from rotator.settings import find_config

    found = find_config(path, os.environ)
    if found is None:
        raise Misconfigured(
            "no configuration file: name one with -c, or ROTATOR_CONFIG, or write ./rotator.yaml (see `rotator config example`)"
        )
    return found
