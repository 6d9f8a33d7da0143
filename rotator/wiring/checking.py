"""`rotator check`: the configuration, and with `--live` everything that it names, asked without changing anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rotator.daemon import SystemClock
from rotator.domain.credential import Credential
from rotator.domain.errors import RotatorError
from rotator.metrics import Metrics
from rotator.settings import load_settings
from rotator.wiring.runtime import Parts, build_parts, find_config_or_fail


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One thing that was looked at."""

    part: str
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that was looked at."""

    lines: tuple[CheckLine, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(line.ok for line in self.lines)


def check(config: Path | None, state_dir: Path, *, live: bool) -> CheckReport:
    """Validate the configuration (raises `Misconfigured`); `live`: reach stores, issuers and targets too."""
    path = find_config_or_fail(config)
    loaded = load_settings(path, os.environ)
    lines = [CheckLine("configuration", True, f"{path}: {_count(len(loaded.settings.credentials))}")]
    lines += [CheckLine("configuration", True, warning) for warning in loaded.warnings]
    if live:
        parts = build_parts(loaded.settings, state_dir, SystemClock(), Metrics())
        lines += list(_ask(parts))
    return CheckReport(tuple(lines))


def _ask(parts: Parts) -> Iterator[CheckLine]:
    used = {c.issuer_name for c in parts.credentials.values()} - {"none"}
    for name in sorted(used):
        yield _line(f"issuer {name}", parts.issuers[name].check, "answers, and may be asked for keys")
    for _, credential in sorted(parts.credentials.items()):
        yield from _ask_credential(credential)


def _ask_credential(credential: Credential) -> Iterator[CheckLine]:
    def probe() -> str:
        holding = credential.store.read(credential.path)
        if holding.current is None:
            return "none yet: the first one is minted by `rotator run`"
        answer = credential.prober.probe(holding.secrets[holding.current])
        detail = f" ({answer.detail})" if answer.detail else ""
        return f"{holding.current} is {answer.verdict}{detail} at {credential.prober.endpoint(holding.current.kind)}"

    place = f"store {credential.store_name}: {credential.path}"
    yield _line(place, lambda: credential.store.check(credential.path), "readable and writable")
    for bound in credential.targets:
        yield _line(f"target {bound.name} ({credential.name})", partial(bound.target.check, credential.name), "a key could be written")
    yield _line(f"key of {credential.name}", probe, "")


def _count(credentials: int) -> str:
    return f"{credentials} credential{'' if credentials == 1 else 's'}"


def _line(part: str, ask: Callable[[], object], good: str) -> CheckLine:
    try:
        said = ask()
    except RotatorError as problem:
        return CheckLine(part, False, str(problem))
    return CheckLine(part, True, said if isinstance(said, str) else good)
