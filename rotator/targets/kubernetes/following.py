"""Following one target's places: watches while their number allows it, a look every now and then at the rest."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from rotator.domain.errors import Retry, RotatorError
from rotator.targets.kubernetes.namespaces import Namespaces
from rotator.targets.kubernetes.secrets import Secrets

__all__ = ["Following"]

_MOST_AWAY = 3
"""places of which nothing can be learned now, after which the others are not asked: each costs the time of a call"""

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Following:
    """Tells when somebody else changed one of the Secrets, or a namespace came or went."""

    secrets: Secrets
    namespaces: Namespaces
    most: int
    """watches"""
    poll: float
    """seconds"""
    changed: Callable[[], None]
    _places: frozenset[str] | None = None
    _stopping: threading.Event = field(default_factory=threading.Event)
    _asked: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name=f"follow-{self.secrets.api.name}", daemon=True).start()

    def stop(self) -> None:
        """Tell nobody any more."""
        self._stopping.set()
        self._asked.set()
        self.secrets.cluster.leave(self)

    def _run(self) -> None:
        if self.namespaces.selector and self.most:
            self.secrets.cluster.watch_namespaces(self.secrets.api, self.namespaces.selector, self, self._asked.set)
        while True:
            self._asked.clear()
            if self._stopping.is_set():  # asked after: one that ends sets this one first
                break
            try:
                self._look()
            except RotatorError as problem:
                log.info("cannot look for changes", action="follow", target=self.secrets.api.name, problem=str(problem))
            except Exception:  # a fault of ours must not end the following
                log.exception("following broke", action="follow", target=self.secrets.api.name)
            self._asked.wait(self.poll)
        self.secrets.cluster.leave(self)

    def _look(self) -> None:
        places = self.namespaces.find()
        before, self._places = self._places, frozenset(places)
        for namespace in places[: self.most]:
            self._watch(namespace)
        for gone in (before or frozenset()) - self._places:
            self.secrets.cluster.leave(self, gone)
            self.secrets.cluster.memory.drop(gone, self.secrets.name)
        news = before is not None and before != self._places
        problems: list[RotatorError] = []
        for namespace in places:
            if self._stopping.is_set():
                return
            if self.secrets.cluster.watches(namespace, self.secrets.name):
                continue
            try:
                news = self._has_changed(namespace) or news
            except RotatorError as problem:
                problems.append(problem)
                if sum(isinstance(one, Retry) for one in problems) == _MOST_AWAY:
                    break
        if news:
            self.changed()
        if problems:
            raise problems[0]

    def _watch(self, namespace: str) -> None:
        cluster, name = self.secrets.cluster, self.secrets.name
        if cluster.is_watched(("secret", namespace, name), self):
            return
        # By label one connection serves every target in the namespace, but needs leave to list and watch all Secrets there.
        watch = cluster.watch_labelled if self.namespaces.selector else cluster.watch_secret
        watch(self.secrets.api, namespace, name, self, self.changed)

    def _has_changed(self, namespace: str) -> bool:
        known = self.secrets.recall(namespace)
        found = self.secrets.look(namespace)
        return (found.version if found else None) != (known.version if known else None)
