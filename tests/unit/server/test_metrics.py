"""The metrics alone: what a scrape says, and that the docs say the same."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from rotator.metrics import FAMILIES, CredentialState, Metrics, State

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
DOCS = Path(__file__).parents[3] / "docs" / "metrics.md"
DESIGNED = """
credential_info{credential,kind,key_id,store,issuer} credential_minted_timestamp_seconds{credential}
credential_expires_timestamp_seconds{credential} credential_next_rotation_timestamp_seconds{credential} credential_phase{credential,phase}
credential_parked{credential,reason} credential_compromised{credential} credential_targets{credential,state}
rotations_total{credential,reason,outcome} rotation_duration_seconds{reason} step_duration_seconds{step}
last_success_timestamp_seconds{credential} oldest_overdue_seconds retirements{credential,phase} old_key_alive_seconds{credential}
leak_to_dead_seconds pool_spares{issuer} orphans machines{state} remote_requests_total{remote,operation,outcome}
remote_request_duration_seconds{remote,operation} engine_queue{lane} build_info{version,python} state_read_failed
config_rejected steps_total{step,outcome}
"""
FULL = CredentialState(
    credential="checkout-read",
    kind="rk",
    store="vault",
    issuer="spares",
    phase="promoted",
    key_id="rk_live_abcdefgh",
    minted_at=NOON,
    expires_at=NOON,
    next_rotation_at=NOON,
    last_success=NOON,
    compromised=True,
    parked={"revoke-by-hand": 2},
    targets={"current": 1, "behind": 2},
    retirements={"doomed": 1},
    old_key_alive=12.5,
)


def samples(metrics: Metrics) -> dict[str, float]:
    found = {}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def test_the_names_and_labels_are_the_contract() -> None:
    spelled = {f"{f.exposed.removeprefix('rotator_')}{'{' + ','.join(f.labels) + '}' if f.labels else ''}" for f in FAMILIES}
    assert spelled == set(DESIGNED.split())
    assert all(f.name.startswith("rotator_") for f in FAMILIES)


def test_the_docs_list_exactly_the_metrics() -> None:
    rows = re.findall(r"^\| `(rotator_\w+)` \| (\w+) \| (.+?) \| (.+) \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows}
    assert documented == {f.exposed: (f.type, f.labels, f.help) for f in FAMILIES}


def test_metrics_that_the_docs_mention_exist() -> None:
    mentioned = set(re.findall(r"rotator_[a-z_]+", DOCS.read_text("utf-8")))
    assert mentioned <= {f.exposed for f in FAMILIES}


def test_every_metric_is_exposed_with_help_and_type() -> None:
    metrics = Metrics()
    metrics.watch(lambda: State([FULL]), lambda: {"routine": 1})
    text = metrics.render()[0].decode()
    for family in FAMILIES:
        assert f"# HELP {family.exposed} {family.help}\n" in text
        assert f"# TYPE {family.exposed} {family.type}\n" in text
    assert "_created" not in text
    assert text.count("# HELP rotator_") == len(FAMILIES)


def test_state_becomes_samples() -> None:
    metrics = Metrics()
    state = State(
        [FULL],
        {("checkout-read", "scheduled", "distributed"): 7},
        orphans=3,
        oldest_overdue=60.0,
        pool_spares={"spares": 4},
        machines={"connected": 5},
    )
    metrics.watch(lambda: state, lambda: {"emergency": 0, "routine": 6})
    one, at = "credential=checkout-read", NOON.timestamp()

    expected = {
        f"rotator_credential_info{{{one},issuer=spares,key_id=rk_live_abcdefgh,kind=rk,store=vault}}": 1,
        f"rotator_credential_minted_timestamp_seconds{{{one}}}": at,
        f"rotator_credential_expires_timestamp_seconds{{{one}}}": at,
        f"rotator_credential_next_rotation_timestamp_seconds{{{one}}}": at,
        f"rotator_last_success_timestamp_seconds{{{one}}}": at,
        f"rotator_credential_phase{{{one},phase=promoted}}": 1,
        f"rotator_credential_parked{{{one},reason=revoke-by-hand}}": 2,
        f"rotator_credential_compromised{{{one}}}": 1,
        f"rotator_credential_targets{{{one},state=current}}": 1,
        f"rotator_credential_targets{{{one},state=behind}}": 2,
        f"rotator_retirements{{{one},phase=doomed}}": 1,
        f"rotator_old_key_alive_seconds{{{one}}}": 12.5,
        f"rotator_rotations_total{{{one},outcome=distributed,reason=scheduled}}": 7,
        "rotator_orphans{}": 3,
        "rotator_oldest_overdue_seconds{}": 60,
        "rotator_pool_spares{issuer=spares}": 4,
        "rotator_machines{state=connected}": 5,
        "rotator_engine_queue{lane=emergency}": 0,
        "rotator_engine_queue{lane=routine}": 6,
        "rotator_state_read_failed{}": 0,
    }
    assert expected.items() <= samples(metrics).items()


def test_what_is_not_known_has_no_series() -> None:
    metrics = Metrics()
    metrics.watch(lambda: State([CredentialState("new", "rk", "vault", "spares")]), dict)
    about = {name for name in samples(metrics) if "credential=new" in name}
    assert about == {
        "rotator_credential_info{credential=new,issuer=spares,key_id=,kind=rk,store=vault}",
        "rotator_credential_phase{credential=new,phase=idle}",
        "rotator_credential_compromised{credential=new}",
    }


def test_hooks_count_and_time() -> None:
    metrics = Metrics()
    metrics.on_step("mint", "ok", 0.2)
    metrics.on_step("mint", "answer-lost", 0.4)
    metrics.on_remote("millimetric", "probe", "ok", 0.05)
    metrics.on_rotation("scheduled", 90.0)
    metrics.on_leak_ended(400.0)
    seen = samples(metrics)
    assert seen["rotator_steps_total{outcome=answer-lost,step=mint}"] == 1
    assert seen["rotator_step_duration_seconds_count{step=mint}"] == 2
    assert seen["rotator_remote_requests_total{operation=probe,outcome=ok,remote=millimetric}"] == 1
    assert seen["rotator_remote_request_duration_seconds_bucket{le=0.05,operation=probe,remote=millimetric}"] == 1
    assert seen["rotator_rotation_duration_seconds_bucket{le=60.0,reason=scheduled}"] == 0
    assert seen["rotator_rotation_duration_seconds_bucket{le=120.0,reason=scheduled}"] == 1
    assert seen["rotator_leak_to_dead_seconds_sum{}"] == 400


def test_two_metrics_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.on_step("mint", "ok", 0.1)
    assert not [name for name in samples(second) if "mint" in name]


def test_registering_reads_no_state() -> None:
    metrics = Metrics()
    reads: list[int] = []

    def read_state() -> State:
        reads.append(1)
        return State()

    metrics.watch(read_state, dict)
    assert reads == []
    metrics.render()
    assert reads == [1]
