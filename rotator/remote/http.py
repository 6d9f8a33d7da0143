"""All our own HTTP: one thin layer that says what became of a request in our words.

What a caller can rely on: a call ends within its time limit; TLS is always verified; a redirect is an answer like any other and is
never followed; nothing is taken from the environment (proxies, netrc); a body larger than the limit is not read; no text of the other
side gets into an error. What it must not do: repeat a request, or know what a status means to the one who asked.

    surely not sent            connection refused, no such name, no time left to connect      Unreachable
    sent, no (whole) answer    time-out, connection dropped, body too large                   AnswerLost
    429                        also for every later call until the time that it named         RateLimited
    any other status           a `Reply`; the caller judges
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path

import httpx

from rotator import __version__
from rotator.domain.errors import AnswerLost, Misconfigured, RateLimited, RotatorError, Unreachable
from rotator.domain.ports import Clock
from rotator.remote import wire
from rotator.remote.wire import deadline

__all__ = [
    "MAX_TOTAL",
    "VERB_WITHIN",
    "Observer",
    "Outcome",
    "Pace",
    "Remote",
    "RemoteOptions",
    "Reply",
    "deadline",
    "ensure_header_value",
    "judge_failure",
    "judge_status",
    "parse_retry_after",
]

MAX_TOTAL = timedelta(seconds=10)
"""No call may take longer (L25)."""
VERB_WITHIN = 25.0
"""Seconds for everything that one verb of a port asks: signing in, pages, further tries. A step in hand ends within 30 s (L25)."""
_CONNECT_WITHIN = 5.0
_LONGEST_PAUSE = timedelta(hours=1)
"""A remote that asks to be left alone for longer is asked again after this."""
_DEFAULT_PAUSE = timedelta(seconds=1)
"""After a 429 that names no time."""
_LONGEST_QUEUE = 5.0
"""Seconds a call waits for its turn under the rate limit; a longer wait is an answer of its own."""
_TOO_MANY = 429
_VISIBLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")

Observer = Callable[[str, str, str, float], None]
"""Called after each call with (remote, operation, outcome, seconds). It must be quick and must not raise."""


class Outcome(StrEnum):
    """What became of a call, as the metric's label says it."""

    OK = "ok"
    REDIRECTED = "redirected"
    REFUSED = "refused"
    """another 4xx"""
    FAILED = "failed"
    """5xx"""
    RATE_LIMITED = "rate_limited"
    HELD_BACK = "held_back"
    """not sent: our own rate limit, or the remote had asked for a pause"""
    UNREACHABLE = "unreachable"
    ANSWER_LOST = "answer_lost"


@dataclass(frozen=True, slots=True)
class RemoteOptions:
    """How a remote is talked to. `rate` is calls per second (None: no limit), `burst` how many may come at once."""

    timeout: timedelta = MAX_TOTAL
    ca_file: Path | None = None
    client_cert: tuple[Path, Path] | None = None
    """PEM files of a certificate and its key, to show to the remote"""
    proxy: str | None = None
    rate: float | None = None
    burst: int = 1
    largest_body: int = 1_000_000
    """bytes; a larger answer is not read to its end"""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer. The body is foreign: it never goes into a message; `find_code` gives what may."""

    status: int
    media_type: str
    """lower case, without parameters; empty where none was named"""
    body: bytes
    date: datetime | None = None
    """the `Date` header, aware UTC; whole seconds"""
    retry_after: timedelta | None = None

    def parse_json(self) -> object:
        """The body as JSON. `ValueError` (never with its content) when it is not, or not said to be."""
        if self.media_type != "application/json":
            raise ValueError("not JSON by its content type")
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            pass
        raise ValueError("not JSON")

    def is_spoiled(self) -> bool:
        """Whether someone in between wrote the body: a page, or broken JSON. An API's own may be empty, JSON or plain."""
        if self.media_type == "application/json" and self.body:
            try:
                self.parse_json()
            except ValueError:
                return True
        return self.media_type == "text/html"

    def find_code(self, known: Iterable[str]) -> str | None:
        """The stable error code in `{"error": code}`, if it is one of the known ones."""
        try:
            body = self.parse_json()
        except ValueError:
            return None
        code = body.get("error") if isinstance(body, dict) else None
        return code if isinstance(code, str) and code in known else None


class Pace:
    """A token bucket on the monotonic clock, and the pause that a remote asked for."""

    def __init__(self, rate: float | None, burst: int, clock: Clock) -> None:
        self._interval = 0.0 if rate is None else 1.0 / rate
        self._tolerance = self._interval * (max(burst, 1) - 1)
        self._clock = clock
        self._lock = threading.Lock()
        self._next = float("-inf")
        self._paused_until = float("-inf")

    def take_turn(self) -> float:
        """Seconds to wait before the call. Raises `RateLimited` where the wait would be too long, and then reserves nothing."""
        with self._lock:
            now = self._clock.monotonic()
            pause = self._paused_until - now
            if pause > 0:
                raise RateLimited("it asked to be left alone for a while", after=timedelta(seconds=pause))
            if not self._interval:
                return 0.0
            turn = max(self._next, now)
            wait = turn - self._tolerance - now
            if wait > _LONGEST_QUEUE:
                raise RateLimited("too many calls wait under our own rate limit", after=timedelta(seconds=wait))
            self._next = turn + self._interval
            return max(wait, 0.0)

    def pause(self, span: timedelta) -> None:
        """Let no call through for that long."""
        with self._lock:
            self._paused_until = max(self._paused_until, self._clock.monotonic() + span.total_seconds())


