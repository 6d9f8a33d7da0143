"""The stores of two parts: Vault with its two documents, AWS with its two secrets.

Consumers read the *place*; the record lies *beside* it, with a copy of every secret. Each part has a compare-and-set of its own. A change
that leaves the current key alone is one write beside; one that does not announces itself beside, writes the place (the commit point), and
tidies. What an announcement means is asked of the stores' own code: `rotator.stores.vault.documents`, `rotator.stores.aws.places`.

The place's versions only matter in relation to the one that an announced change leaves: a layout keeps how far the place is *ahead* of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from rotator.domain.errors import IllegalTransition
from rotator.domain.record import Record, Stage
from rotator.stores import changes
from rotator.stores.aws import document as aws
from rotator.stores.aws import looks, places
from rotator.stores.vault import documents
from tests.model import symbols as sym
from tests.model.stores import FENCE, PLACE, RECORD, EmbeddedStore, Lag, Seen, StaleLook, Write
from tests.model.symbols import KEYS, NONE, Change, build_change, key_id, normal, number

MOST_AHEAD = 3
"""more writes of the place than that are not told apart"""
_BASE = 10
"""the version that an announced change leaves"""


class Beside(NamedTuple):
    """What lies beside the place."""

    record: Record | None
    secrets: tuple[int, ...] = ()
    announced: tuple[int, Record] | None = None
    """the key that comes, and the record as it is then"""


class Layout(NamedTuple):
    """What lies in the store."""

    key: int
    """what consumers find"""
    beside: int
    """number of a `Beside`"""
    ahead: int = 0
    """versions of the place since the one that an announced change leaves"""
    laid: bool = False
    """the first of them is the one that was announced"""
    gone: bool = False
    """the place holds nothing"""


Composed = tuple[Record, tuple[int, ...]]


@dataclass
class TwofoldStore(EmbeddedStore):
    """What both have in common."""

    layouts: list[Layout] = field(default_factory=list)
    numbers: dict[Layout, int] = field(default_factory=dict)
    shown: list[int] = field(default_factory=list)
    """layout → doc"""
    besides: list[Beside] = field(default_factory=list)
    beside_numbers: dict[Beside, int] = field(default_factory=dict)
    composed: dict[tuple[int, int, Change], Composed | None] = field(default_factory=dict)
    writes: dict[tuple[Any, ...], Write | None] = field(default_factory=dict)

    def settle(self, layout: Layout) -> Record | None:
        """The record that a look at both parts finds, by the store's own code."""
        raise NotImplementedError

    def is_open(self, beside: Beside, ahead: int) -> bool:
        """Whether a change is announced that may yet be made."""
        return beside.announced is not None and ahead == 0

    def begin(self, doc: int) -> int:
        record, current = self.docs.docs[doc]
        secrets = tuple(sorted(number(k.key_id) for k in record.keys)) if record is not None else ()
        return self._intern(Layout(number(current), self._lay_beside(Beside(record, secrets)), gone=current is None))

    def doc(self, layout: int) -> int:
        return self.shown[layout]

    def next_write(self, layout: int, seen: Seen, step: tuple[Any, ...], change: Change) -> Write | None:
        key = (layout, seen, step, change)
        if key not in self.writes:
            self.writes[key] = self._next_write(self.layouts[layout], seen, step, change)
        return self.writes[key]

    def _next_write(self, layout: Layout, seen: Seen, step: tuple[Any, ...], change: Change) -> Write | None:
        match step:
            case ("announced", key, generation, _is_first):
                return Write("writes the place", PLACE, ("lay", key), ("lay", key), ("laid", generation))
            case ("laid", _):
                announced = self.besides[layout.beside].announced
                if announced is None:  # someone else has written beside: the compare-and-set is lost
                    return Write("tidies", RECORD, ("beside", layout.beside), ("tidy",), may_fail=True)
                tidied = Beside(announced[1], self._kept(announced[1]))
                return Write("tidies", RECORD, ("beside", self._lay_beside(tidied)), ("tidy",), may_fail=True)
            case ("refused",):
                former = self.besides[layout.beside]._replace(announced=None)
                return Write("takes it back", RECORD, ("beside", self._lay_beside(former)), ("tidy",), may_fail=True)
        return self._first_writes(layout, seen, step, change)

    def _first_writes(self, layout: Layout, seen: Seen, step: tuple[Any, ...], change: Change) -> Write | None:
        beside = self.besides[layout.beside]
        before, current = self.docs.docs[seen.doc]
        composed = self._compose(seen.doc, layout.beside, change)
        if composed is None:
            return None
        old = self._compose(seen.doc, layout.beside, (*change[:-1], True)) if change[0] in ("promote", "retire", "adopt") else None
        comes = _find_new_current(before, composed[0])
        exchanges = comes not in (NONE, number(current))
        is_open = self.is_open(beside, layout.ahead - seen.behind) and step != ("fenced",)
        announced = ("announced", comes, composed[0].generation, not is_open or "taken-back-always" in self.planted)
        if is_open and beside.announced is not None and not (exchanges and beside.announced[0] == comes) and "no-fence" not in self.planted:
            return Write("fences", PLACE, FENCE, FENCE, ("fenced",))
        if not exchanges:
            return Write("commits", RECORD, self._op(composed), change, aged=self._op(old) if old else ())
        if _find_current(before) != number(current):
            return None
        if "tidied-first" in self.planted:
            return Write("commits", RECORD, self._op(composed), ("announce", comes), announced)
        op, aged = (self._announce(seen.doc, layout.beside, comes, c) if c else () for c in (composed, old))
        return Write("announces", RECORD, op, ("announce", comes), announced, aged)

    def _op(self, composed: Composed) -> tuple[Any, ...]:
        return ("beside", self._lay_beside(Beside(*composed)))

    def _announce(self, doc: int, beside: int, comes: int, composed: Composed) -> tuple[Any, ...]:
        before = self.docs.docs[doc][0]
        record, secrets = composed
        known = {*self._known(doc, beside), *secrets}
        former = before or Record(record.uid, record.installation)
        return ("beside", self._lay_beside(Beside(former, self._kept(former, known), (comes, record))))

    def _known(self, doc: int, beside: int) -> tuple[int, ...]:
        """The keys whose secrets a look finds."""
        current = number(self.docs.docs[doc][1])
        return tuple(sorted({*self.besides[beside].secrets, current} - {NONE}))

    def _compose(self, doc: int, beside: int, change: Change) -> Composed | None:
        """Record and secrets after a change, by the rule that all stores share."""
        key = (doc, beside, change)
        if key not in self.composed:
            before = self.docs.docs[doc][0]
            known = {*self._known(doc, beside), *({change[1]} if change[0] == "stage" else ())}
            secrets = cast("Mapping[Any, Any]", {KEYS[k]: None for k in known})
            try:
                after, kept = changes.build_next(before, secrets, build_change(change, before))
            except IllegalTransition:
                self.composed[key] = None
            else:
                self.composed[key] = normal(after), self._kept(after, {number(k) for k in kept})
        return self.composed[key]

    def _kept(self, record: Record, known: set[int] | None = None) -> tuple[int, ...]:
        """The keys whose secrets lie beside; planted: not that of the key that lies in the place anyway."""
        kept = {number(k.key_id) for k in record.keys} if known is None else known
        if "current-not-kept" in self.planted:
            kept = kept - {_find_current(record)}
        return tuple(sorted(kept))

    def after(self, layout: int, op: tuple[Any, ...], behind: int = 0) -> int:
        former = self.layouts[layout]
        ahead = min(former.ahead + 1, MOST_AHEAD)
        beside = self.besides[former.beside]
        match op:
            case ("beside", new):
                return self._intern(former._replace(beside=new, ahead=behind, laid=self._is_laid(former, self.besides[new], behind)))
            case ("lay", key):
                laid = former.ahead == 0 and beside.announced is not None and beside.announced[0] == key
                return self._intern(former._replace(key=key, ahead=ahead, laid=laid, gone=False))
            case ("put", key):
                return self._intern(former._replace(key=key, ahead=ahead, laid=former.laid and ahead > 1, gone=False))
            case ("fence",):
                return self._intern(former._replace(ahead=ahead, laid=former.laid and ahead > 1, gone=False))
            case ("delete",):
                return self._intern(former._replace(key=NONE, ahead=ahead, laid=former.laid and ahead > 1, gone=True))
        raise AssertionError(op)

    def _is_laid(self, layout: Layout, announced: Beside, behind: int) -> bool:
        """Whether what is announced was done already: the same was announced before."""
        before = self.besides[layout.beside].announced
        same = before is not None and announced.announced is not None and before[0] == announced.announced[0]
        return same and layout.laid and layout.ahead == behind

    def commit_at_once(self, layout: int, change: Change) -> tuple[int, int]:
        step: tuple[Any, ...] | None = ()
        parts = 0
        while step is not None:
            write = self.next_write(layout, Seen(self.doc(layout), True), step, change)
            assert write is not None, change
            layout, step, parts = self.after(layout, write.op), write.then, parts | write.part
        return layout, parts

    def put(self, layout: int, key: int) -> tuple[int, int]:
        return self.after(layout, ("put", key)), PLACE

    def wipe(self, layout: int, key: int) -> int:
        """What lies beside is lost, and the place is written over."""
        del layout
        return self._intern(Layout(key, self._lay_beside(Beside(None))))

    def restore_record(self, layout: int, backup: int) -> int:
        former = self.layouts[backup]
        if self.besides[former.beside].announced is not None:
            return layout
        return self._intern(self.layouts[layout]._replace(beside=former.beside))

    def delete(self, layout: int) -> int:
        return self.after(layout, ("delete",))

    def find_missing(self, layout: int) -> int:
        record = self.docs.docs[self.doc(layout)][0]
        found = {*self.besides[self.layouts[layout].beside].secrets, self.layouts[layout].key}
        return next((number(k.key_id) for k in record.keys if number(k.key_id) not in found), NONE) if record is not None else NONE

    def _intern(self, layout: Layout) -> int:
        if self.besides[layout.beside].announced is None:
            layout = layout._replace(ahead=0, laid=False)
        elif layout.ahead > 1:
            layout = layout._replace(laid=False)
        found = self.numbers.get(layout)
        if found is None:
            found = self.numbers[layout] = len(self.layouts)
            self.layouts.append(layout)
            self.shown.append(self._show(layout))
        return found

    def _show(self, layout: Layout) -> int:
        record = self.settle(layout)
        return self.docs.intern((None if record is None else normal(record), key_id(layout.key)))

    def _lay_beside(self, beside: Beside) -> int:
        found = self.beside_numbers.get(beside)
        if found is None:
            found = self.beside_numbers[beside] = len(self.besides)
            self.besides.append(beside)
        return found


