"""What can be set about the sandbox, at start and (the fields in `LIVE_SETTINGS`) while it runs.

Plain dataclasses: the sandbox is started by tests and by `rotator demo` and must come up fast.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rotator.domain.errors import Misconfigured

PLANS = ("free", "pro", "business")
"""Lowest first. `/mcp` needs pro, `/mcp/account` business; the name of the lowest plan is unpublished."""

LIVE_SETTINGS = frozenset({"cache_time", "cache_refusals", "propagation", "clock_skew", "plan", "plans", "session_ttl"})


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """How the stand-in behaves. All times in seconds. Raises `Misconfigured` for a value out of range."""

    workers: int = 2
    """simulated API workers, each with a key cache of its own"""
    cache_time: float = 300.0
    """how long a worker goes on believing what it verified"""
    cache_refusals: bool = False
    """whether a worker also remembers that it refused a key"""
    propagation: float = 0.0
    """worker i learns of a new key only i times this many seconds after the mint"""
    session_ttl: float = 3600.0
    """life of an admin session's access token"""
    clock_skew: float = 0.0
    """how far the service's wall clock is ahead of this machine's"""
    plan: str = "business"
    """plan of every project that `plans` does not name, and of the account"""
    plans: Mapping[str, str] = field(default_factory=dict)
    """plan by project slug"""
    projects: tuple[str, ...] = ("default",)
    """projects that exist from the start, with a few demo events; minting for another slug creates it empty"""
    origins: tuple[str, ...] = ("http://localhost",)
    """browser origins from which a pk key may ingest"""
    seed: int = 1
    """for the faults' probabilities"""

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= 64:
            raise Misconfigured("sandbox setting workers must be between 1 and 64")
        for name in ("cache_time", "propagation"):
            if getattr(self, name) < 0:
                raise Misconfigured(f"sandbox setting {name} must be 0 or more seconds")
        if self.session_ttl <= 0:
            raise Misconfigured("sandbox setting session_ttl must be more than 0 seconds")
        for plan in (self.plan, *self.plans.values()):
            if plan not in PLANS:
                raise Misconfigured(f"sandbox setting plan must be one of {', '.join(PLANS)}")

    def plan_reaches(self, slug: str | None, needed: str) -> bool:
        """Whether the plan of the project (of the account, for None) is at least `needed`."""
        plan = self.plans.get(slug, self.plan) if slug is not None else self.plan
        return PLANS.index(plan) >= PLANS.index(needed)


def build_changed(settings: SandboxSettings, change: Mapping[str, Any]) -> SandboxSettings:
    """`settings` with the live fields of `change`. Raises `Misconfigured` naming the field that cannot be so."""
    for name, value in change.items():
        if name not in LIVE_SETTINGS:
            raise Misconfigured(f"{name!s:.40} cannot be set while the sandbox runs; these can: {', '.join(sorted(LIVE_SETTINGS))}")
        _check_type(name, value)
    return dataclasses.replace(settings, **change)


def _check_type(name: str, value: object) -> None:
    if name == "cache_refusals":
        fits = isinstance(value, bool)
    elif name == "plan":
        fits = isinstance(value, str)
    elif name == "plans":
        fits = isinstance(value, dict) and all(isinstance(plan, str) for plan in value.values())
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not fits:
        raise Misconfigured(f"sandbox setting {name} is of the wrong type")