class Remote:
    """One foreign service: its base URL, connections, rate limit and pauses. Shared by all threads."""

    def __init__(
        self,
        name: str,
        base_url: str,
        clock: Clock,
        options: RemoteOptions | None = None,
        observe: Observer | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        """Opens no connection. Raises `Misconfigured` for a CA file that cannot be used."""
        self.name = name
        self.base_url = base_url.rstrip("/")
        options = options or RemoteOptions()
        self._clock = clock
        self._largest_body = options.largest_body
        self._total = min(options.timeout, MAX_TOTAL).total_seconds()
        self._timeouts = {"connect": min(_CONNECT_WITHIN, self._total), "read": self._total, "write": self._total, "pool": self._total}
        self._pace = Pace(options.rate, options.burst, clock)
        self._observe = observe
        self._wait = wait
        self._transport = _build_transport(name, options)
        # Who lets go of a remote has its connections closed, as with a file.
        weakref.finalize(self, self._transport.close)
        self._urls: dict[str, httpx.URL] = {}

    def __repr__(self) -> str:
        return f"<Remote {self.name} at {self.base_url}>"

    def close(self) -> None:
        """Close the idle connections. Calls in hand fail."""
        self._transport.close()

    def call(self, operation: str, method: str, path: str, headers: Mapping[str, str], content: bytes | None = None) -> Reply:
        """Send one request and read the whole answer. `path` begins with `/`, is quoted, and is appended to the base URL.

        `operation` is a word of ours for messages and metrics. Raises `Unreachable`, `AnswerLost`, `RateLimited`.
        """
        outcome, started = Outcome.HELD_BACK, time.monotonic()
        try:
            self._wait_for_turn(operation)
            outcome, started = Outcome.UNREACHABLE, time.monotonic()
            reply = self._send(operation, self._build_request(method, path, headers, content))
            outcome = judge_status(reply.status)
        except AnswerLost:
            outcome = Outcome.ANSWER_LOST
            raise
        finally:
            if self._observe is not None:
                self._observe(self.name, operation, outcome, time.monotonic() - started)
        if reply.status == _TOO_MANY:
            raise self._pause(operation, reply)
        return reply

    def _wait_for_turn(self, operation: str) -> None:
        try:
            seconds = self._pace.take_turn()
        except RateLimited as problem:
            raise RateLimited(f"{operation} at {self.name} was not sent: {problem}", after=problem.after) from None
        if seconds:
            self._wait(max(min(seconds, wire.time_left()), 0.0))
        if wire.time_left() <= 0:
            raise Unreachable(f"{operation} at {self.name} was not sent: no time is left for it")

    def _build_request(self, method: str, path: str, headers: Mapping[str, str], content: bytes | None) -> httpx.Request:
        url = self._urls.get(path)
        if url is None:
            url = httpx.URL(self.base_url + path)
            if "?" not in path and len(self._urls) < 16:  # parsing costs a tenth of a call; paths with an id come once
                self._urls[path] = url
        every = {"Host": url.netloc.decode("ascii"), "User-Agent": f"rotator/{__version__}", "Accept-Encoding": "identity", **headers}
        if content is not None:
            every["Content-Length"] = str(len(content))
        stream = None if content is None else httpx.ByteStream(content)
        return httpx.Request(method, url, headers=every, stream=stream, extensions={"timeout": self._timeouts})

    def _send(self, operation: str, request: httpx.Request) -> Reply:
        failure: RotatorError
        try:
            with deadline(self._total):
                response = self._transport.handle_request(request)
                try:
                    return _build_reply(response, self._read(operation, response))
                finally:
                    response.close()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, OSError) as problem:
            failure = Unreachable(f"{self.name} cannot be reached for {operation} ({_why(problem)}); nothing was sent")
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL):
            failure = Misconfigured(f"{self.name}: the request for {operation} cannot be sent as it is configured")
        except httpx.TransportError as problem:
            failure = AnswerLost(f"{self.name} gave no answer to {operation} ({_why(problem)}); it may have been carried out")
        # Raised out here, so that no foreign exception, which may quote the other side, hangs on ours.
        raise failure

    def _read(self, operation: str, response: httpx.Response) -> bytes:
        parts, size = [], 0
        for part in response.iter_raw():
            size += len(part)
            if size > self._largest_body or wire.time_left() <= 0:
                what = f"more than {self._largest_body} bytes" if size > self._largest_body else "no end within the time limit"
                raise AnswerLost(f"the answer of {self.name} to {operation} has {what}; it was not read")
            parts.append(part)
        return b"".join(parts)

    def _pause(self, operation: str, reply: Reply) -> RateLimited:
        after = _parse_pause(reply)
        self._pace.pause(after or _DEFAULT_PAUSE)
        when = f" for {after.total_seconds():.0f} s" if after else ""
        return RateLimited(f"{self.name} asked to be left alone{when} when asked for {operation} (429)", after=after)


