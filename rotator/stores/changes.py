"""What a store holds after a change: the record by `rotator.domain.record.apply`, and the secrets that go with it. Pure.

The rule for secrets, the same in every kind (I3): only `StageKey`, `Adopt`, `RetireOrphan`, `RetireSpare` and `AddSpare` bring one in, and
only the key's leaving the record (`Forget`, `DropSpare`) takes one out. A record that names a key whose secret is nowhere is never written.
"""

from __future__ import annotations

from collections.abc import Mapping

from rotator.domain.errors import IllegalTransition
from rotator.domain.keys import KeyId
from rotator.domain.ports import Holding
from rotator.domain.record import AddSpare, Adopt, Change, Record, RetireOrphan, RetireSpare, StageKey, apply
from rotator.domain.secret import Secret

ABSENT = "absent"
"""the revision of a path that holds nothing"""


def build_next(record: Record | None, secrets: Mapping[KeyId, Secret], change: Change) -> tuple[Record, dict[KeyId, Secret]]:
    """Record and secrets after `change`. Raises `IllegalTransition`."""
    after = apply(record, change)
    known = dict(secrets)
    if isinstance(change, StageKey | Adopt | RetireOrphan | RetireSpare) and change.secret is not None:
        known[change.entry.key_id] = _checked(known, change.entry.key_id, change.secret)
    if isinstance(change, AddSpare):
        known[change.spare.key_id] = _checked(known, change.spare.key_id, change.secret)
    missing = sorted(str(key_id) for key_id in after.key_ids if key_id not in known)
    if missing:
        raise IllegalTransition(f"the secret of key {', '.join(missing)} was not handed in: a key is stored with its secret or not at all")
    kept = (*(key.key_id for key in after.keys), *(spare.key_id for spare in after.spares))
    return after, {key_id: known[key_id] for key_id in kept}


def build_holding(revision: str, record: Record, secrets: Mapping[KeyId, Secret]) -> Holding:
    """The holding of a store that nobody else writes: what consumers find is what the record says."""
    current = record.current
    return Holding(
        revision=revision,
        record=record,
        current=current.key_id if current else None,
        current_since=current.promoted_at if current else None,
        secrets=secrets,
    )


def _checked(known: Mapping[KeyId, Secret], key_id: KeyId, secret: Secret) -> Secret:
    if secret.key_id != key_id:
        raise IllegalTransition(f"the secret handed in is of key {secret.key_id}, not of {key_id}")
    held = known.get(key_id)
    if held is not None and not held.same_as(secret):
        raise IllegalTransition(f"the store holds another secret of key {key_id}: it stays until the key is forgotten")
    return secret
