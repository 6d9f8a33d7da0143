"""`pool list`: the spare keys of each pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from rotator.cli.humane import render_from_now
from rotator.cli.present.blocks import BAD, STRONG, WARN, Block, Column, Gap, Note, Table
from rotator.cli.present.words import Row

_COLUMNS = (Column("KEY"), Column("ADDED"), Column("BY"), Column("PROJECT"), Column("STATE"))


def build_pools(pools: Sequence[Row], now: datetime) -> list[Block]:
    """One paragraph for each pool."""
    blocks: list[Block] = []
    for pool in pools:
        blocks += [*([Gap()] if blocks else []), *_build_pool(pool, now)]
    return blocks or [Note("no pools are configured")]


def _build_pool(pool: Row, now: datetime) -> Iterator[Block]:
    yield Note(str(pool.get("issuer")), STRONG)
    if pool.get("problem"):
        yield Note(str(pool["problem"]), BAD, indent=2)
        return
    usable, low = pool.get("usable"), pool.get("is_low")
    words = f"{usable} usable"
    if low:
        words += f", fewer than {pool.get('low_water')}: add some with `rotator pool add {pool.get('issuer')}`"
    yield Note(words, WARN if low else "", indent=2)
    spares = pool.get("spares") or ()
    if spares:
        rows = tuple(
            (
                str(spare.get("key_id")),
                render_from_now(str(spare.get("added_at")), now),
                str(spare.get("by")),
                str(spare.get("project") or "-"),
                str(spare.get("state")),
            )
            for spare in spares
        )
        yield Table(_COLUMNS, rows, indent=2)
