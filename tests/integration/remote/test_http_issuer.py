"""What is particular to the issuer over HTTP: pages, sessions, profiles of other APIs, and answers that make no sense."""

from __future__ import annotations

import json
import logging
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from rotator.domain.errors import AnswerLost, Misconfigured, NeedsHuman, Refused, RotatorError, Unreachable
from rotator.domain.keys import KeyId, Kind, parse_key_id
from rotator.domain.ports import Clock, MintOrder
from rotator.domain.secret import Secret
from rotator.issuers.http import HttpIssuer, HttpIssuerConfig, build
from tests.integration.remote.stub import Stub, answer
from tests.integration.remote.test_remote import whole_text
from tests.support.sandbox import SandboxControl

ORDER = MintOrder("prod/uid/attempt", Kind.RK, "live")
Build = Callable[..., HttpIssuer]


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    write(file, secrets.token_urlsafe(24))
    return file


def write(file: Path, token: str) -> None:
    file.write_text(token + "\n")
    file.chmod(0o600)


@pytest.fixture
def issuer_of(clock: Clock, token_file: Path) -> Iterator[Build]:
    made: list[HttpIssuer] = []

    def make(url: str, **config: Any) -> HttpIssuer:
        given = {"base_url": url, "auth": {"type": "bearer", "token_file": str(token_file)}, **config}
        made.append(build("admin", HttpIssuerConfig.model_validate(given), clock, wait=lambda _: None))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def session_of(sandbox: SandboxControl, issuer_of: Build, tmp_path: Path) -> Callable[..., HttpIssuer]:
    file = tmp_path / "refresh"
    write(file, sandbox.http.headers["authorization"].removeprefix("Bearer "))
    return lambda **more: issuer_of(sandbox.url, auth={"type": "session", "refresh_token_file": str(file), **more})


def paged(issuer_of: Build, url: str, token: Path, sandbox: SandboxControl) -> HttpIssuer:
    write(token, sandbox.http.headers["authorization"].removeprefix("Bearer "))
    query = {"label_prefix": "{label_prefix}", "limit": "3", "cursor": "{cursor}"}
    return issuer_of(url, list={"method": "GET", "path": "/admin/v1/keys", "query": query})


def test_every_page_is_read(sandbox: SandboxControl, issuer_of: Build, token_file: Path) -> None:
    minted = [str(sandbox.mint(label=f"prod/ü/{number}").key_id) for number in range(10)]
    listed = paged(issuer_of, sandbox.url, token_file, sandbox).list_labelled("prod/ü/")
    assert [str(key.key_id) for key in listed] == minted
    assert sandbox.stats()["operations"]["list"]["200"] == 4


def test_pages_that_never_end_are_refused(stub: Stub, issuer_of: Build) -> None:
    stub.say(answer(200, b'{"keys":[],"next_cursor":"again"}'))
    with pytest.raises(Refused, match="again and again"):
        issuer_of(stub.url).list_labelled("prod/")
    assert len(stub.requests) == 2


# Sessions


def test_a_session_is_opened_once_and_used_for_all(sandbox: SandboxControl, session_of: Build) -> None:
    issuer = session_of()
    issuer.mint(ORDER)
    assert len(issuer.list_labelled("prod/")) == 1
    assert sandbox.stats()["operations"]["session"] == {"200": 1}


def test_a_session_that_ended_is_renewed_and_the_mint_done_once(sandbox: SandboxControl, session_of: Build) -> None:
    issuer = session_of()
    issuer.check(ORDER)
    sandbox.advance(4000)
    issuer.mint(ORDER)
    assert len(sandbox.living()) == 1
    operations = sandbox.stats()["operations"]
    assert operations["session"] == {"200": 2}
    assert operations["mint"] == {"401": 1, "201": 1}


def test_a_session_is_renewed_before_it_ends(stub: Stub, issuer_of: Build, token_file: Path) -> None:
    issuer = issuer_of(stub.url, auth={"type": "session", "refresh_token_file": str(token_file)})
    page = answer(200, b'{"keys":[]}')
    stub.say(*[answer(200, b'{"access_token":"first","expires_in":0.001}'), page] * 2, page)
    issuer.list_labelled("a/")
    wait = threading.Event()
    wait.wait(0.005)
    issuer.list_labelled("a/")
    assert [request.split(b" ", 1)[0] for request in stub.requests] == [b"POST", b"GET"] * 2