def _find_current(record: Record | None) -> int:
    return number(record.current.key_id) if record is not None and record.current is not None else NONE


def _find_new_current(before: Record | None, after: Record) -> int:
    """The key that a change makes current; NONE where it leaves that alone."""
    current = _find_current(after)
    return current if current != _find_current(before) else NONE


@dataclass
class VaultStore(TwofoldStore):
    """Two documents. A look reads the record first: it may be older than the place that it finds."""

    def settle(self, layout: Layout) -> Record | None:
        beside = self.besides[layout.beside]
        if beside.record is None:
            return None
        announced = beside.announced
        path = documents.Document(_BASE + layout.ahead, created_at=sym.NOW, data=None if layout.gone else {})
        sibling = documents.Sibling(
            beside.record, {}, None if announced is None else documents.Announcement(KEYS[announced[0]], _BASE, announced[1])
        )
        return documents.settle(path, key_id(layout.key), sibling).record

    def stale_looks(self, layout: int, lag: Lag | tuple[()]) -> tuple[StaleLook, ...]:
        """The record as it was when the look began, where nothing about it is surprising; else the look begins anew."""
        if not lag:
            return ()
        now, then = self.layouts[layout], self.layouts[lag.layout]
        beside = self.besides[then.beside]
        if now.beside == then.beside or beside.announced is not None or _find_current(beside.record) != now.key:
            return ()
        return (StaleLook(self.doc(self._intern(now._replace(beside=then.beside))), record_is_fresh=False, behind=0),)


