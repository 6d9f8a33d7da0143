"""What is known of credentials whose store cannot be reached, although nobody has looked at them since."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rotator.domain.errors import Unreachable
from rotator.domain.ports import Holding, SaveView
from rotator.domain.reasons import Reason
from rotator.engine.engine import Engine, Hooks
from rotator.engine.look import Timing
from rotator.engine.operations import Operations
from rotator.journal.sqlite import SqliteJournal
from rotator.server.gathering import Gatherer
from rotator.server.plans import build_plan
from rotator.server.statuses import build_status
from rotator.stores.memory import MemoryStore
from tests.support.fakes import FakeClock, FakeService, build_credential
from tests.unit.server.test_statuses import NOW, VIEW

SEALED = "vault is sealed: unseal it"
CREDENTIALS = {"one": build_credential("one", store=MemoryStore(), service=FakeService(FakeClock(NOW)))}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[SqliteJournal]:
    opened = SqliteJournal(tmp_path / "journal.db", NOW)
    yield opened
    opened.close()


def test_an_idle_credential_of_a_store_that_is_away_says_so(journal: SqliteJournal) -> None:
    journal.commit("one", SaveView(VIEW))
    away: dict[str, str] = {}
    gatherer = Gatherer(journal, lambda: CREDENTIALS, away.get)
    assert build_status(gatherer.gather_all()[0], NOW).phase == "idle"
    away[CREDENTIALS["one"].store_name] = SEALED
    found = gatherer.find_one("one")
    assert found is not None
    for known in (*gatherer.gather_all(), found):
        status = build_status(known, NOW)
        assert (status.phase, [(wait.reason, wait.names) for wait in status.waiting]) == ("unreadable", [("store-unreachable", (SEALED,))])
    journal.commit("one", SaveView(replace(VIEW, waiting=((Reason.STORE_UNREACHABLE, None, ("as it saw itself",)),))))
    (known,) = gatherer.gather_all()
    assert [wait.names for wait in build_status(known, NOW).waiting] == [("as it saw itself",)], "once is enough"


def test_a_plan_says_why_the_store_cannot_be_read(journal: SqliteJournal, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: str) -> Holding:
        raise Unreachable(SEALED)

    monkeypatch.setattr(CREDENTIALS["one"].store, "read", fail)
    engine = Engine(journal, FakeClock(NOW), Timing(), Hooks())
    engine.set_credentials(CREDENTIALS)
    plan = build_plan(Operations(engine).plan("one"))
    assert [(wait.reason, wait.names) for wait in plan.waiting] == [("store-unreachable", (SEALED,))]
