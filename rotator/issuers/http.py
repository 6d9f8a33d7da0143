"""Mints, lists and revokes over HTTP, with the whole contract in configuration.

Millimetric publishes no API for this, so nothing about one is known: method, path, body, where things stand in the answers and how to
sign in are all configured. The profile `sandbox`, the default, is that of `rotator sandbox`: an assumption, good for trying things out.
A mint is never repeated by itself; a key is in a `Secret` as soon as it is read; no body of the other side gets into an error.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from rotator.domain.errors import AnswerLost, MalformedKey, NeedsHuman, Refused, RotatorError, Unreachable
from rotator.domain.keys import KeyId, parse_key_id
from rotator.domain.ports import Abilities, Clock, Issued, ListedKey, MintOrder
from rotator.domain.reasons import Reason
from rotator.domain.secret import Secret
from rotator.issuers.surroundings import Surroundings
from rotator.remote.fields import BaseUrl, Duration, FilePath, ProxyUrl
from rotator.remote.http import MAX_TOTAL, VERB_WITHIN, Observer, Remote, RemoteOptions, Reply, deadline
from rotator.remote.millimetric import CODES
from rotator.remote.sessions import BearerAuth, Credentials, SessionAuth, build_credentials
from rotator.remote.templates import Values, ensure_placeholders, fill_json, fill_path, fill_query, find_at, find_text, gather_at

__all__ = ["HttpIssuer", "HttpIssuerConfig", "ListCall", "MintCall", "RevokeCall", "build"]

_MINT_NAMES = ("label", "kind", "env", "project")
_LIST_NAMES = ("label_prefix", "cursor")
_REVOKE_NAMES = ("key_id", "reference")
_UNAUTHORIZED = 401
_MOST_PAGES = 1000
_LIST_PAUSES = (0.2, 0.6)
"""Seconds before each further try of a page."""
_REFUSALS = frozenset({301, 305, 307, 308, *range(400, 500)}) - {408, 425}
"""Statuses after which nothing was done for sure. All others but success may follow an effect: 303 even says so."""
_CONFIG = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=True, use_attribute_docstrings=True)


class _Call(BaseModel):
    """One request, as a template."""

    model_config = _CONFIG

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    """HTTP method."""
    path: str = Field(pattern=r"^/[^\s?#\\]*$")
    """Path below base_url, with placeholders; values are quoted."""
    query: dict[str, str] = Field(default_factory=dict)
    """Query parameters, with placeholders; one whose value is missing is left out."""
    body: JsonValue = None
    """JSON body, with placeholders in its texts; a member whose value is missing is left out. null: no body."""
    success: frozenset[int] = frozenset({200, 201})
    """HTTP statuses that mean that it was done."""

    def _ensure_names(self, allowed: Sequence[str]) -> None:
        for where in ("path", "query", "body"):
            ensure_placeholders(getattr(self, where), allowed, where)


class MintCall(_Call):
    """How a key is minted. Placeholders: {label}, {kind}, {env}, {project}."""

    key: str = "key"
    """Where the full key stands in the answer."""
    id: str | None = "id"
    """Where its key id stands, checked against the key; or a template such as {kind}_{env}_{prefix}. null: the answer has none."""
    reference: str | None = None
    """Where the issuer's own name for the key stands, where revoking needs it."""

    @model_validator(mode="after")
    def _names(self) -> MintCall:
        self._ensure_names(_MINT_NAMES)
        return self


class ListCall(_Call):
    """How keys are listed. Placeholders: {label_prefix}, {cursor} (missing on the first page)."""

    keys: str = "keys.*"
    """Where the keys stand in the answer; `*` is every member."""
    id: str = "id"
    """Where a key's id stands in it, or a template such as {kind}_{env}_{prefix}."""
    label: str = "label"
    """Where its label stands."""
    revoked: str | None = "revoked_at"
    """Where it shows that a key is revoked: any value but null, false and empty. null: revoked keys are not listed."""
    reference: str | None = None
    """Where the issuer's own name for the key stands."""
    next_cursor: str | None = "next_cursor"
    """Where the next page's cursor stands. null: there is one page."""

    @model_validator(mode="after")
    def _names(self) -> ListCall:
        self._ensure_names(_LIST_NAMES)
        if self.next_cursor is not None and "{cursor}" not in json.dumps([self.path, self.query, self.body]):
            raise ValueError("next_cursor is set but {cursor} is nowhere in path, query or body: only the first page would be read")
        return self


