"""What only the AWS store does, over the strict fake: values, labels, what consumers find, secrets in odd states, permissions, quotas."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

from rotator.domain.errors import Misconfigured, RateLimited, Refused, RotatorError, Unreachable
from rotator.domain.reasons import Reason
from rotator.domain.record import Adopt, Change, Describe, Doom, Forget, Promote, StageKey
from rotator.domain.secret import Secret
from rotator.stores.aws.store import AwsStore
from tests.contract.stores.aws_scenes import CURRENT_KEY, FOREIGN, NEW, OLD, PATH, SCENES, find_key_id, see_picture, value_of
from tests.contract.stores.build import UID, a_key, a_note, an_entry, an_opening, at, commit_all, hold_current
from tests.support.aws import get_fake, open_store
from tests.support.aws_fake import Call, FakeAws, Fault

RECORD = f"rotator/{PATH}"


@pytest.fixture
def fake() -> FakeAws:
    server = get_fake()
    server.fake.reset()
    return server.fake


@pytest.fixture
def store(fake: FakeAws) -> AwsStore:
    return open_store(get_fake().url)


def _put(fake: FakeAws, text: str, **more: object) -> None:
    fake.do("CreateSecret", {"Name": PATH, "SecretString": text, "ClientRequestToken": "0" * 32, **more})


def _life(key: Secret, former: Secret | None) -> list[Change]:
    """Every change of a rotation without mishaps, up to the end of the key that was current."""
    opening = an_opening()
    changes: list[Change] = [
        opening,
        StageKey(an_entry(key, attempt=opening.attempt.id), key),
        Describe(key.key_id, ("query_events",)),
        Promote(key.key_id, former.key_id if former else None, at(5)),
        a_note("journal", 1),
    ]
    return changes + ([Doom(former.key_id, at(9)), Forget(former.key_id)] if former else [])


def test_consumers_find_an_ordinary_rotation(fake: FakeAws, store: AwsStore) -> None:
    _put(fake, value_of(OLD))
    commit_all(store, PATH, Adopt(an_entry(OLD), at(1), UID, "test"))
    assert see_picture(fake) == {"AWSCURRENT": {str(OLD.key_id)}}
    opening, staging, describing, promoting, noting, dooming, forgetting = _life(NEW, OLD)
    commit_all(store, PATH, opening, staging, describing)
    old, new = {str(OLD.key_id)}, {str(NEW.key_id)}
    assert see_picture(fake) == {"AWSCURRENT": old, "AWSPENDING": new, "ROTATOR-PENDING": new}
    commit_all(store, PATH, promoting, noting, dooming)
    assert see_picture(fake) == {"AWSCURRENT": new, "AWSPREVIOUS": old, "ROTATOR-RETIRING-": old}
    commit_all(store, PATH, forgetting)
    assert see_picture(fake) == {"AWSCURRENT": new, "AWSPREVIOUS": old}
    assert json.loads(fake.text(PATH) or "") == {"user": "checkout", **FOREIGN, "api_key": NEW.reveal()}


def test_a_rotation_puts_few_versions(fake: FakeAws, store: AwsStore) -> None:
    """AWS advises against more than one put in ten minutes over a long time, and keeps about 100 versions of a day."""
    hold_current(store, PATH, CURRENT_KEY)
    fake.calls.clear()
    commit_all(store, PATH, *_life(NEW, CURRENT_KEY))
    puts = [call.name for call in fake.calls if call.action == "PutSecretValue"]
    assert (puts.count(PATH), puts.count(RECORD)) == (1, 8)


def test_other_bytes_of_the_value_stay(fake: FakeAws, store: AwsStore) -> None:
    fields = ",\n".join(f'   "größe {number}" :  {number}.50e-7' for number in range(100))
    text = '{\r\n "api_key":"' + OLD.reveal() + '",\n' + fields + ',"note":"\\u00fc \U0001f422" }\n\n'
    _put(fake, text)
    commit_all(store, PATH, Adopt(an_entry(OLD), at(1), UID, "test"))
    assert fake.text(PATH) == text
    hold_current(store, PATH, NEW)
    assert (fake.text(PATH) or "").replace(NEW.reveal(), OLD.reveal()) == text


def test_a_plain_value_is_the_key_alone(fake: FakeAws) -> None:
    store = open_store(get_fake().url, key_field=None)
    _put(fake, OLD.reveal())
    assert store.read(PATH).current == OLD.key_id
    commit_all(store, PATH, Adopt(an_entry(OLD), at(1), UID, "test"))
    hold_current(store, PATH, NEW)
    assert fake.text(PATH) == NEW.reveal()


@pytest.mark.parametrize("text", ["{}", " ", '{"api_key": ""}', '{"api_key": null, "user": "a"}', '{"user": "a"}'])
def test_a_secret_without_a_key_is_empty_and_takes_the_first(fake: FakeAws, store: AwsStore, text: str) -> None:
    _put(fake, text)
    assert store.read(PATH).current is None
    hold_current(store, PATH, NEW)
    assert find_key_id(fake.text(PATH)) == str(NEW.key_id)


@pytest.mark.parametrize(
    "text", ["hush", '{"api_key": "hush"}', '["hush"]', '{"api_key": 5, "x": "hush"}', '{"api_key": "a", "api_key": "hush"}']
)
def test_what_is_no_key_is_told_and_not_repeated(fake: FakeAws, store: AwsStore, text: str) -> None:
    _put(fake, text)
    with pytest.raises(Misconfigured, match=PATH) as caught:
        store.read(PATH)
    assert "hush" not in str(caught.value)


def test_a_binary_value_is_told(fake: FakeAws, store: AwsStore) -> None:
    fake.do("CreateSecret", {"Name": PATH, "SecretBinary": "AAAA", "ClientRequestToken": "0" * 32})
    with pytest.raises(Misconfigured, match="binary"):
        store.read(PATH)


def test_a_missing_secret_is_made_only_when_told_to(fake: FakeAws) -> None:
    store = open_store(get_fake().url, create=False)
    with pytest.raises(Refused, match="create: true"):
        store.check(PATH)
    opening, staging, _, promoting, _ = _life(NEW, None)
    commit_all(store, PATH, opening, staging)
    with pytest.raises(Refused, match="create: true"):
        commit_all(store, PATH, promoting)
    assert fake.names() == [RECORD]
    fake.do("CreateSecret", {"Name": PATH})
    store.check(PATH)
    assert commit_all(store, PATH, promoting).current == NEW.key_id


def test_what_is_made_carries_tags_and_key(fake: FakeAws) -> None:
    store = open_store(get_fake().url, tags={"team": "checkout"}, kms_key_id="alias/millimetric", description="of checkout")
    hold_current(store, PATH, NEW)
    told = fake.do("DescribeSecret", {"SecretId": PATH})
    assert (told["Tags"], told["KmsKeyId"], told["Description"]) == (
        [{"Key": "team", "Value": "checkout"}],
        "alias/millimetric",
        "of checkout",
    )
    assert fake.do("DescribeSecret", {"SecretId": RECORD})["KmsKeyId"] == "alias/millimetric"


@pytest.mark.parametrize("name", [PATH, RECORD])
def test_a_secret_scheduled_for_deletion_is_not_an_absent_one(fake: FakeAws, store: AwsStore, name: str) -> None:
    before = hold_current(store, PATH, NEW)
    fake.do("DeleteSecret", {"SecretId": name})
    for ask in (lambda: store.read(PATH), lambda: store.check(PATH), lambda: store.commit(PATH, before, a_note("a", 1))):
        with pytest.raises(Refused, match=f"restore-secret --secret-id {name}"):
            ask()
    fake.do("RestoreSecret", {"SecretId": name})
    assert store.read(PATH) == before
    store.commit(PATH, before, a_note("a", 1))


def test_a_secret_that_aws_rotates_is_read_and_never_written(fake: FakeAws, store: AwsStore) -> None:
    before = hold_current(store, PATH, NEW)
    fake.mark(PATH, rotated=True)
    assert store.read(PATH) == before
    with pytest.raises(Refused, match="cancel-rotate-secret"):
        store.check(PATH)
    with pytest.raises(Refused, match="cancel-rotate-secret"):
        store.commit(PATH, before, a_note("a", 1))


def test_a_replica_names_its_original(fake: FakeAws, store: AwsStore) -> None:
    hold_current(store, PATH, NEW)
    fake.mark(PATH, primary="us-east-1")
    with pytest.raises(Refused, match="us-east-1"):
        store.check(PATH)
    fake.mark(PATH, primary="eu-west-1")
    store.check(PATH)


def test_a_rotation_that_someone_else_began_is_told_and_left_alone(fake: FakeAws, store: AwsStore) -> None:
    hold_current(store, PATH, CURRENT_KEY)
    stranger = "7" * 32
    pending = {"SecretId": PATH, "SecretString": value_of(OLD), "ClientRequestToken": stranger, "VersionStages": ["AWSPENDING"]}
    fake.do("PutSecretValue", pending)
    with pytest.raises(Refused, match=f"--remove-from-version-id {stranger}") as caught:
        store.check(PATH)
    assert caught.value.reason is Reason.FOREIGN_ENTRY
    commit_all(store, PATH, *_life(NEW, CURRENT_KEY))  # a key that was minted before that is brought home beside it
    assert fake.labels(PATH)["AWSPENDING"] == stranger
    assert find_key_id(fake.text(PATH)) == str(NEW.key_id)


def test_the_label_that_a_finished_rotation_left_is_taken_over(fake: FakeAws, store: AwsStore) -> None:
    hold_current(store, PATH, CURRENT_KEY)
    current = fake.labels(PATH)["AWSCURRENT"]
    fake.do("UpdateSecretVersionStage", {"SecretId": PATH, "VersionStage": "AWSPENDING", "MoveToVersionId": current})
    store.check(PATH)
    commit_all(store, PATH, *_life(NEW, CURRENT_KEY))
    assert "AWSPENDING" not in fake.labels(PATH)


@pytest.mark.parametrize("action", ["DescribeSecret", "GetSecretValue", "PutSecretValue", "UpdateSecretVersionStage", "CreateSecret"])
def test_each_permission_that_is_missing_is_named_and_loses_nothing(fake: FakeAws, store: AwsStore, action: str) -> None:
    """It is taken away before each change of two rotations, and given back."""
    named = 0
    for former, key in ((None, CURRENT_KEY), (CURRENT_KEY, NEW)):
        for change in _life(key, former):
            fake.denied = {action}
            try:
                commit_all(store, PATH, change)
            except Refused as problem:
                named += f"allow secretsmanager:{action} on arn:aws:secretsmanager:eu-west-1:" in str(problem)
            fake.denied = set()
            holding = open_store(get_fake().url).read(PATH)
            try:
                commit_all(store, PATH, change)
            except RotatorError:
                assert store.read(PATH).record == holding.record, "it was done the first time"
    assert named
    holding = store.read(PATH)
    assert (holding.current, set(holding.secrets)) == (NEW.key_id, {NEW.key_id})


def test_everything_works_with_the_printed_policy_and_nothing_more(fake: FakeAws) -> None:
    store = open_store(get_fake().url, tags={"team": "checkout"})
    fake.policy = json.loads(store.find_access(PATH, writes=True).policy)
    assert store.find_access(PATH, writes=True).missing == ()
    commit_all(store, PATH, *_life(CURRENT_KEY, None), *_life(NEW, CURRENT_KEY))
    store.check(PATH)
    assert set(store.list_marks([PATH])) == {PATH}
    exact = store.find_access(PATH, writes=True).policy
    assert f"arn:aws:secretsmanager:eu-west-1:123456789012:secret:{PATH}-??????" in exact
    fake.policy = json.loads(exact)
    hold_current(store, PATH, a_key())
    with pytest.raises(Refused, match=r"allow secretsmanager:GetSecretValue on .*another/path"):
        store.read("another/path")


def test_the_policy_in_the_documentation_is_the_printed_one(fake: FakeAws, store: AwsStore) -> None:
    block = re.findall(r"```json\n(.*?)```", (Path(__file__).parents[3] / "docs" / "aws.md").read_text(), re.DOTALL)
    hold_current(store, PATH, CURRENT_KEY)
    strict = open_store(get_fake().url, create=False)
    assert [json.loads(text) for text in block] == [json.loads(strict.find_access(PATH, writes=True).policy)]


def test_reading_needs_a_smaller_policy(fake: FakeAws, store: AwsStore) -> None:
    _put(fake, value_of(OLD))
    policy = store.find_access(PATH, writes=False).policy
    assert "Put" not in policy
    fake.policy = json.loads(policy)
    assert store.find_access(PATH, writes=False).missing == ()
    assert store.find_access(PATH, writes=True).missing != ()
    assert store.read(PATH).current == OLD.key_id
    assert set(store.list_marks([PATH])) == {PATH}


@pytest.mark.parametrize("action", ["DescribeSecret", "GetSecretValue", "UpdateSecretVersionStage", "ListSecrets"])
def test_what_is_missing_is_found_without_changing_anything(fake: FakeAws, store: AwsStore, action: str) -> None:
    hold_current(store, PATH, NEW)
    before = fake.save()[0]
    fake.denied = {action}
    missing = store.find_access(PATH, writes=True).missing
    assert missing
    assert all(f"secretsmanager:{action}" in phrase for phrase in missing)
    assert fake.save()[0] == before


def test_a_quota_of_versions_is_told_with_a_time_to_come_back(fake: FakeAws, store: AwsStore) -> None:
    fake.prunes = False  # as AWS does it on the first day
    hold_current(store, PATH, NEW)
    for number in range(1, 90):
        commit_all(store, PATH, a_note("journal", number))
    with pytest.raises(RateLimited, match="about 100 versions") as caught:
        commit_all(store, PATH, *(a_note("journal", number) for number in range(90, 110)))
    assert caught.value.after is not None
    assert store.read(PATH).current == NEW.key_id


def test_marks_cost_a_call_for_a_hundred_secrets_and_no_value(fake: FakeAws, store: AwsStore) -> None:
    paths = [f"millimetric/team-{number % 13}/credential-{number}" for number in range(250)]
    for path in paths:
        fake.do("CreateSecret", {"Name": path, "SecretString": "{}", "ClientRequestToken": "0" * 32})
    fake.do("CreateSecret", {"Name": "millimetric/team-1/of-someone-else", "SecretString": "{}", "ClientRequestToken": "0" * 32})
    fake.calls.clear()
    assert set(store.list_marks(paths)) == set(paths)
    assert [call.action for call in fake.calls] == ["ListSecrets"] * 3
    assert store.list_marks([]) == {}


def test_an_older_state_is_believed_when_it_stays(fake: FakeAws) -> None:
    now = [0.0]
    pauses: list[float] = []
    store = open_store(get_fake().url, patience=timedelta(seconds=60))
    store._doubts.monotonic, store._sleep = lambda: now[0], pauses.append
    hold_current(store, PATH, CURRENT_KEY)
    saved = fake.save()
    hold_current(store, PATH, NEW)
    fake.restore(saved)
    for _ in range(3):
        with pytest.raises(Unreachable, match="older state"):
            store.read(PATH)
        now[0] += 20
    assert pauses[:3] == [0.1, 0.3, 0.9]
    holding = store.read(PATH)
    assert holding.current == CURRENT_KEY.key_id
    written = store.commit(PATH, holding, a_note("after", 9))
    assert store.read(PATH) == written, "who has written on it doubts it no more"


def test_a_label_that_a_person_moved_back_is_believed_when_it_stays(fake: FakeAws) -> None:
    now = [0.0]
    store = open_store(get_fake().url, patience=timedelta(seconds=60))
    store._doubts.monotonic = lambda: now[0]
    hold_current(store, PATH, CURRENT_KEY)
    hold_current(store, PATH, NEW)
    labels = fake.labels(PATH)
    move = {"MoveToVersionId": labels["AWSPREVIOUS"], "RemoveFromVersionId": labels["AWSCURRENT"]}
    fake.do("UpdateSecretVersionStage", {"SecretId": PATH, "VersionStage": "AWSCURRENT", **move})
    with pytest.raises(Unreachable, match="older state"):
        store.read(PATH)
    now[0] = 61
    holding = store.read(PATH)
    assert holding.current == CURRENT_KEY.key_id
    committed = store.commit(PATH, holding, Adopt(an_entry(CURRENT_KEY), at(9), UID, "test"))
    assert committed.current == CURRENT_KEY.key_id
    assert find_key_id(fake.text(PATH)) == str(CURRENT_KEY.key_id)
    assert store.read(PATH) == committed


def test_throttling_in_the_middle_of_a_rotation_loses_nothing(fake: FakeAws, store: AwsStore) -> None:
    """Every eleventh call is refused, so that hardly a change passes at the first try."""

    def throttle(call: Call) -> None:
        if call.number % 11 == 0:
            raise Fault("ThrottlingException", "Rate exceeded")

    hold_current(store, PATH, CURRENT_KEY)
    fake.before = throttle
    throttled = sum(_insist(store, change) for change in _life(NEW, CURRENT_KEY))
    assert throttled > 2
    fake.before = None
    assert (store.read(PATH).current, set(store.read(PATH).secrets)) == (NEW.key_id, {NEW.key_id})


def _insist(store: AwsStore, change: Change) -> int:
    """Make a change as the engine does: look, see whether it is done, try; gives how often AWS refused."""
    refused, before = 0, None
    while True:
        with contextlib.suppress(RateLimited):
            holding = store.read(PATH)
            before = before or holding.record
            if holding.record == before:
                store.commit(PATH, holding, change)
            return refused
        refused += 1


def test_no_key_is_in_anything_but_a_value(fake: FakeAws) -> None:
    scene = SCENES["promote"]
    store, seen, change = scene.set()
    store.commit(PATH, seen, change)
    for call in fake.calls:
        shown = json.dumps({name: value for name, value in call.body.items() if name != "SecretString"})
        assert not any(key.reveal().split("_", 3)[3] in shown for key in (OLD, CURRENT_KEY, NEW))
    assert NEW.reveal() not in repr(store) + repr(seen)
