"""`demo`, `run`, `check`, `sandbox`: what runs on this machine and needs no daemon."""

from __future__ import annotations

from pathlib import Path

import click

from rotator.cli.context import Options, keeps_state, pass_options, prints_json, reads_config
from rotator.cli.durations import DURATION, Span


@click.command(epilog="\b\nExample:\n  rotator demo\n")
def demo() -> int:
    """Show the whole story on this machine, in about a minute.

    Starts a stand-in for the service and a daemon in a temporary folder, rotates keys into client files, handles a leak and a fault, checks
    each thing it claims, and leaves nothing behind. Exits 0 when all of it was as claimed.
    """
    from rotator.cli.demo import run_demo

    return run_demo()


@click.command(epilog="\b\nExamples:\n  rotator run -c rotator.yaml\n  rotator run --once\n")
@click.option("--once", is_flag=True, help="Drive everything as far as it goes without waiting for time; serve no HTTP.")
@reads_config
@pass_options
def run(options: Options, once: bool) -> int:
    """Run the daemon, until SIGTERM or Ctrl-C; SIGHUP or a changed file reloads the configuration.

    With --once it exits 0 when all is done, 1 when a step failed, 4 when a person is needed. It exits 1 where another daemon holds the
    journal.
    """
    from rotator.settings import state_dir
    from rotator.wiring.running import run_daemon

    return run_daemon(options.config, state_dir(options.state_dir), once=once)


@click.command(epilog="\b\nExamples:\n  rotator check -c rotator.yaml\n  rotator check --live\n")
@click.option("--live", is_flag=True, help="Reach stores, issuers and targets too, and say what is missing. Changes nothing.")
@prints_json
@reads_config
@pass_options
def check(options: Options, live: bool) -> int:
    """Validate the configuration.

    Exits 0 when all is well, 3 for a mistake in the configuration (each with file, line and rule), 1 when --live finds something missing.
    """
    from rotator.cli.output import print_blocks, print_json
    from rotator.cli.present.checks import build_checks
    from rotator.domain.errors import Misconfigured
    from rotator.settings import state_dir
    from rotator.wiring.checking import check as check_all

    try:
        report = check_all(options.config, state_dir(options.state_dir, make=False), live=live)
    except Misconfigured as problem:
        if not options.json:
            raise
        print_json({"ok": False, "lines": [{"part": "configuration", "ok": False, "text": line} for line in str(problem).splitlines()]})
        return problem.exit_code
    if options.json:
        lines = [
            {"part": line.part, "ok": line.ok, "text": line.text, **({"policy": line.policy} if line.policy else {})}
            for line in report.lines
        ]
        print_json({"ok": report.ok, "lines": lines})
    else:
        print_blocks(build_checks(((line.part, line.ok, line.text) for line in report.lines), ok=report.ok))
        for line in report.lines:
            if line.policy:
                click.echo(f"\nA policy that is enough for {line.part}, and allows no more:\n\n{line.policy}", nl=False)
    return 0 if report.ok else 1


@click.command(epilog="\b\nExample:\n  rotator sandbox --port 8787 --cache-time 5s --token-file sandbox.token\n")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8787, show_default=True, help="0 takes a free one.")
@click.option("--cache-time", type=DURATION, default="5m", show_default=True, help="How long a worker goes on believing a revoked key.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Simulated API workers, each with its own cache.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The admin token; made where it is missing. Else sandbox.token in the state folder.",
)
@click.option("--ready-file", type=click.Path(path_type=Path, dir_okay=False), help='Gets {"url": ...} when it listens.')
@keeps_state
@pass_options
def sandbox(
    options: Options, host: str, port: int, cache_time: Span, workers: int, token_file: Path | None, ready_file: Path | None
) -> int:
    """Run a stand-in for the Millimetric service, for trying things out and for tests.

    It behaves as the service's published pages say; its admin API, which mints, lists and revokes keys, is an assumption.
    """
    from rotator.wiring.sandboxing import run_sandbox

    if cache_time.value is None:
        raise click.BadParameter("a cache that never ends would keep every revoked key alive", param_hint="--cache-time")
    if token_file is None:
        from rotator.settings import state_dir

        token_file = state_dir(options.state_dir) / "sandbox.token"
    return run_sandbox(
        host=host,
        port=port,
        cache_time=cache_time.value.total_seconds(),
        workers=workers,
        token_file=token_file,
        ready_file=ready_file,
        say=click.echo,
    )
