"""Every error of AWS that a platform engineer may meet, told apart, with what to do."""

from __future__ import annotations

import socket
import threading
import time
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rotator.domain.errors import AnswerLost, Misconfigured, RateLimited, Refused, RotatorError, Unreachable
from rotator.stores.aws import api
from rotator.stores.aws.config import AwsStoreConfig
from rotator.stores.aws.errors import Exists
from rotator.stores.aws.session import build_client
from rotator.stores.aws.store import AwsStore
from tests.contract.stores.aws_scenes import PATH
from tests.contract.stores.build import a_key, an_opening, hold_current
from tests.support.aws import connect_cheaply, get_fake, open_store
from tests.support.aws_fake import Call, Fault

USER = "User: arn:aws:iam::123456789012:user/rotator is not authorized to perform:"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/0a1b2c3d-0000-4000-8000-000000000000"
SECRET = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:a-AbCdEf"
TOLD: dict[str, tuple[Fault, type[RotatorError], str]] = {
    "access denied": (
        Fault("AccessDeniedException", f"{USER} secretsmanager:GetSecretValue on resource: {SECRET}"),
        Refused,
        f"allow secretsmanager:GetSecretValue on {SECRET}",
    ),
    "access denied without a word": (Fault("AccessDeniedException"), Refused, "allow secretsmanager:GetSecretValue"),
    "throttled": (Fault("ThrottlingException", "Rate exceeded"), RateLimited, "asked again later"),
    "throttled by a gateway before it": (Fault("Gateway", status=429), RateLimited, "asked again later"),
    "kms denied": (
        Fault("AccessDeniedException", f"{USER} kms:Decrypt on resource: {KEY} because no key policy allows it"),
        Refused,
        f"allow kms:Decrypt on {KEY}, in its key policy too",
    ),
    "kms denied without a word": (
        Fault("AccessDeniedException", "Access to KMS is not allowed"),
        Refused,
        "allow kms:Decrypt and kms:Generate",
    ),
    "kms disabled": (Fault("KMSInvalidStateException", f"{KEY} is disabled."), Refused, "disabled, deleted or of the wrong kind"),
    "kms disabled, in other words": (Fault("InvalidRequestException", "The KMS key is disabled"), Refused, "disabled, deleted or of the"),
    "kms throttled": (Fault("ThrottlingException", "Calls to KMS exceed the rate"), RateLimited, "asked again later"),
    "denied to a role whose name has kms in it": (
        Fault(
            "AccessDeniedException", f"{USER.replace('user/rotator', 'role/KMS-admin')} secretsmanager:GetSecretValue on resource: {SECRET}"
        ),
        Refused,
        f"access denied: allow secretsmanager:GetSecretValue on {SECRET}",
    ),
    "decryption": (Fault("DecryptionFailure"), Refused, "cannot decrypt .* enable it and allow kms:Decrypt"),
    "deletion": (
        Fault("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion."),
        Refused,
        "restore-secret --secret-id",
    ),
    "expired token": (
        Fault("ExpiredTokenException", "The security token included in the request is expired"),
        Refused,
        "session has expired",
    ),
    "unknown credentials": (Fault("UnrecognizedClientException"), Refused, "does not know these credentials"),
    "clock skew": (
        Fault("InvalidSignatureException", "Signature expired: 20260301T000000Z is now earlier than 20260301T010000Z"),
        Refused,
        "correct the clock",
    ),
    "clock skew, in other words": (Fault("RequestExpired"), Refused, "correct the clock"),
    "wrong secret access key": (
        Fault("SignatureDoesNotMatch", "The request signature we calculated does not match"),
        Refused,
        "the signature",
    ),
    "server fault": (Fault("InternalServiceError", status=500), Unreachable, "AWS failed"),
    "something new": (Fault("BrandNewException", "hush"), Refused, "BrandNewException"),
    "something odd": (Fault("<script>", "hush"), Refused, "an unknown error"),
}


@pytest.mark.parametrize("what", TOLD)
def test_each_error_is_told_with_what_to_do(what: str) -> None:
    fault, kind, words = TOLD[what]
    server = get_fake()
    server.fake.reset()

    def fail(_: Call) -> None:
        raise fault

    server.fake.before = fail
    with pytest.raises(kind, match=words) as caught:
        open_store(server.url).read(PATH)
    assert "hush" not in str(caught.value)
    assert type(caught.value) is not AnswerLost


def test_an_endpoint_that_does_not_answer_is_unreachable() -> None:
    with pytest.raises(Unreachable, match="cannot be reached") as caught:
        open_store("http://127.0.0.1:9").read(PATH)
    assert not isinstance(caught.value, AnswerLost)


def test_a_call_ends_within_its_time() -> None:
    server = get_fake()
    server.fake.reset()
    store = open_store(server.url, timeout=timedelta(seconds=1))
    hold_current(store, PATH, a_key())

    over = threading.Event()

    def dawdle(_: Call) -> None:
        over.wait(60)

    server.fake.before = dawdle
    started = time.monotonic()
    try:
        with pytest.raises(Unreachable, match="no whole answer"):
            store.read(PATH)
        assert time.monotonic() - started < 30
    finally:
        server.fake.before = None
        over.set()


