"""What one look at all places of a target showed, and the receipt that follows from it. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rotator.domain.errors import RotatorError
from rotator.domain.facts import Level
from rotator.domain.keys import KeyId
from rotator.domain.ports import Observation
from rotator.domain.reasons import Reason
from rotator.targets.kubernetes.ownership import SecretView
from rotator.targets.kubernetes.rollouts import Rollout

__all__ = ["PlaceLook", "build_observation", "parse_versions", "render_versions"]

_MOST_NAMED = 3


@dataclass(frozen=True, slots=True)
class PlaceLook:
    """One namespace, read at one moment."""

    namespace: str
    view: SecretView | None = None
    whole: bool = False
    """the Secret is as we wrote it"""
    objection: str = ""
    rollouts: tuple[Rollout, ...] = ()
    error: RotatorError | None = None
    remembered: bool = False
    """not asked for now"""

    @property
    def key_id(self) -> KeyId | None:
        """The key that is there, and that every workload was told of; None: something is to be done."""
        if self.view is None or self.view.notes is None or not self.whole or any(r.restart for r in self.rollouts):
            return None
        return self.view.notes.key_id

    @property
    def text(self) -> str:
        """What is not well here."""
        late = "; ".join(f"{r.workload} in {self.namespace}: {r.reason}" for r in self.rollouts if r.reason)
        return str(self.error) if self.error is not None else self.objection or late


def build_observation(looks: Sequence[PlaceLook], best: Level, fallback: tuple[KeyId, int] | None) -> Observation:
    """The receipt for all places together: a key only where each of them holds it. `fallback`: what counts where there is no place."""
    held = {(look.key_id, look.view.notes.generation) if look.view and look.view.notes else None for look in looks} or {fallback}
    key_id, generation = (next(iter(held)) if len(held) == 1 else None) or (None, None)
    rollouts = [rollout for look in looks for rollout in look.rollouts if rollout.reason]
    texts = [look.text for look in looks if look.text]
    more = f"; and in {len(texts) - _MOST_NAMED} more namespaces" if len(texts) > _MOST_NAMED else ""
    barred = bool(looks) and all(look.objection for look in looks)
    return Observation(
        revision=render_versions(looks),
        key_id=key_id,
        generation=generation if key_id is not None else None,
        level=best if key_id is not None and not rollouts else Level.PLACED,
        problem=Reason.FOREIGN_ENTRY if barred else None,
        text="; ".join(texts[:_MOST_NAMED]) + more,
        stuck=any(rollout.stuck for rollout in rollouts),
        remembered=any(look.remembered for look in looks),
    )


def render_versions(looks: Sequence[PlaceLook]) -> str:
    """Which version was seen where: what a delivery is conditional on. Null: nobody could look, so a delivery must."""
    return json.dumps({look.namespace: _find_version(look) for look in looks})


def _find_version(look: PlaceLook) -> str | None:
    if look.error is not None:
        return None
    return look.view.version if look.view is not None else ""


def parse_versions(revision: str) -> dict[str, str | None]:
    """The other way round."""
    found: dict[str, str | None] = json.loads(revision)
    return found
