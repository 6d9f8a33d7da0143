"""The workers: who is visited when, emergencies before never-synced before routine, one worker kept for emergencies (L25)."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from rotator.domain.credential import Credential
from rotator.domain.errors import RotatorError
from rotator.domain.ports import Clock, EndRetirement, EndRotation, Issuer, Journal, Line, Target
from rotator.domain.reasons import Reason
from rotator.engine.look import Look, Mind, Observer, Timing
from rotator.engine.runner import Outcome, Runner

LANES = {"emergency": 0, "never-synced": 1, "routine": 2}
_BATCH = 200
_AFTER_A_FAULT = timedelta(minutes=1)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What the engine tells others; all are called from worker threads."""

    on_step: Callable[[str, str, float], None] = lambda _step, _outcome, _seconds: None
    on_rotation: Callable[[str, float], None] = lambda _reason, _seconds: None
    """a rotation was distributed: (reason, seconds since it was opened)"""
    on_leak_ended: Callable[[float], None] = lambda _seconds: None
    """a leaked key is proven dead: seconds since the report was accepted"""
    wake_at: Callable[[datetime], None] = lambda _instant: None
    """something is due then; `Engine.dispatch` must be called at that time"""


@dataclass(slots=True)
class Queue:
    """Names to visit, by lane; a name stands in it once, at its most urgent."""

    condition: threading.Condition = field(default_factory=threading.Condition)
    heap: list[tuple[int, int, str]] = field(default_factory=list)
    queued: dict[str, int] = field(default_factory=dict)
    active: dict[str, str] = field(default_factory=dict)
    """name → the lane that it was taken from"""
    again: dict[str, str] = field(default_factory=dict)
    order: itertools.count[int] = field(default_factory=itertools.count)

    def put(self, name: str, lane: str) -> None:
        """Visit it; while it is being visited, visit it once more afterwards."""
        rank = LANES[lane]
        with self.condition:
            if name in self.active:
                self.again[name] = min(lane, self.again.get(name, lane), key=LANES.__getitem__)
                return
            if self.queued.get(name, len(LANES)) <= rank:
                return
            self.queued[name] = rank
            heapq.heappush(self.heap, (rank, next(self.order), name))
            self.condition.notify_all()

    def take(self, stopping: threading.Event, *, only_emergencies: bool) -> str | None:
        """The next name, or None when stopping. Blocks until there is one."""
        with self.condition:
            while not stopping.is_set():
                while self.heap and self.queued.get(self.heap[0][2]) != self.heap[0][0]:
                    heapq.heappop(self.heap)  # it moved to a more urgent lane
                if self.heap and (self.heap[0][0] == 0 or not only_emergencies):
                    rank, _, name = heapq.heappop(self.heap)
                    del self.queued[name]
                    self.active[name] = next(lane for lane, own in LANES.items() if own == rank)
                    return name
                self.condition.wait()
        return None

    def done(self, name: str) -> None:
        """Its visit is over."""
        with self.condition:
            self.active.pop(name, None)
            lane = self.again.pop(name, None)
        if lane is not None:
            self.put(name, lane)

    def lengths(self) -> Mapping[str, int]:
        """Lane → how many wait."""
        with self.condition:
            ranks = list(self.queued.values())
        return {lane: ranks.count(rank) for lane, rank in LANES.items()}

    def busy(self) -> int:
        with self.condition:
            return len(self.active) + len(self.queued)


