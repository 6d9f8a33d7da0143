"""The verbs of the Vault store, over `documents` (what the two documents mean) and `adapter` (the server).

A commit looks first, compares what it sees with what its caller saw, and then writes under the server's own check-and-set, so that neither
a stale look nor a race with anybody, rotator or not, writes over something unseen. Nothing is cached but that the mount is of version 2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import structlog
from hvac.api.secrets_engines.kv_v2 import KvV2
from hvac.api.system_backend.capabilities import Capabilities
from hvac.utils import format_url

from rotator.domain.errors import Conflict, IllegalTransition, Misconfigured, Permanent, Refused, RotatorError
from rotator.domain.keys import KeyId
from rotator.domain.ports import Access, Clock, Holding
from rotator.domain.record import Change, Record
from rotator.domain.secret import Secret
from rotator.remote.http import VERB_WITHIN, Remote, RemoteOptions, deadline
from rotator.stores.changes import build_next
from rotator.stores.surroundings import Surroundings
from rotator.stores.vault.adapter import Answered, VaultAdapter
from rotator.stores.vault.config import VaultStoreConfig
from rotator.stores.vault.documents import Announcement, Document, Sibling, find_key, parse_sibling, render_sibling, settle
from rotator.stores.vault.faults import explain, explain_write
from rotator.stores.vault.login import build_session
from rotator.stores.vault.policies import OWN_TOKEN, find_missing, gather_needs, render_policy

log = structlog.get_logger(__name__)

_NOT_FOUND = 404
_TRIES = 5
"""How often a look is begun again while others write."""
_REFUSALS = 20
"""One after the other and nothing else: it is no matter of single paths, such as a token that is dead."""
_LARGEST = 4_000_000
_MERGE = {"Content-Type": "application/merge-patch+json"}
_UNSAFE = re.compile(r"(?:^|/)(?:\.{0,2}|\+)(?:/|$)|\*$|\{\{")
"""parts that name another path, or that a policy would read as a pattern"""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the two documents of a credential lie."""

    path: str
    sibling: str


@dataclass(frozen=True, slots=True)
class _Look:
    """Both documents at one moment, and what they mean."""

    path: Document
    beside: Document
    sibling: Sibling | None
    record: Record | None
    secrets: Mapping[KeyId, Secret]
    current: KeyId | None
    open: Announcement | None

    def build_holding(self) -> Holding:
        entry = self.record.current if self.record else None
        ours = entry is not None and entry.key_id == self.current
        since = entry.promoted_at if ours and entry is not None else self.path.created_at
        return Holding(
            revision=f"{self.path.mark}|{self.beside.mark}",
            record=self.record,
            current=self.current,
            current_since=since if self.current is not None else None,
            secrets=self.secrets,
        )


def open_store(config: VaultStoreConfig, surroundings: Surroundings) -> VaultStore:
    """The store of a configuration. Opens no connection. Raises `Misconfigured` for certificate files that cannot be used."""
    cert, key = config.client_cert_file, config.client_key_file
    options = RemoteOptions(
        timeout=config.timeout,
        ca_file=config.ca_file,
        client_cert=(cert, key) if cert is not None and key is not None else None,
        rate=config.rate,
        burst=config.burst,
        largest_body=_LARGEST,
    )
    name = surroundings.name
    remote = Remote(name, config.address, surroundings.clock, options, surroundings.observe)
    session = build_session(config.auth, name, lambda token: VaultAdapter(remote, config.namespace, lambda: token), surroundings.clock)
    return VaultStore(name, config, VaultAdapter(remote, config.namespace, session.get_token, session.find_other), surroundings.clock)


