"""Every statement of a journal, built once, so that a database's compiler and cache see the same objects for ever.

`build_statements` takes the dialect's own `insert`, whose upsert SQLite and PostgreSQL spell alike. What is written at every step is
prepared in the driver's words; the rest goes SQLAlchemy's way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql.compiler import SQLCompiler

from rotator.domain.record import Stage
from rotator.journal.tables import LANES, credentials, events, held, meta, placements, retirements, rotations, sightings

_OPEN_ROTATION = rotations.c.closed_at.is_(None)
_OPEN_RETIREMENT = retirements.c.closed_at.is_(None)

get_meta = sa.select(meta.c.value).where(meta.c.name == sa.bindparam("name"))
add_meta = sa.insert(meta)

find_tip = sa.select(events.c.seq, events.c.hash).order_by(events.c.seq.desc()).limit(1)
find_newest_event = sa.select(sa.func.max(events.c.at))
find_newest_look = sa.select(sa.func.max(credentials.c.seen_at))

find_credential = sa.select(credentials).where(credentials.c.name == sa.bindparam("name"))
find_open_rotation = sa.select(rotations).where(rotations.c.credential == sa.bindparam("name"), _OPEN_ROTATION)
find_open_retirements = (
    sa.select(retirements)
    .where(retirements.c.credential == sa.bindparam("name"), _OPEN_RETIREMENT)
    .order_by(retirements.c.opened_at, retirements.c.id)
)
find_sightings = sa.select(sightings).where(sightings.c.credential == sa.bindparam("name")).order_by(sightings.c.key_id)
find_placements = sa.select(placements).where(placements.c.credential == sa.bindparam("name")).order_by(placements.c.target)
find_held = sa.select(held).where(held.c.credential == sa.bindparam("name")).order_by(held.c.ordinal)

find_due = (
    # the ranks are named so that each is one range of the index: what is not due is never touched
    sa.select(credentials.c.name, credentials.c.lane)
    .where(credentials.c.lane_rank.in_(range(len(LANES))), credentials.c.due_at <= sa.bindparam("now"))
    .order_by(credentials.c.lane_rank, credentials.c.due_at, credentials.c.name)
    .limit(sa.bindparam("most"))
)
defer = sa.update(credentials).where(credentials.c.name.in_(sa.bindparam("names", expanding=True))).values(due_at=sa.bindparam("until"))
next_due = sa.select(sa.func.min(credentials.c.due_at))
find_keepers = sa.select(held.c.credential).where(held.c.key_id == sa.bindparam("key_id")).order_by(held.c.credential).distinct()
find_holders = (
    sa.select(held.c.credential)
    .where(held.c.key_id == sa.bindparam("key_id"), held.c.stage.in_([str(Stage.CURRENT), str(Stage.PENDING)]))
    .order_by(held.c.credential)
)

_end_rotation = (
    sa.update(rotations)
    .where(rotations.c.id == sa.bindparam("its_id"), rotations.c.credential == sa.bindparam("name"), _OPEN_ROTATION)
    .values(closed_at=sa.bindparam("at"), outcome=sa.bindparam("ended_as"), key_id=sa.bindparam("current"))
)
has_rotation = sa.select(rotations.c.id).where(rotations.c.id == sa.bindparam("its_id"), rotations.c.credential == sa.bindparam("name"))
_end_retirement = (
    sa.update(retirements)
    .where(retirements.c.id == sa.bindparam("its_id"), retirements.c.credential == sa.bindparam("name"), _OPEN_RETIREMENT)
    .values(
        closed_at=sa.bindparam("at"),
        outcome=sa.bindparam("ended_as"),
        last_alive=sa.bindparam("alive"),
        first_refused=sa.bindparam("refused"),
        confirmed_at=sa.bindparam("confirmed"),
    )
)
has_retirement = sa.select(retirements.c.id).where(
    retirements.c.id == sa.bindparam("its_id"), retirements.c.credential == sa.bindparam("name")
)

_drop_held = sa.delete(held).where(held.c.credential == sa.bindparam("name"))
_add_held = sa.insert(held)
_drop_sightings = sa.delete(sightings).where(sightings.c.credential == sa.bindparam("name"), sightings.c.key_id == sa.bindparam("key"))
_add_event = sa.insert(events)

forget = tuple(
    sa.delete(table).where(column == sa.bindparam("name"))
    for table, column in (
        (credentials, credentials.c.name),
        (held, held.c.credential),
        (sightings, sightings.c.credential),
        (placements, placements.c.credential),
    )
)

list_credentials = sa.select(credentials).order_by(credentials.c.name)
list_held = sa.select(held).order_by(held.c.credential, held.c.ordinal)
count_rotations = (
    sa.select(rotations.c.credential, rotations.c.reason, rotations.c.outcome, sa.func.count())
    .where(rotations.c.outcome.is_not(None))
    .group_by(rotations.c.credential, rotations.c.reason, rotations.c.outcome)
)
last_closed = (
    sa.select(rotations.c.credential, sa.func.max(rotations.c.closed_at, type_=rotations.c.closed_at.type))
    .where(rotations.c.outcome == sa.bindparam("ended_as"))
    .group_by(rotations.c.credential)
)
count_open_retirements = (
    sa.select(
        retirements.c.credential,
        held.c.doomed_at.is_not(None).label("doomed"),
        retirements.c.revoked_at.is_not(None).label("revoked"),
        sa.func.count(),
    )
    .select_from(retirements.outerjoin(held, sa.and_(held.c.credential == retirements.c.credential, held.c.key_id == retirements.c.key_id)))
    .where(_OPEN_RETIREMENT)
    .group_by(retirements.c.credential, "doomed", "revoked")
)
page_events = sa.select(events).where(events.c.seq > sa.bindparam("after")).order_by(events.c.seq).limit(sa.bindparam("most"))


class Prepared:
    """A statement that writes, in the words of one dialect: what SQLAlchemy finds out at each execution is found out once.

    Its driver's errors come as they are.
    """

    __slots__ = ("_names", "_renderers", "_text")

    def __init__(self, statement: sa.ClauseElement, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        assert isinstance(compiled, SQLCompiler)
        self._text = str(compiled)
        self._names: Sequence[str] | None = compiled.positiontup
        """the parameters in their order; None where the driver takes them by name"""
        found = {name: bind.type.dialect_impl(dialect).bind_processor(dialect) for name, bind in compiled.binds.items()}
        self._renderers = {name: render for name, render in found.items() if render is not None}

    def run(self, connection: Connection, *rows: Mapping[str, Any]) -> int:
        """Execute it once for each row of parameters, within the connection's transaction; how many rows of the table it changed."""
        cursor = connection.connection.cursor()
        try:
            if len(rows) == 1:
                cursor.execute(self._text, self._render(rows[0]))
            else:
                cursor.executemany(self._text, [self._render(row) for row in rows])
            return cursor.rowcount
        finally:
            cursor.close()

    def _render(self, row: Mapping[str, Any]) -> Any:
        values = dict(row)
        for name, render in self._renderers.items():
            values[name] = render(values[name])
        return values if self._names is None else tuple([values[name] for name in self._names])


