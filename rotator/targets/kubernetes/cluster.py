"""One cluster, as all targets on it share it: the connections, what is remembered, the watches, and the threads for many calls at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from rotator.targets.kubernetes.access import ClusterAccess
from rotator.targets.kubernetes.api import ClusterApi, Object
from rotator.targets.kubernetes.contents import LABEL
from rotator.targets.kubernetes.feeds import Feed
from rotator.targets.kubernetes.memory import Memory
from rotator.targets.kubernetes.ownership import SecretView, read_view

__all__ = ["NAMESPACES", "Cluster", "secrets_path"]

NAMESPACES = "/api/v1/namespaces"
_AT_ONCE = 16
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Topic = tuple[str, ...]
_NAMESPACES = "namespaces"
"""the first word of a topic that is a selector of namespaces; of those of Secrets the second is a namespace"""
Listener = Callable[[], None]


def secrets_path(namespace: str) -> str:
    """The Secrets of a namespace in the API."""
    return f"{NAMESPACES}/{namespace}/secrets"


@dataclass(slots=True, eq=False)
class Cluster:
    """Safe to be used from several threads. Opens no connection before it is asked."""

    access: ClusterAccess
    memory: Memory = field(default_factory=Memory)
    _feeds: dict[_Topic, Feed] = field(default_factory=dict)
    _listeners: dict[_Topic, dict[object, Listener]] = field(default_factory=dict)
    """topic → who wants to know; of Secrets by label, one topic a Secret's name besides the feed's own"""
    _namespaces: dict[str, set[str]] = field(default_factory=dict)
    """selector → the namespaces that carry it, as the watch told"""
    _pool: ThreadPoolExecutor | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def map(self, work: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
        """Do it for each, several at once; in order."""
        if len(items) <= 1:
            return [work(item) for item in items]
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AT_ONCE, "kubernetes")
        return list(self._pool.map(work, items))

    def find_live(self, namespace: str, name: str) -> SecretView | None:
        """A Secret as a living watch keeps it; None: ask."""
        return self.memory.find(namespace, name) if self.watches(namespace, name) else None

    def find_namespaces(self, selector: str) -> list[str] | None:
        """The namespaces with these labels as a living watch keeps them; None: ask."""
        feed = self._feeds.get((_NAMESPACES, selector))
        if feed is None or not feed.is_live:
            return None
        with self._lock:
            return sorted(self._namespaces.get(selector, ()))

    def watches(self, namespace: str, name: str) -> bool:
        """Whether changes to a Secret come by themselves now."""
        if self._is_live(("secret", namespace, name)):
            return True
        known = self.memory.find(namespace, name)
        # A watch by label tells nothing of a Secret that does not carry it, and so is not ours yet: neither its changes nor its end.
        return self._is_live(("secrets", namespace)) and (known is None or known.labelled)

    def _is_live(self, topic: _Topic) -> bool:
        feed = self._feeds.get(topic)
        return feed is not None and feed.is_live

    def watch_secret(self, api: ClusterApi, namespace: str, name: str, owner: object, changed: Listener) -> None:
        """Watch one Secret by its name."""
        topic = ("secret", namespace, name)
        feed = Feed(
            api=api,
            path=secrets_path(namespace),
            what=f"watching Secret {namespace}/{name}",
            params={"fieldSelector": f"metadata.name={name}"},
            on_listed=partial(self._on_listed, namespace, (name,)),
            on_event=self._on_event,
        )
        self._listen(topic, owner, changed, feed)

    def watch_labelled(self, api: ClusterApi, namespace: str, name: str, owner: object, changed: Listener) -> None:
        """Watch all Secrets of rotator's in a namespace, for the one of that name: one connection, whoever else asks."""
        feed = Feed(
            api=api,
            path=secrets_path(namespace),
            what=f"watching Secrets in {namespace}",
            params={"labelSelector": LABEL},
            on_listed=partial(self._on_listed, namespace, None),
            on_event=self._on_event,
        )
        self._listen(("secrets", namespace), owner, lambda: None, feed)
        self._listen(("secret", namespace, name), owner, changed, None)

    def watch_namespaces(self, api: ClusterApi, selector: str, owner: object, changed: Listener) -> None:
        """Watch which namespaces carry these labels."""
        feed = Feed(
            api=api,
            path=NAMESPACES,
            what=f"watching namespaces with {selector}",
            params={"labelSelector": selector},
            on_listed=partial(self._on_namespaces, selector),
            on_event=partial(self._on_namespace, selector),
        )
        self._listen((_NAMESPACES, selector), owner, changed, feed)

    def is_watched(self, topic: _Topic, owner: object) -> bool:
        """Whether this owner listens to it."""
        with self._lock:
            return owner in self._listeners.get(topic, {})

    def leave(self, owner: object, namespace: str | None = None) -> None:
        """This owner wants to know nothing any more (of one namespace's Secrets, or at all); a watch that nobody wants ends."""
        with self._lock:
            for topic, listeners in list(self._listeners.items()):
                if namespace is None or (topic[0] != _NAMESPACES and topic[1] == namespace):
                    listeners.pop(owner, None)
                if not listeners:
                    del self._listeners[topic]
                    feed = self._feeds.pop(topic, None)
                    if feed is not None:
                        feed.stop()

    def _listen(self, topic: _Topic, owner: object, changed: Listener, feed: Feed | None) -> None:
        with self._lock:
            self._listeners.setdefault(topic, {})[owner] = changed
            if feed is not None and topic not in self._feeds:
                self._feeds[topic] = feed
                feed.start()

    def _tell(self, topic: _Topic) -> None:
        with self._lock:
            listeners = list(self._listeners.get(topic, {}).values())
        for changed in listeners:
            changed()

    def _on_listed(self, namespace: str, names: Sequence[str] | None, found: Sequence[Object]) -> None:
        """`names`: what the list is about; None: every Secret of ours in the namespace."""
        there = {str(one["metadata"]["name"]) for one in found}
        for name in self.memory.names_in(namespace) if names is None else names:
            if name not in there and self.memory.forget(namespace, name):
                self._tell(("secret", namespace, name))
        for one in found:
            self._on_event("ADDED", one)

    def _on_event(self, kind: str, found: Object) -> None:
        namespace, name = str(found["metadata"]["namespace"]), str(found["metadata"]["name"])
        # Of Secrets that are watched by label, one that lost the label is told of as deleted.
        if kind == "DELETED":
            news = self.memory.forget(namespace, name, str(found["metadata"].get("resourceVersion") or ""))
        else:
            news = self.memory.keep(namespace, name, read_view(found))
        if news:
            self._tell(("secret", namespace, name))

    def _on_namespaces(self, selector: str, found: Sequence[Object]) -> None:
        names = {str(one["metadata"]["name"]) for one in found if _is_staying(one)}
        with self._lock:
            news, self._namespaces[selector] = names != self._namespaces.get(selector), names
        if news:
            self._tell((_NAMESPACES, selector))

    def _on_namespace(self, selector: str, kind: str, found: Object) -> None:
        name = str(found["metadata"]["name"])
        with self._lock:
            names = self._namespaces.setdefault(selector, set())
            before = set(names)
            if kind == "DELETED" or not _is_staying(found):
                names.discard(name)
            else:
                names.add(name)
            news = names != before
        if news:
            self._tell((_NAMESPACES, selector))


def _is_staying(found: Object) -> bool:
    return "deletionTimestamp" not in found["metadata"]
