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
        self._running = False
        self._stopped = False
        self._wanted: datetime | None = None
        """what was asked for during a dispatch"""
        self._offset: float | None = None
        # A late run is still a run: by default it would be dropped after one second. So is one that comes while the last one is just
        # about to return: with one instance allowed it would be dropped too, and nobody would plan another. The one thread queues them.
        defaults = {"misfire_grace_time": None, "coalesce": True, "max_instances": 1000}
        self._scheduler = BackgroundScheduler(timezone=UTC, executors={"default": ThreadPoolExecutor(1)}, job_defaults=defaults)

    def start(self) -> None:
        """Begin, with a first dispatch at once."""
        self._scheduler.start()
        with self._lock:  # whatever was asked for before: there was no job for it, and its time may have passed
            self._plan(self._clock.now())

    def stop(self) -> None:
        """Dispatch no more. Waits for a dispatch in hand, which is short."""
        with self._lock:
            self._stopped = True
        if self._scheduler.running:
            # With nothing left to plan or to remove: a dispatch that planned now would wait for the scheduler's lock, which its end holds
            # while it waits for that dispatch.
            self._scheduler.remove_all_jobs()
            self._scheduler.shutdown(wait=True)

    def wake_at(self, instant: datetime) -> None:
        """Dispatch no later than then."""
        with self._lock:
            if self._running:  # one plan at its end, not one per visit
                self._wanted = instant if self._wanted is None else min(self._wanted, instant)
            elif self._planned is None or self._planned > instant:
                self._plan(instant)

    def mind_the_clock(self) -> None:
        """Plan anew where a run is overdue, or the wall clock was set: jobs planned by the old time would come hours late, or at once."""
        now = self._clock.now()
        offset = now.timestamp() - self._clock.monotonic()
        with self._lock:
            jumped = self._offset is not None and abs(offset - self._offset) > _JUMP
            self._offset = offset
            if jumped:
                log.warning("the wall clock was set", action="clock-jump")
            if jumped or (self._planned is not None and self._planned + HEARTBEAT < now):
                self._plan(now)

    @property
    def is_running(self) -> bool:
        """Whether wake-ups come."""
        return bool(self._scheduler.running)

    def _plan(self, instant: datetime) -> None:
        self._planned = instant
        if self._scheduler.running and not self._stopped:
            self._scheduler.add_job(self._run, DateTrigger(instant, timezone=UTC), id=_JOB, replace_existing=True)

    def _run(self) -> None:
        with self._lock:
            self._planned, self._wanted, self._running = None, None, True
        next_due: datetime | None = None
        try:
            next_due = self._dispatch()
        except Exception:  # a fault must not end the wake-ups
            log.exception("dispatch broke", action="dispatch")
        latest = self._clock.now() + HEARTBEAT
        with self._lock:
            self._running = False
            self._plan(min(at for at in (next_due, self._wanted, latest) if at is not None))