def test_a_session_refused_again_is_not_renewed_for_ever(sandbox: SandboxControl, session_of: Build) -> None:
    issuer = session_of()
    issuer.check(ORDER)
    sandbox.faults({"operation": "mint", "effect": "auth_outage"})
    with pytest.raises(NeedsHuman, match="401 invalid_session"):
        issuer.mint(ORDER)
    assert sandbox.stats()["operations"]["session"] == {"200": 2}
    assert sandbox.living() == set()


def test_threads_share_one_renewal(sandbox: SandboxControl, session_of: Build) -> None:
    issuer = session_of()
    issuer.check(ORDER)
    sandbox.advance(4000)
    sandbox.faults({"operation": "mint", "effect": "latency", "seconds": 0.2, "times": 8})  # all eight are under way with the old token
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: issuer.mint(ORDER), range(16)))
    assert sandbox.stats()["operations"]["session"]["200"] == 2
    assert len(sandbox.living()) == 16


def test_a_refused_refresh_token_needs_a_person(sandbox: SandboxControl, issuer_of: Build, token_file: Path) -> None:
    issuer = issuer_of(sandbox.url, auth={"type": "session", "refresh_token_file": str(token_file)})
    with pytest.raises(NeedsHuman, match=r"issuers\.admin\.auth\.refresh_token") as caught:
        issuer.check(ORDER)
    assert token_file.read_text().strip() not in whole_text(caught.value)


def test_a_new_refresh_token_replaces_the_used_one(stub: Stub, issuer_of: Build, token_file: Path) -> None:
    used = token_file.read_text().strip()
    auth = {
        "type": "session",
        "refresh_token_file": str(token_file),
        "refresh": {"path": "/token", "access_token": "a.token", "expires_in": None, "next_refresh_token": "a.next"},
    }
    stub.say(answer(200, b'{"a":{"token":"access","next":"fresh"}}'), answer(200, b'{"keys":[]}'))
    issuer_of(stub.url, auth=auth).check(ORDER)
    assert json.loads(stub.requests[0].partition(b"\r\n\r\n")[2]) == {"refresh_token": used}
    assert b"Bearer access\r\n" in stub.requests[1]
    assert token_file.read_text() == "fresh\n"
    assert token_file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in token_file.parent.iterdir()] == ["token"]


# Tokens


def test_a_changed_token_file_is_used_at_once(sandbox: SandboxControl, issuer_of: Build, token_file: Path) -> None:
    issuer = issuer_of(sandbox.url)
    with pytest.raises(NeedsHuman, match=r"issuer admin does not accept our token for list \(401 invalid_session\)"):
        issuer.check(ORDER)
    write(token_file, sandbox.http.headers["authorization"].removeprefix("Bearer "))
    issuer.check(ORDER)


