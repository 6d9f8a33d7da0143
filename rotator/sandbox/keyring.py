"""The service's keys, and what each simulated worker believes of them.

Holds no key material: of a secret only `sha256(secret || pepper)` is kept, as the service does. A worker that verified a key goes on
accepting it for the cache time, counted from that verification, whatever has been revoked meanwhile. Not thread-safe: the service's
lock guards every call.
"""

from __future__ import annotations

import bisect
import hashlib
import secrets
import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rotator.domain.errors import MalformedKey
from rotator.domain.keys import KeyId, Kind, parse_key
from rotator.sandbox.clock import ServiceClock, render_time
from rotator.sandbox.exchange import Denied
from rotator.sandbox.settings import SandboxSettings

_ALPHABET = string.ascii_letters + string.digits
_PREFIX_LENGTH = 8
_SECRET_BYTES = 24
_MOST_REFUSALS = 50_000
_LAST_LABEL = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Presented:
    """A key as a request showed it: what it claims to be, and the hash of its secret."""

    key_id: KeyId
    digest: bytes


@dataclass(slots=True, eq=False)
class MintedKey:
    """What the service knows of one key. `created_at`, `revoked_at`, `last_used_at` in epoch seconds, `minted` monotonic."""

    seq: int
    key_id: KeyId
    digest: bytes
    project: str
    label: str
    created_at: float
    minted: float
    revoked_at: float | None = None
    last_used_at: float | None = None
    uses: int = 0

    def document(self) -> dict[str, Any]:
        """As the admin API lists it."""
        return {
            "id": str(self.key_id),
            "kind": str(self.key_id.kind),
            "env": self.key_id.env,
            "project": self.project,
            "label": self.label,
            "created_at": render_time(self.created_at),
            "revoked_at": None if self.revoked_at is None else render_time(self.revoked_at),
            "last_used_at": None if self.last_used_at is None else render_time(self.last_used_at),
        }


@dataclass(frozen=True, slots=True)
class Belief:
    """What a worker remembers: the key it accepted, or None for a refusal, and when it found out (monotonic)."""

    key: MintedKey | None
    since: float


class KeyRing:
    """Every key ever minted, and one cache per worker."""

    def __init__(self, settings: SandboxSettings, clock: ServiceClock) -> None:
        self.settings = settings
        self._clock = clock
        self._pepper = secrets.token_bytes(32)
        self._by_prefix: dict[str, MintedKey] = {}
        self._by_label: list[tuple[str, int]] = []
        self._in_order: list[MintedKey] = []
        self._caches: list[dict[Presented, Belief]] = [{} for _ in range(settings.workers)]

    def mint(self, kind: Kind, env: str, project: str, label: str) -> tuple[MintedKey, str]:
        """A new key and, this once, the key itself. Two mints with one label are two keys."""
        prefix = self._free_prefix()
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        key_id = KeyId(kind, env, prefix)
        key = MintedKey(len(self._in_order), key_id, self._digest(secret), project, label, self._clock.wall(), self._clock.monotonic())
        self._by_prefix[prefix] = key
        self._in_order.append(key)
        bisect.insort(self._by_label, (label, key.seq))
        return key, f"{key_id}_{secret}"

    def find(self, key_id: str) -> MintedKey | None:
        """The key of this id, revoked or not."""
        key = self._by_prefix.get(key_id.rpartition("_")[2])
        return key if key is not None and str(key.key_id) == key_id else None

    def revoke(self, key: MintedKey) -> float:
        """When it was revoked: now, or at the first time it was asked for. Workers' caches stay as they are."""
        if key.revoked_at is None:
            key.revoked_at = self._clock.wall()
        return key.revoked_at

    def listed(self, label_prefix: str = "", after: int = -1) -> Iterator[MintedKey]:
        """Keys in the order of minting whose label begins so, minted after the one numbered `after`."""
        if not label_prefix:
            return iter(self._in_order[after + 1 :])
        low = bisect.bisect_left(self._by_label, (label_prefix, -1))
        high = bisect.bisect_right(self._by_label, (label_prefix + _LAST_LABEL, len(self._in_order)))
        numbers = sorted(seq for _, seq in self._by_label[low:high] if seq > after)
        return (self._in_order[seq] for seq in numbers)

    def present(self, bearer: str | None) -> Presented:
        """What a request shows. Raises `Denied` 401 missing_bearer_token or malformed_api_key."""
        if bearer is None or not bearer:
            raise Denied(401, "missing_bearer_token")
        try:
            key_id = parse_key(bearer)
        except MalformedKey:
            raise Denied(401, "malformed_api_key") from None
        return Presented(key_id, self._digest(bearer.split("_", 3)[3]))

    def verify(self, shown: Presented, worker: int) -> MintedKey:
        """The key as this worker sees it now. Raises `Denied` 401 invalid_api_key or key_kind_mismatch."""
        now = self._clock.monotonic()
        belief = self._believed(shown, worker, now)
        if belief is None:
            belief = self._look_up(shown, worker, now)
        if belief.key is None:
            raise Denied(401, "invalid_api_key")
        belief.key.uses += 1
        belief.key.last_used_at = self._clock.wall()
        return belief.key

    def flush(self) -> None:
        """Empties every worker's cache."""
        for cache in self._caches:
            cache.clear()

    def truth(self, key: MintedKey) -> dict[str, Any]:
        """The listed document, the number of uses, and per worker what it believes and whether it would accept the key now."""
        now = self._clock.monotonic()
        return {**key.document(), "uses": key.uses, "workers": [self._worker_truth(key, n, now) for n in range(len(self._caches))]}

    def _worker_truth(self, key: MintedKey, worker: int, now: float) -> dict[str, Any]:
        belief = self._believed(Presented(key.key_id, key.digest), worker, now)
        accepts = belief.key is not None if belief is not None else self._knows(key, worker, now)
        state = "absent" if belief is None else "refused" if belief.key is None else "verified"
        expires = None if belief is None else round(belief.since + self.settings.cache_time - now, 3)
        return {"worker": worker, "cache": state, "expires_in": expires, "accepts": accepts}

    def _believed(self, shown: Presented, worker: int, now: float) -> Belief | None:
        belief = self._caches[worker].get(shown)
        return belief if belief is not None and now < belief.since + self.settings.cache_time else None

    def _look_up(self, shown: Presented, worker: int, now: float) -> Belief:
        key = self._by_prefix.get(shown.key_id.prefix)
        if key is None or not secrets.compare_digest(key.digest, shown.digest) or not self._knows(key, worker, now):
            return self._remember_refusal(shown, worker, now)
        if key.key_id.kind is not shown.key_id.kind:
            raise Denied(401, "key_kind_mismatch")
        if key.key_id.env != shown.key_id.env:
            return self._remember_refusal(shown, worker, now)
        belief = self._caches[worker][shown] = Belief(key, now)
        return belief

    def _remember_refusal(self, shown: Presented, worker: int, now: float) -> Belief:
        belief = Belief(None, now)
        if self.settings.cache_refusals:
            cache = self._caches[worker]
            if len(cache) >= _MOST_REFUSALS:
                cache.clear()
            cache[shown] = belief
        return belief

    def _knows(self, key: MintedKey, worker: int, now: float) -> bool:
        return key.revoked_at is None and now >= key.minted + worker * self.settings.propagation

    def _digest(self, secret: str) -> bytes:
        return hashlib.sha256(secret.encode() + self._pepper).digest()

    def _free_prefix(self) -> str:
        while True:
            prefix = "".join(secrets.choice(_ALPHABET) for _ in range(_PREFIX_LENGTH))
            if prefix not in self._by_prefix:
                return prefix
