"""AWS for tests, over real HTTP: moto's server as a program of its own, the strict fake, and stores and clients that talk to either.

The credentials are made up and given to each client, never to the environment of the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest

from rotator.stores.aws.api import Connect
from rotator.stores.aws.config import AwsStoreConfig
from rotator.stores.aws.session import build_client
from rotator.stores.aws.store import AwsStore
from tests.support.aws_fake import REGION, FakeServer

ENVIRON = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": REGION}
_START_WITHIN = 60.0
_ROOT = Path(__file__).parents[2]


class Moto:
    """A running moto server. Started once a process of tests, ended with it."""

    def __init__(self) -> None:
        if importlib.util.find_spec("moto") is None:
            _miss("moto is not installed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        environ = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.moto_program", str(self.port)],
            env=environ,
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = os.getpid()
        atexit.register(self.stop)
        self._await()

    def reset(self) -> None:
        """Forget every secret."""
        with urllib.request.urlopen(urllib.request.Request(f"{self.url}/moto-api/reset", method="POST"), timeout=10):
            pass

    def stop(self) -> None:
        """End the server; a forked process that ends does not end it."""
        if os.getpid() == self.pid and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=10)

    def _await(self) -> None:
        deadline = time.monotonic() + _START_WITHIN
        while time.monotonic() < deadline:
            assert self._process.poll() is None, "moto ended at once"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/moto-api/", timeout=5):
                return
        raise AssertionError("moto does not answer")


_moto: list[Moto] = []


def get_moto() -> Moto:
    """The server of this process; started at the first call."""
    if not _moto:
        _moto.append(Moto())
    return _moto[0]


_fake: list[FakeServer] = []


def get_fake() -> FakeServer:
    """The strict fake of this process; started at the first call."""
    if not _fake:
        _fake.append(FakeServer())
        atexit.register(_fake[0].stop)
    return _fake[0]


def open_store(url: str, *, patience: timedelta = timedelta(0), connect: Connect | None = None, **fields: Any) -> AwsStore:
    """A store at an endpoint that believes at once what it sees; JSON values, and missing secrets are made, unless `fields` differ."""
    config = AwsStoreConfig(**{"region": REGION, "endpoint_url": url, "create": True, **fields})
    return AwsStore(config, connect=connect or connect_cheaply, patience=patience, sleep=lambda _: None)


def connect_cheaply(config: AwsStoreConfig) -> Any:
    """A client for a configuration: the same one each time, as making one takes a tenth of a second."""
    return _connect(os.getpid(), config.model_dump_json())


@functools.cache
def _connect(_pid: int, config: str) -> Any:
    return build_client(AwsStoreConfig.model_validate_json(config), _build_session())


def open_client(url: str) -> Any:
    """An outsider's client."""
    return boto3.session.Session(botocore_session=_build_session(), region_name=REGION).client("secretsmanager", endpoint_url=url)


def run_cli(url: str, *words: str, stdin: str = "") -> str:
    """Run the `aws` program; gives what it prints. Key material goes in by `stdin`, never by a word."""
    program = Path(sys.executable).with_name("aws")
    if not program.exists() and shutil.which("aws") is None:
        _miss("the aws program is not installed")
    environ = {**ENVIRON, "PATH": os.environ.get("PATH", ""), "AWS_ENDPOINT_URL": url, "AWS_PAGER": "", "AWS_DEFAULT_REGION": REGION}
    command = [sys.executable, str(program)] if program.exists() else ["aws"]
    return subprocess.run([*command, *words], env=environ, input=stdin, check=True, capture_output=True, text=True, timeout=60).stdout


def _build_session() -> Any:
    session = botocore.session.Session()
    session.set_credentials("made-up", "made-up")
    return session


def _miss(what: str) -> None:
    if os.environ.get("ROTATOR_REQUIRE_REAL") == "1":
        pytest.fail(what)
    pytest.skip(what)
