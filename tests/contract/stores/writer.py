"""A process that writes to a store, for cases that need a real second one. Told what to do line by line on stdin; answers on stdout.

    contend PATH JOURNAL N   read, say `seen`, wait for a line, commit, say `won` or `lost`
    churn COUNT QUIET        fork a process that commits without end over COUNT paths: `try PATH N`, `done PATH N`; kill it by its pid
    die WHEN CALL PATH N     fork a process that makes one commit and kills itself `before` or `after` the CALL (see `_CALLS`)
    promote WHEN N PATH      fork a process that promotes what is pending and kills itself `before` or `after` its Nth write to a server
    kill                     SIGKILL the forked process

The forked process says `pid N` first; the parent process says `gone` when it has ended. Forking makes thirty crashes cost one start.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rotator.domain.errors import Conflict
from rotator.domain.ports import Store
from rotator.domain.record import Promote
from rotator.remote.http import Remote
from tests.contract.stores.build import a_note, an_opening, at, noted
from tests.contract.stores.kinds import KINDS, Kind

_CALLS: dict[str, tuple[Any, str, int]] = {
    "create": (os, "open", 2),
    "write-head": (os, "write", 1),
    "write-body": (os, "write", 2),
    "sync-file": (os, "fsync", 1),
    "replace": (Path, "replace", 1),
    "sync-folder": (os, "fsync", 2),
}
"""name -> (owner, function, which of its calls during a commit); the first `open` is the lock's"""
CALLS = tuple(_CALLS)


def churned(number: int) -> str:
    """The name of one of the churned paths."""
    return f"churn/path-{number}"


def main() -> None:
    """Serve lines until stdin ends."""
    kind, place = KINDS[sys.argv[1]], Path(sys.argv[2])
    store = kind.open(place)
    say("ready")
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "contend":
            _contend(store, words[0], words[1], int(words[2]))
        elif verb == "churn":
            _fork(functools.partial(_churn, kind, place, int(words[0]), quiet=words[1] == "quiet"))
        elif verb == "die":
            _fork(functools.partial(_die, kind, place, *words))
        elif verb == "promote":
            _fork(functools.partial(_promote, kind, place, words[0], int(words[1]), words[2]))


def say(line: str) -> None:
    """One line, in one write: a kill never leaves half of one."""
    os.write(1, f"{line}\n".encode())


def _contend(store: Store, path: str, journal: str, number: int) -> None:
    seen = store.read(path)
    say("seen")
    sys.stdin.readline()
    try:
        store.commit(path, seen, a_note(journal, number) if seen.record else an_opening(journal))
    except Conflict:
        say("lost")
    else:
        say("won")


def _churn(kind: Kind, place: Path, count: int, *, quiet: bool) -> None:
    store = kind.open(place)
    number = max(noted(store.read(churned(path)), "churn") for path in range(count))
    while True:
        number += 1
        path = churned(number % count)
        if not quiet:
            say(f"try {path} {number}")
        store.commit(path, store.read(path), a_note("churn", number))
        if not quiet:
            say(f"done {path} {number}")


def _die(kind: Kind, place: Path, when: str, call: str, path: str, number: str) -> None:
    store = kind.open(place)
    seen = store.read(path)
    owner, name, nth = _CALLS[call]
    _make_deadly(owner, name, when, nth, lambda *_: True)
    store.commit(path, seen, a_note("churn", int(number)))
    say("survived")


def _promote(kind: Kind, place: Path, when: str, nth: int, path: str) -> None:
    store = kind.open(place)
    seen = store.read(path)
    assert seen.record is not None
    assert seen.record.pending is not None
    _make_deadly(Remote, "call", when, nth, lambda *args: args[2] != "GET")
    store.commit(path, seen, Promote(seen.record.pending.key_id, seen.current, at(60)))
    say("survived")


def _make_deadly(owner: Any, name: str, when: str, nth: int, counts: Callable[..., bool]) -> None:
    """The nth call of those that count kills this process, before or after it is done."""
    real: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += counts(*args)
        if calls == nth and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if calls == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)


def _fork(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            say(f"pid {os.getpid()}")
            work()
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    say("gone")


if __name__ == "__main__":
    main()
