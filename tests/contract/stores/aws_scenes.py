"""Every change of the record as a scene over the strict fake: what stands before it, the change, and what should stand after."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rotator.domain.errors import AnswerLost
from rotator.domain.keys import KeyId
from rotator.domain.ports import Holding
from rotator.domain.record import (
    Adopt,
    Change,
    Claim,
    ClearLost,
    CloseAttempt,
    Describe,
    Doom,
    DoomOrphan,
    Forget,
    ForgetOrphan,
    MarkCompromised,
    Orphan,
    Promote,
    Record,
    Retire,
    StageKey,
    Swept,
    apply,
)
from rotator.domain.secret import Secret
from rotator.stores.aws.places import CURRENT
from rotator.stores.aws.store import AwsStore
from tests.contract.stores.build import UID, a_key, a_note, an_entry, an_opening, at, commit_all, hold_current
from tests.support.aws import get_fake, open_store
from tests.support.aws_fake import FakeAws, Fault

PATH = "millimetric/checkout-read"
OLD, CURRENT_KEY, NEW, NEWER, ORPHAN = a_key(), a_key(), a_key(), a_key(), a_key()
STRANGER = a_key()
FOREIGN = {"note": "grüße 🐢", "port": 5432, "exact": 1.50}


def value_of(key: Secret, **more: Any) -> str:
    """A value as a person writes it, with fields that are not ours."""
    return json.dumps({"user": "checkout", **FOREIGN, **more, "api_key": key.reveal()}, indent=2, ensure_ascii=False)


class Crash(BaseException):
    """The process ends here."""


class Mortal:
    """A client that dies after its n-th call."""

    def __init__(self, client: Any, calls: int) -> None:
        self.client, self.left, self.meta = client, calls, client.meta

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**given: Any) -> Any:
            try:
                return getattr(self.client, name)(**given)
            finally:
                self.left -= 1
                if self.left == 0:
                    raise Crash

        return call


@dataclass(frozen=True)
class Scene:
    """A change and what stands before it."""

    prepare: Callable[[FakeAws, AwsStore], None]
    change: Callable[[Record | None], Change]

    def set(self) -> tuple[AwsStore, Holding, Change]:
        """An empty fake with what stands before, a fresh client, and what it sees."""
        server = get_fake()
        server.fake.reset()
        self.prepare(server.fake, open_store(server.url))
        server.fake.calls.clear()
        store = open_store(server.url)
        seen = store.read(PATH)
        return store, seen, self.change(seen.record)


def _stand(fake: FakeAws, store: AwsStore) -> None:
    """Two rotations ago: an old key that still lives, a current one beside foreign fields, and attempts that are closed."""
    fake.do("CreateSecret", {"Name": PATH, "SecretString": value_of(OLD), "ClientRequestToken": "0" * 32})
    commit_all(store, PATH, Adopt(an_entry(OLD), at(1), UID, "test"))
    hold_current(store, PATH, CURRENT_KEY)


def _with(*changes: Change) -> Callable[[FakeAws, AwsStore], None]:
    def prepare(fake: FakeAws, store: AwsStore) -> None:
        _stand(fake, store)
        commit_all(store, PATH, *changes)

    return prepare


def _stage() -> tuple[Change, Change]:
    return an_opening("new"), StageKey(an_entry(NEW, attempt="new"), NEW)


def _begun(fake: FakeAws, store: AwsStore) -> None:
    """A promotion that was announced by a process that died before it moved anything."""
    _with(*_stage())(fake, store)

    def die(call: Any) -> None:
        if call.name == PATH and call.action == "UpdateSecretVersionStage" and call.body["VersionStage"] == CURRENT:
            raise Fault("InternalServiceError", status=500)

    fake.before = die
    with contextlib.suppress(AnswerLost):
        store.commit(PATH, store.read(PATH), Promote(NEW.key_id, CURRENT_KEY.key_id, at(5)))
    fake.before = None


def _fenced(fake: FakeAws, store: AwsStore) -> None:
    """A promotion that was announced and given up: the current key lies under a copy of its version. Another key is staged since."""
    _begun(fake, store)
    commit_all(store, PATH, Retire(NEW.key_id, at(5)), an_opening("newer"), StageKey(an_entry(NEWER, attempt="newer"), NEWER))


def _written_outside(fake: FakeAws, store: AwsStore) -> None:
    _with(*_stage())(fake, store)
    outsider_puts(fake)


def outsider_puts(fake: FakeAws) -> None:
    """Someone writes a key of his own into the consumers' secret, as `aws secretsmanager put-secret-value` does."""
    if PATH in fake.names():
        fake.do("PutSecretValue", {"SecretId": PATH, "SecretString": value_of(STRANGER), "ClientRequestToken": "9" * 32})
    else:
        fake.do("CreateSecret", {"Name": PATH, "SecretString": value_of(STRANGER), "ClientRequestToken": "9" * 32})


