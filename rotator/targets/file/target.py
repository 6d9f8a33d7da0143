"""The file target: a raw key, a header value, a template, or an MCP client's configuration on this host.

Atomic, 0600, conditional on what was read. It delivers and reads back; it never decides when.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from rotator.domain.errors import Conflict, Refused, Unreachable
from rotator.domain.facts import Level
from rotator.domain.ports import Access, Clock, Delivery, Observation
from rotator.domain.reasons import Reason
from rotator.domain.secret import Secret
from rotator.mcp.diffs import masked_diff
from rotator.mcp.documents import decode_document
from rotator.mcp.errors import DocumentError
from rotator.targets.contents import Content, Written, refuse_foreign
from rotator.targets.file.backups import BackupFolder
from rotator.targets.file.ownership import Ownership, OwnershipFolder, hash_value
from rotator.targets.file.replacing import (
    FileState,
    find_objection,
    find_unwritable,
    locked_folder,
    read_state,
    remove_leftovers,
    replace_file,
)  # fmt: skip

MOST_REWRITES = 3
"""R11: a client that keeps writing its old copy back is not fought more often than this a day."""
_COMMAND_LIMIT = 10.0
_BELIEVED = 5.0
"""seconds for which a file that has not changed is believed to be fit to be written"""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FileTarget:
    """One file. Fulfils `rotator.domain.ports.Target`."""

    name: str
    path: Path
    content: Content
    ownership: OwnershipFolder
    backups: BackupFolder
    clock: Clock
    activation: str = "now"
    home: Path | None = None
    """links that leave it are refused"""
    installed: Path | None = None
    """the folder whose existence shows that the client is there (R18)"""
    adopt: bool = False
    command: Sequence[str] = ()
    _harmless: dict[str, float] = field(default_factory=dict, compare=False)
    """the file's last revision → the monotonic second in which nothing spoke against writing it; every delivery asks anew"""

    @property
    def best_level(self) -> Level:
        """A file can't tell who reads it."""
        return Level.PLACED

    def observe(self, credential: str, *, fresh: bool = False) -> Observation:  # noqa: ARG002  # a file is always read
        """The key in the file, if any, and whether one may be written there."""
        state = read_state(self.path)
        try:
            text = decode_document(state.content) if state.content is not None else ""
            secret = self.content.find_secret(text)
            taken = self.content.is_taken(text)
        except DocumentError as fault:
            return Observation(state.revision, problem=fault.reason, text=f"{self.path}: {fault}")
        record = self.ownership.find(self.name, credential)
        ours = self._is_ours(record, secret)
        objection = self._recall_objection(state)
        foreign = taken and not ours and not self.adopt
        words = objection or (str(refuse_foreign(str(self.path))) if foreign else "")
        return Observation(
            revision=state.revision,
            key_id=secret.key_id if secret else None,
            generation=record.generation if record is not None and ours and secret is not None else None,
            problem=Reason.UNSAFE_FILE if objection else Reason.FOREIGN_ENTRY if foreign else None,
            text=words,
        )

    def deliver(self, delivery: Delivery, seen: Observation) -> Observation:
        """Write the delivery's key, if the file still is what was seen and holds nothing newer."""
        self._refuse_unwritable()
        with locked_folder(self.path):
            remove_leftovers(self.path)
            state = read_state(self.path)
            if state.revision != seen.revision:
                raise Conflict(f"{self.path} changed since it was looked at")
            record = self.ownership.find(self.name, delivery.credential)
            if record is not None and record.generation > delivery.generation:
                raise Conflict(f"{self.path} was brought to generation {record.generation}, newer than {delivery.generation}")
            written, before = self._edit(state, delivery, record)
            self._write(state, written, before, delivery, record)
        words = self._run_command() + ("" if state.is_private else "others could read it: tightened to 0600")
        after = self.observe(delivery.credential)
        return replace(after, text=after.text or words)

    def check(self, credential: str) -> None:
        """A dry run: could a key be written now?"""
        self._refuse_unwritable()
        observation = self.observe(credential)
        if observation.problem is not None:
            raise Refused(f"target {self.name}: {observation.text}", reason=observation.problem)

    def follow(self, changed: Callable[[], None]) -> None:
        """Nobody tells of changes to a file: it is looked at after a delivery, and every now and then."""

    def close(self) -> None:
        """Nothing was begun."""

    def find_access(self, credential: str) -> Access:  # noqa: ARG002  # the port's signature
        """A file has no permissions but those that `check` looks at."""
        return Access()

    def preview(self, delivery: Delivery) -> str:
        """As `Target.preview`."""
        state = read_state(self.path)
        written, _ = self._edit(state, delivery, self.ownership.find(self.name, delivery.credential))
        before = decode_document(state.content) if state.content is not None else ""
        return masked_diff(before, written.text, str(self.path))

    def withdraw(self, credential: str) -> bool:
        """As `Target.withdraw`."""
        with locked_folder(self.path):
            state = read_state(self.path)
            record = self.ownership.find(self.name, credential)
            if state.content is None or record is None:
                return False
            text = decode_document(state.content)
            secret = self.content.find_secret(text)
            if not self._is_ours(record, secret):
                raise Refused(f"{self.path} does not hold what was written there any more: what stands there is left alone")
            self.backups.save(self.name, self.path, text)
            rest = self.content.erase(text, record.inserted)
            if rest is None:
                state.path.unlink()
            else:
                replace_file(state, rest.encode())
            self.ownership.drop(self.name, credential)
        return True

    def _edit(self, state: FileState, delivery: Delivery, record: Ownership | None) -> tuple[Written, Secret | None]:
        try:
            text = decode_document(state.content) if state.content is not None else ""
            before = self.content.find_secret(text)
            known = before is not None and before.key_id in delivery.ours
            if self.content.is_taken(text) and not (known or self.adopt or self._is_ours(record, before)):
                raise refuse_foreign(str(self.path))
            return self.content.write(text, delivery), before
        except DocumentError as problem:
            raise Refused(f"{self.path}: {problem}", reason=problem.reason) from problem

    def _write(self, state: FileState, written: Written, before: Secret | None, delivery: Delivery, record: Ownership | None) -> None:
        now = self.clock.now()
        content = written.text.encode()
        rewritten: tuple[str, ...] = ()
        same = record is not None and record.generation == delivery.generation and record.covers(delivery.secret)
        if record is not None and same and (before is None or not before.same_as(delivery.secret)):
            rewritten = (*record.rewritten_within_a_day(now), now.isoformat())
            if len(rewritten) > MOST_REWRITES:
                raise Refused(
                    f"{self.path}: something took the key out {MOST_REWRITES} times today (a running client that saves its old copy, "
                    "perhaps): restart that client",
                    reason=Reason.UNSAFE_FILE,
                )
        if content != state.content or not state.is_private:
            if state.content is not None:
                self.backups.save(self.name, self.path, decode_document(state.content))
            replace_file(state, content)
        inserted = written.inserted or (record.inserted if record is not None else None)
        self.ownership.save(
            self.name,
            delivery.credential,
            Ownership(
                path=str(state.path),
                credential=delivery.credential,
                key_id=str(delivery.secret.key_id),
                generation=delivery.generation,
                value_hash=hash_value(delivery.secret),
                written_at=now.isoformat(),
                inserted=inserted,
                rewritten=rewritten,
            ),
        )

    def _is_ours(self, record: Ownership | None, secret: Secret | None) -> bool:
        return record is not None and secret is not None and record.covers(secret)

    def _recall_objection(self, state: FileState) -> str:
        """As `_find_objection`, which asks the disk some twenty questions: where nothing spoke against it, not again for a moment."""
        now = self.clock.monotonic()
        since = self._harmless.get(state.revision)
        if since is not None and 0 <= now - since < _BELIEVED:
            return ""
        objection = self._find_objection(state)
        self._harmless.clear()
        if not objection:
            self._harmless[state.revision] = now
        return objection

    def _find_objection(self, state: FileState) -> str:
        return find_objection(self.path, self.home) or (self._not_installed() if state.content is None else "")

    def _not_installed(self) -> str:
        if self.installed is None or self.installed.is_dir():
            return ""
        return f"the client is not installed here ({self.installed} does not exist): install it, or take it out of the targets"

    def _refuse_unwritable(self) -> None:
        objection = find_objection(self.path, self.home)
        if objection:
            raise Refused(objection, reason=Reason.UNSAFE_FILE)
        unwritable = find_unwritable(self.path)
        if unwritable:
            raise Unreachable(f"target {self.name}: {unwritable}")

    def _run_command(self) -> str:
        if not self.command:
            return ""
        try:
            done = subprocess.run(  # noqa: S603  # the user's own program, no shell
                list(self.command), stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMMAND_LIMIT, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as problem:
            log.warning("command failed", action="command", target=self.name, problem=type(problem).__name__)
            return f"the command after the change failed ({type(problem).__name__}); "
        return "" if done.returncode == 0 else f"the command after the change ended with exit code {done.returncode}; "
