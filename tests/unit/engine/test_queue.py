"""Who is visited when: emergencies before never-synced before routine, one worker kept for emergencies, each name once."""

from __future__ import annotations

import threading

from rotator.engine.engine import Queue


def take(queue: Queue, *, only_emergencies: bool = False) -> str | None:
    return queue.take(threading.Event(), only_emergencies=only_emergencies)


def test_the_most_urgent_lane_comes_first_and_each_lane_in_order() -> None:
    queue = Queue()
    for name, lane in [("r1", "routine"), ("n1", "never-synced"), ("r2", "routine"), ("e1", "emergency"), ("n2", "never-synced")]:
        queue.put(name, lane)
    assert [take(queue) for _ in range(5)] == ["e1", "n1", "n2", "r1", "r2"]


def test_a_name_stands_in_the_queue_once_at_its_most_urgent() -> None:
    queue = Queue()
    queue.put("other", "never-synced")
    queue.put("name", "routine")
    queue.put("name", "emergency")
    queue.put("name", "routine")
    assert queue.lengths() == {"emergency": 1, "never-synced": 1, "routine": 0}
    assert [take(queue), take(queue)] == ["name", "other"]
    assert not queue.queued


def test_a_name_that_is_being_visited_is_visited_once_more_afterwards() -> None:
    queue = Queue()
    queue.put("name", "routine")
    assert take(queue) == "name"
    for lane in ("routine", "emergency", "never-synced"):
        queue.put("name", lane)
    assert queue.lengths() == {"emergency": 0, "never-synced": 0, "routine": 0}
    queue.done("name")
    assert queue.lengths()["emergency"] == 1
    assert take(queue) == "name"
    queue.done("name")
    assert queue.busy() == 0


def test_the_worker_for_emergencies_takes_nothing_else() -> None:
    queue = Queue()
    queue.put("routine", "routine")
    stopping = threading.Event()
    taken: list[str | None] = []
    worker = threading.Thread(target=lambda: taken.append(queue.take(stopping, only_emergencies=True)))
    worker.start()
    queue.put("leaked", "emergency")
    worker.join(5)
    assert taken == ["leaked"]
    assert queue.lengths()["routine"] == 1


def test_stopping_ends_the_wait() -> None:
    queue = Queue()
    stopping = threading.Event()
    taken: list[str | None] = []
    worker = threading.Thread(target=lambda: taken.append(queue.take(stopping, only_emergencies=False)))
    worker.start()
    stopping.set()
    with queue.condition:
        queue.condition.notify_all()
    worker.join(5)
    assert taken == [None]
