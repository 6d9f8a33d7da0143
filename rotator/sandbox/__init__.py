"""A stand-in for the Millimetric service over real HTTP, for trying things out, for `rotator demo`, and for tests.

It behaves as the service's public pages say where they say something. Where they don't, what it does is OUR ASSUMPTION: the admin
API (see `rotator.sandbox.admin`), the schema of events, of `funnel` and of tool results, the name of the lowest plan, and what HTTP
status goes with a JSON-RPC error. It keeps everything in memory and must never be given real keys.

`SandboxServer` runs it in a thread, `serve` in the foreground, `python -m rotator.sandbox` as a process of its own.
"""

from __future__ import annotations

from rotator.sandbox.app import build_app
from rotator.sandbox.clock import ServiceClock
from rotator.sandbox.server import SandboxServer, serve
from rotator.sandbox.sessions import ensure_token_file
from rotator.sandbox.settings import SandboxSettings

__all__ = ["SandboxServer", "SandboxSettings", "ServiceClock", "build_app", "ensure_token_file", "serve"]
