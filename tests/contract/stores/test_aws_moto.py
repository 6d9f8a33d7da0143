"""Where moto 5 differs from AWS's documentation, so that nobody takes it for the truth; and what it is good for: signing in, and a real
`aws` program. Each case of the first part fails when moto has come to follow AWS: then the strict fake is needed for one thing less."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from rotator.domain.errors import Conflict
from rotator.domain.record import Adopt
from rotator.stores.aws.config import AwsStoreConfig
from rotator.stores.aws.store import AwsStore
from tests.contract.stores.aws_scenes import CURRENT_KEY, NEW, PATH, SCENES, STRANGER, find_key_id, value_of
from tests.contract.stores.build import UID, an_entry, an_opening, at, commit_all, hold_current
from tests.support.aws import get_fake, get_moto, open_client, open_store, run_cli
from tests.support.aws_fake import Call


@pytest.fixture
def moto() -> Any:
    """A client of moto, with a secret `a` of one version `1…`."""
    get_moto().reset()
    client = open_client(get_moto().url)
    client.create_secret(Name="a", SecretString="one", ClientRequestToken="1" * 32)
    return client


def _labels(client: Any, name: str = "a") -> dict[str, list[str]]:
    return {version[0]: sorted(labels) for version, labels in client.describe_secret(SecretId=name)["VersionIdsToStages"].items()}


def test_moto_lets_a_pending_version_be_overwritten(moto: Any) -> None:
    """AWS: ResourceExistsException. Nothing here rests on it: a version id that is used twice has the same content."""
    for text in ("two", "three"):
        moto.put_secret_value(SecretId="a", SecretString=text, ClientRequestToken="2" * 32, VersionStages=["AWSPENDING"])
    assert moto.get_secret_value(SecretId="a", VersionId="2" * 32)["SecretString"] == "three"
    with pytest.raises(ClientError, match="ResourceExistsException"):
        moto.put_secret_value(SecretId="a", SecretString="two", ClientRequestToken="1" * 32)


def test_moto_s_default_version_does_not_follow_the_label(moto: Any) -> None:
    """AWS: the version of AWSCURRENT. A consumer of moto must ask for the label after a promotion; so does the store."""
    moto.put_secret_value(SecretId="a", SecretString="two", ClientRequestToken="2" * 32, VersionStages=["X"])
    moto.update_secret_version_stage(SecretId="a", VersionStage="AWSCURRENT", RemoveFromVersionId="1" * 32, MoveToVersionId="2" * 32)
    assert moto.get_secret_value(SecretId="a")["SecretString"] == "one"
    assert moto.get_secret_value(SecretId="a", VersionStage="AWSCURRENT")["SecretString"] == "two"


def test_moto_gives_two_versions_one_label(moto: Any) -> None:
    """AWS: a label stands at one version. An outsider's put after a promotion is driven over the strict fake therefore."""
    moto.put_secret_value(SecretId="a", SecretString="two", ClientRequestToken="2" * 32, VersionStages=["X"])
    moto.update_secret_version_stage(SecretId="a", VersionStage="AWSCURRENT", RemoveFromVersionId="1" * 32, MoveToVersionId="2" * 32)
    moto.put_secret_value(SecretId="a", SecretString="three", ClientRequestToken="3" * 32)
    assert sum("AWSCURRENT" in labels for labels in _labels(moto).values()) == 2
    moto.update_secret_version_stage(SecretId="a", VersionStage="X", MoveToVersionId="1" * 32)
    assert sum("X" in labels for labels in _labels(moto).values()) == 2


def test_moto_takes_a_label_off_although_it_refuses_the_move(moto: Any) -> None:
    """AWS: nothing is moved. The store never names a version to move to that it has not just put."""
    with pytest.raises(ClientError, match="Not a valid version"):
        moto.update_secret_version_stage(
            SecretId="a", VersionStage="AWSCURRENT", RemoveFromVersionId="1" * 32, MoveToVersionId=str(uuid.uuid4())
        )
    assert _labels(moto) == {"1": []}