def _bootstrapping(fake: FakeAws, store: AwsStore) -> None:
    commit_all(store, PATH, *_stage())


def _bootstrapping_empty(fake: FakeAws, store: AwsStore) -> None:
    fake.do("CreateSecret", {"Name": PATH})
    commit_all(store, PATH, *_stage())


def _nothing(fake: FakeAws, store: AwsStore) -> None:
    return


_LOST = CloseAttempt("new", at(3), lost=True)
_ORPHANED = DoomOrphan(Orphan(ORPHAN.key_id, "new"))
_PROMOTE = Promote(NEW.key_id, CURRENT_KEY.key_id, at(5))


def _always(change: Change) -> Callable[[Record | None], Change]:
    return lambda _: change


SCENES: dict[str, Scene] = {
    "first": Scene(_nothing, _always(an_opening("new"))),
    "first-adoption": Scene(lambda fake, _: outsider_puts(fake), _always(Adopt(an_entry(STRANGER), at(1), UID, "test"))),
    "open": Scene(_stand, _always(an_opening("new"))),
    "close": Scene(_with(an_opening("new")), _always(CloseAttempt("new", at(3)))),
    "stage": Scene(_with(an_opening("new")), _always(_stage()[1])),
    "describe": Scene(_stand, _always(Describe(CURRENT_KEY.key_id, ("query_events",)))),
    "promote": Scene(_with(*_stage()), _always(_PROMOTE)),
    "promote-begun": Scene(_begun, _always(_PROMOTE)),
    "promote-fenced": Scene(_fenced, _always(Promote(NEWER.key_id, CURRENT_KEY.key_id, at(6)))),
    "promote-first": Scene(_bootstrapping, _always(Promote(NEW.key_id, None, at(5)))),
    "promote-first-empty": Scene(_bootstrapping_empty, _always(Promote(NEW.key_id, None, at(5)))),
    "roll-back": Scene(_stand, _always(Promote(OLD.key_id, CURRENT_KEY.key_id, at(5)))),
    "retire": Scene(_with(*_stage()), _always(Retire(NEW.key_id, at(5)))),
    "retire-begun": Scene(_begun, _always(Retire(NEW.key_id, at(5)))),
    "note-begun": Scene(_begun, _always(a_note("journal", 3))),
    "adopt": Scene(_written_outside, _always(Adopt(an_entry(STRANGER), at(6), UID, "test"))),
    "adopt-held": Scene(_with(*_stage()), _always(Adopt(an_entry(OLD), at(6), UID, "test"))),
    "doom": Scene(_stand, _always(Doom(OLD.key_id, at(6)))),
    "forget": Scene(_with(Doom(OLD.key_id, at(6))), _always(Forget(OLD.key_id))),
    "compromise": Scene(_stand, _always(MarkCompromised(CURRENT_KEY.key_id, at(6)))),
    "doom-orphan": Scene(_with(an_opening("new"), _LOST), _always(_ORPHANED)),
    "forget-orphan": Scene(_with(an_opening("new"), _LOST, _ORPHANED), _always(ForgetOrphan(ORPHAN.key_id))),
    "swept": Scene(_stand, _always(Swept(at(60 * 48)))),
    "clear-lost": Scene(_with(an_opening("new"), _LOST), _always(ClearLost())),
    "claim": Scene(_stand, _always(Claim("other", 7, UID, at(7)))),
    "note": Scene(_stand, _always(a_note("journal", 3))),
}


def count_calls(scene: Scene) -> int:
    """How many calls the change takes in fine weather."""
    store, seen, change = scene.set()
    get_fake().fake.calls.clear()
    store.commit(PATH, seen, change)
    return len(get_fake().fake.calls)


def expect(seen: Holding, change: Change) -> Record:
    """The record after the change."""
    return apply(seen.record, change)


def see_picture(fake: FakeAws) -> dict[str, set[str | None]]:
    """Which keys carry which labels at the consumers' secret; the numbers of the retiring ones don't matter."""
    picture: dict[str, set[str | None]] = {}
    for label in fake.labels(PATH):
        picture.setdefault(label.rstrip("0123456789"), set()).add(find_key_id(fake.text(PATH, label)))
    return picture


def find_key_id(text: str | None) -> str | None:
    """The key id in a value."""
    return str(Secret(json.loads(text)["api_key"]).key_id) if text else None


def living(holding: Holding) -> set[KeyId]:
    """The keys that the record names."""
    return {key.key_id for key in holding.record.keys} if holding.record else set()