@dataclass(frozen=True, slots=True)
class Statements:
    """Every statement that a line becomes. Those that save take a row of their table as parameters."""

    save_memory: Prepared
    save_view: Prepared
    save_blind_view: Prepared
    """of a credential that was seen before it changes only what a look without its store can know"""
    save_rotation: Prepared
    """changes no row where the id is closed or another credential's"""
    save_retirement: Prepared
    """changes no row where the id is closed or another credential's"""
    save_sightings: Prepared
    save_placement: Prepared
    end_rotation: Prepared
    end_retirement: Prepared
    drop_held: Prepared
    add_held: Prepared
    drop_sightings: Prepared
    add_event: Prepared


_MEMORY = ("uid", "generation", "place", "recovered", "swept_at", "orphans", "adopted")
_VIEW = (
    "seen_at", "due_at", "next_rotation_at", "expires_at", "phase", "parked", "waiting", "orphan_count", "lane", "lane_rank",
)  # fmt: skip
_BLIND = ("seen_at", "due_at", "parked", "waiting")
_CLOSING = {"closed_at", "outcome", "key_id"}
_PROVING = {"closed_at", "outcome", "last_alive", "first_refused", "confirmed_at"}


def build_statements(insert: Callable[[sa.Table], Any], dialect: Dialect) -> Statements:
    """The statements of a dialect, by its own `insert`, which knows upserts."""

    def prepare(statement: sa.ClauseElement) -> Prepared:
        return Prepared(statement, dialect)

    def upsert(
        table: sa.Table, key: tuple[str, ...], columns: tuple[str, ...], only: Any = None, changes: tuple[str, ...] = ()
    ) -> Prepared:
        fresh = insert(table).values({name: sa.bindparam(name) for name in (*key, *columns)})
        return prepare(
            fresh.on_conflict_do_update(
                index_elements=list(key),
                set_={name: fresh.excluded[name] for name in changes or columns},
                where=None if only is None else only(fresh.excluded),
            )
        )

    def columns(table: sa.Table, *but: str) -> tuple[str, ...]:
        return tuple(c.name for c in table.c if c.name not in but)

    return Statements(
        save_memory=upsert(credentials, ("name",), _MEMORY),
        save_view=upsert(credentials, ("name",), _VIEW),
        save_blind_view=upsert(credentials, ("name",), _VIEW, changes=_BLIND),
        save_rotation=upsert(
            rotations,
            ("id",),
            columns(rotations, "id", *_CLOSING),
            lambda new: sa.and_(_OPEN_ROTATION, rotations.c.credential == new.credential),
        ),
        save_retirement=upsert(
            retirements,
            ("id",),
            columns(retirements, "id", *_PROVING),
            lambda new: sa.and_(_OPEN_RETIREMENT, retirements.c.credential == new.credential),
        ),
        save_sightings=upsert(sightings, ("credential", "key_id"), columns(sightings, "credential", "key_id")),
        save_placement=upsert(placements, ("credential", "target"), columns(placements, "credential", "target")),
        end_rotation=prepare(_end_rotation),
        end_retirement=prepare(_end_retirement),
        drop_held=prepare(_drop_held),
        add_held=prepare(_add_held),
        drop_sightings=prepare(_drop_sightings),
        add_event=prepare(_add_event),
    )
