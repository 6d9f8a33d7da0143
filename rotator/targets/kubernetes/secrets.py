"""One Secret in one namespace: looked at, applied onto the version that was seen, rehearsed, removed."""

from __future__ import annotations

from dataclasses import dataclass

from rotator.domain.errors import Conflict, Refused
from rotator.domain.ports import Delivery
from rotator.domain.reasons import Reason
from rotator.targets.kubernetes.api import ClusterApi, Object
from rotator.targets.kubernetes.cluster import Cluster, secrets_path
from rotator.targets.kubernetes.contents import SecretShape, build_placeholder, build_shell
from rotator.targets.kubernetes.ownership import CREATOR, MANAGER, SecretView, read_view

__all__ = ["Secrets"]


@dataclass(frozen=True, slots=True)
class Secrets:
    """The Secret of one target, in whichever namespace."""

    api: ClusterApi
    cluster: Cluster
    name: str
    shape: SecretShape
    adopt: bool

    @property
    def entries(self) -> frozenset[str]:
        """The entries that we apply."""
        return frozenset(self.shape.contents)

    def path(self, namespace: str) -> str:
        """Its place in the API."""
        return f"{secrets_path(namespace)}/{self.name}"

    def look(self, namespace: str) -> SecretView | None:
        """What is there now; None: nothing. Raises `Unreachable`, `Refused`."""
        found = self.api.find(self.path(namespace), f"reading Secret {namespace}/{self.name}", metadata=True)
        if found is None:
            self.cluster.memory.forget(namespace, self.name)
            return None
        return self._keep(namespace, found)

    def recall(self, namespace: str) -> SecretView | None:
        """What was seen last; None: nothing was."""
        return self.cluster.memory.find(namespace, self.name)

    def find_live(self, namespace: str) -> SecretView | None:
        """What is there, as a living watch keeps it; None: look."""
        return self.cluster.find_live(namespace, self.name)

    def _keep(self, namespace: str, found: Object) -> SecretView:
        view = read_view(found)
        self.cluster.memory.keep(namespace, self.name, view)
        return view

    def find_objection(self, namespace: str, view: SecretView | None, credential: str) -> str:
        """Why this Secret must not be written, with what to do; empty: nothing speaks against it."""
        if view is None or view.is_shell:
            return ""
        what, notes = f"Secret {namespace}/{self.name}", view.notes
        if notes is not None and (notes.installation, notes.credential) != (self.shape.installation, credential):
            owner = f"credential {notes.credential} of installation {notes.installation}"
            return "" if self.adopt else f"{what} was written for {owner}: use another name, or set `adopt: true` on the target"
        if notes is None and view.owned and not self.adopt:
            return f"{what} has lost the annotations that say whose it is: delete it, or set `adopt: true` on the target for a while"
        if notes is None and not self.adopt:
            return f"{what} was not written by rotator: delete it, use another name, or set `adopt: true` on the target"
        foreign = {} if self.adopt else view.find_foreign(self.entries)
        if foreign:
            named = ", ".join(f"{entry} ({manager})" for entry, manager in sorted(foreign.items()))
            return f"{what} has entries that others manage: {named}; use other names, or set `adopt: true` on the target"
        return ""

    def is_current(self, view: SecretView | None, delivery: Delivery) -> bool:
        """Whether it holds the delivery's key, as we wrote it, and nothing is to be done."""
        if view is None or view.notes is None or not view.is_intact(self.entries, self.shape.digest):
            return False
        notes = view.notes
        return (notes.installation, notes.credential, notes.key_id, notes.generation) == (
            self.shape.installation, delivery.credential, delivery.secret.key_id, delivery.generation
        )  # fmt: skip

    def write(self, namespace: str, view: SecretView | None, delivery: Delivery) -> SecretView:
        """Bring it to the delivery's key, if it still is what was seen.

        Raises `Conflict` (another version, or a newer generation, L2), `Refused`, `AnswerLost`, `Unreachable`, `RateLimited`.
        """
        if self.is_current(view, delivery):
            assert view is not None
            return view
        what = f"Secret {namespace}/{self.name}"
        notes = view.notes if view is not None else None
        objection = self.find_objection(namespace, view, delivery.credential)
        if objection:
            raise Refused(f"target {self.shape.target}: {objection}", reason=Reason.FOREIGN_ENTRY)
        same = notes is not None and (notes.installation, notes.credential) == (self.shape.installation, delivery.credential)
        if notes is not None and same and notes.generation > delivery.generation:
            raise Conflict(f"{what} was brought to generation {notes.generation}, newer than {delivery.generation}")
        again = notes is not None and same and notes.key_id == delivery.secret.key_id
        rotation = delivery.rotation or (notes.rotation if notes is not None and again else None)
        # What changes beside the key does not make it younger: nobody is restarted for it.
        placed_at = view.placed_at if view is not None and again and view.owned == self.entries else None
        body = self.shape.build(self.name, namespace, delivery, rotation, placed_at)  # too large is said before anything is made
        seen = view if view is not None else self._create(namespace)
        metadata = body["metadata"]
        assert isinstance(metadata, dict)
        # The version alone would not do: an apply of one onto nothing makes a new Secret.
        metadata |= {"uid": seen.uid, "resourceVersion": seen.version}
        # Forced: whose fields these are was judged above, on the very version that this is conditional on.
        written, _ = self.api.apply(self.path(namespace), body, f"applying {what}", manager=MANAGER, force=True)
        return self._keep(namespace, written)

    def _create(self, namespace: str) -> SecretView:
        """An apply cannot demand that nothing is there; but one of our label alone changes nothing where another replica was faster."""
        what = f"creating Secret {namespace}/{self.name}"
        made, is_new = self.api.apply(
            self.path(namespace), build_shell(self.name, namespace, self.shape.target), what, manager=CREATOR, force=False
        )
        view = read_view(made)
        if not is_new and not view.is_shell:
            self.api.apply(self.path(namespace), build_shell(self.name, namespace, None), what, manager=CREATOR, force=False)
            raise Conflict(f"Secret {namespace}/{self.name} was made by somebody else since it was looked for")
        # One that is there and empty is ours: it came late, or another replica made it, and who fills it first has it. Without its label
        # nobody would know whose it is.
        return view

    def rehearse(self, namespace: str, view: SecretView | None, credential: str) -> None:
        """A dry run with a placeholder for the key: raises what a write would raise."""
        body = self.shape.build(self.name, namespace, build_placeholder(credential))
        self.api.apply(
            self.path(namespace), body, f"applying Secret {namespace}/{self.name} (a dry run)", manager=MANAGER, force=True, dry_run=True
        )
        if view is None:
            shell = build_shell(self.name, namespace, self.shape.target)
            what = f"creating Secret {namespace}/{self.name} (a dry run)"
            self.api.apply(self.path(namespace), shell, what, manager=CREATOR, force=False, dry_run=True)

    def remove(self, namespace: str, view: SecretView) -> None:
        """Delete it; where others have entries in it, take only ours out. Raises `Conflict` where it changed since."""
        what = f"Secret {namespace}/{self.name}"
        self.cluster.memory.forget(namespace, self.name)
        if not view.others:
            self.api.delete(self.path(namespace), view.uid, view.version, f"deleting {what}")
            return
        # The uid, or an apply onto one that went meanwhile would make an empty one.
        metadata = {"name": self.name, "namespace": namespace, "uid": view.uid}
        nothing = {**build_shell(self.name, namespace, None), "metadata": metadata}
        body = {**nothing, "metadata": {**metadata, "resourceVersion": view.version}}
        self.api.apply(self.path(namespace), body, f"taking our entries out of {what}", manager=MANAGER, force=False)
        self.api.apply(self.path(namespace), nothing, f"taking our label off {what}", manager=CREATOR, force=False)
