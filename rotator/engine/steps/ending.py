"""Steps that end a key: doom, revoke, and the proof of its death."""

from __future__ import annotations

from dataclasses import replace

from rotator.domain import decisions as do
from rotator.domain import record as store
from rotator.domain.facts import Retirement
from rotator.domain.ports import DropSightings, EndRetirement, Event, Proof, SaveRetirement
from rotator.domain.reasons import Reason
from rotator.engine.work import Lines, Work, new_id


def open_retirement(work: Work, action: do.OpenRetirement) -> Lines:
    """A key must die: its retirement gets an id and a clock of its own."""
    row = Retirement(id=new_id(), key_id=action.key_id, why=action.why, opened_at=work.now())
    return SaveRetirement(row), Event(work.now(), "note", "open", action.why, process=row.id, key_id=action.key_id)


def doom(work: Work, action: do.Doom) -> Lines:
    """Condemn a key in the store: from here nobody makes it current again (L19)."""
    work.commit(store.Doom(action.key_id, work.now()))
    with work.mind.lock:
        for kind, (_, key_id, _) in list(work.mind.witnesses.items()):
            if key_id == action.key_id:
                del work.mind.witnesses[kind]
    return ()


def revoke(work: Work, action: do.Revoke) -> Lines:
    """Ask the issuer to end a condemned key. Acknowledged is not dead: the service may go on accepting it."""
    entry = work.record.find(action.key_id)
    row = work.look.facts.retirement(action.key_id)
    assert row is not None
    work.issuer_of(entry).revoke(action.key_id, entry.reference if entry else None)
    return (SaveRetirement(replace(row, revoked_at=work.now(), retry_at=None)),)


def forget(work: Work, action: do.Forget) -> Lines:
    """The key is proven dead: drop it and its secret from the store, and close its retirement with the proof (L20)."""
    row = work.look.facts.retirement(action.key_id)
    assert row is not None
    entry = work.record.find(action.key_id)
    issuer = work.find_issuer_of(entry)
    if entry is not None and entry.attempt is not None and issuer is not None:
        # What its issuer still keeps of it would look like an orphan as soon as no stage holds it.
        issuer.settle(work.label(entry.attempt), work.credential.name)
    work.commit(store.Forget(action.key_id))
    seen, now = work.sightings(action.key_id), work.now()
    proof = Proof(seen.last_alive, seen.first_refused, now)
    text = f"last seen alive {_when(seen.last_alive)}, first refused {_when(seen.first_refused)}"
    return (
        EndRetirement(row.id, Reason.DEAD, now, proof),
        DropSightings(action.key_id),
        Event(now, "note", "close", Reason.DEAD, process=row.id, key_id=action.key_id, text=text),
    )


def close_retirement(work: Work, action: do.CloseRetirement) -> Lines:
    """The retirement ends without a proof of ours."""
    row = work.look.facts.retirement(action.key_id)
    assert row is not None
    now = work.now()
    return EndRetirement(row.id, action.outcome, now), Event(now, "note", "close", action.outcome, process=row.id, key_id=action.key_id)


def _when(instant: object) -> str:
    return instant.isoformat(timespec="milliseconds") if hasattr(instant, "isoformat") else "never"
