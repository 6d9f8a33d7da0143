"""hvac on our own HTTP: its requests go through `rotator.remote.http`, so a call has one time limit, TLS is verified, no redirect is
followed, no proxy or token is taken from the environment, and it is known whether a request was surely not sent.

What the server refuses comes out as `Answered`, which stays inside this package: `faults` says it in our words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from hvac.adapters import Adapter

from rotator.domain.errors import AnswerLost, Unreachable
from rotator.remote.http import Remote, Reply

__all__ = ["Answered", "VaultAdapter"]

Find = Callable[[str], bool]

_FORBIDDEN = 403


class Answered(Exception):
    """The server answered, and not with success."""

    def __init__(self, status: int, errors: tuple[str, ...], data: Mapping[str, Any]) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self.errors = errors
        """the server's own words; they go into no message of ours"""
        self.data = data
        """what came beside the errors, such as the metadata of a deleted version"""

    def says(self, *words: str) -> bool:
        """Whether any of the errors has any of the words in it."""
        return any(word in error.lower() for error in self.errors for word in words)


class VaultAdapter(Adapter):  # type: ignore[misc]  # hvac has no types
    """Sends the requests of hvac's API classes with the token of this second. Shared by all threads."""

    def __init__(self, remote: Remote, namespace: str | None, get_token: Callable[[], str | None], find_other: Find | None = None) -> None:
        """`find_other` is told of a token that was refused, and says whether another one may now be tried; without it there is none."""
        # hvac's own constructor would open a session of `requests`.
        self._remote = remote
        self._namespace = namespace
        self._get_token = get_token
        self._find_other = find_other

    def __repr__(self) -> str:
        return f"<VaultAdapter of {self._remote!r}>"

    def get_login_token(self, response: Mapping[str, Any]) -> str:
        """See hvac's `Adapter`."""
        return str(response["auth"]["client_token"])

    def login(self, url: str, use_token: bool = True, **kwargs: Any) -> dict[str, Any]:  # noqa: ARG002  # hvac's signature
        """A login's answer; who is signed in is not kept here."""
        return self.post(url, **kwargs)  # type: ignore[no-any-return]

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        raise_exception: bool = True,  # noqa: ARG002  # hvac's signature
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The JSON of the answer; empty where it has none. Raises `Answered`, and what `Remote.call` raises."""
        method = method.upper()
        path = url + (f"?{urlencode(kwargs['params'])}" if kwargs.get("params") else "")
        content = None if kwargs.get("json") is None else json.dumps(kwargs["json"]).encode()
        token = self._get_token()
        try:
            return self._ask(method, path, headers or {}, content, token)
        except Answered as answered:
            refused = answered.status == _FORBIDDEN and token is not None
            if not refused or self._find_other is None or not self._find_other(token or ""):
                raise
        # It was surely not carried out, so once more is safe.
        return self._ask(method, path, headers or {}, content, self._get_token())

    def _ask(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None, token: str | None) -> dict[str, Any]:
        every = {"X-Vault-Request": "true", **({"Content-Type": "application/json"} if content is not None else {}), **headers}
        if token is not None:
            every["X-Vault-Token"] = token
        if self._namespace is not None:
            every["X-Vault-Namespace"] = self._namespace
        operation = _name_operation(method, path)
        reply = self._call(operation, method, path, every, content)
        if not 200 <= reply.status < 300:
            raise _build_answered(reply)
        if not reply.body:
            return {}
        try:
            answer = reply.parse_json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            text = f"{self._remote.name} answers {operation} with something that is not JSON: is there a proxy, or another service?"
            raise Unreachable(text) if method == "GET" else AnswerLost(f"{text} It may have been carried out")
        return answer

    def _call(self, operation: str, method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> Reply:
        try:
            return self._remote.call(operation, method, path, headers, content)
        except AnswerLost as problem:
            if method != "GET":
                raise
            text = str(problem).partition("; it may")[0]
        raise Unreachable(text)


def _build_answered(reply: Reply) -> Answered:
    try:
        body = reply.parse_json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        return Answered(reply.status, (), {})
    errors, data = body.get("errors"), body.get("data")
    words = tuple(str(error) for error in errors) if isinstance(errors, list) else ()
    return Answered(reply.status, words, data if isinstance(data, dict) else {})


def _name_operation(method: str, path: str) -> str:
    """A word for messages and metrics: few, whatever the paths."""
    if path.startswith("/v1/auth/"):
        return path.rpartition("/")[2] if re.search(r"/(login|renew-self|lookup-self)\Z", path) else "auth"
    if path.startswith("/v1/sys/internal/"):
        return "read-mount"
    if path.startswith("/v1/sys/"):
        return "unwrap" if path.endswith("/unwrap") else path.removeprefix("/v1/sys/").split("/")[0]
    if "/metadata/" in path:
        return "read-metadata"
    return {"GET": "read", "PATCH": "patch"}.get(method, "write")