def test_a_token_from_the_environment(sandbox: SandboxControl, issuer_of: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer = issuer_of(sandbox.url, auth={"type": "bearer", "token_env": "TEST_ADMIN"})
    with pytest.raises(Misconfigured, match=r"issuers\.admin\.auth\.token_env: the environment variable TEST_ADMIN is not set"):
        issuer.check(ORDER)
    monkeypatch.setenv("TEST_ADMIN", sandbox.http.headers["authorization"].removeprefix("Bearer "))
    issuer.check(ORDER)


@pytest.mark.parametrize("content", ["", "two\nlines", "tab\there", "ümlaut", "x\r\nX-Injected: 1", "nul\0"])
def test_a_file_without_a_usable_token_is_named_not_quoted(stub: Stub, issuer_of: Build, token_file: Path, content: str) -> None:
    write(token_file, content)
    with pytest.raises(Misconfigured, match=r"issuers\.admin\.auth\.token_file: .*token") as caught:
        issuer_of(stub.url).mint(ORDER)
    assert not content or content not in whole_text(caught.value)
    assert stub.requests == []


def test_a_missing_or_public_token_file_is_named(stub: Stub, issuer_of: Build, token_file: Path) -> None:
    token_file.chmod(0o644)
    with pytest.raises(Misconfigured, match=r"token_file: .* can be read by everybody .* 0600"):
        issuer_of(stub.url).check(ORDER)
    token_file.unlink()
    with pytest.raises(Misconfigured, match=r"token_file: .* cannot be read \(No such file or directory\)"):
        issuer_of(stub.url).check(ORDER)
    assert stub.requests == []


# Other APIs


def a_key(kind: str = "rk") -> Secret:
    return Secret(f"{kind}_live_{secrets.token_hex(4)}_{secrets.token_urlsafe(24)}")


def test_a_whole_other_contract(stub: Stub, issuer_of: Build) -> None:
    key = a_key()
    parts = {"type": "rk", "env": "live", "public": key.key_id.prefix}
    issuer = issuer_of(
        stub.url + "/base",
        profile=None,
        mint={
            "method": "PUT",
            "path": "/projects/{project}/keys/{label}",
            "body": {"spec": {"type": "{kind}", "note": "by rotator: {label}", "tags": ["{env}", 1, None]}},
            "success": [202],
            "key": "data.0.secret.value",
            "id": "{data.0.type}_{data.0.env}_{data.0.public}",
            "reference": "data.0.uuid",
        },
        list={
            "method": "POST",
            "path": "/search",
            "body": {"note": "{label_prefix}", "after": "{cursor}"},
            "keys": "projects.*.keys.*",
            "id": "{type}_{env}_{public}",
            "label": "note",
            "revoked": "state.off",
            "reference": "uuid",
            "next_cursor": "page.next",
        },
        revoke={"method": "POST", "path": "/keys/{reference}/off", "success": [204], "gone_statuses": [410], "gone_codes": []},
    )
    stub.say(answer(202, json.dumps({"data": [{**parts, "uuid": 77, "secret": {"value": key.reveal()}}]}).encode()))
    issued = issuer.mint(MintOrder("a/b/ü ", Kind.RK, "live", "web"))
    assert (issued.secret.key_id, issued.reference) == (key.key_id, "77")
    head, _, body = stub.requests[-1].partition(b"\r\n\r\n")
    assert head.startswith(b"PUT /base/projects/web/keys/a%2Fb%2F%C3%BC%20 HTTP/1.1")
    assert json.loads(body) == {"spec": {"type": "rk", "note": "by rotator: a/b/ü ", "tags": ["live", 1, None]}}
    one = {**parts, "note": "a/b/1", "uuid": "x y", "state": {"off": True}}
    pages = [
        {"projects": [{"keys": [one]}, {"keys": []}], "page": {"next": 9}},
        {"projects": [{"keys": [{**one, "note": "z"}]}], "page": {}},
    ]
    stub.say(*[answer(200, json.dumps(page).encode()) for page in pages])
    listed = issuer.list_labelled("a/b/")
    assert [(entry.key_id, entry.label, entry.reference, entry.revoked) for entry in listed] == [(key.key_id, "a/b/1", "x y", True)]
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in stub.requests[-2:]]
    assert bodies == [{"note": "a/b/"}, {"note": "a/b/", "after": "9"}]
    stub.say(answer(204, b"", "text/plain"), answer(410, b"", "text/plain"), answer(404, b"{}"))
    issuer.revoke(key.key_id, "x/y?")
    issuer.revoke(key.key_id, "x/y?")
    assert stub.requests[-1].startswith(b"POST /base/keys/x%2Fy%3F/off HTTP/1.1")
    with pytest.raises(Refused, match=f"issuer admin refuses revoke of {key.key_id} \\(404\\)"):
        issuer.revoke(key.key_id, "x/y?")


@pytest.mark.parametrize("reference", [None, "", "..", "."])
def test_a_reference_that_cannot_stand_in_a_path_is_refused(stub: Stub, issuer_of: Build, reference: str | None) -> None:
    issuer = issuer_of(stub.url, revoke={"method": "DELETE", "path": "/keys/{reference}"})
    with pytest.raises(Refused, match="needs a reference"):
        issuer.revoke(a_key().key_id, reference)
    assert stub.requests == []


