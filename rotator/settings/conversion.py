"""From what the user wrote to what the domain and the engine take. Pure; settings that were loaded always convert."""

from __future__ import annotations

from rotator.domain.facts import Policy
from rotator.domain.ports import Abilities
from rotator.domain.timing import Schedule, Window
from rotator.engine.look import Timing
from rotator.settings.models import Settings

__all__ = ["policy_of", "schedule_of", "timing_of"]

_VERIFY_SHARE = 4
"""`verify_for` in cache times, where it is not set (L11)."""


def policy_of(settings: Settings, name: str, abilities: Abilities) -> Policy:
    """The policy of a credential whose issuer can do that. Raises `KeyError` for an unknown credential."""
    credential = settings.credentials[name]
    cache_time = settings.millimetric.cache_time
    return Policy(
        installation=settings.installation,
        kind=credential.kind,
        overlap_min=credential.rotation.overlap.min,
        overlap_max=credential.rotation.overlap.max,
        cache_time=cache_time,
        verify_for=credential.verify_for or _VERIFY_SHARE * cache_time,
        leak_deadline=credential.leak_deadline,
        without_replacement=credential.without_replacement,
        at_deadline=credential.at_deadline,
        allowed_tools=frozenset(credential.allowed_tools),
        can_mint=abilities.mint,
        can_list=abilities.list,
        can_revoke=abilities.revoke,
    )


def schedule_of(settings: Settings, name: str) -> Schedule:
    """When a credential is due. Its `cron` is for `rotator.scheduling.cron.parse_cron`. Raises `KeyError` for an unknown credential."""
    rotation = settings.credentials[name].rotation
    return Schedule(
        every=rotation.every,
        cron=rotation.cron,
        window=None if rotation.window is None else Window.parse(rotation.window),
        jitter=rotation.jitter,
        max_age=rotation.max_age,
    )


def timing_of(settings: Settings) -> Timing:
    """How patient the engine is."""
    return Timing(
        **{name: getattr(settings.engine, name) for name in type(settings.engine).model_fields if name not in ("workers", "poll")}
    )
