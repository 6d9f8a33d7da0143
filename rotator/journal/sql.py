"""What a journal does in any SQL database: lines become rows in one transaction, rows become recollections and reports.

A kind says how a transaction for reading and one for writing is had, what its driver's errors mean, and whether others write too; it holds
no logic of lines.
Writers stand in one queue, because each audit line stands on the hash of the one before it. Whoever is first writes for all who wait: a
disk confirms some hundred commits a second, however many lines each of them has.
"""

from __future__ import annotations

import secrets
import threading
from abc import ABC, abstractmethod
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from rotator.domain.errors import IllegalTransition, Unreachable
from rotator.domain.keys import KeyId
from rotator.domain.ports import Line, Recollection, SavePlacement, SaveView
from rotator.domain.reasons import Reason
from rotator.journal import audit, rows
from rotator.journal import statements as sql
from rotator.journal.lines import Tip, latest, write_lines
from rotator.journal.recollections import Recollections, carry_written
from rotator.journal.rows import CredentialRow, EventRow, RetirementRow, RotationRow, ensure_fit
from rotator.journal.statements import Statements
from rotator.journal.tables import events, parse_instant, render_instant, retirements, rotations

_PAGE = 1000
_BEFORE_ALL = -(2**63)
"""below every line number, so that a line smuggled in before the first shows too"""


_SEEN_ANEW = (SaveView, SavePlacement)
"""what the next look shows again: it outlives the process at once, and the loss of power from the next other line on"""


@dataclass(slots=True)
class _Order:
    """One caller's lines, waiting to be written by whoever holds the queue."""

    credential: str
    lines: tuple[Line, ...]
    done: bool = False
    problem: BaseException | None = None

    @property
    def is_lasting(self) -> bool:
        return not all(isinstance(line, _SEEN_ANEW) for line in self.lines)