class RevokeCall(_Call):
    """How a key is revoked. Placeholders: {key_id}, {reference}."""

    success: frozenset[int] = frozenset({200, 202, 204})
    """HTTP statuses that mean that it was accepted; whether the key died is found out by asking the service."""
    gone_statuses: frozenset[int] = frozenset({404, 410})
    """Statuses that mean that there is no such key (any more)."""
    gone_codes: frozenset[str] = frozenset({"unknown_key"})
    """Of those statuses only answers with one of these error codes count: a wrong path answers 404 too. Empty: all count."""

    @model_validator(mode="after")
    def _names(self) -> RevokeCall:
        self._ensure_names(_REVOKE_NAMES)
        return self


def _sandbox_profile() -> dict[str, object]:
    """The admin API of `rotator sandbox`. Millimetric's own is unpublished: this is an assumption."""
    body: JsonValue = {"kind": "{kind}", "env": "{env}", "project": "{project}", "label": "{label}"}
    query = {"label_prefix": "{label_prefix}", "limit": "200", "cursor": "{cursor}"}
    return {
        "mint": MintCall(method="POST", path="/admin/v1/keys", body=body),
        "list": ListCall(method="GET", path="/admin/v1/keys", query=query),
        "revoke": RevokeCall(method="DELETE", path="/admin/v1/keys/{key_id}"),
    }


