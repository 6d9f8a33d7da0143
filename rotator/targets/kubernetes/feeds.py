"""Watches: one connection and one thread for each, resumed where it broke off, and begun anew where the API server has forgotten (410)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from rotator.domain.errors import RotatorError
from rotator.targets.kubernetes.answers import Expired
from rotator.targets.kubernetes.api import ClusterApi, HangUp, Object

__all__ = ["Feed"]

_LONGEST_PAUSE = 30.0
_SHORTEST = 1.0
"""seconds"""

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Feed:
    """A watch on a collection, or on one object of it."""

    api: ClusterApi
    path: str
    what: str
    """in words, such as "watching Secrets in a" """
    params: Mapping[str, str]
    """the selector, as the API server takes it; one by `metadata.name` can be narrowed to that name by RBAC, list and watch alike"""
    on_listed: Callable[[Sequence[Object]], None]
    """told of everything that there is, at the beginning and after a gap"""
    on_event: Callable[[str, Object], None]
    """told of ADDED, MODIFIED and DELETED"""
    _live: bool = False
    _stopping: threading.Event = field(default_factory=threading.Event)
    _problem: str = ""
    _hang_up: HangUp | None = None

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name=f"watch-{self.api.name}", daemon=True).start()

    def stop(self) -> None:
        """Tell nobody any more; connection and thread end."""
        self._live = False
        self._stopping.set()
        hang_up = self._hang_up
        if hang_up is not None:
            hang_up()

    @property
    def is_live(self) -> bool:
        """Whether what it told is up to date, but for what is on its way."""
        return self._live

    def _run(self) -> None:
        version, failures = "", 0
        while not self._stopping.is_set():
            began, ended_well = time.monotonic(), False
            try:
                version = self._follow(version or self._begin())
                ended_well = True
            except Expired:
                version = ""
            except RotatorError as problem:
                self._complain(str(problem))
            except Exception:  # a fault of ours: looks go on without the watch
                log.exception("watch broke", action="watch", what=self.what)
            self._live = False
            # One that ends as soon as it has begun is none, however well: a proxy may answer so all day.
            worked = time.monotonic() - began >= (_SHORTEST if ended_well else _LONGEST_PAUSE)
            failures = 0 if worked else failures + 1
            if failures > 1:
                self._stopping.wait(min(2.0 ** (failures - 2), _LONGEST_PAUSE))

    def _begin(self) -> str:
        found, version = self.api.list_all(self.path, self.what, metadata=True, params=self.params)
        self.on_listed(found)
        return version

    def _follow(self, version: str) -> str:
        try:
            for event in self.api.watch(self.path, self.what, self.params, version, self._open):
                if self._stopping.is_set():
                    break
                found = event["object"]
                version = str((found.get("metadata") or {}).get("resourceVersion") or version)
                if event["type"] != "BOOKMARK":
                    self.on_event(str(event["type"]), found)
        finally:
            self._hang_up = None  # the connection may serve another watch now
        return version

    def _open(self, hang_up: HangUp) -> None:
        self._hang_up = hang_up
        self._live, self._problem = not self._stopping.is_set(), ""
        if self._stopping.is_set():  # told to stop right before
            hang_up()

    def _complain(self, problem: str) -> None:
        if problem != self._problem and not self._stopping.is_set():
            log.warning("cannot watch; it is looked at every now and then instead", action="watch", problem=problem)
        self._problem = problem
