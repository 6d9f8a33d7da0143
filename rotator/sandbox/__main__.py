"""`python -m rotator.sandbox`: the sandbox as a process of its own, for tests and benches. Prints its URL, never a token."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from rotator.domain.errors import Misconfigured
from rotator.sandbox.server import serve
from rotator.sandbox.settings import PLANS, SandboxSettings


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0 after SIGTERM or SIGINT, 3 for what cannot be configured so."""
    options = _build_parser().parse_args(arguments)
    try:
        serve(_build_settings(options), options.host, options.port, options.token_file, lambda url: _announce(url, options.ready_file))
    except Misconfigured as error:
        sys.stderr.write(f"rotator.sandbox: {error}\n")
        return error.exit_code
    return 0


def _build_parser() -> argparse.ArgumentParser:
    defaults = SandboxSettings()
    token_file = os.environ.get("ROTATOR_SANDBOX_TOKEN_FILE")
    parser = argparse.ArgumentParser(
        prog="python -m rotator.sandbox",
        description="A stand-in for the Millimetric service. Times in seconds.",
        epilog="example: python -m rotator.sandbox --port 0 --token-file token --ready-file ready.json --cache-time 5",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8787, help="0 takes a free one")
    parser.add_argument("--token-file", type=Path, default=Path(token_file) if token_file else None, help="admin token; made if missing")
    parser.add_argument("--ready-file", type=Path, help='gets {"url": …} once it listens')
    parser.add_argument("--workers", type=int, default=defaults.workers, help="simulated API workers")
    parser.add_argument("--cache-time", type=float, default=defaults.cache_time, help="how long a worker caches a verified key")
    parser.add_argument("--cache-refusals", action="store_true", help="workers cache refusals too")
    parser.add_argument("--propagation", type=float, default=defaults.propagation, help="worker i learns of a key after i times this")
    parser.add_argument("--session-ttl", type=float, default=defaults.session_ttl, help="life of an admin session")
    parser.add_argument("--clock-skew", type=float, default=defaults.clock_skew, help="how far the Date header is ahead")
    parser.add_argument("--plan", choices=PLANS, default=defaults.plan, help="plan of the account and its projects")
    parser.add_argument("--project", action="append", dest="projects", help="a project with demo events; may be repeated")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="for the faults' probabilities")
    return parser


def _build_settings(options: argparse.Namespace) -> SandboxSettings:
    return SandboxSettings(
        workers=options.workers,
        cache_time=options.cache_time,
        cache_refusals=options.cache_refusals,
        propagation=options.propagation,
        session_ttl=options.session_ttl,
        clock_skew=options.clock_skew,
        plan=options.plan,
        projects=tuple(options.projects or SandboxSettings().projects),
        seed=options.seed,
    )


def _announce(url: str, ready_file: Path | None) -> None:
    sys.stdout.write(f"sandbox at {url}\n")
    sys.stdout.flush()
    if ready_file is not None:
        sibling = ready_file.with_name(f".{ready_file.name}.{os.getpid()}")
        sibling.write_text(json.dumps({"url": url}) + "\n", encoding="utf-8")
        sibling.replace(ready_file)


if __name__ == "__main__":
    sys.exit(main())