def ensure_header_value(value: str, what: str) -> str:
    """The same text, fit for a header. Raises `Misconfigured` naming `what`, never the text."""
    if not _VISIBLE.fullmatch(value):
        raise Misconfigured(f"{what} is empty, or has white space around it, line breaks or characters outside of ASCII: it fits no header")
    return value


def _build_transport(name: str, options: RemoteOptions) -> wire.Transport:
    cert, files = None, f"ca_file {options.ca_file}"
    if options.client_cert is not None:
        cert = (str(options.client_cert[0]), str(options.client_cert[1]))
        files = f"{files} or client certificate {' with '.join(cert)}" if options.ca_file else f"client certificate {' with '.join(cert)}"
    try:
        return wire.Transport(str(options.ca_file) if options.ca_file else None, options.proxy, cert)
    except (OSError, ssl.SSLError) as problem:
        raise Misconfigured(f"{name}: {files} cannot be used ({_why(problem)}): it must be a readable PEM file") from None


def _build_reply(response: httpx.Response, body: bytes) -> Reply:
    headers = response.headers
    return Reply(
        status=response.status_code,
        media_type=headers.get("content-type", "").partition(";")[0].strip().lower(),
        body=body,
        date=_parse_date(headers.get("date")),
        retry_after=parse_retry_after(headers.get("retry-after"), headers.get("date")),
    )


def _parse_date(text: str | None) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(text) if text else None
        return parsed.astimezone(UTC) if parsed is not None and parsed.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def parse_retry_after(text: str | None, date: str | None) -> timedelta | None:
    """What the header asks for, an hour at most; None: nothing that can be understood. `date`: the answer's own header of that name."""
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,9}", text.strip()):
        return min(timedelta(seconds=int(text)), _LONGEST_PAUSE)
    until, now = _parse_date(text), _parse_date(date)
    if until is None or now is None:  # a date means nothing without the clock that it belongs to
        return None
    return min(max(until - now, timedelta(0)), _LONGEST_PAUSE)


def _parse_pause(reply: Reply) -> timedelta | None:
    if reply.retry_after is not None:
        return reply.retry_after
    try:
        body = reply.parse_json()
    except ValueError:
        return None
    seconds = body.get("retry_after_s") if isinstance(body, dict) else None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        return None
    return timedelta(seconds=min(float(seconds), _LONGEST_PAUSE.total_seconds()))


def judge_failure(failure: RotatorError) -> Outcome:
    """What became of a call that failed with this."""
    known = {RateLimited: Outcome.RATE_LIMITED, AnswerLost: Outcome.ANSWER_LOST, Unreachable: Outcome.UNREACHABLE}
    return next((outcome for kind, outcome in known.items() if isinstance(failure, kind)), Outcome.REFUSED)


def judge_status(status: int) -> Outcome:
    """What became of a call that was answered, by HTTP's status."""
    if status == _TOO_MANY:
        return Outcome.RATE_LIMITED
    families = {2: Outcome.OK, 3: Outcome.REDIRECTED, 4: Outcome.REFUSED}
    return families.get(status // 100, Outcome.FAILED)


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (httpx.PoolTimeout, "all connections are busy"),
    (httpx.ConnectTimeout, "no connection in time"),
    (httpx.TimeoutException, "no answer in time"),
    (httpx.ProxyError, "the proxy refused"),
    (httpx.RemoteProtocolError, "the connection was closed, or its answer is not HTTP"),
    (httpx.NetworkError, "the connection broke"),
    (TimeoutError, "its name could not be looked up in time"),
    (ssl.SSLError, "no usable certificate in it"),
)


def _why(problem: Exception) -> str:
    """What went wrong, in our words or those of this machine's system; never the other side's."""
    if isinstance(problem, httpx.ConnectError):
        return _tls_problem(str(problem)) or str(problem)
    if "CERTIFICATE_REQUIRED" in str(problem):  # an alert that comes with the first read
        return "it wants a client certificate"
    return next((words for kind, words in _WORDS if isinstance(problem, kind)), None) or _system_words(problem)


def _tls_problem(text: str) -> str | None:
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return "its TLS certificate is not trusted here; name its authority's file as ca_file"
    return "no TLS connection" if "SSL" in text else None


def _system_words(problem: Exception) -> str:
    return (problem.strerror if isinstance(problem, OSError) else None) or type(problem).__name__
