"""Requests to a cluster's API: JSON in, JSON out, every failure in our error tree.

Secrets are asked for as metadata only: what others keep in them never enters the process.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from rotator.domain.errors import AnswerLost, Unreachable
from rotator.remote.http import Outcome, judge_status, parse_retry_after
from rotator.targets.kubernetes.access import ClusterAccess
from rotator.targets.kubernetes.answers import Answered, explain

__all__ = ["ClusterApi", "HangUp", "Object"]

Object = Mapping[str, Any]
HangUp = Callable[[], None]

_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_APPLY = "application/apply-patch+yaml"
_STRATEGIC = "application/strategic-merge-patch+json"
_PAGE = 500
_WATCH_FOR = 300
"""seconds after which the server ends a watch"""
_SILENCE = 90.0
"""seconds without even a bookmark, which mostly comes every minute, after which a watch is begun again: its connection may be dead"""


@dataclass(frozen=True, slots=True)
class ClusterApi:
    """One cluster's API. Paths begin with /api or /apis."""

    name: str
    access: ClusterAccess
    timeout: float
    """seconds, of one call"""
    observe: Callable[[str, str, str, float], None] | None = None

    def find(self, path: str, what: str, *, metadata: bool = False) -> Object | None:
        """One object, or None where there is none. Raises `Unreachable`, `Refused`."""
        answer = self._ask("GET", path, what, accept=_METADATA if metadata else "")
        if answer.status_code == httpx2.codes.NOT_FOUND:
            return None
        return self._judge(answer, what, writes=False)

    def list_all(
        self, path: str, what: str, *, metadata: bool = False, params: Mapping[str, str] | None = None
    ) -> tuple[list[Object], str]:
        """Every object of a collection, in pages, and the version from which a watch goes on. Raises `Expired` where a page came late."""
        found: list[Object] = []
        query = {"limit": str(_PAGE), **(params or {})}
        while True:
            answer = self._ask("GET", path, what, accept=_METADATA_LIST if metadata else "", params=query)
            page = self._judge(answer, what, writes=False)
            found += page.get("items") or []
            head = page.get("metadata") or {}
            if not head.get("continue"):
                return found, str(head.get("resourceVersion") or "")
            query = {**query, "continue": str(head["continue"])}

    def apply(self, path: str, body: Object, what: str, *, manager: str, force: bool, dry_run: bool = False) -> tuple[Object, bool]:
        """Server-side apply: the object's metadata, and whether it is new. With a resourceVersion in the body it is conditional on that.

        Raises `Conflict`, `Refused`, `RateLimited`, `AnswerLost`, `Unreachable`.
        """
        params = {"fieldManager": manager, "force": str(force).lower(), **({"dryRun": "All"} if dry_run else {})}
        answer = self._ask("PATCH", path, what, accept=_METADATA, params=params, body=body, kind=_APPLY)
        return self._judge(answer, what, writes=not dry_run), answer.status_code == httpx2.codes.CREATED

    def patch(self, path: str, body: Object, what: str, *, manager: str) -> Object:
        """A strategic merge patch: what stands in the body, and nothing else, changes."""
        answer = self._ask("PATCH", path, what, params={"fieldManager": manager}, body=body, kind=_STRATEGIC, accept=_METADATA)
        return self._judge(answer, what, writes=True)

    def create(self, path: str, body: Object, what: str) -> Object:
        """POST: for reviews, which leave nothing behind."""
        return self._judge(self._ask("POST", path, what, body=body), what, writes=False)

    def delete(self, path: str, uid: str, version: str, what: str) -> None:
        """Delete exactly the object that was seen; success where it is gone already. Raises `Conflict` where it is another."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid, "resourceVersion": version}}
        answer = self._ask("DELETE", path, what, body=body)
        if answer.status_code != httpx2.codes.NOT_FOUND:
            self._judge(answer, what, writes=True)

    def watch(self, path: str, what: str, params: Mapping[str, str], version: str, opened: Callable[[HangUp], None]) -> Iterator[Object]:
        """Events from a version on, bookmarks too, as metadata, until the server ends it; `opened` is called when it has begun, with what
        ends it at once from another thread.

        Raises `Expired`, `Unreachable`, `Refused`.
        """
        query = {**params, "watch": "1", "allowWatchBookmarks": "true", "timeoutSeconds": str(_WATCH_FOR)}
        if version:
            query["resourceVersion"] = version
        client = self.access.get_clients().watches
        limits = httpx2.Timeout(self.timeout, read=_SILENCE)
        try:
            with client.stream("GET", path, params=query, headers={"Accept": _METADATA}, timeout=limits) as answer:
                if answer.status_code != httpx2.codes.OK:
                    answer.read()
                    self._judge(answer, what, writes=False)
                opened(partial(_hang_up, answer))
                for line in answer.iter_lines():
                    if line:
                        yield self._parse_event(line, what)
        except httpx2.ReadTimeout:
            return  # where nothing at all happens there may be no bookmarks either, and whether the server is there the next one tells
        except httpx2.HTTPError as problem:
            raise Unreachable(f"{self.name}: {what}: the connection ended ({_why(problem)})") from None

    def _parse_event(self, line: str, what: str) -> Object:
        try:
            event: Object = json.loads(line)
            if event["type"] == "ERROR":
                raise explain(Answered(int(event["object"].get("code") or 500), event["object"]), self.name, what, writes=False)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Unreachable(f"{self.name}: {what}: the answer is none of an API server's") from None
        return event

    def _ask(
        self,
        method: str,
        path: str,
        what: str,
        *,
        accept: str = "",
        params: Mapping[str, str] | None = None,
        body: Object | None = None,
        kind: str = "application/json",
    ) -> httpx2.Response:
        started, outcome = time.monotonic(), Outcome.UNREACHABLE
        # No second choice: a server that knows no metadata of its own would send everything.
        headers = {"Accept": accept or "application/json"}
        if body is not None:
            headers["Content-Type"] = kind
        writes = method != "GET"
        try:
            answer = self.access.get_clients().calls.request(
                method,
                path,
                params=dict(params or {}),
                headers=headers,
                content=json.dumps(body) if body is not None else None,
                timeout=self.timeout,
            )
            outcome = judge_status(answer.status_code)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout, httpx2.ProxyError) as problem:
            raise Unreachable(f"{self.name}: {what}: the API server cannot be reached ({_why(problem)})") from None
        except httpx2.HTTPError as problem:
            # Not chained: a transport's error holds the request, and that holds the key.
            outcome = Outcome.ANSWER_LOST
            lost = AnswerLost if writes else Unreachable
            raise lost(f"{self.name}: {what}: the API server gave no answer ({type(problem).__name__})") from None
        finally:
            if self.observe is not None:
                self.observe(self.name, method.lower(), outcome, time.monotonic() - started)
        return answer

    def _judge(self, answer: httpx2.Response, what: str, *, writes: bool) -> Object:
        try:
            body = answer.json()
        except ValueError:
            body = None
        if answer.is_success and isinstance(body, dict):
            return body
        if answer.is_success or answer.is_redirect:
            raise Unreachable(f"{self.name}: {what}: what answered ({answer.status_code}) is no API server: see the address")
        known = body if isinstance(body, dict) and body.get("kind") == "Status" else {}
        after = parse_retry_after(answer.headers.get("Retry-After"), answer.headers.get("Date"))
        raise explain(Answered(answer.status_code, known, after), self.name, what, writes=writes)


def _hang_up(answer: httpx2.Response) -> None:
    """Whoever reads the answer in another thread reads its end. To close it would not wake him."""
    connection = answer.extensions["network_stream"].get_extra_info("socket")
    with contextlib.suppress(OSError):  # it has ended by itself
        socket.socket.shutdown(connection, socket.SHUT_RDWR)  # not SSLSocket's own, which takes TLS away from under the reader


def _why(problem: httpx2.HTTPError) -> str:
    """In our words: a transport's own may quote what was sent."""
    if isinstance(problem, httpx2.ConnectError) and "CERTIFICATE_VERIFY_FAILED" in str(problem):
        return "its TLS certificate is not trusted here: see `certificate-authority` in the kubeconfig"
    if isinstance(problem, httpx2.ConnectError) and "SSL" in str(problem):
        return "no TLS connection: see `server` in the kubeconfig"
    return type(problem).__name__