def test_moto_keeps_and_shows_versions_without_labels(moto: Any) -> None:
    """AWS: they are not shown, and dropped when there are more than 100 and they are older than a day."""
    for number in "23":
        moto.put_secret_value(SecretId="a", SecretString=number, ClientRequestToken=number * 32)
    assert _labels(moto)["1"] == []


def test_moto_puts_into_a_deleted_secret(moto: Any) -> None:
    """AWS: InvalidRequestException."""
    moto.delete_secret(SecretId="a", RecoveryWindowInDays=7)
    assert moto.put_secret_value(SecretId="a", SecretString="two")["VersionStages"] == ["AWSCURRENT"]
    with pytest.raises(ClientError, match="ResourceExistsException"):  # AWS: InvalidRequestException
        moto.create_secret(Name="a", SecretString="two")


def test_the_aws_program_writes_in_the_middle_of_a_rotation() -> None:
    """Before AWSCURRENT is moved; the program reads what stands then."""
    scene, server = SCENES["promote"], get_fake()
    store, seen, change = scene.set()
    put = ("secretsmanager", "put-secret-value", "--secret-id", PATH, "--secret-string", "file:///dev/stdin")

    def interfere(call: Call) -> None:
        if call.name == PATH and call.action == "UpdateSecretVersionStage" and call.body["VersionStage"] == "AWSCURRENT":
            server.fake.before = None
            run_cli(server.url, *put, stdin=value_of(STRANGER))

    server.fake.before = interfere
    with pytest.raises(Conflict):
        store.commit(PATH, seen, change)
    told = json.loads(run_cli(server.url, "secretsmanager", "get-secret-value", "--secret-id", PATH))
    assert find_key_id(told["SecretString"]) == str(STRANGER.key_id)
    assert store.read(PATH).current == STRANGER.key_id
    commit_all(store, PATH, Adopt(an_entry(STRANGER), at(9), UID, "test"))
    told = json.loads(run_cli(server.url, "secretsmanager", "get-secret-value", "--secret-id", PATH))
    assert find_key_id(told["SecretString"]) == str(STRANGER.key_id)


def test_the_aws_program_reads_what_was_promoted_on_moto() -> None:
    get_moto().reset()
    store = open_store(get_moto().url)
    for key in (CURRENT_KEY, NEW):
        hold_current(store, PATH, key)
        words = ("secretsmanager", "get-secret-value", "--secret-id", PATH, "--version-stage", "AWSCURRENT", "--query", "SecretString")
        told = json.loads(json.loads(run_cli(get_moto().url, *words)))
        assert (list(told), find_key_id(json.dumps(told))) == (["api_key"], str(key.key_id))


def test_a_role_is_taken_with_the_default_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    url = _stand_alone(monkeypatch)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    role = {"arn": "arn:aws:iam::123456789012:role/rotator", "external_id": "one-two", "endpoint_url": url}
    store = AwsStore(AwsStoreConfig.model_validate({"region": "eu-west-1", "endpoint_url": url, "create": True, "assume_role": role}))
    assert hold_current(store, PATH, NEW).current == NEW.key_id
    signed = store._api._get_client()._request_signer._credentials
    assert signed.method == "rotator-assume-role"
    assert signed.get_frozen_credentials().token


def test_web_identity_is_part_of_the_default_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As IRSA sets a pod up."""
    url = _stand_alone(monkeypatch)
    token = tmp_path / "token"
    token.write_text("made-up")
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/rotator")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    store = AwsStore(AwsStoreConfig(region="eu-west-1", endpoint_url=url, create=True))
    opening = an_opening()
    assert commit_all(store, PATH, opening).record is not None
    assert store._api._get_client()._request_signer._credentials.method == "assume-role-with-web-identity"


def _stand_alone(monkeypatch: pytest.MonkeyPatch) -> str:
    get_moto().reset()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    return get_moto().url
