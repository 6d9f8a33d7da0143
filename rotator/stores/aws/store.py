"""The verbs of the store in AWS Secrets Manager. How the pieces make a compare-and-set is told in `docs/aws.md`.

A path has two secrets: the one of that name, which consumers read, and the record's, which says everything else. A change is written to the
record (a draft, then AWSCURRENT moved onto it from the version that was read: AWS refuses that for all but one writer). A change of what
consumers find is announced there first, and committed by moving AWSCURRENT of their secret from the version that was read. Labels beside
that are tidied afterwards, and again at the next commit where that failed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from rotator.domain.errors import Conflict, Refused, RotatorError, Unreachable
from rotator.domain.keys import KeyId
from rotator.domain.ports import Access, Holding
from rotator.domain.reasons import Reason
from rotator.domain.record import Adopt, Change, Promote, Record
from rotator.domain.secret import Secret
from rotator.stores.aws.access import build_policy, find_missing
from rotator.stores.aws.api import Api, Connect, Observe
from rotator.stores.aws.config import AwsStoreConfig
from rotator.stores.aws.document import Document, Move, parse_document, render_document
from rotator.stores.aws.doubts import Doubts
from rotator.stores.aws.errors import Exists
from rotator.stores.aws.looks import Look, names_another
from rotator.stores.aws.names import build_name, gather_prefixes
from rotator.stores.aws.places import (
    CURRENT,
    DRAFT,
    FENCE,
    PENDING,
    STAGED,
    Moved,
    find_stranger,
    judge,
    plan_labels,
    settle,
    version_for,
)
from rotator.stores.aws.values import find_key, render_blank, render_value
from rotator.stores.changes import build_next

_LAGS = (0.1, 0.3, 0.9)
"""Seconds between looks while AWS shows an older state than was seen before"""
_PATIENCE = timedelta(seconds=60)
"""An older state that stays for so long is no lag: somebody put it there"""
_NOTHING = Document(0)

log = structlog.get_logger(__name__)


class AwsStore:
    """Credentials' keys in one account and region of AWS Secrets Manager. Fulfils `rotator.domain.ports.Store`; safe for threads."""

    def __init__(
        self,
        config: AwsStoreConfig,
        *,
        connect: Connect | None = None,
        observe: Observe | None = None,
        patience: timedelta = _PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._api = Api(config, connect, observe)
        self._sleep = sleep
        self._doubts = Doubts(patience.total_seconds(), monotonic)
        self._values: dict[str, tuple[str, Secret | None, datetime | None]] = {}
        """path → the last version that somebody else wrote: versions never change, so one look at its value is enough"""

    def __repr__(self) -> str:
        return f"<AwsStore {self._config.region or 'default region'}>"

    def read(self, path: str) -> Holding:
        """What the path holds. Raises `Unreachable`, also while AWS shows an older state than this process has seen; `Refused` and
        `Misconfigured` say what keeps the secret from being read."""
        doubt: str | None = None
        with self._api.verb():
            for pause in (*_LAGS, None):
                look = self._look(path)
                doubt = self._doubts.find(look)
                if doubt is None:
                    self._doubts.remember(look)
                    return look.build_holding()
                if self._doubts.is_over(path, doubt):
                    return look.build_holding()
                if pause is None or not self._api.has_time():
                    break
                self._sleep(pause)
        raise Unreachable(f"AWS secret {self._name(path)} shows an older state than before ({doubt}): AWS may lag, it is looked at again")

    def commit(self, path: str, seen: Holding, change: Change) -> Holding:
        """As `Store.commit`: one new version of the record.

        Bringing consumers another key takes a second one, and one of their secret; so does giving up what was begun of that.
        """
        with self._api.verb():
            look = self._look(path)
            if look.revision != seen.revision:
                raise Conflict(f"AWS secret {self._name(path)}: someone else wrote {path} since it was read: read it again")
            record, secrets = build_next(look.record, look.secrets, change)
            self._ensure_writable(look)
            if isinstance(change, Promote | Adopt) and names_another(look, change):
                after = self._put_in_place(look, change, record, secrets)
            else:
                after = self._write(self._fence(look), record, secrets)
            self._doubts.remember(after)
            return self._tidy(after).build_holding()

    def check(self, path: str) -> None:
        """Preflight: the secret can be read, is there or may be made, is not rotated by AWS, and by nobody else. Reads only."""
        with self._api.verb():
            look = self._look(path)
            self._ensure_writable(look)
            name = self._name(path)
            if not look.place.exists and not self._config.create:
                raise Refused(f"AWS secret {name} is not there: make it, or set `create: true` for the store")
            stranger = find_stranger(look.document, look.place)
            if stranger is not None:
                raise Refused(
                    f"AWS secret {name}: AWSPENDING stands at version {stranger}, which is not rotator's: another rotation was begun and "
                    "not ended. Let it end, or take the label off: `aws secretsmanager update-secret-version-stage --secret-id "
                    f"{name} --version-stage AWSPENDING --remove-from-version-id {stranger}`",
                    reason=Reason.FOREIGN_ENTRY,
                )

    def list_marks(self, paths: Sequence[str]) -> Mapping[str, str]:
        """As `Store.list_marks`: the version ids of AWSCURRENT, a hundred secrets in a call. AWS may lag by some minutes here."""
        wanted = {self._name(path): path for path in paths}
        marks: dict[str, str] = {}
        with self._api.verb():
            for name, versions in self._api.gather_labels(gather_prefixes(wanted)) if wanted else ():
                current = next((version for version, labels in versions.items() if CURRENT in labels), None)
                if name in wanted and current is not None:
                    marks[wanted[name]] = current
        return marks

    def find_access(self, path: str, *, writes: bool) -> Access:
        """What is missing as far as reading, and a move that AWS must refuse, can tell; PutSecretValue and CreateSecret can't be asked."""
        name, record = self._name(path), self._record_name(path)
        with self._api.verb():
            missing = find_missing(self._api, name, record, writes=writes)
            arn = "" if missing else self._api.describe(name).arn
            return Access(missing, build_policy(self._config, self._api.region(), arn, name, record, writes=writes))

    def _name(self, path: str) -> str:
        return build_name(path)

    def _record_name(self, path: str) -> str:
        return build_name(f"{self._config.record_prefix}{path}")

    def _look(self, path: str) -> Look:
        """Record, labels, and what consumers find. Read until the record stayed the same meanwhile, where the two do not fit."""
        version, document = self._read_document(path)
        while True:
            look = self._look_at_place(path, version, document)
            if look.current is not None and look.record is not None and look.record.current is not None:
                if look.current.key_id == look.record.current.key_id:
                    return look
            elif look.current is None and (look.record is None or look.record.current is None):
                return look
            again, document = self._read_document(path)
            if again == version:
                return look
            version = again

    def _look_at_place(self, path: str, version: str | None, document: Document) -> Look:
        name = self._name(path)
        place = self._api.describe(name)
        if place.deleted:
            raise Refused(
                f"AWS secret {name} is scheduled for deletion: `aws secretsmanager restore-secret --secret-id {name}`, or name another path"
            )
        moved = judge(document.move, place)
        look = Look(path, version, settle(document, moved), moved, place)
        if place.current is None:
            return look
        known = look.document.find_key(place.current)
        if known is not None:
            return replace(look, current=look.document.secrets[known])
        secret, created = self._read_current(path, place.current)
        return replace(look, current=secret, current_since=created)

    def _read_document(self, path: str) -> tuple[str | None, Document]:
        name = self._record_name(path)
        stored = self._api.find_value(name)
        return (None, _NOTHING) if stored is None else (stored.version, parse_document(stored.text, f"AWS secret {name}"))

    def _read_current(self, path: str, version: str) -> tuple[Secret | None, datetime | None]:
        known = self._values.get(path)
        if known is None or known[0] != version:
            stored = self._api.find_value(self._name(path), version)
            if stored is None:
                raise Unreachable(f"AWS secret {self._name(path)}: it was changed while it was read: read it again")
            known = (version, find_key(stored.text, self._config.key_field, f"AWS secret {self._name(path)}"), stored.created)
            self._values[path] = known
        return known[1], known[2]

    def _ensure_writable(self, look: Look) -> None:
        name, place = self._name(look.path), look.place
        if place.rotated:
            raise Refused(
                f"AWS secret {name} is rotated by AWS itself (RotationEnabled): two rotators would undo each other. End one of them: "
                f"`aws secretsmanager cancel-rotate-secret --secret-id {name}`, or take the credential out of rotator"
            )
        if place.primary and place.primary != self._api.region():
            raise Refused(f"AWS secret {name} is a replica here, its original is in {place.primary}: set that `region` for the store")

    def _write(self, look: Look, record: Record, secrets: Mapping[KeyId, Secret]) -> Look:
        """One compare-and-set of the record; what consumers find stays."""
        versions = self._known_versions(look, record)
        pending = record.pending
        if pending is not None and pending.key_id not in versions and look.place.current is not None:
            versions[pending.key_id] = self._version_for(look, record, pending.key_id)
        return self._swap_document(look, Document(look.document.number + 1, record, secrets, versions))

    def _known_versions(self, look: Look, record: Record) -> dict[KeyId, str]:
        kept = {key.key_id for key in record.keys}
        versions = {key_id: version for key_id, version in look.document.versions.items() if key_id in kept}
        if look.current is not None and look.current.key_id in kept and look.place.current is not None:
            versions[look.current.key_id] = look.place.current
        return versions

    def _swap_document(self, look: Look, document: Document) -> Look:
        """Write the record in place of the version that was read, or raise `Conflict`."""
        name, version = self._record_name(look.path), str(uuid.uuid4())
        text = render_document(document, f"AWS secret {name}")
        if look.version is None:
            try:
                self._api.create(name, text, version, f"rotator's record of {look.path}")
            except Exists:
                # Made by hand, perhaps, and empty; or by who was faster: then the move below is refused.
                if not self._api.put(name, version, text, DRAFT):
                    self._api.swap(name, CURRENT, None, version)
        else:
            self._api.put(name, version, text, DRAFT)
            self._api.swap(name, CURRENT, look.version, version)
        return replace(look, version=version, document=document, moved=judge(document.move, look.place))

    def _put_in_place(self, look: Look, change: Promote | Adopt, record: Record, secrets: Mapping[KeyId, Secret]) -> Look:
        """Make another key the one that consumers find: announce it, move AWSCURRENT (the commit point), settle the record."""
        self._ensure_replaceable(look, change)
        key_id = change.key_id if isinstance(change, Promote) else change.entry.key_id
        version = self._version_for(look, record, key_id)
        if look.document.move is not None and look.document.move.to != version:
            look = self._fence(look)
            version = self._version_for(look, record, key_id)
        before = look.document
        move = Move(key_id, look.place.current, version, record)
        versions = self._known_versions(look, before.record) if before.record else {}
        announced = Document(before.number + 1, before.record, {**before.secrets, **secrets}, versions, move)
        look = self._swap_document(look, announced)
        look = self._move_current(look, move, secrets[key_id])
        try:
            return self._swap_document(look, replace(look.document, number=look.document.number + 1))
        except Conflict:
            return self._find_settled(look)
        except RotatorError as problem:
            # The labels tell that it took place: whoever reads next knows, and the next commit writes it down.
            log.info("settled later", store="aws", path=look.path, problem=str(problem))
            return look

    def _find_settled(self, look: Look) -> Look:
        """Someone else wrote the record after our move: with the move in it, or the move was none of this record's."""
        now, expected = self._look(look.path), look.record.generation if look.record else 0
        if now.record is None or now.record.generation < expected:
            raise Conflict(f"AWS secret {self._name(look.path)}: someone else wrote {look.path} since it was read: read it again")
        return now

    def _ensure_replaceable(self, look: Look, change: Promote | Adopt) -> None:
        expected = look.record.current.key_id if look.record and look.record.current else None
        found = look.current.key_id if look.current else None
        if isinstance(change, Promote) and found != expected:
            raise Conflict(f"AWS secret {self._name(look.path)}: key {found} was put there by someone else: it is never overwritten")

    def _move_current(self, look: Look, move: Move, secret: Secret) -> Look:
        name = self._name(look.path)
        look, is_current = self._ensure_version(look, move.to, secret)
        if not is_current:
            self._api.swap(name, CURRENT, move.source, move.to)
        place = look.place.moved(CURRENT, move.to)
        return replace(look, place=place, moved=Moved.DONE, document=settle(look.document, Moved.DONE), current=secret)

    def _ensure_version(self, look: Look, version: str, secret: Secret) -> tuple[Look, bool]:
        """The version that brings a key to consumers, beside the current one whose other fields it has; and whether it is current at once,
        as a secret's first version is."""
        name, place = self._name(look.path), look.place
        if version in place.versions:
            return look, version == place.current
        if not place.exists:
            self._create_place(name)
        former = place.labels.get(STAGED)
        if former is not None and place.labels.get(PENDING) == former:
            # AWSPENDING never stays alone on a version of ours: it would look like someone else's.
            self._api.swap(name, PENDING, former, None)
            place = place.moved(PENDING, None)
        base = self._api.find_value(name, place.current) if place.current is not None else None
        value = render_value(base.text if base else None, self._config.key_field, secret, f"AWS secret {name}")
        is_current = self._api.put(name, version, value, STAGED)
        return replace(look, place=place.moved(STAGED, version)), is_current

    def _create_place(self, name: str) -> None:
        if not self._config.create:
            raise Refused(f"AWS secret {name} is not there: make it, or set `create: true` for the store")
        try:
            self._api.create(name, None, "", self._config.description)
        except Exists:
            return  # an outsider was faster: our move will be refused if it has a value

    def _fence(self, look: Look) -> Look:
        """Before a move that was announced is given up: see to it that nobody who was stopped in the middle of it can finish it.

        AWSCURRENT goes to a copy of its version, so that a late move from that version is refused. Consumers find the same as before: the
        same value, or, where there was none yet, a blank one.
        """
        name, source, copy = self._name(look.path), look.place.current, str(uuid.uuid4())
        if look.document.move is None:
            return look
        if not look.place.exists:
            if not self._config.create:
                return replace(look, document=replace(look.document, move=None))
            self._create_place(name)
        text: str | None = render_blank(self._config.key_field)
        if source is not None:
            stored = self._api.find_value(name, source)
            text = stored.text if stored else None
        if text is None:
            raise Unreachable(f"AWS secret {name}: it was changed while it was read: read it again")
        if not self._api.put(name, copy, text, FENCE):
            self._api.swap(name, CURRENT, source, copy)
        place = look.place.moved(FENCE, copy).moved(CURRENT, copy)
        return replace(look, place=place, moved=Moved.VOID, document=replace(look.document, move=None))

    def _version_for(self, look: Look, record: Record, key_id: KeyId) -> str:
        current = record.current
        generation = record.generation if current is not None and current.key_id == key_id else record.generation + 1
        return version_for(record.uid, generation, key_id, look.place.current, self._config.key_field)

    def _tidy(self, look: Look) -> Look:
        """Make the version of a staged key, and let the labels say what the record says. What fails is done at the next commit."""
        try:
            look = self._show_pending(look)
            for relabel in plan_labels(look.document, look.place):
                self._api.swap(self._name(look.path), relabel.label, relabel.source, relabel.to)
                look = replace(look, place=look.place.moved(relabel.label, relabel.to))
        except RotatorError as problem:
            log.info("labels are tidied later", store="aws", path=look.path, problem=str(problem))
        return look

    def _show_pending(self, look: Look) -> Look:
        pending = look.record.pending if look.record else None
        version = look.document.versions.get(pending.key_id) if pending else None
        if pending is None or version is None or version in look.place.versions:
            return look
        base = self._version_for(look, look.record, pending.key_id) if look.record else None
        return self._ensure_version(look, version, look.document.secrets[pending.key_id])[0] if base == version else look
