"""Strikes a key off that people brought and nobody has yet: it leaked, or is not wanted any more.

It must die as every key does (L4), so a credential of its issuer takes it over as a condemned key: it is told to a person, probed, and ends
when its death is proven. Reserved first under a label that is no attempt's, so that no rotation gets it, whatever is killed in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rotator.domain.credential import Credential
from rotator.domain.errors import Conflict, Refused, RotatorError
from rotator.domain.keys import KeyId
from rotator.domain.ports import Supplied
from rotator.domain.record import KeyEntry, RetireSpare, Stage
from rotator.domain.secret import Secret
from rotator.engine.engine import Engine

_TRIES = 20


def find_keeper(engine: Engine, key_id: KeyId, secret: Secret | None) -> Credential | None:
    """The credential that would take over a spare of that key: the first that uses its issuer and has a record. None: nobody brought it.

    `secret`: only the very same key is meant (L24). Raises `Refused` where no credential could take it, or where an issuer that may hold
    it cannot be looked at.
    """
    problems = []
    for issuer, users in _gather_lots(engine, key_id):
        try:
            held = issuer.find_secret(users[0].name, key_id)
            if held is None or (secret is not None and not held.same_as(secret)):
                continue
            return _choose(users, key_id)
        except Refused:
            raise
        except RotatorError as problem:
            problems.append(str(problem))
    if problems:
        raise Refused(f"key {key_id} may be among spare keys that could not be looked at: report it again ({problems[0]})")
    return None


def strike(engine: Engine, keeper: Credential, key_id: KeyId, *, leaked: bool) -> None:
    """Hand a spare over to the one that sees to its end. The caller holds it between two steps. Idempotent."""
    supplied = keeper.issuer
    assert isinstance(supplied, Supplied)
    for _ in range(_TRIES):
        holding, now = keeper.store.read(keeper.path), engine.clock.now()
        record = holding.record
        if record is None or record.find(key_id) is not None:
            return
        name = f"struck-{key_id}"
        secret = supplied.strike(keeper.name, key_id, f"{record.installation}/{record.uid}/{name}")
        entry = KeyEntry(key_id, Stage.RETIRING, now, attempt=name, issuer=keeper.issuer_name)
        entry = replace(entry, compromised_at=now if leaked else None)
        try:
            keeper.store.commit(keeper.path, holding, RetireSpare(entry, secret, now))
        except Conflict:
            continue
        return
    raise Conflict(f"{keeper.name}: the store changes too fast; try again")


def _gather_lots(engine: Engine, key_id: KeyId) -> Iterator[tuple[Supplied, list[Credential]]]:
    """Each place that may hold spares of that kind, with the credentials that draw from it."""
    credentials = [c for _, c in sorted(engine.credentials.items()) if c.policy.kind is key_id.kind]
    for name, issuer in engine.runner.issuers.items():
        users = [c for c in credentials if c.issuer_name == name]
        if isinstance(issuer, Supplied) and users:
            yield from [(issuer, users)] if issuer.is_shared else ((issuer, [user]) for user in users)


def _choose(users: list[Credential], key_id: KeyId) -> Credential:
    for user in users:
        if user.store.read(user.path).record is not None:
            return user
    raise Refused(f"key {key_id} waits to be given out, and no credential of its issuer has a key yet: revoke it in the dashboard")
