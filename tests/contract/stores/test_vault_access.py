"""Exactly the policy that the store prints is enough for everything, and each single line of it is missed by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from rotator.domain.errors import Misconfigured, Refused
from rotator.domain.ports import Store
from rotator.domain.record import Doom, Forget, Promote, StageKey
from tests.contract.stores import vaults
from tests.contract.stores.build import a_key, a_note, an_adoption, an_entry, an_opening, at, commit_all, hold_current
from tests.support.vault import VaultServer

PATH = "millimetric/zespół größe"
LINE = re.compile(r'path "([^"]+)" \{\n  capabilities = \[([^]]*)\]\n\}\n')


@pytest.fixture
def server() -> VaultServer:
    return vaults.get_server()


@pytest.fixture
def mount(server: VaultServer) -> str:
    return server.mount()


@pytest.fixture
def open_with(server: VaultServer, mount: str, tmp_path: Path) -> Callable[[str], Store]:
    def open_(policy: str) -> Store:
        return vaults.open_store_at(vaults.lay_place(tmp_path / "place", server, server.token(policy), mount=mount))

    return open_


@pytest.fixture
def root(server: VaultServer, mount: str, tmp_path: Path) -> Store:
    return vaults.open_store_at(vaults.lay_place(tmp_path / "root", server, mount=mount))


def _live(store: Store, path: str = PATH) -> None:
    """Everything that a store is ever asked."""
    first, second, opening = a_key(), a_key(), an_opening()
    store.check(path)
    hold_current(store, path, first)
    store.check(path)
    commit_all(store, path, opening, StageKey(an_entry(second, attempt=opening.attempt.id), second))
    commit_all(store, path, Promote(second.key_id, first.key_id, at(3)), Doom(first.key_id, at(4)), Forget(first.key_id))
    assert store.read(path).current == second.key_id
    assert set(store.list_marks([path])) == {path}
    assert store.find_access(path, writes=True).missing == ()


def _lines(policy: str) -> dict[str, list[str]]:
    return {path: re.findall(r'"(\w+)"', kinds) for path, kinds in LINE.findall(policy)}


def _render(lines: dict[str, list[str]]) -> str:
    return "".join(f'path "{path}" {{ capabilities = {json.dumps(kinds or ["deny"])} }}\n' for path, kinds in lines.items())


def test_the_printed_policy_is_enough_for_everything(open_with: Callable[[str], Store], root: Store) -> None:
    policy = root.find_access(PATH, writes=True).policy
    assert "".join(match.group() for match in LINE.finditer(policy)) == policy
    _live(open_with(policy))


def test_it_allows_nothing_elsewhere(open_with: Callable[[str], Store], root: Store) -> None:
    store = open_with(root.find_access(PATH, writes=True).policy)
    assert len(store.find_access(f"{PATH}-other", writes=True).missing) == 8
    with pytest.raises(Refused, match=r"forbids reading .*-other: our token lacks `read` on "):
        store.read(f"{PATH}-other")


def test_the_printed_policy_to_read_is_enough_to_read(open_with: Callable[[str], Store], root: Store) -> None:
    hold_current(root, PATH, a_key())
    access = root.find_access(PATH, writes=False)
    store = open_with(access.policy)
    assert store.find_access(PATH, writes=False).missing == ()
    assert store.read(PATH) == root.read(PATH)
    assert store.list_marks([PATH]) == root.list_marks([PATH])
    with pytest.raises(Refused, match="does not allow create on "):
        store.check(PATH)


def test_each_single_capability_is_missed_by_name(open_with: Callable[[str], Store], root: Store, mount: str) -> None:
    whole = _lines(root.find_access(PATH, writes=True).policy)
    wanted = [(path, capability) for path, kinds in whole.items() for capability in kinds]
    assert len(wanted) == 11
    for number, (path, capability) in enumerate(wanted):
        less = {p: [k for k in kinds if (p, k) != (path, capability)] for p, kinds in whole.items()}
        store = open_with(_render(less))
        lacks = f"{capability} on {path}"
        access = store.find_access(PATH, writes=True)
        assert access.missing == (lacks,), number
        assert _lines(access.policy) == whole
        if not path.startswith(mount) or "/metadata/" in path:
            continue
        with pytest.raises(Refused, match=re.escape(lacks.split(" on ")[1])):
            store.check(PATH)


@pytest.mark.parametrize(
    ("lacking", "capability"),
    [("path", "read"), ("path", "create"), ("path", "patch"), ("sibling", "read"), ("sibling", "create"), ("sibling", "update")],
)
def test_a_refusal_in_the_middle_names_what_is_missing_and_leaves_all_as_it_was(
    server: VaultServer, mount: str, root: Store, open_with: Callable[[str], Store], lacking: str, capability: str
) -> None:
    whole = _lines(root.find_access(PATH, writes=True).policy)
    path = f"{mount}/data/{'' if lacking == 'path' else 'rotator/'}{PATH}"
    weak = open_with(_render({p: [k for k in kinds if (p, k) != (path, capability)] for p, kinds in whole.items()}))
    first, second = an_opening(), an_opening()
    if capability == "patch":
        hold_current(root, PATH, a_key())
    key = a_key()
    told = None
    try:
        seen = root.read(PATH)
        current = seen.current
        for change in (first, StageKey(an_entry(key, attempt=first.attempt.id), key), Promote(key.key_id, current, at(3)), second):
            seen = root.read(PATH)
            weak.commit(PATH, seen, change)
    except Refused as refused:
        told = str(refused)
    assert told is not None
    assert f"`{capability}` on {path}" in told
    assert root.read(PATH).record == seen.record
    if lacking == "path" and capability != "read":  # a leak is still accepted, a key still doomed
        commit_all(weak, PATH, a_note("one", 1))
    commit_all(open_with(_render(whole)), PATH, change)


def test_a_refusal_takes_nothing_back_that_another_writer_may_yet_make(
    server: VaultServer, mount: str, root: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both announce the same promotion; the second is refused the path, and the first writes it in that moment."""
    whole = _lines(root.find_access(PATH, writes=True).policy)
    less = _render({p: [kind for kind in kinds if kind != "patch"] for p, kinds in whole.items()})
    strong, weak = (
        vaults.open_store_at(vaults.lay_place(tmp_path / name, server, server.token(policy), mount=mount))
        for name, policy in (("strong", _render(whole)), ("weak", less))
    )
    old, new, opening = a_key(), a_key(), an_opening()
    hold_current(root, PATH, old)
    seen = commit_all(root, PATH, opening, StageKey(an_entry(new, attempt=opening.attempt.id), new))
    promote = Promote(new.key_id, old.key_id, at(3))
    write, refused_write, made = strong._write_path, weak._write_path, []

    def stand_still(*args: Any) -> Any:
        with pytest.raises(Refused, match="`patch`"):
            weak.commit(PATH, weak.read(PATH), promote)
        return made[0]

    def after_the_first(*args: Any) -> Any:
        made.append(write(*args))
        return refused_write(*args)

    monkeypatch.setattr(strong, "_write_path", stand_still)
    monkeypatch.setattr(weak, "_write_path", after_the_first)
    done = strong.commit(PATH, seen, promote)
    assert done.current == new.key_id
    after = root.read(PATH)
    assert (after.current, after.record) == (new.key_id, done.record)