class HttpIssuerConfig(BaseModel):
    """An issuer behind an HTTP API."""

    model_config = _CONFIG

    type: Literal["http"] = "http"
    """The kind of issuer."""
    base_url: BaseUrl
    """Where the API is: https://, or http:// on a loopback host."""
    auth: Annotated[BearerAuth | SessionAuth, Field(discriminator="type")]
    """How we sign in."""
    profile: Literal["sandbox"] | None = "sandbox"
    """Where operations that are not given come from. `sandbox`: the admin API of `rotator sandbox`, an assumption; null: nowhere."""
    mint: MintCall
    """How a key is minted."""
    list_: ListCall | None = Field(default=None, alias="list")
    """How keys are listed; null: this issuer cannot list."""
    revoke: RevokeCall | None = None
    """How a key is revoked; null: this issuer cannot revoke."""
    ca_file: FilePath | None = None
    """PEM file of the certificate authorities to trust, in place of the public ones."""
    proxy: ProxyUrl | None = None
    """HTTP proxy to reach an https base_url through, such as http://proxy.example:3128. Proxies of the environment are never used."""
    rate: Annotated[float, Field(gt=0)] | None = 50.0
    """Most calls per second; null: no limit."""
    burst: Annotated[int, Field(ge=1)] = 50
    """How many calls may come at once within that rate."""
    timeout: Duration = MAX_TOTAL
    """Time limit of one call, at most 10s."""

    @model_validator(mode="before")
    @classmethod
    def _from_profile(cls, data: object) -> object:
        if not isinstance(data, dict) or data.get("profile", "sandbox") != "sandbox":
            return data
        given = {**data, "list": data["list_"]} if "list_" in data else data
        return {**_sandbox_profile(), **{name: value for name, value in given.items() if name != "list_"}}

    @field_validator("timeout")
    @classmethod
    def _short(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= MAX_TOTAL:
            raise ValueError("a call's time limit must be more than nothing and at most 10s")
        return value

    def list_places(self, credentials: Sequence[str]) -> Iterator[tuple[str, str, str]]:  # noqa: ARG002
        """It keeps nothing in a store."""
        yield from ()

    def build(self, name: str, around: Surroundings) -> HttpIssuer:
        """The issuer called `name`. Opens no connection and reads no token. Raises `Misconfigured` for a bad CA file."""
        return build(name, self, around.clock, around.observe)

    @model_validator(mode="after")
    def _consistent(self) -> HttpIssuerConfig:
        if self.proxy is not None and not self.base_url.startswith("https://"):
            raise ValueError("proxy is for an https:// base_url only: a plain http:// request would show the token to the proxy")
        return self


class HttpIssuer:
    """An issuer over HTTP. Safe to share between threads."""

    def __init__(
        self, name: str, config: HttpIssuerConfig, remote: Remote, credentials: Credentials, clock: Clock, wait: Callable[[float], None]
    ) -> None:
        self.name = name
        self._config = config
        self._remote = remote
        self._credentials = credentials
        self._clock = clock
        self._wait = wait
        gone = config.revoke.gone_codes if config.revoke else frozenset()
        expired = config.auth.expired_codes if isinstance(config.auth, SessionAuth) else frozenset()
        self._codes = CODES | gone | expired

    def __repr__(self) -> str:
        return f"<HttpIssuer {self.name} at {self._config.base_url}>"

    @property
    def abilities(self) -> Abilities:
        """Mint always; list and revoke where they are configured."""
        return Abilities(mint=True, list=self._config.list_ is not None, revoke=self._config.revoke is not None)

    def close(self) -> None:
        """Close idle connections."""
        self._remote.close()

    def mint(self, order: MintOrder) -> Issued:
        """See `Issuer.mint`. `minted_at` is the time just before the request: no key is thought younger than it is."""
        call, asked = self._config.mint, self._clock.now()
        values = {"label": order.label, "kind": str(order.kind), "env": order.env, "project": order.project}
        with deadline(VERB_WITHIN):
            reply = self._call("mint", call, values)
        if reply.status not in call.success:
            raise self._refusal("mint", reply)
        try:
            answer = reply.parse_json()
            return Issued(self._parse_key(call, answer), self._reference(call.reference, answer), asked)
        except ValueError:
            raise self._unusable("is not JSON") from None
        except MalformedKey as problem:
            raise self._unusable(f"has no usable key at {call.key}: {problem}") from None

    def list_labelled(self, prefix: str, credential: str = "") -> Sequence[ListedKey]:  # noqa: ARG002
        """See `Issuer.list_labelled`. Labels are compared here too, as an issuer may filter less than asked."""
        call = self._config.list_
        if call is None:
            raise Refused(f"{self.name} cannot list keys: its `list` is null")
        with deadline(VERB_WITHIN):
            return [key for page in self._pages(call, prefix) for key in self._parse_page(call, page, prefix)]

    def revoke(self, key_id: KeyId, reference: str | None) -> None:
        """See `Issuer.revoke`."""
        call = self._config.revoke
        if call is None:
            raise Refused(f"{self.name} cannot revoke keys: its `revoke` is null; revoke {key_id} by hand", reason=Reason.REVOKE_BY_HAND)
        what = f"revoke of {key_id}"
        with deadline(VERB_WITHIN):
            reply = self._call("revoke", call, {"key_id": str(key_id), "reference": reference})
        if reply.status in call.success:
            if reply.is_spoiled():
                raise AnswerLost(
                    f"{self.name} answers {what} with {reply.status} and a body that no API sends; it may have been carried out"
                )
            return
        if reply.status in call.gone_statuses and (not call.gone_codes or reply.find_code(call.gone_codes)):
            return
        raise self._refusal(what, reply)

    def settle(self, label: str, credential: str = "") -> None:
        """Nothing is kept here: the other side goes on listing the key."""

    def check(self, order: MintOrder) -> None:  # noqa: ARG002  # whether it may mint can only be seen by minting
        """See `Issuer.check`: signs in, and lists under a label that nothing has, where it can list."""
        call = self._config.list_
        with deadline(VERB_WITHIN):
            if call is None:
                self._credentials.get_token()
            else:
                self._ask_page(call, {"label_prefix": "rotator-preflight/", "cursor": None})

    def _pages(self, call: ListCall, prefix: str) -> Iterator[object]:
        seen: set[str] = set()
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = self._ask_page(call, {"label_prefix": prefix, "cursor": cursor})
            yield page
            cursor = None if call.next_cursor is None else find_text(page, call.next_cursor)
            if cursor is None:
                return
            if cursor in seen:
                raise Refused(f"{self.name} lists the same page again and again: its `list` is not configured as its API works")
            seen.add(cursor)
        raise Refused(f"{self.name} lists more than {_MOST_PAGES} pages of keys under one label")

    def _ask_page(self, call: ListCall, values: Values) -> object:
        """One page. Asked again a little, as reading has no effect."""
        for pause in _LIST_PAUSES:
            try:
                return self._read_page(call, values)
            except Unreachable:
                self._wait(pause)
        return self._read_page(call, values)

    def _read_page(self, call: ListCall, values: Values) -> object:
        try:
            reply = self._call("list", call, values)
            if reply.status not in call.success:
                raise self._refusal("list", reply)
            return reply.parse_json()
        except AnswerLost as problem:
            raise Unreachable(str(problem), after=problem.after) from None
        except ValueError:
            raise Unreachable(f"{self.name} did not answer list with JSON") from None

    def _parse_page(self, call: ListCall, page: object, prefix: str) -> Iterator[ListedKey]:
        holder = call.keys.removesuffix("*").removesuffix(".")
        if not isinstance(find_at(page, holder), list | dict) and "*" not in holder:
            raise Refused(f"the list of {self.name} has no keys at {call.keys}: its `list.keys` is not as its API works")
        for number, entry in enumerate(gather_at(page, call.keys)):
            label = find_text(entry, call.label)
            if label is None or not label.startswith(prefix):
                continue
            try:
                key_id = parse_key_id(find_text(entry, call.id) or "")
            except MalformedKey:
                raise Refused(f"key {number} in the list of {self.name} has no key id at {call.id}: correct its `list.id`") from None
            revoked = call.revoked is not None and bool(find_at(entry, call.revoked))
            yield ListedKey(key_id, label, self._reference(call.reference, entry), revoked)

    def _parse_key(self, call: MintCall, answer: object) -> Secret:
        secret = Secret(find_text(answer, call.key) or "")
        if call.id is not None and find_text(answer, call.id) != str(secret.key_id):
            raise MalformedKey(f"the answer's id at {call.id} is not that of the key beside it, {secret.key_id}")
        return secret

    def _reference(self, where: str | None, answer: object) -> str | None:
        return None if where is None else find_text(answer, where)

    def _unusable(self, what: str) -> RotatorError:
        """A key was born that nobody can use. The sweep finds it by its label; where nothing can be listed it must be told of (L8)."""
        text = f"the answer of {self.name} to mint {what}; correct its `mint`"
        return Refused(text) if self._config.list_ is not None else AnswerLost(text)

    def _call(self, operation: str, call: _Call, values: Values) -> Reply:
        path = fill_path(call.path, values) + fill_query(call.query, values)
        content = None if call.body is None else json.dumps(fill_json(call.body, values)).encode()
        token = self._credentials.get_token()
        reply = self._send(operation, call, path, content, token)
        if reply.status == _UNAUTHORIZED:
            fresh = self._credentials.find_fresh(token, reply)
            if fresh is not None:  # a 401 was surely not carried out: even a mint may be sent again
                return self._send(operation, call, path, content, fresh)
        return reply

    def _send(self, operation: str, call: _Call, path: str, content: bytes | None, token: str) -> Reply:
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        return self._remote.call(operation, call.method, path, headers, content)

    def _refusal(self, what: str, reply: Reply) -> RotatorError:
        code = reply.find_code(self._codes)
        said = f"{reply.status} {code}" if code else str(reply.status)
        if reply.status == _UNAUTHORIZED:
            return NeedsHuman(
                f"{self.name} does not accept our token for {what} ({said}): renew what its `auth` names", reason=Reason.REFUSED
            )
        if 300 <= reply.status < 400 and reply.status in _REFUSALS:
            return Refused(f"{self.name} answers {what} with a redirect ({said}), which is never followed: correct its base_url")
        if reply.status in _REFUSALS:
            return Refused(f"{self.name} refuses {what} ({said})")
        return AnswerLost(f"{self.name} answers {what} with {said}; it may have been carried out", after=reply.retry_after)


def build(
    name: str, config: HttpIssuerConfig, clock: Clock, observe: Observer | None = None, wait: Callable[[float], None] = time.sleep
) -> HttpIssuer:
    """The issuer called `name` in the configuration. Opens no connection and reads no token. Raises `Misconfigured` for a bad CA file."""
    options = RemoteOptions(timeout=config.timeout, ca_file=config.ca_file, proxy=config.proxy, rate=config.rate, burst=config.burst)
    remote = Remote(f"issuer {name}", config.base_url, clock, options, observe, wait)
    credentials = build_credentials(config.auth, f"issuers.{name}.auth", remote, clock)
    return HttpIssuer(f"issuer {name}", config, remote, credentials, clock, wait)
