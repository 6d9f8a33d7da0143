"""Runs a program of the user's once: no shell, a time limit, an end for its children too, and what it says bounded.

The program gets a session of its own, so that it can be ended with everything that it started there; of our environment it gets what is
handed over, of our files nothing but three pipes. They are read and written without blocking, so that neither a program that never reads
nor one that never stops talking holds anything up.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from rotator.mcp.diffs import mask

__all__ = ["Finished", "quote", "run_program"]

_CHUNK = 65_536
_TAIL = 2_000
_GRACE = 0.5
"""Seconds between asking a program to end and ending it."""
_LINGER = 0.2
"""Seconds for the rest of what an ended program wrote, while a stray child holds its pipes open."""
_TICK = 0.02
_OPAQUE = re.compile(r"(?=[A-Za-z0-9_=-]*[0-9])(?=[A-Za-z0-9_=-]*[A-Za-z])[A-Za-z0-9_=-]{20,}")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\uffff]")


@dataclass(frozen=True, slots=True)
class Finished:
    """How a run ended."""

    status: int
    """the exit code; below 0: minus the signal that ended it"""
    stdout: bytes = field(repr=False)
    """at most one byte more than the limit"""
    stderr: str
    """its last lines, redacted"""
    timed_out: bool = False


@dataclass(slots=True)
class _Pipes:
    """The three ends of the program's pipes that are ours."""

    process: subprocess.Popen[bytes]
    left: memoryview
    limit: int
    out: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    cut: bool = False
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def open(self) -> None:
        """Watch all three."""
        for stream, event in (
            (self.process.stdin, selectors.EVENT_WRITE),
            (self.process.stdout, selectors.EVENT_READ),
            (self.process.stderr, selectors.EVENT_READ),
        ):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self.selector.register(stream, event)

    def is_too_long(self) -> bool:
        return len(self.out) > self.limit

    def pump(self, seconds: float) -> bool:
        """Move what can be moved, waiting that long for something; False when every pipe is closed."""
        for key, _ in self.selector.select(seconds):
            stream = key.fileobj
            assert not isinstance(stream, int)
            if stream is self.process.stdin:
                self._write(self.process.stdin)
            else:
                self._read(stream)  # type: ignore[arg-type]
        return bool(self.selector.get_map())

    def close(self) -> None:
        """Let go of all of them."""
        self.selector.close()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _write(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        try:
            self.left = self.left[os.write(stream.fileno(), self.left[:_CHUNK]) :]
        except BlockingIOError:
            return
        except OSError:  # it closed its end: what it says next counts
            self.left = self.left[:0]
        if not self.left:
            self._drop(stream)

    def _read(self, stream: IO[bytes]) -> None:
        try:
            data = os.read(stream.fileno(), _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(stream)
        elif stream is self.process.stdout:
            self.out += data[: self.limit + 1 - len(self.out)]
        else:
            self.tail += data
            if len(self.tail) > 2 * _CHUNK:
                self.cut = True
                del self.tail[:-_CHUNK]

    def _drop(self, stream: IO[bytes]) -> None:
        self.selector.unregister(stream)
        with contextlib.suppress(OSError):
            stream.close()


def run_program(command: Sequence[str], stdin: bytes, environ: Mapping[str, str], *, timeout: float, limit: int) -> Finished:
    """Run it to its end, or for `timeout` seconds. `limit`: bytes of stdout; a program that says more is ended.

    Raises `OSError` where it cannot be started. Afterwards nothing of its session is left running.
    """
    process = subprocess.Popen(  # noqa: S603  # the user's own program, named in the configuration; no shell
        list(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environ),
        cwd="/",
        start_new_session=True,
        close_fds=True,
        bufsize=0,
    )
    pipes = _Pipes(process, memoryview(stdin), limit)
    try:
        pipes.open()
        timed_out = _attend(process, pipes, time.monotonic() + timeout)
    finally:
        _end_session(process, pipes)
        pipes.close()
    return Finished(process.returncode, bytes(pipes.out), quote(bytes(pipes.tail), cut=pipes.cut), timed_out)


def quote(said: bytes, *, cut: bool = False) -> str:
    """The last lines of what a program said, as one line without anything that looks like a key or a token. `cut`: more stood before."""
    lines = said.decode("utf-8", "replace").splitlines()
    if cut and lines:
        lines = lines[1:]  # half a line may be half a key, which nothing would recognise
    # What is not printable goes first: without it, pieces may come to look like the key that they are.
    text = _UNPRINTABLE.sub("", " | ".join(line.strip() for line in lines if line.strip()))
    text = _OPAQUE.sub("…", mask(text))
    return text if len(text) <= _TAIL else f"…{text[-_TAIL:]}"


def _attend(process: subprocess.Popen[bytes], pipes: _Pipes, deadline: float) -> bool:
    """Until it ends, says too much or takes too long; whether the last."""
    while not _has_ended(process):
        left = deadline - time.monotonic()
        if left <= 0:
            return True
        if pipes.is_too_long():
            return False
        if not pipes.pump(min(left, _TICK)):
            time.sleep(min(left, _TICK))  # it closed its pipes and goes on
    return False


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Without taking note of it where that can be done: as long as nobody has, its number is no other process's."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end_session(process: subprocess.Popen[bytes], pipes: _Pipes) -> None:
    """Nothing of its session goes on; meanwhile its pipes are read on, or it could not end."""
    rest = time.monotonic() + _LINGER
    if _has_ended(process):
        while pipes.selector.get_map() and _reads(pipes) and time.monotonic() < rest:
            pipes.pump(_TICK)
    _signal(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline and not (process.poll() is not None and not _is_left(process.pid)):
        if not pipes.pump(_TICK):
            time.sleep(_TICK)
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def _reads(pipes: _Pipes) -> bool:
    return any(key.events & selectors.EVENT_READ for key in pipes.selector.get_map().values())


def _is_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
