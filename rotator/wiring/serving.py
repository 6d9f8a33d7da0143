"""The daemon's services, in the order in which they start."""

from __future__ import annotations

import structlog

from rotator.daemon import Daemon, Service
from rotator.domain.errors import RotatorError
from rotator.engine.changes import ChangeWatch
from rotator.engine.supplying import Supplying
from rotator.scheduling.polling import Polling
from rotator.scheduling.wakeups import Wakeups
from rotator.server.app import build_app
from rotator.server.dependencies import ServerDependencies
from rotator.server.listening import ApiServer
from rotator.server.readiness import Readiness
from rotator.server.tokens import TokenBook, remove_daemon_file, write_admin_token, write_daemon_file
from rotator.wiring.running import Runtime

log = structlog.get_logger(__name__)


def serve(runtime: Runtime, wakeups: Wakeups) -> None:
    """Run until a signal."""
    readiness = build_readiness(runtime, wakeups)
    watch, supplying = ChangeWatch(runtime.engine), Supplying(runtime.engine)

    def poll() -> None:
        watch.poll()
        supplying.poll()

    polling = Polling("poll", poll, runtime.settings.engine.poll)
    server = build_server(runtime, readiness, polling, supplying)

    def start_server() -> None:
        write_daemon_file(runtime.state_dir, server.start())

    def stop_server() -> None:
        remove_daemon_file(runtime.state_dir)
        server.stop()

    services = [
        Service("engine", runtime.engine.start, runtime.engine.stop),
        Service("scheduler", wakeups.start, wakeups.stop),
        Service("targets", runtime.follow, runtime.unfollow),
        Service("polling", polling.start, polling.stop),
        Service("server", start_server, stop_server),
    ]

    def reload() -> None:
        try:
            runtime.reload()
        except RotatorError as problem:
            log.warning("the new configuration is wrong; the old one stays", action="reload", problem=str(problem))
        except Exception:  # a fault of ours must not end the daemon that still has a good configuration
            log.exception("reloading broke; the old configuration stays", action="reload")

    Daemon(services, reload, wakeups.mind_the_clock, watched=runtime.path).run()


def build_readiness(runtime: Runtime, wakeups: Wakeups) -> Readiness:
    """The parts that must be ready before the whole is."""
    readiness = Readiness()

    def journal_problem() -> str | None:
        runtime.journal.next_due()  # raises where the journal cannot be read
        return None

    readiness.watch("scheduler", lambda: None if wakeups.is_running else "not running")
    readiness.watch("engine", lambda: "stopping" if runtime.engine.stopping.is_set() else None)
    readiness.watch("journal", journal_problem)
    runtime.watch_stores(readiness)
    return readiness


def build_server(runtime: Runtime, readiness: Readiness, polling: Polling, supplying: Supplying) -> ApiServer:
    """The HTTP server, not yet listening."""
    settings = runtime.settings
    tokens = TokenBook.from_config((t.name, t.role, t.get_hash()) for t in settings.server.tokens).with_admin(
        write_admin_token(runtime.state_dir)
    )

    def reload() -> tuple[bool, str]:
        changed = runtime.reload()
        return changed, "the new configuration is in force" if changed else "nothing changed"

    app = build_app(
        ServerDependencies(
            operations=runtime.operations,
            supplying=supplying,
            engine=runtime.engine,
            queries=runtime.journal,
            metrics=runtime.metrics,
            readiness=readiness,
            tokens=tokens,
            clock=runtime.clock,
            installation=settings.installation,
            started_at=runtime.engine.mind.started_at,
            reload=reload,
            find_rejected=lambda: runtime.rejected,
            ask_poll=polling.ask,
        )
    )
    return ApiServer(app, settings.server.bind, settings.server.port, metrics_port=settings.metrics.port)
