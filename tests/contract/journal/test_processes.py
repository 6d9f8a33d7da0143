"""A journal serves one process, and what that process was told is written survives its death."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rotator.journal.lock import JournalHeld
from tests.contract.journal.build import an_event
from tests.contract.journal.kinds import Kind

_ROOT = Path(__file__).parents[3]


@contextmanager
def _a_writer(kind: Kind, place: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.contract.journal.writer", str(kind), str(place)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _read(process: subprocess.Popen[str], lines: int) -> int:
    """The last of so many acknowledged commits."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    return int(said[-1])


def test_a_journal_that_another_process_holds_is_refused_with_its_number(kind: Kind, place: Path) -> None:
    with _a_writer(kind, place) as process:
        _read(process, 1)
        with pytest.raises(JournalHeld, match=rf"held by process {process.pid}, which opened it at 2026-03-01.*--state-dir") as refused:
            kind.open(place)
        assert refused.value.exit_code == 1
        assert _read(process, 3) > 3, "the one that holds it goes on"
    kind.close(kind.open(place))


def test_a_journal_that_this_process_holds_is_refused_too(kind: Kind, place: Path) -> None:
    journal = kind.open(place)
    with pytest.raises(JournalHeld, match=f"process {os.getpid()}"):
        kind.open(place)
    journal.commit("a", an_event())
    kind.close(journal)
    kind.close(journal)
    again = kind.open(place)
    assert again.id == journal.id
    kind.close(again)


def test_every_acknowledged_commit_survives_a_kill(kind: Kind, place: Path) -> None:
    heads: dict[str, str] = {}
    for lines in (1, 40, 7, 150):
        with _a_writer(kind, place) as process:
            _read(process, lines)
            process.kill()
            assert process.stdout is not None
            rest = process.stdout.read().split()
        journal = kind.open(place)
        memory = journal.recall("a").memory
        assert memory is not None
        acknowledged = int(rest[-1]) if rest else 0
        assert memory.generation in range(acknowledged, acknowledged + 2) if rest else memory.generation >= lines
        written = [row.event.action for row in journal.find_events("a", limit=100_000)]
        assert written == [f"action-{n}" for n in range(1, memory.generation + 1) for _ in "ab"], "whole commits, in their order"
        assert journal.verify_audit(heads) == []
        heads[f"after {memory.generation}"] = journal.audit_head()
        kind.close(journal)
