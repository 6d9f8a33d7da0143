"""Time, keys and the store's document as small symbols, so that a state is a handful of integers.

Instants are symbolic: `NOW` never moves. What the model needs of time is only which limits have passed, and it lets them pass (or not) at
each decision instead of keeping clocks in its states; `actor` builds the datetimes that say so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from rotator.domain import record as rec
from rotator.domain.errors import IllegalTransition
from rotator.domain.keys import KeyId, Kind
from rotator.domain.record import Attempt, KeyEntry, Orphan, Record, Stage

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOON = NOW - timedelta(seconds=10)
"""within the pause between two probes"""
PAUSED = NOW - timedelta(seconds=50)
"""after the pause between two probes, and yet fresh enough for a revoke"""
LONG_AGO = NOW - timedelta(minutes=30)
PROMOTED = NOW - timedelta(hours=1)
"""when every key that is, or was, current became so, and when every rotation was opened"""
BEFORE = NOW - timedelta(hours=3)
"""before anything that is compared with it"""
AGED = NOW - timedelta(hours=2)
"""an instant that a stalled writer put into the record: the overlap looks over at once"""
CLOSED = NOW - timedelta(minutes=30)

INSTALLATION = "here"
UID = "uid"
PLACE = "store:path"

MOST_ATTEMPTS = 6
FIRST = 0
"""the key that is current in the beginning"""
OUTSIDER = MOST_ATTEMPTS + 1
"""a key that someone else writes into the store"""
KEYS = tuple(KeyId(Kind.RK, "live", f"key{n:05d}") for n in range(OUTSIDER + 1))
"""key 1 is minted under attempt 1, and so on"""
NUMBER = {key: n for n, key in enumerate(KEYS)}
NONE = -1

ILLEGAL = -1
_UNSWEPT = CLOSED + timedelta(minutes=2)
SWEPT = CLOSED + timedelta(minutes=1)


def attempt_id(number: int) -> str:
    """An attempt's id."""
    return f"a{number}"


def attempt_number(text: str | None) -> int:
    """The number of an attempt's id."""
    return NONE if text is None else int(text[1:])


def number(key: KeyId | None) -> int:
    """The number of a key."""
    return NONE if key is None else NUMBER[key]


def key_id(n: int) -> KeyId | None:
    """The key of a number."""
    return None if n == NONE else KEYS[n]


Doc = tuple[Record | None, KeyId | None]
"""the store's one document: the record, and the key that consumers find"""

Change = tuple[Any, ...]
"""a change as numbers, such as ("promote", 1, 0, False)"""


@dataclass(slots=True)
class Docs:
    """Every document that was ever reached, by number; `apply` is the real one."""

    docs: list[Doc]
    numbers: dict[Doc, int]
    after: dict[tuple[int, Change], int]

    @staticmethod
    def empty() -> Docs:
        """None yet."""
        return Docs([], {}, {})

    def intern(self, doc: Doc) -> int:
        """The number of a document."""
        found = self.numbers.get(doc)
        if found is None:
            found = self.numbers[doc] = len(self.docs)
            self.docs.append(doc)
        return found

    def apply(self, doc: int, change: Change) -> int:
        """The document after a change, or `ILLEGAL`."""
        found = self.after.get((doc, change))
        if found is None:
            found = self.after[doc, change] = self._apply(doc, change)
        return found

    def _apply(self, doc: int, change: Change) -> int:
        record, current = self.docs[doc]
        real = build_change(change, record)
        try:
            after = rec.apply(record, real)
        except IllegalTransition:
            return ILLEGAL
        if isinstance(real, rec.Promote | rec.Adopt):
            current = after.current.key_id if after.current else None
        return self.intern((normal(after), current))


def build_change(change: Change, record: Record | None) -> rec.Change:
    """The real change that a tuple stands for."""
    kind, args = change[0], change[1:]
    real: rec.Change = _BUILD[kind](record, *args)
    return real


def _at(aged: bool) -> datetime:
    return AGED if aged else NOW


def _stage(_record: Record | None, key: int, replaces: int) -> rec.Change:
    entry = KeyEntry(KEYS[key], Stage.PENDING, NOW, attempt=attempt_id(key), replaces=key_id(replaces), staged_at=NOW)
    return rec.StageKey(entry, cast("Any", None))


def _adopt(_record: Record | None, key: int, aged: bool) -> rec.Change:
    return rec.Adopt(KeyEntry(KEYS[key], Stage.CURRENT, NOW), _at(aged), UID, INSTALLATION)


def _orphan(key: int) -> Orphan:
    return Orphan(KEYS[key], attempt_id(key))


_BUILD: dict[str, Any] = {
    "open": lambda _r, a: rec.OpenAttempt(Attempt(attempt_id(a), NOW), UID, INSTALLATION),
    "close": lambda _r, a, lost: rec.CloseAttempt(attempt_id(a), NOW, lost),
    "stage": _stage,
    "promote": lambda _r, k, replaces, aged: rec.Promote(KEYS[k], key_id(replaces), _at(aged)),
    "retire": lambda _r, k, aged: rec.Retire(KEYS[k], _at(aged)),
    "adopt": _adopt,
    "doom": lambda _r, k: rec.Doom(KEYS[k], NOW),
    "forget": lambda _r, k: rec.Forget(KEYS[k]),
    "mark": lambda _r, k: rec.MarkCompromised(KEYS[k], NOW),
    "doom-orphan": lambda _r, k: rec.DoomOrphan(_orphan(k)),
    "forget-orphan": lambda _r, k: rec.ForgetOrphan(KEYS[k]),
    "claim": lambda _r, generation, emptied: rec.Claim(INSTALLATION, generation, UID, NOW, emptied),
}


def normal(record: Record) -> Record:
    """The record with instants that depend on nothing but what is compared with them, and in an order that says nothing."""
    keys = tuple(
        replace(
            k,
            minted_at=NOW,
            staged_at=NOW if k.staged_at else None,
            promoted_at=PROMOTED if k.promoted_at else None,
            doomed_at=NOW if k.doomed_at else None,
            compromised_at=NOW if k.compromised_at else None,
        )
        for k in sorted(record.keys, key=lambda k: k.key_id)
    )
    closed = tuple(replace(a, at=CLOSED) for a in sorted(record.closed, key=lambda a: a.id))
    orphans = tuple(sorted(record.orphans, key=lambda o: o.key_id))
    lost = tuple(replace(a, at=CLOSED) for a in sorted(record.lost, key=lambda a: a.id))
    return replace(record, keys=keys, closed=closed, orphans=orphans, lost=lost)


def with_swept(record: Record, swept: tuple[int, ...]) -> Record:
    """The record as a journal sees it that swept after these attempts were closed, and before the others were."""
    closed = tuple(a if attempt_number(a.id) in swept else replace(a, at=_UNSWEPT) for a in record.closed)
    return replace(record, closed=closed)


def first_record() -> Record:
    """A store in which key 0 is current, under generation 1."""
    entry = KeyEntry(KEYS[FIRST], Stage.CURRENT, NOW, generation=1, promoted_at=PROMOTED)
    return Record(UID, INSTALLATION, generation=1, keys=(entry,))
