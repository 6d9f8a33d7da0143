"""What is known of the Secrets of a cluster: the latest version of each that a watch, a look or a write of ours brought."""

from __future__ import annotations

import threading

from rotator.targets.kubernetes.ownership import SecretView

__all__ = ["Memory"]


class Memory:
    """Secrets by namespace and name, never older than what was known before. Safe to be used from several threads."""

    def __init__(self) -> None:
        self._views: dict[tuple[str, str], SecretView] = {}
        self._gone: dict[tuple[str, str], str] = {}
        """the version in which it went, of what a watch told; an answer to a look or a write of before may still be on its way"""
        self._lock = threading.Lock()

    def keep(self, namespace: str, name: str, view: SecretView) -> bool:
        """Remember it, unless something newer is known; whether it is news."""
        with self._lock:
            known = self._views.get((namespace, name))
            gone = self._gone.get((namespace, name), "")
            # Of one that only lost the label that is watched, the version in which it went is also that which it has now.
            if (known is not None and not _is_newer(view.version, known.version)) or _is_older(view.version, gone):
                return False
            self._views[namespace, name] = view
            self._gone.pop((namespace, name), None)
            return True

    def forget(self, namespace: str, name: str, version: str = "") -> bool:
        """It is gone, in that version where it is known; whether it was known."""
        with self._lock:
            if version:
                self._gone[namespace, name] = version
            return self._views.pop((namespace, name), None) is not None

    def drop(self, namespace: str, name: str) -> None:
        """Nobody wants to know of it any more."""
        with self._lock:
            self._views.pop((namespace, name), None)
            self._gone.pop((namespace, name), None)

    def find(self, namespace: str, name: str) -> SecretView | None:
        """What is known of it; None: nothing, which is not to say that it is not there."""
        with self._lock:
            return self._views.get((namespace, name))

    def names_in(self, namespace: str) -> list[str]:
        """The Secrets of a namespace that are known."""
        with self._lock:
            return [name for where, name in self._views if where == namespace]


def _is_newer(version: str, known: str) -> bool:
    """Versions of one kind of object count upwards; what does not look like a number is taken for newer when it differs."""
    if version.isdecimal() and known.isdecimal():
        return int(version) > int(known)
    return version != known


def _is_older(version: str, gone: str) -> bool:
    return version.isdecimal() and gone.isdecimal() and int(version) < int(gone)
