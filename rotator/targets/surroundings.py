"""What a target of any kind is built from, besides its own configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rotator.domain.ports import Clock


@dataclass(frozen=True, slots=True)
class TargetSurroundings:
    """What the process gives to a target. A kind takes from it what it needs."""

    name: str
    """of the target, as the configuration calls it"""
    installation: str
    state_dir: Path
    clock: Clock
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    home: Path = field(default_factory=Path.home)
    platform: str = "linux"
    shared: dict[object, object] = field(default_factory=dict, compare=False, repr=False)
    """what targets of one kind have in common, such as a connection; as many as are built together share it"""
    observe: Callable[[str, str, str, float], None] | None = None
    """told of each remote call: (remote, operation, outcome, seconds)"""