def test_a_person_s_policy_for_consumers_reads_the_key_and_not_the_record(server: VaultServer, mount: str, root: Store) -> None:
    key = a_key()
    hold_current(root, PATH, key)
    consumer = server.token(f'path "{mount}/data/{PATH}" {{ capabilities = ["read"] }}')
    answer = server.ask("GET", f"{mount}/data/{PATH}", token=consumer)
    assert answer.json()["data"]["data"] == {"api_key": key.reveal()}
    assert server.ask("GET", f"{mount}/data/rotator/{PATH}", token=consumer).status_code == 403


def test_one_path_that_is_refused_hides_no_change_of_others(open_with: Callable[[str], Store], root: Store) -> None:
    paths = [f"millimetric/{name}" for name in ("one", "two", "three")]
    for path in paths:
        hold_current(root, path, a_key())
    store = open_with(root.find_access(paths[0], writes=False).policy + root.find_access(paths[2], writes=False).policy)
    with capture_logs() as logs:
        for _ in range(2):
            assert store.list_marks([*paths, "a//b"]) == root.list_marks([paths[0], paths[2]])
    told = sorted(re.findall(r"millimetric/two|a//b", line["problem"])[0] for line in logs)
    assert told == ["a//b", "millimetric/two"], "each is told of once"


def test_a_token_that_may_do_nothing_is_not_tried_at_every_path(open_with: Callable[[str], Store], monkeypatch: pytest.MonkeyPatch) -> None:
    store, asked = open_with('path "nothing" { capabilities = ["read"] }'), []
    real = store._read_mark  # type: ignore[attr-defined]
    monkeypatch.setattr(store, "_read_mark", lambda place: (asked.append(place), real(place))[1])
    with pytest.raises(Refused, match=r"nothing is mounted at|lacks `read`"):
        store.list_marks([f"millimetric/{number}" for number in range(50)])
    assert len(asked) == 20


def test_whoever_may_not_ask_is_told_so(open_with: Callable[[str], Store]) -> None:
    store = open_with('path "nothing" { capabilities = ["read"] }')
    access = store.find_access(PATH, writes=True)
    assert access.missing == ("update on sys/capabilities-self",)
    assert access.policy


@pytest.mark.parametrize("path", ["a//b", "a/../b", "a/./b", "a/+/b", "a/b*", "rotator/a", "a/{{identity.entity.id}}"])
def test_a_path_that_would_mean_another_is_refused(root: Store, path: str) -> None:
    for ask in (root.read, root.check, lambda p: root.list_marks([p]), lambda p: root.commit(p, root.read(PATH), an_adoption(a_key()))):
        with pytest.raises(Misconfigured, match="path"):
            ask(path)
