"""Someone else writes the consumers' secret before each of our calls, for each change: he is never overwritten and never reverted."""

from __future__ import annotations

import contextlib
import json

import pytest

from rotator.domain.errors import Conflict, IllegalTransition, Unreachable
from rotator.domain.record import Adopt
from tests.contract.stores.aws_scenes import FOREIGN, PATH, SCENES, STRANGER, count_calls, expect, living, outsider_puts, value_of
from tests.contract.stores.build import UID, a_note, an_entry, at, commit_all
from tests.support.aws import get_fake, open_store
from tests.support.aws_fake import Call, Lost

NAMES = [name for name in SCENES if name not in ("adopt", "first-adoption")]
"""those in which nobody wrote before"""


@pytest.mark.parametrize("name", NAMES)
def test_a_key_from_outside_stands_whenever_it_was_written(name: str) -> None:
    scene, fake = SCENES[name], get_fake().fake
    for moment in range(1, count_calls(scene) + 2):
        store, seen, change = scene.set()
        fake.calls.clear()
        written = []

        def write(call: Call, moment: int = moment, written: list[int] = written) -> None:
            if len(fake.calls) == moment and not written:
                written.append(moment)
                outsider_puts(fake)

        fake.before = write
        done = None
        with contextlib.suppress(Conflict, Unreachable):
            done = store.commit(PATH, seen, change)
        fake.before = None
        if not written:
            outsider_puts(fake)
        assert fake.text(PATH) == value_of(STRANGER), f"{name}, written before call {moment}"
        _settle(f"{name}, written before call {moment}", living(seen) | (living(done) if done else set()))


def test_a_promotion_does_not_overwrite_a_key_that_stood_there_before() -> None:
    store, _, change = SCENES["promote"].set()
    outsider_puts(get_fake().fake)
    with pytest.raises(Conflict, match="never overwritten"):
        store.commit(PATH, store.read(PATH), change)
    assert get_fake().fake.text(PATH) == value_of(STRANGER)


def test_a_generation_that_was_seen_stays_when_a_stranger_writes_before_it_is_settled() -> None:
    """The promoting process dies right after its move, someone reads, then someone else writes."""
    server = get_fake()
    for twice in (False, True):
        _, seen, change = SCENES["promote"].set()
        moved = []

        def die(call: Call, moved: list[int] = moved) -> None:
            moved += [call.number] * (call.name == PATH and call.body.get("VersionStage") == "AWSCURRENT")
            if moved and call.name != PATH:
                raise Lost

        server.fake.before = die
        open_store(server.url).commit(PATH, seen, change)
        server.fake.before = None
        reader = open_store(server.url)
        assert reader.read(PATH).record == expect(seen, change)
        outsider_puts(server.fake)
        if twice:
            server.fake.do("PutSecretValue", {"SecretId": PATH, "SecretString": value_of(STRANGER, more=1), "ClientRequestToken": "8" * 32})
        after = reader.read(PATH)
        assert (after.record, after.current) == (expect(seen, change), STRANGER.key_id)


def _settle(where: str, known: set[object]) -> None:
    """The next reader finds the outsider's key, adopts it, and no key of ours was lost."""
    fake, store = get_fake().fake, open_store(get_fake().url)
    holding = store.read(PATH)
    assert holding.current == STRANGER.key_id, where
    assert holding.secrets[STRANGER.key_id].same_as(STRANGER), where
    holding = commit_all(store, PATH, Adopt(an_entry(STRANGER), at(9), UID, "test"), a_note("journal", 9))
    assert holding.record is not None
    assert holding.record.current is not None
    assert holding.record.current.key_id == STRANGER.key_id, where
    assert holding.record.pending is None, where
    assert known - living(holding) <= {key for key in known if key not in holding.secrets}, where
    assert {key.key_id for key in holding.record.keys} == set(holding.secrets), where
    assert fake.text(PATH) == value_of(STRANGER), where
    assert open_store(get_fake().url).read(PATH) == holding, where


@pytest.mark.parametrize("name", ["stage", "promote", "promote-begun", "retire", "retire-begun", "note-begun", "roll-back"])
def test_a_field_that_is_not_ours_is_never_reverted(name: str) -> None:
    """A person corrects a field beside our key before each of our calls."""
    scene, fake = SCENES[name], get_fake().fake
    for moment in range(1, count_calls(scene) + 1):
        store, seen, change = scene.set()
        fake.calls.clear()

        def correct(call: Call, moment: int = moment) -> None:
            if len(fake.calls) == moment:
                text = fake.text(PATH) or ""
                fake.do("PutSecretValue", {"SecretId": PATH, "SecretString": text.replace("5432", "6432"), "ClientRequestToken": "8" * 32})

        fake.before = correct
        for _ in range(3):
            try:
                store.commit(PATH, seen, change)
                break
            except (Conflict, IllegalTransition):
                seen = store.read(PATH)
        fake.before = None
        value = json.loads(fake.text(PATH) or "")
        where = f"{name}, corrected before call {moment}"
        assert value == {"user": "checkout", **FOREIGN, "port": 6432, "api_key": value["api_key"]}, where
        record = store.read(PATH).record
        assert record is not None
        assert record.current is not None
        assert value["api_key"].startswith(str(record.current.key_id)), where
