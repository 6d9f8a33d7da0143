"""Test data for journals: lines with plain values, strategies for all values, and keys that are random at run time."""

from __future__ import annotations

import secrets
import string
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from rotator.domain.facts import Adopted, Memory, Retirement, Rotation, Sightings, Verdict
from rotator.domain.keys import KeyId, Kind
from rotator.domain.ports import Event, HeldKey, Placement, Proof, View
from rotator.domain.reasons import Reason
from rotator.domain.record import Orphan

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """An instant, in minutes after the start of the test's time."""
    return START + timedelta(minutes=minutes)


def a_key_id(number: int = 1) -> KeyId:
    """The key id of a number."""
    return KeyId(Kind.RK, "live", f"{number:08d}")


def a_full_key() -> str:
    """A random full key, as text."""
    letters = string.ascii_letters + string.digits
    return "_".join(("rk", "live", "".join(secrets.choice(letters) for _ in range(8)), secrets.token_urlsafe(24)))


def an_event(number: int = 1, text: str = "") -> Event:
    """A line of the audit trail, one a minute."""
    return Event(at(number), "note", f"action-{number}", text=text)


def a_rotation(name: str = "rot-1") -> Rotation:
    """A rotation that was just opened."""
    return Rotation(name, Reason.SCHEDULED, START, a_key_id(1))


def a_retirement(name: str = "ret-1", number: int = 1) -> Retirement:
    """A retirement that was just opened."""
    return Retirement(name, a_key_id(number), Reason.REPLACED, START)


def a_view(due_at: datetime | None = None, *, lane: str = "routine", keys: tuple[HeldKey, ...] = ()) -> View:
    """A look at a credential."""
    return View(START, due_at, keys=keys, lane=lane)


instants = st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
maybe_instants = st.none() | instants
# lone surrogates and NUL are written as escapes, which has a test of its own
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
counts = st.integers(0, 2**31 - 1)
reasons = st.sampled_from(Reason)
key_ids = st.builds(
    KeyId,
    st.sampled_from(Kind),
    st.from_regex(r"[a-z][a-z0-9]{0,9}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9]{8}", fullmatch=True),
)
maybe_key_ids = st.none() | key_ids
names = st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True)

memories = st.builds(
    Memory,
    uid=names,
    generation=counts,
    place=texts,
    recovered=st.booleans(),
    swept_at=maybe_instants,
    orphans=st.lists(st.builds(Orphan, key_ids, names, st.none() | texts), max_size=3).map(tuple),
    adopted=st.none() | st.builds(Adopted, key_ids, instants, instants),
)
rotations = st.builds(
    Rotation,
    id=names,
    reason=reasons,
    opened_at=instants,
    replaces=maybe_key_ids,
    candidate=maybe_key_ids,
    emergency=st.booleans(),
    attempt=st.none() | names,
    failures=counts,
    lost_mints=counts,
    retry_at=maybe_instants,
    preflight_at=maybe_instants,
    abandon=st.booleans(),
)
retirements = st.builds(
    Retirement, id=names, key_id=key_ids, why=reasons, opened_at=instants, revoked_at=maybe_instants, retry_at=maybe_instants
)
sightings = st.builds(
    Sightings,
    key_id=key_ids,
    asked_at=maybe_instants,
    answer=st.none() | st.sampled_from(Verdict),
    last_alive=maybe_instants,
    alive_since=maybe_instants,
    first_refused=maybe_instants,
    refusals=st.lists(instants, max_size=5).map(tuple),
    ever_refused=st.booleans(),
    unknowns=counts,
    tools=st.none() | st.lists(names, max_size=3).map(tuple),
)
placements = st.builds(
    Placement,
    target=names,
    key_id=maybe_key_ids,
    since=instants,
    generation=st.none() | counts,
    failures=counts,
    retry_at=maybe_instants,
    problem=st.none() | reasons,
    text=texts,
)
held_keys = st.builds(
    HeldKey,
    key_id=key_ids,
    stage=st.sampled_from(["pending", "current", "retiring"]),
    minted_at=instants,
    generation=counts,
    promoted_at=maybe_instants,
    retired_at=maybe_instants,
    doomed_at=maybe_instants,
    compromised_at=maybe_instants,
)
views = st.builds(
    View,
    seen_at=instants,
    due_at=maybe_instants,
    next_rotation_at=maybe_instants,
    expires_at=maybe_instants,
    keys=st.lists(held_keys, max_size=4, unique_by=lambda k: k.key_id).map(tuple),
    phase=st.none() | names,
    parked=st.lists(st.tuples(reasons, texts), max_size=3).map(tuple),
    waiting=st.lists(st.tuples(reasons, maybe_instants, st.lists(texts, max_size=3).map(tuple)), max_size=3).map(tuple),
    orphans=counts,
    lane=st.sampled_from(["emergency", "never-synced", "routine"]),
)
proofs = st.builds(Proof, last_alive=maybe_instants, first_refused=maybe_instants, confirmed_at=instants)
events = st.builds(
    Event,
    at=instants,
    phase=st.sampled_from(["intent", "outcome", "note"]),
    action=names,
    reason=st.none() | reasons,
    process=st.none() | names,
    key_id=maybe_key_ids,
    text=texts,
    ok=st.booleans(),
)