@dataclass
class AwsStore(TwofoldStore):
    """Two secrets. Any read may show what was, a while ago."""

    def settle(self, layout: Layout) -> Record | None:
        beside = self.besides[layout.beside]
        if beside.announced is None:
            return beside.record
        key, record = beside.announced
        move = aws.Move(KEYS[key], _version(layout, _BASE), "announced", record)
        return places.settle(aws.Document(0, beside.record, {}, {}, move), places.judge(move, _label(layout))).record

    def stale_looks(self, layout: int, lag: Lag | tuple[()]) -> tuple[StaleLook, ...]:
        """An older record, an older place, or both; not where the store itself sees that it is older."""
        return tuple(dict.fromkeys(self._stale_looks(self.layouts[layout], lag))) if lag else ()

    def after_look(self, layout: int, lag: Lag | tuple[()], seen: Seen) -> Lag | tuple[()]:
        if not lag or not seen.record_is_fresh:
            return lag
        record = RECORD if self.layouts[layout].beside != self.layouts[lag.layout].beside else 0
        place = PLACE if lag.behind and not seen.behind else 0
        return lag._replace(newer=lag.newer | record | place)

    def retired_before(self, lag: Lag | tuple[()], key: int) -> bool:
        record = self.docs.docs[self.doc(lag.layout)][0] if lag else None
        entry = record.find(KEYS[key]) if record is not None else None
        return entry is not None and entry.stage is Stage.RETIRING

    def _stale_looks(self, now: Layout, lag: Lag) -> Iterator[StaleLook]:
        then = self.layouts[lag.layout]
        older = now.beside != then.beside
        old_place = lag.behind and not lag.newer & PLACE
        if older and not lag.newer & RECORD:
            ahead = min(then.ahead + lag.behind, MOST_AHEAD)
            announced = self.besides[then.beside].announced
            laid = then.laid if then.ahead else announced is not None and now.key == announced[0]
            yield self._look(now._replace(beside=then.beside, ahead=ahead, laid=laid), fresh=False, behind=0)
            if old_place:
                yield self._look(then, fresh=False, behind=lag.behind)
        if old_place:
            stale = then._replace(beside=now.beside, ahead=now.ahead - lag.behind, laid=now.laid and now.ahead - lag.behind > 0)
            if not self._is_doubted(stale):
                yield self._look(stale, fresh=True, behind=lag.behind)

    def _look(self, shown: Layout, *, fresh: bool, behind: int) -> StaleLook:
        return StaleLook(self.doc(self._intern(shown)), fresh, behind)

    def _is_doubted(self, layout: Layout) -> bool:
        """What the store takes for a stale answer: a label that the record has left behind, or none."""
        record = self.settle(layout)
        emptied = layout.key == NONE and record is not None and record.current is not None
        return emptied or looks.find_left_behind(record, key_id(layout.key)) is not None


def _version(layout: Layout, n: int) -> str | None:
    """The version that was the n-th to be current; none before the first."""
    if n == _BASE + 1 and layout.laid:
        return "announced"
    return None if layout.gone and n >= _BASE else f"v{n}"


def _label(layout: Layout) -> places.Place:
    current = _BASE + layout.ahead
    labels = {places.CURRENT: _version(layout, current), places.PREVIOUS: _version(layout, current - 1)}
    return places.Place(exists=True, labels={label: v for label, v in labels.items() if v is not None})


STORES: Mapping[str, type[EmbeddedStore]] = {"embedded": EmbeddedStore, "vault": VaultStore, "aws": AwsStore}
