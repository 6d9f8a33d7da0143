"""`rotator sandbox`: the stand-in for the service, in the foreground."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path


def run_sandbox(
    *, host: str, port: int, cache_time: float, workers: int, token_file: Path, ready_file: Path | None, say: Callable[[str], None]
) -> int:
    """Serve until a signal. `cache_time` in seconds. The admin token is read from `token_file`, or made there, 0600."""
    from rotator.sandbox import SandboxSettings, serve

    def on_ready(url: str) -> None:
        if ready_file is not None:
            temporary = ready_file.with_name(f".{ready_file.name}.tmp")
            temporary.write_text(json.dumps({"url": url}))
            temporary.replace(ready_file)
        say(f"the sandbox serves at {url}; its admin token is in {token_file}; Ctrl-C stops it")

    serve(SandboxSettings(cache_time=cache_time, workers=workers), host, port, token_file, on_ready)
    return 0