def test_abilities_follow_the_configuration(stub: Stub, issuer_of: Build) -> None:
    issuer = issuer_of(stub.url, list=None, revoke=None)
    assert (issuer.abilities.mint, issuer.abilities.list, issuer.abilities.revoke) == (True, False, False)
    with pytest.raises(Refused, match="cannot list"):
        issuer.list_labelled("a/")
    with pytest.raises(Refused, match="cannot revoke"):
        issuer.revoke(a_key().key_id, None)
    issuer.check(ORDER)
    assert stub.requests == []


@pytest.mark.parametrize(
    ("body", "missing"),
    [
        ({}, "no usable key at key: "),
        ({"key": None}, "no usable key at key: "),
        ({"key": 5, "id": "FOREIGN"}, "no usable key at key: "),
        ({"key": "FOREIGN"}, "no usable key at key: a key has four parts"),
        (["FOREIGN"], "no usable key at key: "),
        (b"<html>FOREIGN", "is not JSON"),
    ],
)
@pytest.mark.parametrize("can_list", [True, False])
def test_a_mint_without_a_usable_key(stub: Stub, issuer_of: Build, body: object, missing: str, can_list: bool) -> None:
    stub.say(answer(201, body if isinstance(body, bytes) else json.dumps(body).encode()))
    issuer = issuer_of(stub.url) if can_list else issuer_of(stub.url, list=None)
    with pytest.raises(RotatorError, match=missing) as caught:
        issuer.mint(ORDER)
    # A key was born. Where nothing can be listed it must be recorded as possibly orphaned, as a lost answer is (L8).
    assert type(caught.value) is (Refused if can_list else AnswerLost)
    assert "FOREIGN" not in whole_text(caught.value)
    assert len(stub.requests) == 1


@pytest.mark.parametrize("said", ["other", "full key"])
def test_a_key_whose_id_is_another_is_refused(stub: Stub, issuer_of: Build, said: str) -> None:
    key, other = a_key(), a_key()
    stub.say(answer(201, json.dumps({"key": key.reveal(), "id": str(other.key_id) if said == "other" else key.reveal()}).encode()))
    with pytest.raises(Refused, match="is not that of the key beside it") as caught:
        issuer_of(stub.url).mint(ORDER)
    assert key.reveal().split("_", 3)[3] not in whole_text(caught.value)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused), (403, Refused), (404, Refused), (409, Refused), (422, Refused), (301, Refused), (307, Refused), (308, Refused),
        (302, AnswerLost), (303, AnswerLost), (408, AnswerLost), (500, AnswerLost), (502, AnswerLost), (504, AnswerLost), (202, AnswerLost),
        (204, AnswerLost), (401, NeedsHuman),
    ],
)  # fmt: skip
def test_a_mint_that_may_have_happened_is_never_called_refused(stub: Stub, issuer_of: Build, status: int, kind: type[RotatorError]) -> None:
    stub.say(answer(status, b'{"error":"FOREIGN"}' if status != 204 else b"", "application/json", "Location: /x"))
    with pytest.raises(RotatorError) as caught:
        issuer_of(stub.url).mint(ORDER)
    assert type(caught.value) is kind
    assert str(status) in str(caught.value)
    assert "FOREIGN" not in whole_text(caught.value)
    assert len(stub.requests) == 1


def test_a_redirect_never_gets_the_token(stub: Stub, second_stub: Stub, issuer_of: Build) -> None:
    second_stub.say(answer(201, b"{}"))
    stub.say(answer(307, b"", "text/plain", f"Location: {second_stub.url}/admin/v1/keys"))
    with pytest.raises(Refused, match="redirect"):
        issuer_of(stub.url).mint(ORDER)
    assert second_stub.requests == []


def test_404_without_the_code_is_not_gone(stub: Stub, issuer_of: Build) -> None:
    stub.say(answer(404, b"<html>", "text/html"))
    with pytest.raises(Refused, match="404"):
        issuer_of(stub.url).revoke(a_key().key_id, None)


@pytest.mark.parametrize(
    ("page", "problem"),
    [
        ({"items": []}, r"no keys at keys\.\*"),
        ({"keys": "none"}, r"no keys at keys\.\*"),
        ({"keys": [{"label": "prod/x", "id": "FOREIGN"}]}, "key 0 in the list of issuer admin has no key id at id"),
        ({"keys": [{"label": "prod/x"}]}, "has no key id at id"),
    ],
)
def test_a_list_that_is_not_as_configured_is_refused_not_empty(stub: Stub, issuer_of: Build, page: object, problem: str) -> None:
    stub.say(answer(200, json.dumps(page).encode()))
    with pytest.raises(Refused, match=problem) as caught:
        issuer_of(stub.url).list_labelled("prod/")
    assert "FOREIGN" not in whole_text(caught.value)


