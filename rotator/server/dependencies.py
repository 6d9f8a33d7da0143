"""What the server works with, given to it once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from rotator.domain.ports import Clock
from rotator.engine.engine import Engine
from rotator.engine.operations import Operations
from rotator.engine.supplying import Supplying
from rotator.metrics import Metrics
from rotator.server.ports import Queries
from rotator.server.readiness import Readiness
from rotator.server.tokens import TokenBook


@dataclass(frozen=True, slots=True)
class ServerDependencies:
    """What the server works with."""

    operations: Operations
    supplying: Supplying
    engine: Engine
    queries: Queries
    metrics: Metrics
    readiness: Readiness
    tokens: TokenBook
    clock: Clock
    installation: str
    started_at: datetime
    reload: Callable[[], tuple[bool, str]]
    """re-reads the configuration now: (whether anything changed, a sentence). Raises `Misconfigured`, and keeps what was"""
    find_rejected: Callable[[], str] = str
    """what is wrong with the configuration on disk, while an older one is in force; empty: it is in force"""
    ask_poll: Callable[[], None] = lambda: None
    """have the stores asked soon whether somebody changed a key"""
