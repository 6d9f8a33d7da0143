"""A process of its own that opens a journal and commits for ever, saying each commit once it has returned. It is killed from outside.

`python -m tests.contract.journal.writer KIND PLACE`
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from rotator.domain.facts import Memory
from rotator.domain.ports import SaveMemory
from tests.contract.journal.build import an_event
from tests.contract.journal.kinds import KINDS


def main(kind: str, place: str) -> None:
    journal = KINDS[kind].open(Path(place))
    done = journal.recall("a").memory
    for number in itertools.count(1 if done is None else done.generation + 1):
        journal.commit("a", SaveMemory(Memory("u", number, "p")), an_event(number), an_event(number))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