class Engine:
    """Drives all credentials. `start` once, `stop` once; `dispatch` whenever something is due."""

    def __init__(self, journal: Journal, clock: Clock, timing: Timing, hooks: Hooks, *, workers: int = 8) -> None:
        self.journal = journal
        self.clock = clock
        self.hooks = hooks
        self.mind = Mind(started_at=clock.now())
        self.queue = Queue()
        self.stopping = threading.Event()
        self._credentials: dict[str, Credential] = {}
        self.targets: Mapping[str, Target] = {}
        """every configured one, by name, used by a credential or not"""
        self._workers = workers
        self._threads: list[threading.Thread] = []
        self._broken: dict[str, tuple[datetime, str]] = {}
        observer = Observer(journal, clock, self.mind, timing, self.find_credential, self.find_issuer)
        self.runner = Runner(observer, hooks.on_step, self._on_ended)

    @property
    def credentials(self) -> Mapping[str, Credential]:
        """Every credential that is driven, departed ones with open retirements included."""
        return self._credentials

    def find_credential(self, name: str) -> Credential | None:
        """A credential by name."""
        return self._credentials.get(name)

    def find_issuer(self, name: str) -> Issuer | None:
        """An issuer by its configured name."""
        return self.runner.issuers.get(name)

    def set_credentials(
        self,
        credentials: Mapping[str, Credential],
        issuers: Mapping[str, Issuer] | None = None,
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        """Drive these from now on, all or nothing; each is looked at once, level-triggered."""
        self._credentials = dict(credentials)
        if targets is not None:
            self.targets = dict(targets)
        if issuers is not None:
            self.runner.issuers = dict(issuers)
        # An emergency that was under way when the daemon ended goes on before everything else.
        urgent = {name for name, lane in self.journal.find_due(self.clock.now(), _BATCH) if lane == "emergency"}
        for name in credentials:
            self.queue.put(name, "emergency" if name in urgent else "routine")

    def start(self) -> None:
        """Start the workers; one more takes emergencies only."""
        for number in range(self._workers + 1):
            thread = threading.Thread(target=self._work, args=(number == self._workers,), name=f"engine-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout: float = 9.0) -> bool:
        """Let every step in hand end; True if all did in time. What did not is settled at the next start."""
        self.stopping.set()
        with self.queue.condition:
            self.queue.condition.notify_all()
        deadline = self.clock.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - self.clock.monotonic()))
        return not any(t.is_alive() for t in self._threads)

    def wake(self, name: str, lane: str = "routine") -> None:
        """Look at a credential now."""
        self.queue.put(name, lane)

    def dispatch(self) -> datetime | None:
        """Queue what is due; when the next one is. Called by the scheduler."""
        now = self.clock.now()
        due = self.journal.find_due(now, _BATCH)
        known = [(name, lane) for name, lane in due if name in self._credentials]
        # They will stand in the queue (or are nobody's any more): the index must not name them again before their visit is over. Deferred
        # first and queued then, or a quick visit's own due time would be overwritten.
        if known:
            self.journal.defer([name for name, _ in known], now + _AFTER_A_FAULT)
        if len(known) < len(due):
            self.journal.defer([name for name, _ in due if name not in self._credentials], None)
        for name, lane in (*known, *self._take_broken(now)):
            self.queue.put(name, lane)
        return now if len(due) == _BATCH else self.journal.next_due()

    def visit(self, name: str) -> Outcome | None:
        """Visit one credential in this thread."""
        credential = self._credentials.get(name)
        if credential is None:
            return None
        return self.runner.visit(credential, self.stopping)

    def _take_broken(self, now: datetime) -> list[tuple[str, str]]:
        """Whose visit broke a while ago: the index knows nothing of them, as a visit enters its next one at its end."""
        over = [name for name, (at, _) in list(self._broken.items()) if at <= now]
        taken = [(name, self._broken.pop(name)[1]) for name in over]
        return [(name, lane) for name, lane in taken if name in self._credentials]

    def _come_back(self, name: str) -> None:
        at = self.clock.now() + _AFTER_A_FAULT
        self._broken[name] = (at, self.queue.active.get(name, "routine"))
        self.hooks.wake_at(at)

    def _on_ended(self, look: Look, line: Line) -> None:
        rotation = look.facts.rotation
        if isinstance(line, EndRotation) and line.outcome is Reason.DISTRIBUTED and rotation is not None:
            self.hooks.on_rotation(str(rotation.reason), (line.at - rotation.opened_at).total_seconds())
        if isinstance(line, EndRetirement) and line.outcome is Reason.DEAD:
            row = next((r for r in look.facts.retirements if r.id == line.id), None)
            entry = look.facts.record.find(row.key_id) if row is not None and look.facts.record is not None else None
            if entry is not None and entry.compromised_at is not None:
                self.hooks.on_leak_ended((line.at - entry.compromised_at).total_seconds())

    def _work(self, only_emergencies: bool) -> None:
        while (name := self.queue.take(self.stopping, only_emergencies=only_emergencies)) is not None:
            try:
                outcome = self.visit(name)
                if outcome is None:
                    continue
                if outcome.again:
                    self.queue.put(name, outcome.view.lane)
                elif outcome.view.due_at is not None:
                    self.hooks.wake_at(outcome.view.due_at)
            except RotatorError as problem:
                log.warning("visit failed", credential=name, reason=str(problem.reason), problem=str(problem))
                self._come_back(name)
            except Exception:  # a fault of ours: the worker and every other credential go on
                log.exception("visit broke", credential=name)
                self.hooks.on_step("visit", "fault", 0.0)
                self._come_back(name)
            finally:
                self.queue.done(name)
