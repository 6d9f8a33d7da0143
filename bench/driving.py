"""The process that is measured in `rotations`: journal, store, issuer, targets, engine and wake-ups of a daemon, without its HTTP server.

Reads a line from standard input, does a round of rotations, answers with a line of JSON; ends with its input. A process of its own, so that
its processor time is nobody else's. Start it with `python -m bench.driving CONFIG STATE_FOLDER`.
"""

from __future__ import annotations

import json
import resource
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rotator.domain.ports import EndRetirement, EndRotation, Line
from rotator.domain.reasons import Reason
from rotator.engine.look import Look
from rotator.scheduling.wakeups import Wakeups
from rotator.wiring.logs import configure_logs
from rotator.wiring.running import Runtime, build_runtime


@dataclass(slots=True)
class Endings:
    """Counts what ends, and says when all of it did."""

    condition: threading.Condition = field(default_factory=threading.Condition)
    rotations: int = 0
    deaths: int = 0

    def note(self, line: Line) -> None:
        """Called by the engine's workers with every line of a journal commit."""
        if isinstance(line, EndRotation | EndRetirement):
            with self.condition:
                self.rotations += isinstance(line, EndRotation) and line.outcome is Reason.DISTRIBUTED
                self.deaths += isinstance(line, EndRetirement) and line.outcome is Reason.DEAD
                self.condition.notify_all()

    def wait(self, *, rotations: int = 0, deaths: int = 0, within: float = 900.0) -> None:
        """Until so many ended since the start. Raises `TimeoutError`."""
        with self.condition:
            if not self.condition.wait_for(lambda: self.rotations >= rotations and self.deaths >= deaths, within):
                raise TimeoutError(f"{self.rotations} of {rotations} rotations, {self.deaths} of {deaths} deaths in {within:.0f} s")


def main() -> None:
    """Bootstrap all credentials, then a round per line of input."""
    config, state = Path(sys.argv[1]), Path(sys.argv[2])
    configure_logs("info", "json")
    planned: list[Wakeups] = []
    runtime = build_runtime(config, state, wakeups=planned)
    wakeups = Wakeups(runtime.engine.dispatch, runtime.clock)
    planned.append(wakeups)
    endings = Endings()
    ended = runtime.engine.runner.on_ended

    def on_ended(look: Look, line: Line) -> None:
        endings.note(line)
        ended(look, line)

    runtime.engine.runner.on_ended = on_ended
    runtime.engine.start()
    wakeups.start()
    try:
        _answer(_measure(lambda: endings.wait(rotations=len(runtime.engine.credentials))))
        for _ in sys.stdin:
            before = count_calls(runtime, "vault")
            figures = _measure(lambda: _rotate_all(runtime, endings))
            calls = {name: count - before.get(name, 0) for name, count in count_calls(runtime, "vault").items()}
            _answer({**figures, "vault": calls})
    finally:
        wakeups.stop()
        runtime.engine.stop()
        runtime.journal.close()


def _rotate_all(runtime: Runtime, endings: Endings) -> None:
    names = list(runtime.engine.credentials)
    deaths, rotations = endings.deaths + len(names), endings.rotations + len(names)
    for name in names:
        runtime.operations.rotate(name, emergency=False, who="bench")
    endings.wait(rotations=rotations, deaths=deaths)


def _measure(run: object) -> dict[str, float]:
    assert callable(run)
    before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    run()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.monotonic() - started, "cpu": cpu}


def count_calls(runtime: Runtime, remote: str) -> dict[str, int]:
    """Operation → calls to that remote so far, as the daemon's own metrics have them."""
    counts: dict[str, int] = {}
    for family in runtime.metrics.registry.collect():
        for sample in family.samples:
            if sample.name == "rotator_remote_requests_total" and sample.labels["remote"] == remote:
                operation = sample.labels["operation"]
                counts[operation] = counts.get(operation, 0) + int(sample.value)
    return counts


def _answer(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
