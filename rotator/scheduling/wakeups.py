"""Wakes the engine when the next credential is due: one APScheduler job, whatever the number of credentials.

What is due lies in the journal, never in the scheduler's own store; a lost or late wake-up costs at most a heartbeat.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.date import DateTrigger

from rotator.domain.ports import Clock

HEARTBEAT = timedelta(seconds=30)
_JOB = "dispatch"
_JUMP = 5.0

log = structlog.get_logger(__name__)


class Wakeups:
    """Calls `dispatch` at the earliest time that anybody asked for. `dispatch` answers when it wants to be called next."""

    def __init__(self, dispatch: Callable[[], datetime | None], clock: Clock) -> None:
        self._dispatch = dispatch
        self._clock = clock
        self._lock = threading.Lock()
        self._planned: datetime | None = None
        self._offset: float | None = None
        # A late run is still a run: by default it would be dropped after one second.
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        self._scheduler = BackgroundScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)}, job_defaults=defaults)

    def start(self) -> None:
        """Begin, with a first dispatch at once."""
        self._scheduler.start()
        self.wake_at(self._clock.now())

    def stop(self) -> None:
        """Dispatch no more. Waits for a dispatch in hand, which is short."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)

    def wake_at(self, instant: datetime) -> None:
        """Dispatch no later than then."""
        with self._lock:
            if self._planned is not None and self._planned <= instant:
                return
            self._plan(instant)

    def mind_the_clock(self) -> None:
        """Plan anew where the wall clock was set: a job planned by the old time would come hours late, or all at once."""
        offset = self._clock.now().timestamp() - self._clock.monotonic()
        with self._lock:
            jumped = self._offset is not None and abs(offset - self._offset) > _JUMP
            self._offset = offset
            if jumped:
                log.warning("the wall clock was set", action="clock-jump")
                self._plan(self._clock.now())

    @property
    def is_running(self) -> bool:
        """Whether wake-ups come."""
        return bool(self._scheduler.running)

    def _plan(self, instant: datetime) -> None:
        self._planned = instant
        if self._scheduler.running:
            self._scheduler.add_job(self._run, DateTrigger(instant, timezone=UTC), id=_JOB, replace_existing=True)

    def _run(self) -> None:
        with self._lock:
            self._planned = None
        wanted: datetime | None = None
        try:
            wanted = self._dispatch()
        except Exception:  # a fault must not end the wake-ups
            log.exception("dispatch broke", action="dispatch")
        latest = self._clock.now() + HEARTBEAT
        self.wake_at(min(wanted, latest) if wanted is not None else latest)
