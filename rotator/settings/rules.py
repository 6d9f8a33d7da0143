"""Rules that need more than one value: least privilege, names that must exist, places that must not be shared.

They run over settings whose fields are right by themselves, and name the path to correct. Pure, but for `check_files`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from rotator.domain.errors import Misconfigured
from rotator.domain.keys import Kind
from rotator.domain.timing import MalformedTiming, Schedule, render_duration
from rotator.settings.base import suggest
from rotator.settings.credentials import NO_ISSUER, CredentialSettings, RotationSettings
from rotator.settings.models import Settings
from rotator.settings.problems import Path as Place

__all__ = ["Names", "check_files", "check_rules", "find_warnings"]

Broken = tuple[Place, str]
"""A path, and the rule that it breaks."""

Names = Mapping[str, frozenset[str]]
"""Section → the names in it, also of entries that are wrong by themselves: those exist all the same."""


def check_rules(settings: Settings, names: Names) -> Iterator[Broken]:
    """Every rule that is broken."""
    for name, credential in settings.credentials.items():
        place: Place = ("credentials", name)
        yield from _check_power(place, credential)
        yield from _check_names(place, credential, names)
        yield from _check_schedule((*place, "rotation"), credential.rotation)
        yield from _check_overlap((*place, "rotation", "overlap"), credential)
        yield from _check_issuer(place, credential)
        yield from _check_read_only(place, credential, settings)
        yield from _check_patience(place, credential, settings.millimetric.cache_time)
    yield from _check_shared(settings)
    yield from _check_kept(settings, names)
    yield from _check_engine(settings)
    yield from _check_ports(settings)


def find_warnings(settings: Settings) -> Iterator[Broken]:
    """What is allowed and probably not meant."""
    for name, credential in settings.credentials.items():
        rotation = credential.rotation
        if rotation.every is None and rotation.cron is None:
            for setting in ("window", "jitter"):
                if getattr(rotation, setting) is not None:
                    yield ("credentials", name, "rotation", setting), "has no effect without `every` or `cron`"


def _check_power(place: Place, credential: CredentialSettings) -> Iterator[Broken]:
    if credential.kind is not Kind.RK and not (credential.justification or "").strip():
        at = "kind" if credential.justification is None else "justification"
        yield (*place, at), f"{credential.kind} may do more than rk: say in `justification` why that is needed, or use rk"


def _check_names(place: Place, credential: CredentialSettings, names: Names) -> Iterator[Broken]:
    if credential.store not in names["stores"]:
        unset = "" if "store" in credential.model_fields_set else " (the default)"
        yield (*place, "store"), f"there is no store called {credential.store}{unset}{suggest(credential.store, names['stores'])}"
    if credential.issuer != NO_ISSUER and credential.issuer not in names["issuers"]:
        known = {*names["issuers"], NO_ISSUER}
        yield (*place, "issuer"), f"there is no issuer called {credential.issuer}{suggest(credential.issuer, known)}"
    seen: set[str] = set()
    for number, use in enumerate(credential.targets):
        if use.name not in names["targets"]:
            yield (*place, "targets", number), f"there is no target called {use.name}{suggest(use.name, names['targets'])}"
        elif use.name in seen:
            yield (*place, "targets", number), f"{use.name} stands in this list twice"
        seen.add(use.name)


def _check_schedule(place: Place, rotation: RotationSettings) -> Iterator[Broken]:
    if rotation.every is not None and rotation.cron is not None:
        yield (*place, "cron"), "stands beside `every`: remove one of them"
        return
    for name in ("jitter", "max_age"):
        try:
            Schedule(every=rotation.every, **{name: getattr(rotation, name)})
        except MalformedTiming as fault:
            yield (*place, name), str(fault)


def _check_overlap(place: Place, credential: CredentialSettings) -> Iterator[Broken]:
    overlap = credential.rotation.overlap
    if overlap.max < overlap.min:
        at = "max" if "max" in overlap.model_fields_set else "min"
        limits = f"max is {render_duration(overlap.max)}, min is {render_duration(overlap.min)}"
        yield (*place, at), f"`max` must not be shorter than `min`: {limits}"
    if overlap.min == timedelta(0) and not credential.targets:
        yield (
            (*place, "min"),
            "must not be 0 for a credential without targets: its consumers read the store themselves and need time to do so",
        )


def _check_issuer(place: Place, credential: CredentialSettings) -> Iterator[Broken]:
    if credential.issuer == NO_ISSUER:
        for name in ("every", "cron"):
            if getattr(credential.rotation, name) is not None:
                yield (
                    (*place, "rotation", name),
                    f"`issuer: {NO_ISSUER}` mints nothing, so nothing can be rotated on a schedule: name an issuer",
                )


def _check_read_only(place: Place, credential: CredentialSettings, settings: Settings) -> Iterator[Broken]:
    if not credential.read_only:
        return
    if credential.issuer != NO_ISSUER:
        yield (*place, "read_only"), f"needs `issuer: {NO_ISSUER}`: a new key would have to be written to the store"
    elif credential.store in settings.stores and not settings.stores[credential.store].shared:
        yield (*place, "read_only"), f"needs a store that others write to: {credential.store} has no other writer"


def _check_patience(place: Place, credential: CredentialSettings, cache_time: timedelta) -> Iterator[Broken]:
    if credential.verify_for is not None and credential.verify_for < cache_time:
        limit = render_duration(cache_time)
        yield (*place, "verify_for"), f"must not be shorter than `millimetric.cache_time` ({limit}): a refusal may be that old"


def _check_shared(settings: Settings) -> Iterator[Broken]:
    first: dict[object, str] = {}

    def taken(what: object, owner: str) -> str | None:
        return None if first.setdefault(what, owner) == owner else first[what]

    for name, credential in settings.credentials.items():
        store = settings.stores.get(credential.store)
        other = taken((store.place if store is not None else credential.store, credential.path), name)
        if other is not None:
            yield ("credentials", name, "path"), f"{other} has this path in store {credential.store} already: each credential needs its own"
        for number, use in enumerate(credential.targets):
            other = taken(("target", use.name), name)
            if other is not None and use.name in settings.targets:
                yield (
                    ("credentials", name, "targets", number),
                    f"{use.name} is a target of {other} already: a target holds one key, so give each credential a target of its own",
                )
    for name, target in settings.targets.items():
        others = {other for place in target.places if (other := taken(place, name)) is not None}
        if others:
            yield ("targets", name), f"is the same place as target {', '.join(sorted(others))}"
    for name, store in settings.stores.items():
        other = taken(("store", store.place), name) if not store.shared else None
        if other is not None:
            yield ("stores", name), f"is the same place as store {other}: give it one of its own, or use {other} for both"


def _check_kept(settings: Settings, names: Names) -> Iterator[Broken]:
    """What issuers keep in stores, each at a place of its own."""
    owners = {(c.store, c.path): f"credential {name}" for name, c in settings.credentials.items()}
    for name, issuer in settings.issuers.items():
        users = [credential for credential, c in settings.credentials.items() if c.issuer == name]
        place: Place = ("issuers", name)
        told = False
        for setting, store, path in issuer.list_places(users):
            if store not in names["stores"] and not told:
                told = True
                yield (*place, "store"), f"there is no store called {store}{suggest(store, names['stores'])}"
            other = owners.setdefault((store, path), f"issuer {name}")
            if other != f"issuer {name}":
                yield (*place, setting), f"{other} has {path} in store {store} already: give this issuer a place of its own"


def _check_engine(settings: Settings) -> Iterator[Broken]:
    engine = settings.engine
    for base, cap in (("attempt_base", "attempt_cap"), ("step_base", "step_cap"), ("step_base", "urgent_cap")):
        if getattr(engine, cap) < getattr(engine, base):
            at = cap if cap in engine.model_fields_set else base
            yield ("engine", at), f"`{cap}` must not be shorter than `{base}`"


def _check_ports(settings: Settings) -> Iterator[Broken]:
    if settings.metrics.port and settings.metrics.port == settings.server.port:
        yield ("metrics", "port"), "is the server's port: name another, or null for /metrics on the server's port"
    names: set[str] = set()
    for number, token in enumerate(settings.server.tokens):
        if token.name in names:
            yield ("server", "tokens", number, "name"), f"{token.name} stands in this list twice"
        names.add(token.name)


def check_files(settings: Settings, environ: Mapping[str, str]) -> Iterator[Broken]:
    """Files and variables that the settings take secrets and certificates from, and that can't be read here and now."""
    for place, name, value in _gather_values(settings, ()):
        problem: str | None = None
        if isinstance(value, Path) and (name == "file" or name.endswith("_file")):
            # A relative path starts in the state folder, which is not known here.
            problem = _find_unreadable(value.expanduser()) if value.expanduser().is_absolute() else None
        elif isinstance(value, str) and (name == "env" or name.endswith("_env")):
            problem = None if value in environ else f"the environment variable {value} is not set"
        if problem is not None:
            yield place, problem
    for number, token in enumerate(settings.server.tokens):
        if token.file is not None and _find_unreadable(token.file) is None:
            try:
                token.get_hash()
            except Misconfigured as fault:
                yield ("server", "tokens", number, "file"), str(fault)


def _find_unreadable(file: Path) -> str | None:
    if file.is_dir():
        return f"{file} is a folder: name the file in it"
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as fault:
        return f"{file} cannot be read ({fault.strerror})"
    return None


def _gather_values(model: BaseModel, place: Place) -> Iterator[tuple[Place, str, Any]]:
    """Every field's value, but those of credentials, which name no file; what stands in a dictionary of the user's own is no field."""
    for name, field in type(model).model_fields.items():
        if name == "credentials":
            continue
        value, path = getattr(model, name), (*place, field.alias or name)
        yield path, name, value
        yield from _gather_below(value, path)


def _gather_below(value: Any, place: Place) -> Iterator[tuple[Place, str, Any]]:
    if isinstance(value, BaseModel):
        yield from _gather_values(value, place)
    elif isinstance(value, dict | tuple):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _gather_below(inner, (*place, name))