def test_a_verb_begins_no_call_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    server = get_fake()
    server.fake.reset()
    store = open_store(server.url)
    seen = store.read(PATH)
    monkeypatch.setattr(api, "VERB_WITHIN", -1.0)
    with pytest.raises(Unreachable, match="took too long"):
        store.commit(PATH, seen, an_opening())
    assert server.fake.names() == []


@pytest.fixture
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials or settings of AWS from anywhere."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"region": "eu-west-1"}, "no AWS credentials were found"),
        ({}, "no region"),
        ({"region": "eu-west-1", "profile": "missing"}, "profile"),
        ({"region": "eu-west-1", "assume_role": {"arn": "arn:aws:iam::123456789012:role/a"}}, "no AWS credentials were found"),
    ],
)
def test_what_is_not_configured_is_told_at_first_use(fields: dict[str, object], words: str) -> None:
    store = AwsStoreConfig.model_validate({"type": "aws", **fields}).build(Path())
    with pytest.raises(Misconfigured, match=words):
        store.read(PATH)


@pytest.mark.usefixtures("_alone")
def test_credentials_that_come_later_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    server = get_fake()
    server.fake.reset()
    store = AwsStore(AwsStoreConfig(region="eu-west-1", endpoint_url=server.url))
    with pytest.raises(Misconfigured):
        store.read(PATH)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    assert store.read(PATH).current is None


def test_the_client_repeats_nothing_by_itself() -> None:
    server = get_fake()
    server.fake.reset()
    client = build_client(AwsStoreConfig(region="eu-west-1", endpoint_url=server.url))
    assert client.meta.config.retries["total_max_attempts"] == 1
    assert (client.meta.config.connect_timeout, client.meta.config.read_timeout) == (3.0, 5.0)


_ROLE = "arn:aws:iam::123456789012:role/a"


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (
            f"role_arn = {_ROLE}\nweb_identity_token_file = /nowhere/token",
            r"could not be had \(No such file or directory: /nowhere/token\)",
        ),
        ("credential_process = /nowhere/program", r"could not be had \(No such file or directory: /nowhere/program\)"),
        ("credential_process = echo nonsense", "could not be had: look at the files and programs"),
    ],
)
def test_credentials_that_cannot_be_had_are_a_mistake_of_somebody_s(
    profile: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(f"[default]\nregion = eu-west-1\n{profile}\n", "utf-8")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    with pytest.raises(Misconfigured, match=words):
        AwsStoreConfig(endpoint_url="http://127.0.0.1:9").build(Path()).read(PATH)


@pytest.mark.usefixtures("_alone")
def test_where_credentials_come_from_has_the_same_time_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token of the cluster's", "ascii")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        monkeypatch.setenv("AWS_ROLE_ARN", _ROLE)
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{silent.getsockname()[1]}")
        store = AwsStoreConfig(region="eu-west-1", endpoint_url="http://127.0.0.1:9", timeout=timedelta(seconds=0.3)).build(Path())
        started = time.monotonic()
        with pytest.raises(Unreachable, match="no whole answer"):
            store.read(PATH)
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("_alone")
def test_the_region_comes_from_the_environment_as_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-2")
    assert build_client(AwsStoreConfig()).meta.region_name == "us-east-2"
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    assert build_client(AwsStoreConfig()).meta.region_name == "eu-central-1"
    assert build_client(AwsStoreConfig(region="eu-west-1")).meta.region_name == "eu-west-1"


class _Page(BaseHTTPRequestHandler):
    """What a proxy that wants a sign-in answers to everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b"<html>hush</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def test_a_proxy_s_page_is_no_answer_of_aws() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        calls = api.Api(AwsStoreConfig(region="eu-west-1", endpoint_url=f"http://127.0.0.1:{server.server_port}"), connect_cheaply)
        try:
            for ask in (lambda: calls.describe("a"), lambda: calls.find_value("a"), lambda: list(calls.gather_labels([]))):
                with pytest.raises(Unreachable, match="is not AWS's: is there a proxy") as caught:
                    ask()
                assert not isinstance(caught.value, AnswerLost)
                assert "hush" not in str(caught.value)
            with pytest.raises(AnswerLost, match="may have been applied"):
                calls.put("a", "0a1b2c3d-0000-4000-8000-000000000000", "hush", "LABEL")
        finally:
            server.shutdown()
            thread.join()


def test_a_name_that_others_took_first_is_no_matter_of_kms() -> None:
    server = get_fake()
    server.fake.reset()

    def fail(_: Call) -> None:
        raise Fault("ResourceExistsException", "The operation failed because the secret rotator/team/KMS already exists.")

    server.fake.before = fail
    with pytest.raises(Exists):
        api.Api(AwsStoreConfig(region="eu-west-1", endpoint_url=server.url), connect_cheaply).create(
            "rotator/team/KMS", "hush", "t" * 32, None
        )
    server.fake.before = None