def test_a_full_key_in_a_list_is_refused_and_not_shown(stub: Stub, issuer_of: Build) -> None:
    key = a_key()
    stub.say(answer(200, json.dumps({"keys": [{"label": "prod/x", "id": key.reveal()}]}).encode()))
    with pytest.raises(Refused) as caught:
        issuer_of(stub.url).list_labelled("prod/")
    assert key.reveal().split("_", 3)[3] not in whole_text(caught.value)


def test_foreign_entries_of_the_list_are_passed_over(stub: Stub, issuer_of: Build) -> None:
    stub.say(answer(200, json.dumps({"keys": [{"label": "theirs", "id": "FOREIGN"}, {"id": 3}, 7, None]}).encode()))
    assert issuer_of(stub.url).list_labelled("prod/") == []


@pytest.mark.parametrize("said", [answer(500, b"{}"), answer(200, b"<html>", "text/html"), answer(200, b"{")])
def test_a_list_that_fails_is_unreachable_after_three_tries(stub: Stub, issuer_of: Build, said: bytes) -> None:
    stub.say(said)
    with pytest.raises(Unreachable) as caught:
        issuer_of(stub.url).list_labelled("prod/")
    assert type(caught.value) is Unreachable
    assert len(stub.requests) == 3


def test_a_late_mint_is_lost_first_and_listed_then(sandbox: SandboxControl, issuer_of: Build, token_file: Path) -> None:
    write(token_file, sandbox.http.headers["authorization"].removeprefix("Bearer "))
    issuer = issuer_of(sandbox.url)
    sandbox.faults({"operation": "mint", "effect": "late", "seconds": 0.3, "times": 1})
    with pytest.raises(AnswerLost):
        issuer.mint(ORDER)
    deadline, pause = time.monotonic() + 60, threading.Event()
    while not (listed := issuer.list_labelled("prod/")) and time.monotonic() < deadline:
        pause.wait(0.02)
    assert [key.label for key in listed] == [ORDER.label]


def test_no_log_line_carries_key_or_token(
    sandbox: SandboxControl, session_of: Build, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        issuer = session_of()
        issued = issuer.mint(ORDER)
        issuer.revoke(issued.secret.key_id, issued.reference)
        shown = repr(issuer) + repr(vars(issuer))
    everything = caplog.text + shown + "".join(capfd.readouterr())
    assert caplog.records
    assert issued.secret.reveal().split("_", 3)[3] not in everything
    assert sandbox.http.headers["authorization"].removeprefix("Bearer ") not in everything


def test_an_unreachable_issuer_minted_nothing(issuer_of: Build) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        issuer = issuer_of(f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(Unreachable) as caught:
            issuer.mint(ORDER)
        assert type(caught.value) is Unreachable
        with pytest.raises(Unreachable):
            issuer.check(ORDER)


def test_key_ids_are_what_revoke_is_given(sandbox: SandboxControl, issuer_of: Build, token_file: Path) -> None:
    write(token_file, sandbox.http.headers["authorization"].removeprefix("Bearer "))
    key: KeyId = sandbox.mint().key_id
    issuer_of(sandbox.url).revoke(parse_key_id(str(key)), None)
    assert sandbox.living() == set()


@pytest.mark.parametrize(
    "spoiled", [answer(200, b'{"garbage": ['), answer(200, b"<html>welcome</html>", "text/html")], ids=["broken JSON", "a page"]
)
def test_a_revoke_that_someone_in_between_answered_may_not_have_been_carried_out(stub: Stub, issuer_of: Build, spoiled: Any) -> None:
    stub.say(spoiled, answer(200, b""), answer(204, b"", "text/plain"))
    issuer, key_id = issuer_of(stub.url), a_key().key_id
    with pytest.raises(AnswerLost, match="a body that no API sends"):
        issuer.revoke(key_id, None)
    issuer.revoke(key_id, None)
    issuer.revoke(key_id, None)