class SqlJournal(ABC):
    """A journal in an SQL database. Fulfils `rotator.domain.ports.Journal`; what goes beyond it is for the API and the CLI."""

    def __init__(self, statements: Statements, *, most_kept: int = 0) -> None:
        """`most_kept`: how many recollections are kept in memory; only a journal that no other process writes to may keep any."""
        self._statements = statements
        self._kept = Recollections(most_kept)
        self._writers = threading.Lock()
        self._orders: deque[_Order] = deque()
        self._tip: Tip | None = None
        """the end of the trail; None while it must be read again, because a commit failed or is under way"""
        self._newest: datetime | None = None
        self._id = ""

    @property
    def id(self) -> str:
        """A random id of this journal, made when it was created."""
        return self._id

    @abstractmethod
    def _reading(self) -> AbstractContextManager[Connection]:
        """One consistent look at the database, its errors mapped to ours."""

    @abstractmethod
    def _writing(self, *, lasting: bool = True) -> AbstractContextManager[Connection]:
        """One transaction, durable when left, undone when left by an exception; its errors mapped to ours. Called with writers queued.

        One that is not `lasting` need not outlive the loss of power before the next lasting one.
        """

    def _begin(self, created_at: datetime) -> None:
        """Read, or make, the journal's id, and read the end of the trail. A kind calls it once the schema is at the head."""
        with self._writers, self._writing() as connection:
            found = connection.scalar(sql.get_meta, {"name": "journal_id"})
            if found is None:
                found = secrets.token_hex(16)
                connection.execute(
                    sql.add_meta,
                    [{"name": "journal_id", "value": found}, {"name": "created_at", "value": render_instant(created_at)}],
                )
            self._id = found
            tip = self._read_tip(connection)
            self._newest = tip.newest
            self._tip = tip

    def _read_tip(self, connection: Connection) -> Tip:
        line = connection.execute(sql.find_tip).one_or_none()
        said = connection.scalar(sql.find_newest_event)
        newest = latest(None if said is None else parse_instant(said), connection.scalar(sql.find_newest_look))
        return Tip(0, audit.genesis(self._id), newest) if line is None else Tip(line.seq, line.hash, newest)

    # -- the port

    def recall(self, credential: str) -> Recollection:
        """What is known of a credential; empty for one never seen."""
        page = self._kept.open(credential)
        known = page.known
        if known is None:
            known = page.known = self._read_recollection(credential)
        return replace(known, newest_line=self._newest)

    def _read_recollection(self, credential: str) -> Recollection:
        name = {"name": credential}
        with self._reading() as connection:
            known = connection.execute(sql.find_credential, name).mappings().one_or_none()
            rotation = connection.execute(sql.find_open_rotation, name).mappings().one_or_none()
            retiring = connection.execute(sql.find_open_retirements, name).mappings().all()
            seen = connection.execute(sql.find_sightings, name).mappings().all()
            placed = connection.execute(sql.find_placements, name).mappings().all()
        return Recollection(
            memory=None if known is None else rows.memory_of(known),
            rotation=None if rotation is None else rows.rotation_of(rotation),
            retirements=tuple(rows.retirement_of(row) for row in retiring),
            sightings=tuple(rows.sightings_of(row) for row in seen),
            placements=tuple(rows.placement_of(row) for row in placed),
            next_rotation_at=None if known is None else known["next_rotation_at"],
        )

    def commit(self, credential: str, *lines: Line) -> None:
        """Write all lines in one transaction, or none. Durable when it returns; views and placements alone only against a crash.

        Raises `Unreachable` when the disk refuses, `IllegalTransition` for a line that the journal's rules forbid (a second open
        rotation, the update or end of what it doesn't know), `ValueError`, naming the column, for a text that looks like a full key.
        """
        if not lines:
            return
        ensure_fit("credential", {"name": credential})
        order = _Order(credential, lines)
        self._orders.append(order)
        with self._writers:
            if not order.done:
                self._write_orders()
        if order.problem is not None:
            raise order.problem

    def _write_orders(self) -> None:
        """Write what everybody waits for, in one transaction; where one of them is refused, each in its own."""
        orders = [self._orders.popleft() for _ in range(len(self._orders))]
        known = {credential: self._kept.find(credential) for credential in {order.credential for order in orders}}
        try:
            if len(orders) == 1 or not self._try_together(orders):
                for order in orders:
                    self._write_alone(order)
        finally:
            for order in orders:
                if not order.done:
                    order.done, order.problem = True, order.problem or Unreachable("writing the journal was interrupted: look again")
                before = known[order.credential]
                known[order.credential] = carry_written(before, order.lines) if before and not order.problem else None
            for credential, after in known.items():
                self._kept.put(credential, after)

    def _try_together(self, orders: Sequence[_Order]) -> bool:
        """False: nothing was written, and the fault is a line's, not the disk's."""
        refused = True
        try:
            tip, self._tip = self._tip, None
            with self._writing(lasting=any(order.is_lasting for order in orders)) as connection:
                tip = tip or self._read_tip(connection)
                for order in orders:
                    tip = write_lines(connection, self._statements, order.credential, order.lines, tip)
                refused = False  # from here it is the commit itself: repeating it could write lines twice
        except Exception as problem:  # noqa: BLE001  # it belongs to the threads whose lines they are
            if refused:
                return False
            for order in orders:
                order.done, order.problem = True, problem
            return True
        self._tip, self._newest = tip, tip.newest
        for order in orders:
            order.done = True
        return True

    def _write_alone(self, order: _Order) -> None:
        try:
            tip, self._tip = self._tip, None
            with self._writing(lasting=order.is_lasting) as connection:
                tip = write_lines(connection, self._statements, order.credential, order.lines, tip or self._read_tip(connection))
        except Exception as problem:  # noqa: BLE001  # it belongs to the thread whose lines they are
            order.done, order.problem = True, problem
            return
        self._tip, self._newest, order.done = tip, tip.newest, True

    def find_due(self, now: datetime, limit: int) -> Sequence[tuple[str, str]]:
        """(credential, lane) of what is due, emergencies first, then never-synced, then routine, oldest first."""
        with self._reading() as connection:
            return [(row.name, row.lane) for row in connection.execute(sql.find_due, {"now": now, "most": limit})]

    def defer(self, credentials: Sequence[str], until: datetime | None) -> None:
        """Change nothing but when these are due next (None: not by themselves)."""
        with self._writers, self._writing(lasting=False) as connection:
            connection.execute(sql.defer, {"names": list(credentials), "until": until})

    def next_due(self) -> datetime | None:
        """When the next credential is due."""
        with self._reading() as connection:
            due: datetime | None = connection.scalar(sql.next_due)
        return due

    def find_holders(self, key_id: KeyId, *, any_stage: bool = False) -> Sequence[str]:
        """The credentials whose last look showed this key as current or pending, or (`any_stage`) at all."""
        with self._reading() as connection:
            return list(connection.scalars(sql.find_keepers if any_stage else sql.find_holders, {"key_id": str(key_id)}))

    # -- the audit trail

    def audit_head(self) -> str:
        """`number:hash` of the newest audit line, to be kept elsewhere; a later `verify_audit` must find it again."""
        tip = self._tip
        if tip is None:  # a commit is under way, or one failed
            with self._reading() as connection:
                tip = self._read_tip(connection)
        return audit.render_head(tip.seq, tip.digest)

    def verify_audit(self, heads: Mapping[str, str] | None = None) -> list[str]:
        """What is wrong with the audit trail, a sentence each; empty when it is whole. Holds a page of it in memory at a time.

        `heads` maps where a head was kept ("the record of checkout-read") to the head. Without one, lines that were cut off the end
        while no daemon ran don't show.
        """
        kept = {"this process": self.audit_head(), **(heads or {})}
        with self._reading() as connection:
            return audit.find_problems(self._id, _page_events(connection), kept)

    # -- reports for the API, the CLI and the metrics

    def list_credentials(self) -> Sequence[CredentialRow]:
        """Every credential that was seen and not forgotten, by name."""
        with self._reading() as connection:
            known = connection.execute(sql.list_credentials).mappings().all()
            keys = defaultdict(list)
            for row in connection.execute(sql.list_held).mappings():
                keys[row["credential"]].append(row)
        return [CredentialRow(row["name"], rows.view_of(row, keys[row["name"]]), rows.memory_of(row)) for row in known]

    def find_credential(self, name: str) -> CredentialRow | None:
        """One credential; None if it was never seen."""
        with self._reading() as connection:
            row = connection.execute(sql.find_credential, {"name": name}).mappings().one_or_none()
            keys = connection.execute(sql.find_held, {"name": name}).mappings().all()
        return None if row is None else CredentialRow(name, rows.view_of(row, keys), rows.memory_of(row))

    def find_rotations(self, credential: str | None = None, *, limit: int = 100, open_only: bool = False) -> Sequence[RotationRow]:
        """Rotations, newest first."""
        return [rows.rotation_row_of(row) for row in self._find_processes(rotations, credential, limit, open_only)]

    def find_retirements(self, credential: str | None = None, *, limit: int = 100, open_only: bool = False) -> Sequence[RetirementRow]:
        """Retirements, newest first."""
        return [rows.retirement_row_of(row) for row in self._find_processes(retirements, credential, limit, open_only)]

    def _find_processes(self, table: sa.Table, credential: str | None, limit: int, open_only: bool) -> Sequence[sa.RowMapping]:
        statement = sa.select(table).order_by(table.c.opened_at.desc(), table.c.id).limit(limit)
        if credential is not None:
            statement = statement.where(table.c.credential == credential)
        if open_only:
            statement = statement.where(table.c.closed_at.is_(None))
        with self._reading() as connection:
            return connection.execute(statement).mappings().all()

    def find_events(
        self,
        credential: str | None = None,
        *,
        process: str | None = None,
        after_seq: int = 0,
        limit: int = 100,
        newest_first: bool = False,
    ) -> Sequence[EventRow]:
        """Audit lines numbered higher than `after_seq`, of one credential or process (a rotation or retirement), or of all."""
        order = events.c.seq.desc() if newest_first else events.c.seq
        statement = sa.select(events).where(events.c.seq > after_seq).order_by(order).limit(limit)
        if credential is not None:
            statement = statement.where(events.c.credential == credential)
        if process is not None:
            statement = statement.where(events.c.process == process)
        with self._reading() as connection:
            found = connection.execute(statement).mappings().all()
        return [rows.event_row_of(row) for row in found]

    def count_rotations(self) -> Mapping[tuple[str, Reason, Reason], int]:
        """(credential, reason, outcome) of all closed rotations: how many."""
        with self._reading() as connection:
            found = connection.execute(sql.count_rotations).all()
        return {(credential, Reason(reason), Reason(outcome)): count for credential, reason, outcome, count in found}

    def last_successes(self) -> Mapping[str, datetime]:
        """When each credential's last rotation was distributed."""
        with self._reading() as connection:
            found = connection.execute(sql.last_closed, {"ended_as": str(Reason.DISTRIBUTED)}).all()
        return {str(credential): at for credential, at in found}

    def count_open_retirements(self) -> Mapping[tuple[str, bool, bool], int]:
        """(credential, doomed at the last look, revoked) of all open retirements: how many."""
        with self._reading() as connection:
            found = connection.execute(sql.count_open_retirements).all()
        return {(credential, bool(doomed), bool(revoked)): count for credential, doomed, revoked, count in found}

    def forget_credential(self, name: str) -> None:
        """Drop what is known of a credential that left the configuration; its history and audit lines stay. Idempotent.

        Raises `IllegalTransition` while a rotation or retirement of it is open: it ends from its frozen reference first (L5).
        """
        with self._writers, self._forgotten(name), self._writing() as connection:
            unfinished = [
                *connection.execute(sql.find_open_rotation, {"name": name}),
                *connection.execute(sql.find_open_retirements, {"name": name}),
            ]
            if unfinished:
                raise IllegalTransition(f"credential {name} has an open rotation or retirement: let it end before it is forgotten")
            for statement in sql.forget:
                connection.execute(statement, {"name": name})

    @contextmanager
    def _forgotten(self, credential: str) -> Iterator[None]:
        try:
            yield
        finally:
            self._kept.put(credential, None)


def _page_events(connection: Connection) -> Iterator[sa.RowMapping]:
    after = _BEFORE_ALL
    while True:
        page = connection.execute(sql.page_events, {"after": after, "most": _PAGE}).mappings().all()
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1]["seq"]
