"""The audit trail's hash chain: what a line's hash covers, and how alteration shows.

hash = SHA-256(hash of the line before + canonical JSON of the line). The first line stands on a hash of the journal's id, so that a trail
cannot be moved under another journal. A head is `number:hash` of the last line; one that was kept elsewhere (the stores' records) must
be found in the chain for ever, which is how a cut-off tail shows. Pure: reads rows that are handed in, and no database.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

HASHED = ("seq", "at", "credential", "phase", "action", "reason", "process", "key_id", "text", "ok")
"""The columns that a line's hash covers. What is null is left out, so that a column added later changes no old hash."""

MOST_PROBLEMS = 100


def genesis(journal_id: str) -> str:
    """The hash that the first line of a journal stands on."""
    return hashlib.sha256(f"rotator journal {journal_id}".encode()).hexdigest()


def chain(previous: str, row: Mapping[Any, Any]) -> str:
    """The hash of a line behind `previous`."""
    line = {name: row[name] for name in HASHED if row[name] is not None}
    canonical = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(f"{previous}{canonical}".encode()).hexdigest()


def render_head(seq: int, digest: str) -> str:
    """A head as it is kept elsewhere."""
    return f"{seq}:{digest}"


def find_problems(journal_id: str, rows: Iterable[Mapping[Any, Any]], heads: Mapping[str, str]) -> list[str]:
    """What is wrong with a trail, a sentence each; empty when it is whole.

    `rows` come in the order of their numbers and are held one at a time. `heads` maps a name of where a head was kept to the head. After
    an altered line the chain is followed from what that line states, so that one alteration is one problem. At most `MOST_PROBLEMS`.
    """
    waiting, problems = _gather_heads(heads)
    seq, kept = 0, genesis(journal_id)
    _meet(waiting, seq, kept)
    for row in rows:
        problems += _line_problems(row, seq, kept)
        seq, kept = row["seq"], row["hash"]
        _meet(waiting, seq, kept)
        if len(problems) >= MOST_PROBLEMS:
            return [*problems[:MOST_PROBLEMS], f"more problems from line {seq} on: the rest was not looked at"]
    for number, kept_heads in sorted(waiting.items()):
        fate = f"lines {seq + 1} to {number} were cut off" if number > seq else f"line {number} is not the one that was written then"
        problems += [f"the head kept in {name} is line {number}, which the trail does not hold: {fate}" for name, _ in kept_heads]
    return problems


def _gather_heads(heads: Mapping[str, str]) -> tuple[dict[int, list[tuple[str, str]]], list[str]]:
    waiting: dict[int, list[tuple[str, str]]] = {}
    problems = []
    for name, head in heads.items():
        number, _, digest = head.partition(":")
        if number.isascii() and number.isdigit():
            waiting.setdefault(int(number), []).append((name, digest))
        else:
            problems.append(f"the head kept in {name} is not of the form number:hash")
    return waiting, problems


def _meet(waiting: dict[int, list[tuple[str, str]]], seq: int, digest: str) -> None:
    missed = [(name, head) for name, head in waiting.pop(seq, ()) if head != digest]
    if missed:
        waiting[seq] = missed


def _line_problems(row: Mapping[Any, Any], before: int, previous: str) -> list[str]:
    seq = row["seq"]
    problems = []
    if seq != before + 1:
        problems.append(f"line {before + 1} is missing" if seq == before + 2 else f"lines {before + 1} to {seq - 1} are missing")
    elif row["prev"] != previous:
        problems.append(f"line {seq} does not follow on line {before}: one of the two was altered, or lines changed places")
    try:
        expected = chain(str(row["prev"]), row)
    except (TypeError, ValueError):
        expected = None  # a value of a type that we never write
    if row["hash"] != expected:
        problems.append(f"line {seq} was altered")
    return problems
