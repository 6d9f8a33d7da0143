"""Real daemons whose keys are brought by people, or minted by a program, with the real command line and the sandbox's truth."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from rotator.domain.secret import Secret
from tests.integration.issuers.conftest import write_keys
from tests.support.daemon import start_daemon, wait_until
from tests.support.fakes import build_secret
from tests.support.scenes import Scene, Stage, held_by, is_settled, parked

NAMES = ("one", "two", "three")


def run(stage: Stage, *arguments: str, keys: tuple[Secret, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A command of the program, with keys on its stdin."""
    done = stage.site.run(*arguments, stdin=write_keys(*keys))
    assert not any(key.reveal() in done.stdout + done.stderr for key in keys)
    return done


def add(stage: Stage, *keys: Secret) -> None:
    done = run(stage, "pool", "add", "spares", keys=keys)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{key.key_id}: accepted" for key in keys]


def count_spares(stage: Stage) -> float | None:
    found = re.search(r'^rotator_pool_spares\{issuer="spares"\} (\S+)$', stage.daemon.metrics(), re.MULTILINE)
    return float(found.group(1)) if found else None


def use_pool(stage: Stage, *names: str, **settings: object) -> list[Scene]:
    """Credentials of the pool, taken over by the daemon all at once."""
    scenes = [Scene(stage, name, [stage.site.key_file(name)]) for name in names]
    for name in names:
        stage.site.credential(name, name, issuer="spares", **settings)
    stage.site.write()
    stage.daemon.post("/api/v1/reload")
    return scenes


def test_two_spares_for_three_credentials_that_are_due_at_once(stage: Stage) -> None:
    use_pool(stage, "first")
    spares = [stage.control.mint() for _ in range(3)]
    add(stage, *spares)
    stage.daemon.wait_for("first", lambda s: is_settled(s, 1))
    scenes = use_pool(stage, *NAMES)
    stage.daemon.wait_for("one", lambda _: len(done(scenes)) == 2 and len(waits(scenes)) == 1, what="two done, the third parked")
    (last,) = [scene for scene in scenes if scene not in done(scenes)]
    # In between it tries again, and tells that then: each of these is waited for.
    (reason,) = last.wait(lambda s: parked(s) == {"pool-empty"})["parked"]
    assert reason["reason"] == "pool-empty"
    assert "kind rk" in reason["text"]
    assert "`rotator pool add spares`" in reason["text"]
    for command in (("plan",), ("status", "-v")):
        wait_until(lambda command=command: "pool-empty" in run(stage, *command, last.name).stdout, what=f"{command} says why")
    used = [scene.key_id for scene in done(scenes)]
    assert {*used, stage.daemon.status("first")["key_id"]} == {str(key.key_id) for key in spares}
    wait_until(lambda: count_spares(stage) == 0, what="the metric of an empty pool")
    new = stage.control.mint()
    add(stage, new)
    assert last.wait_settled(1)["key_id"] == str(new.key_id)
    assert [held_by(scene.files[0]) for scene in scenes] == [scene.key_id for scene in scenes]
    assert json.loads(run(stage, "pool", "list", "--json").stdout)["pools"][0]["spares"] == []


def done(scenes: list[Scene]) -> list[Scene]:
    return [scene for scene in scenes if is_settled(scene.status, 1)]


def waits(scenes: list[Scene]) -> list[Scene]:
    return [scene for scene in scenes if parked(scene.status) == {"pool-empty"}]


def test_a_spare_that_leaks_is_struck_off_and_proven_dead(stage: Stage) -> None:
    (scene,) = use_pool(stage, "one")
    leaked = stage.control.mint()
    add(stage, stage.control.mint())
    scene.wait_settled(1)
    add(stage, leaked)
    told = stage.site.run("leak", stdin=leaked.reveal())
    assert told.returncode == 4, told.stdout + told.stderr
    assert f"one: spare {leaked.key_id} is struck off spares" in told.stdout
    assert f"revoke key {leaked.key_id} in the dashboard" in told.stderr
    (spare,) = json.loads(run(stage, "pool", "list", "--json").stdout)["pools"][0]["spares"]
    assert (spare["key_id"], spare["state"]) == (str(leaked.key_id), "reserved")
    scene.rotate()
    scene.wait(lambda s: parked(s) == {"pool-empty", "revoke-by-hand"}, what="it is not given out")
    stage.control.revoke(leaked.key_id)
    scene.wait(lambda s: not s["retirements"], what="it is proven dead")
    assert [row["outcome"] for row in scene.retirements()] == ["dead"]
    assert json.loads(run(stage, "pool", "list", "--json").stdout)["pools"][0]["spares"] == []


