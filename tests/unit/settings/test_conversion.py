"""What the domain and the engine get of the settings."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rotator.domain.facts import AtDeadline, Policy, WithoutReplacement
from rotator.domain.keys import Kind
from rotator.domain.ports import Abilities
from rotator.domain.timing import next_due
from rotator.engine.look import Timing
from rotator.scheduling.cron import parse_cron
from rotator.settings import Settings, policy_of, schedule_of, timing_of
from tests.unit.settings.writing import GOOD, find_problems, load

FULL = """
installation: staging
millimetric: {cache_time: 2m}
issuers:
  admin: {type: http, base_url: "https://a.example", auth: {type: bearer, token_env: T}}
credentials:
  writer:
    kind: sk
    justification: it writes
    path: a
    issuer: admin
    rotation:
      cron: "30 2 * * Mon Europe/London"
      max_age: 45d
      window: "Mon-Fri 01:00-05:00 Europe/London"
      jitter: 0s
      overlap: {min: 30m, max: 2d}
    allowed_tools: [extra]
    leak_deadline: 3m
    without_replacement: revoke
    at_deadline: revoke
"""


def test_a_policy_of_defaults_is_the_domains_default(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD).settings
    assert policy_of(settings, "checkout-read", Abilities()) == Policy("test", Kind.RK)


def test_a_policy_of_everything(tmp_path: Path) -> None:
    settings = load(tmp_path, FULL, {"T": "x"}).settings
    assert policy_of(settings, "writer", Abilities(mint=False, list=True, revoke=False)) == Policy(
        installation="staging",
        kind=Kind.SK,
        overlap_min=timedelta(minutes=30),
        overlap_max=timedelta(days=2),
        cache_time=timedelta(minutes=2),
        verify_for=timedelta(minutes=8),
        leak_deadline=timedelta(minutes=3),
        without_replacement=WithoutReplacement.REVOKE,
        at_deadline=AtDeadline.REVOKE,
        allowed_tools=frozenset({"extra"}),
        can_mint=False,
        can_list=True,
        can_revoke=False,
    )


def test_verify_for_is_taken_as_written(tmp_path: Path) -> None:
    settings = load(tmp_path, GOOD + "    verify_for: 7m\n").settings
    assert policy_of(settings, "checkout-read", Abilities()).verify_for == timedelta(minutes=7)


def test_a_schedule_with_cron_is_due_in_its_window(tmp_path: Path) -> None:
    schedule = schedule_of(load(tmp_path, FULL, {"T": "x"}).settings, "writer")
    assert schedule.cron is not None
    due = next_due(schedule, datetime(2026, 6, 2, 12, tzinfo=UTC), "seed", parse_cron(schedule.cron))
    assert due == datetime(2026, 6, 8, 1, 30, tzinfo=UTC)


def test_a_schedule_of_nothing(tmp_path: Path) -> None:
    schedule = schedule_of(load(tmp_path, GOOD).settings, "checkout-read")
    assert (schedule.every, schedule.cron, schedule.window, schedule.jitter, schedule.max_age) == (None, None, None, None, None)


def test_the_engines_defaults_are_the_settings_defaults() -> None:
    assert timing_of(Settings()) == Timing()


def test_every_patience_of_the_engine_can_be_set() -> None:
    wanted = {field.name: timedelta(minutes=number) for number, field in enumerate(fields(Timing), start=1)}
    assert timing_of(Settings.model_validate({"engine": wanted})) == Timing(**wanted)


def test_a_tokens_hash_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hash"
    text = f"server:\n  tokens:\n    - name: on-call\n      role: operator\n      file: {file}\n"
    file.write_text("AB" * 32 + "  -\n", encoding="ascii")
    assert load(tmp_path, text).settings.server.tokens[0].get_hash() == "ab" * 32
    for wrong in ("letmein", "", "ä"):
        file.write_text(wrong, encoding="utf-8")
        (problem,) = find_problems(tmp_path / "rotator.yaml")
        assert (problem.path, problem.origin.line) == ("server.tokens[0].file", 5)
        assert "letmein" not in str(problem)