class VaultStore:
    """Credentials in a mount of KV version 2. Fulfils `rotator.domain.ports.Store`; safe for threads, processes and machines."""

    def __init__(self, name: str, config: VaultStoreConfig, adapter: VaultAdapter, clock: Clock) -> None:
        self.name = name
        self._config = config
        self._mount = config.mount
        self._adapter = adapter
        self._kv = KvV2(adapter)
        self._clock = clock
        self._is_version_2 = False
        self._unmarked: frozenset[str] = frozenset()
        """paths whose metadata we were refused at the last round"""

    def __repr__(self) -> str:
        return f"<VaultStore {self.name} at {self._config.address}/v1/{self._mount}>"

    def read(self, path: str) -> Holding:
        """What the path holds. Raises `Unreachable`, `RateLimited`, `Refused`, `Misconfigured`."""
        with deadline(VERB_WITHIN):
            return self._look(self._place(path)).build_holding()

    def commit(self, path: str, seen: Holding, change: Change) -> Holding:
        """As `Store.commit`. A change of the current key takes three writes, any other one; `documents` tells of a crash in between."""
        with deadline(VERB_WITHIN):
            place = self._place(path)
            look = self._look(place)
            if look.build_holding().revision != seen.revision:
                raise Conflict(f"{self.name}: someone else wrote {path} or its record since it was read: read it again")
            record, secrets = build_next(look.record, look.secrets, change)
            comes = _find_new_current(look.record, record)
            if comes is None or comes == look.current:
                look = self._fence(place, look)
                return self._write_sibling(place, look, Sibling(record, secrets)).build_holding()
            return self._exchange(place, look, comes, record, secrets).build_holding()

    def check(self, path: str) -> None:
        """Preflight: both documents can be read and may be written, and the server will not delete them by itself."""
        with deadline(VERB_WITHIN):
            place = self._place(path)
            look = self._look(place)
            for document, where in ((look.path, place.path), (look.beside, place.sibling)):
                if document.ends:
                    raise Refused(
                        f"{self.name} deletes the versions of {self._mount}/{where} by itself: set `delete_version_after` of it and of the "
                        "mount to 0s, or keys would be lost"
                    )
            missing = self._find_missing(gather_needs(self._mount, place.path, place.sibling, writes=True))
            if missing:
                raise Refused(
                    f"{self.name} does not allow {', '.join(missing)}: add that to the policy of our token; `rotator check --live` prints "
                    "it whole"
                )

    def list_marks(self, paths: Sequence[str]) -> Mapping[str, str]:
        """As `Store.list_marks`: one request for metadata a path. A path that is refused is left out and told of once; raises where nothing
        but refusals come."""
        marks: dict[str, str | None] = {}
        refused: dict[str, RotatorError] = {}
        for path in paths:
            try:
                marks[path] = self._read_mark(self._place(path))
            except (Permanent, Misconfigured) as problem:
                refused[path] = problem
                if not marks and len(refused) in (_REFUSALS, len(paths)):
                    raise
        for path in refused.keys() - self._unmarked:
            log.warning("changes from outside are not noticed at once", action="poll", store=self.name, problem=str(refused[path]))
        self._unmarked = frozenset(refused)
        return {path: mark for path, mark in marks.items() if mark is not None}

    def find_access(self, path: str, *, writes: bool) -> Access:
        """By `sys/capabilities-self`."""
        with deadline(VERB_WITHIN):
            place = self._place(path)
            needs = gather_needs(self._mount, place.path, place.sibling, writes=writes)
            policy = render_policy({**needs, **OWN_TOKEN})
            missing = self._find_missing({**needs, **OWN_TOKEN})
        if missing is None:
            # Nothing is known of the rest; whoever may not ask may not much else.
            missing = ("update on sys/capabilities-self",)
        return Access(missing, policy)

    def _find_missing(self, needs: Mapping[str, tuple[str, ...]]) -> tuple[str, ...] | None:
        """None where the server does not let us ask."""
        try:
            said = Capabilities(self._adapter).get_capabilities(list(needs))
        except Answered as answered:
            failure = None if answered.status == 403 else explain(answered, self.name, "asking what is allowed", "")
        else:
            granted = said.get("data") or said
            return tuple(find_missing(needs, granted))
        if failure is None:
            return None
        raise failure

    def _place(self, path: str) -> _Place:
        if _UNSAFE.search(path):
            raise Misconfigured(f"{path}: no path for Vault: without empty parts, ., .., + and {{{{, and without * at its end, please")
        before, after = self._config.sibling.split("{path}")
        if path.startswith(before) and path.endswith(after):
            raise Misconfigured(f"{path}: the lifecycle records of others lie there (`sibling` of {self.name}): choose another path")
        return _Place(path, self._config.sibling.replace("{path}", path))

    def _look(self, place: _Place) -> _Look:
        """Both documents, as they stood together: the sibling is read first, and again where `path` holds what it does not know of."""
        self._ensure_version_2()
        beside = self._read(place.sibling)
        for _ in range(_TRIES):
            path = self._read(place.path)
            look = self._interpret(place, path, beside)
            if not _is_surprising(look):
                return look
            again = self._read(place.sibling)
            if again.mark == beside.mark:
                return look
            beside = again
        raise Conflict(f"{self.name}: others write {place.path} all the time: read it again")

    def _interpret(self, place: _Place, path: Document, beside: Document) -> _Look:
        where = f"{self.name}: {self._mount}/{place.path}"
        found = find_key(path.data, self._config.key_field, where)
        current = found.key_id if found is not None else None
        sibling = parse_sibling(beside.data, f"{self.name}: {self._mount}/{place.sibling}")
        settled = settle(path, current, sibling)
        secrets = dict(sibling.secrets) if sibling is not None else {}
        if found is not None and not secrets.setdefault(found.key_id, found).same_as(found):
            raise Misconfigured(
                f"{where}: what stands in {self._config.key_field} has the id of key {current} and is another key: put the right one back; "
                "the version of the document before holds it"
            )
        known = settled.record.key_ids if settled.record else frozenset()
        kept = {key_id: secret for key_id, secret in secrets.items() if key_id in known or key_id == current}
        return _Look(path, beside, sibling, settled.record, kept, current, settled.open)

    def _exchange(self, place: _Place, look: _Look, comes: KeyId, record: Record, secrets: Mapping[KeyId, Secret]) -> _Look:
        """Announce, write `path`, tidy."""
        before = look.record.current if look.record else None
        if look.current != (before.key_id if before else None):
            held = f"holds key {look.current}, which somebody else wrote" if look.current else "holds no key, which somebody else removed"
            raise IllegalTransition(f"{self._mount}/{place.path} {held}: it is settled first, {comes} never goes over it")
        if look.open is not None and look.open.key_id != comes:
            look = self._fence(place, look)
        is_first = look.open is None
        announced = Announcement(comes, look.path.version, record)
        # Where there is no record yet, it begins with the announcement.
        former = Sibling(look.record or Record(record.uid, record.installation), look.secrets)
        look = self._write_sibling(place, look, replace(former, secrets={**look.secrets, **secrets}, announced=announced))
        try:
            path = self._write_path(place, look.path, secrets[comes])
        except Permanent:
            # It is surely not made. Whoever announced the same before us may yet make it, or has: then it is not ours to take back.
            if is_first:
                self._tidy(place, look, former)
            raise
        made = self._interpret(place, path, look.beside)
        return self._tidy(place, made, Sibling(record, secrets))

    def _tidy(self, place: _Place, look: _Look, sibling: Sibling) -> _Look:
        """Take the announcement out, if that is possible: else whoever looks next knows what it means."""
        try:
            return self._write_sibling(place, look, sibling)
        except RotatorError:
            return look

    def _fence(self, place: _Place, look: _Look) -> _Look:
        """Take from a stalled writer the version of `path` that it wants, where there is one."""
        if look.open is None:
            return look
        path = self._write_path(place, look.path, None)
        return self._interpret(place, path, look.beside)

    def _write_path(self, place: _Place, path: Document, secret: Secret | None) -> Document:
        """A new version of `path` with the key in its field, or as it is; the server keeps the other fields as they are."""
        fields = {} if secret is None else {self._config.key_field: secret.reveal()}
        body = {"options": {"cas": path.version}, "data": fields}
        what = f"writing {self._mount}/data/{place.path}"
        if path.data is None:
            said = self._write(place.path, fields, path.version, what)
        else:
            url = format_url("/v1/{mount}/data/{path}", mount=self._mount, path=place.path)
            said = self._ask_write(lambda: self._adapter.request("PATCH", url, headers=_MERGE, json=body), what, "patch", place.path)
        return _build_document(said, {**(path.data or {}), **fields})

    def _write_sibling(self, place: _Place, look: _Look, sibling: Sibling) -> _Look:
        what = f"writing {self._mount}/data/{place.sibling}"
        data = render_sibling(sibling)
        said = self._write(place.sibling, data, look.beside.version, what)
        return self._interpret(place, look.path, _build_document(said, data))

    def _write(self, path: str, data: Mapping[str, Any], version: int, what: str) -> Mapping[str, Any]:
        capability = "update" if version else "create"
        return self._ask_write(
            lambda: self._kv.create_or_update_secret(path, data, cas=version, mount_point=self._mount), what, capability, path
        )

    def _ask_write(self, ask: Callable[[], Any], what: str, capability: str, path: str) -> Mapping[str, Any]:
        try:
            said = ask().get("data")
        except Answered as answered:
            failure = explain_write(answered, self.name, what, self._say_capability(capability, path))
        else:
            if isinstance(said, dict) and isinstance(said.get("version"), int):
                return said
            failure = Misconfigured(f"{self.name}: {self._mount} is not of version 2 of KV any more: {what} gave no version")
        raise failure

    def _say_capability(self, capability: str, path: str) -> str:
        return f"our token lacks `{capability}` on {self._mount}/data/{path}; `rotator check --live` prints the policy"

    def _read(self, path: str) -> Document:
        url = format_url("/v1/{mount}/data/{path}", mount=self._mount, path=path)
        try:
            said = self._adapter.get(url).get("data") or {}
        except Answered as answered:
            if answered.status == _NOT_FOUND and not answered.errors:
                return _build_document(answered.data.get("metadata"), None)
            failure = explain(answered, self.name, f"reading {self._mount}/data/{path}", self._say_capability("read", path))
        else:
            return _build_document(said.get("metadata"), said.get("data"))
        raise failure

    def _read_mark(self, place: _Place) -> str | None:
        self._ensure_version_2()
        where = f"{self._mount}/metadata/{place.path}"
        try:
            said = self._kv.read_secret_metadata(place.path, mount_point=self._mount).get("data") or {}
        except Answered as answered:
            if answered.status == _NOT_FOUND and not answered.errors:
                return None
            failure = explain(answered, self.name, f"reading {where}", f"our token lacks `read` on {where}")
        else:
            number = said.get("current_version") or 0
            newest = (said.get("versions") or {}).get(str(number)) or {}
            deleted_at = _parse_time(str(newest.get("deletion_time") or ""))
            gone = newest.get("destroyed") or (deleted_at is not None and deleted_at <= self._clock.now())
            return None if not newest or gone else f"{number}@{newest.get('created_time')}"
        raise failure

    def _ensure_version_2(self) -> None:
        """A mount of version 1 would take our writes without any check-and-set."""
        if self._is_version_2:
            return
        try:
            said = self._adapter.get(format_url("/v1/sys/internal/ui/mounts/{mount}", mount=self._mount)).get("data") or {}
        except Answered as answered:
            help_ = f"nothing is mounted at {self._mount}, or our token may do nothing there; `rotator check --live` prints the policy"
            failure = explain(answered, self.name, f"looking at the mount {self._mount}", help_)
        else:
            version = (said.get("options") or {}).get("version") or "1"
            if said.get("type") == "kv" and version == "2":
                self._is_version_2 = True
                return
            failure = Misconfigured(
                f"{self.name}: {self._mount} is {said.get('type')} of version {version}, not KV version 2: correct `mount`, or run "
                f"`vault kv enable-versioning {self._mount}`"
            )
        raise failure


def _find_new_current(before: Record | None, after: Record) -> KeyId | None:
    """The key that the change makes current; None where it leaves that alone."""
    former = before.current.key_id if before is not None and before.current else None
    current = after.current.key_id if after.current else None
    return current if current != former else None


def _is_surprising(look: _Look) -> bool:
    """Whether `path` holds what the sibling, as it was read, does not know of: it may have been written since."""
    known = look.record.current.key_id if look.record is not None and look.record.current else None
    return look.current != known or (look.sibling is not None and look.sibling.announced is not None)


def _build_document(metadata: object, data: object) -> Document:
    if not isinstance(metadata, dict):
        return Document()
    created = str(metadata.get("created_time") or "")
    return Document(
        version=int(metadata.get("version") or 0),
        created=created,
        created_at=_parse_time(created),
        data=data if isinstance(data, dict) else None,
        ends=bool(metadata.get("deletion_time")) and isinstance(data, dict),
    )


def _parse_time(text: str) -> datetime | None:
    """Of Go's form, with up to nine digits of a second."""
    try:
        return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text))
    except ValueError:
        return None