def test_the_schedule_goes_on_while_old_keys_wait_for_a_person(stage: Stage) -> None:
    """L21: rotations on schedule, none of them held up; each old key ends by itself once a person has revoked it."""
    (scene,) = use_pool(stage, "one", rotation={"every": "4s", "jitter": "0s"})
    spares = [stage.control.mint() for _ in range(3)]
    add(stage, *spares)
    scene.wait(lambda s: s["generation"] == 3, what="three generations")
    status = scene.wait(lambda s: sum(row["reason"] == "revoke-by-hand" for row in s["parked"]) == 2, what="both old keys parked")
    asked = [row["text"] for row in status["parked"] if row["reason"] == "revoke-by-hand"]
    for key in spares[:2]:
        assert any(str(key.key_id) in text for text in asked)
        assert stage.control.key(key.key_id)["revoked_at"] is None
        stage.control.revoke(key.key_id)
    scene.wait(lambda s: not s["retirements"], what="both old keys proven dead")
    scene.ensure_nothing_good_was_given_up()
    assert {row["outcome"] for row in scene.retirements()} == {"dead"}
    assert scene.key_id == str(spares[2].key_id)


def test_a_daemon_that_is_killed_uses_no_spare_twice(stage: Stage) -> None:
    """What the kill cost is a spare at most: the daemon asks for more, and never gives out one twice."""
    scenes = use_pool(stage, *NAMES)
    run(stage, "pool", "add", "spares", keys=tuple(stage.control.mint() for _ in NAMES))
    stage.daemon.kill()
    stage.daemon = start_daemon(stage.site)
    try:
        for scene in scenes:
            if "pool-empty" in parked(scene.wait(lambda s: is_settled(s, 1) or parked(s))):
                add(stage, stage.control.mint())
        keys = [scene.wait(lambda s: s["key_id"] is not None)["key_id"] for scene in scenes]
        assert len(set(keys)) == len(NAMES)
    finally:
        stage.daemon.stop()


def test_a_key_by_hand_from_parked_to_done(stage: Stage) -> None:
    scene = stage.add(issuer="by-hand", generation=0)
    (reason,) = scene.wait(lambda s: parked(s) == {"key-wanted"})["parked"]
    for part in ("kind rk", "env live", f"test/{scene.name}", f"`rotator submit {scene.name}`", "rotator-inbox/", "ask Ada"):
        assert part in reason["text"]
    other = stage.add()
    stage.control.settings(cache_refusals=False)
    wrong = [
        (stage.control.mint("sk"), "wrong-kind"),
        (stage.control.mint(env="test"), "wrong-kind"),
        (build_secret(), "not-alive"),
        (Secret(other.files[0].read_text().strip()), "already-known"),
    ]
    for key, why in wrong:
        refused = run(stage, "submit", scene.name, keys=(key,))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(f"{key.key_id}: refused ({why}): ")
    malformed = stage.site.run("submit", scene.name, stdin="hello\n")
    assert (malformed.returncode, "malformed-key" in malformed.stderr) == (1, True)
    scene.wait(lambda s: parked(s) == {"key-wanted"})
    key = stage.control.mint()
    accepted = run(stage, "submit", scene.name, keys=(key,))
    assert (accepted.returncode, accepted.stdout) == (0, f"{key.key_id}: accepted\n")
    assert scene.wait_settled(1)["key_id"] == str(key.key_id)
    assert next(e["action"] for e in scene.events() if e["key_id"] == str(key.key_id)) == "supply"
    assert run(stage, "submit", other.name, keys=(key,)).returncode == 1


def test_a_program_s_keys_end_to_end(stage: Stage) -> None:
    scene = stage.add(issuer="program")
    first = scene.key_id
    scene.rotate()
    scene.wait_settled(2)
    assert stage.control.key(first)["revoked_at"] is not None
    scene.ensure_converged()
    scene.ensure_nothing_good_was_given_up()


def test_a_program_s_lost_mint_is_swept(stage: Stage) -> None:
    scene = stage.add(issuer="program")
    stage.control.faults({"operation": "mint", "effect": "drop_after", "times": 1})
    scene.rotate()
    scene.wait_settled(2)
    scene.ensure_converged()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("pool", "add", "nowhere"), 2, "no pool is called 'nowhere'; configured: spares"),
        (("pool", "list", "sandbox"), 2, "no pool is called 'sandbox'"),
        (("pool", "strike", "spares", str(build_secret().key_id)), 1, "spares holds no spare"),
        (("pool", "strike", "spares", "rubbish"), 2, "a key id has three parts"),
        (("submit", "nobody"), 2, "no credential is called 'nobody'"),
    ],
)
def test_who_is_not_there_is_told(stage: Stage, arguments: tuple[str, ...], code: int, words: str) -> None:
    refused = run(stage, *arguments, keys=(build_secret(),))
    assert (refused.returncode, words in refused.stderr) == (code, True), refused.stderr
