"""The points at which a process can die: before and after every effect and every write, counted, and one of them fatal.

Installed in the process that is to die, from outside: the product's classes know nothing of it. A boundary's name says what is about to be
done (`store.commit Promote`), its ordinal which time that is. Within a commit lie single writes: `file.replace` of the embedded store (and
of a target), between the temporary file and the visible one; each request that writes to Vault; each call that writes to AWS.

All that outlives a process happens within a boundary. What a thread passes between the end of one and the beginning of the next is
therefore one state of the world, whether it is seen from `after` the former or from `before` the latter, or from the boundaries around
both: a death at either end leaves the same behind, and `find_states` puts them together. Only a temporary file, which is written before
its `file.replace`, makes the moment before that a state of its own.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rotator.domain.ports import Event
from rotator.issuers.http import HttpIssuer
from rotator.journal.sqlite import SqliteJournal
from rotator.stores.aws.api import Api
from rotator.stores.aws.store import AwsStore
from rotator.stores.embedded.store import EmbeddedStore
from rotator.stores.vault.adapter import VaultAdapter
from rotator.stores.vault.store import VaultStore
from rotator.targets.file.target import FileTarget


@dataclass(frozen=True, slots=True)
class Moment:
    """One side of one boundary, as a thread passed it."""

    thread: str
    side: str
    point: str

    def __str__(self) -> str:
        return f"{self.side} {self.point}"


def find_moments(trace: Path) -> list[Moment]:
    """What a process passed, in its order."""
    return [Moment(*line.split(" ", 2)) for line in trace.read_text().splitlines()]


def find_states(moments: Sequence[Moment]) -> Iterator[list[Moment]]:
    """The moments by the state that a death at each of them leaves behind: consecutive, of one thread, and nothing done in between."""
    state: list[Moment] = []
    for moment in moments:
        if state and _lies_between(state[-1], moment):
            yield state
            state = []
        state.append(moment)
    if state:
        yield state


def _lies_between(former: Moment, latter: Moment) -> bool:
    """Whether anything may have been done between two moments that follow each other."""
    done = (former.side, latter.side) == ("before", "after")
    return done or former.thread != latter.thread or str(latter).startswith("before file.replace")


@dataclass(slots=True)
class Boundaries:
    """Counts what is done once it is `armed`, and kills this process on one side of one boundary."""

    fatal: str | None
    """such as `store.commit Promote 1`; None: nothing is fatal"""
    side: str
    trace: Path
    """where every moment is written as it is passed, a line each"""
    armed: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def install(self) -> None:
        """Wrap every effect and write of this process."""
        for kind in (EmbeddedStore, VaultStore, AwsStore):
            self._wrap(kind, "commit", lambda _self, _path, _seen, change: f"store.commit {type(change).__name__}")
        self._wrap(VaultAdapter, "request", name_request)
        self._wrap(Api, "create", lambda *_, **__: "aws.create")
        self._wrap(Api, "put", lambda _self, _name, _version, _text, label: f"aws.put {label}")
        self._wrap(Api, "swap", lambda _self, _name, label, *_: f"aws.swap {label}")
        self._wrap(HttpIssuer, "mint", lambda *_: "issuer.mint")
        self._wrap(HttpIssuer, "revoke", lambda *_: "issuer.revoke")
        self._wrap(HttpIssuer, "list_labelled", lambda *_: "issuer.list")
        self._wrap(FileTarget, "deliver", lambda target, *_: f"target.deliver {target.name}")
        self._wrap(SqliteJournal, "commit", lambda _self, _name, *lines: f"journal.commit {name_lines(lines)}")
        self._wrap(SqliteJournal, "defer", lambda *_: "journal.defer")
        self._wrap(Path, "replace", lambda _path, there: f"file.replace {name_file(Path(there))}")

    def _wrap(self, owner: type, verb: str, name: Callable[..., str]) -> None:
        inner = getattr(owner, verb)

        @functools.wraps(inner)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            called = name(*arguments) if self.armed else ""
            if not called:
                return inner(*arguments, **named)
            point = self._count(called)
            self._pass(point, "before")
            answer = inner(*arguments, **named)
            self._pass(point, "after")
            return answer

        setattr(owner, verb, wrapped)

    def _count(self, name: str) -> str:
        with self.lock:
            self.counts[name] += 1
            return f"{name} {self.counts[name]}"

    def _pass(self, point: str, side: str) -> None:
        with self.lock, self.trace.open("a") as file:
            file.write(f"{threading.get_ident()} {side} {point}\n")
        if point == self.fatal and side == self.side:
            os.kill(os.getpid(), signal.SIGKILL)


def name_request(_adapter: object, method: str, url: str, *_: object, **__: object) -> str:
    """What a request to Vault writes; empty where it only reads."""
    if method.upper() in {"GET", "LIST"} or "/data/" not in url:
        return ""
    return f"vault.{method.lower()} {'sibling' if '/data/rotator/' in url else 'path'}"


def name_lines(lines: tuple[object, ...]) -> str:
    """What a journal transaction holds, in short: its audit lines where it has some, else the kinds of its lines."""
    events = [f"{line.phase} {line.action}" for line in lines if isinstance(line, Event)]
    kinds = sorted({type(line).__name__ for line in lines if not isinstance(line, Event)})
    return ", ".join([*events, *kinds])


def name_file(path: Path) -> str:
    """A file's name; that of a target's own record is a hash and tells nothing."""
    return "ownership" if path.parent.name == "targets" else path.name
