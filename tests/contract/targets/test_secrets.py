"""What only a Secret has: entries from templates, labels and notes, other field managers, `immutable`, sizes, namespaces, removal."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from rotator.domain.errors import Conflict, Refused
from rotator.domain.ports import Delivery
from rotator.domain.reasons import Reason
from rotator.targets.kubernetes.target import KubernetesTarget
from tests.contract.targets.kinds import URL, SecretPlace, a_delivery, a_secret, dump
from tests.support.daemon import wait_until
from tests.support.kubernetes import Cluster

OURS = "rotator/"


def _entries(found: Any) -> dict[str, str]:
    return {name: base64.b64decode(value).decode() for name, value in found.get("data", {}).items()}


def _deliver(place: SecretPlace, secret: Any, generation: int = 1, **settings: Any) -> None:
    target = place.build(**settings)
    target.deliver(a_delivery(secret, generation, rotation="7f3a"), target.observe("checkout"))


def test_entries_are_templates_of_any_mix(spot: SecretPlace) -> None:
    data = {"api_key": "{key}", "header": "Bearer {key}", "id": "{key_id}", ".claude.json": {"client": "claude-code", "server": "ours"}}
    secret = a_secret()
    _deliver(spot, secret, data=data)
    entries = _entries(spot.find())
    assert entries["api_key"] == secret.reveal()
    assert entries["header"] == f"Bearer {secret.reveal()}"
    assert entries["id"] == str(secret.key_id)
    server = json.loads(entries[".claude.json"])["mcpServers"]["ours"]
    assert server["url"] == URL
    assert secret.reveal() in server["headers"]["Authorization"]


def test_labels_and_notes_tell_the_key_s_id_and_never_the_key(spot: SecretPlace) -> None:
    secret = a_secret()
    _deliver(spot, secret, labels={"team": "checkout"}, annotations={"example.com/docs": "see the wiki"})
    found = spot.find()
    metadata = found["metadata"]
    assert metadata["labels"]["team"] == "checkout"
    assert metadata["labels"][f"{OURS}target"] == "place"
    notes = metadata["annotations"]
    assert notes["example.com/docs"] == "see the wiki"
    assert (notes[f"{OURS}key-id"], notes[f"{OURS}rotation"]) == (str(secret.key_id), "7f3a")
    assert (notes[f"{OURS}credential"], notes[f"{OURS}installation"]) == ("checkout", "test")
    assert secret.reveal() not in dump(metadata)
    assert "stringData" not in dump(found)
    assert {m["manager"] for m in metadata["managedFields"]} <= {"rotator", "rotator-create"}


def test_what_others_keep_in_the_secret_stays(spot: SecretPlace) -> None:
    old, new = a_secret(), a_secret()
    _deliver(spot, old)
    theirs = {"metadata": {"labels": {"theirs": "yes"}}, "data": {"theirs": base64.b64encode(b"kept").decode()}}
    spot.cluster.merge(spot.path, theirs, fieldManager="somebody")
    _deliver(spot, new, 2)
    assert _entries(spot.find()) == {"api_key": new.reveal(), "theirs": "kept"}
    assert spot.find()["metadata"]["labels"]["theirs"] == "yes"


def test_an_entry_that_another_manager_owns_is_refused_unless_it_is_adopted(spot: SecretPlace) -> None:
    _deliver(spot, a_secret())
    spot.cluster.merge(spot.path, {"data": {"header": base64.b64encode(b"theirs").decode()}}, fieldManager="somebody")
    data, secret = {"api_key": "{key}", "header": "Bearer {key}"}, a_secret()
    target = spot.build(data=data)
    seen = target.observe("checkout")
    assert seen.problem is Reason.FOREIGN_ENTRY
    assert "header (somebody)" in seen.text
    for attempt in (lambda: target.check("checkout"), lambda: target.deliver(a_delivery(secret, 2), seen)):
        with pytest.raises(Refused, match="adopt: true") as refused:
            attempt()
        assert refused.value.reason is Reason.FOREIGN_ENTRY
    assert _entries(spot.find())["header"] == "theirs"
    _deliver(spot, secret, 2, data=data, adopt=True)
    assert _entries(spot.find()) == {"api_key": secret.reveal(), "header": f"Bearer {secret.reveal()}"}


def test_an_entry_that_was_overwritten_is_drift_and_comes_back(spot: SecretPlace) -> None:
    secret = a_secret()
    _deliver(spot, secret)
    for meddle in (lambda: spot.overwrite("meddled"), lambda: spot.cluster.merge(spot.path, {"data": {"api_key": None}})):
        meddle()
        target = spot.build()
        seen = target.observe("checkout")
        assert (seen.key_id, seen.problem) == (None, None)
        target.deliver(a_delivery(secret), seen)
        assert spot.read() == secret.reveal()
        assert spot.build().observe("checkout").key_id == secret.key_id


@pytest.mark.parametrize("part", ["annotation", "label"])
def test_notes_that_were_taken_off_come_back(spot: SecretPlace, part: str) -> None:
    secret = a_secret()
    _deliver(spot, secret)
    name = {"annotation": f"{OURS}generation", "label": f"{OURS}target"}[part]
    spot.cluster.merge(spot.path, {"metadata": {f"{part}s": {name: None}}})
    if part == "annotation":
        assert "has lost the annotations that say whose it is" in spot.build().observe("checkout").text
    target = spot.build(adopt=part == "annotation")
    seen = target.observe("checkout")
    assert seen.key_id is None
    target.deliver(a_delivery(secret), seen)
    assert name in spot.find()["metadata"][f"{part}s"]


def test_another_installation_s_secret_is_left_alone(spot: SecretPlace) -> None:
    theirs = a_secret()
    _deliver(spot, theirs, installation="elsewhere")
    target = spot.build()
    seen = target.observe("checkout")
    assert seen.problem is Reason.FOREIGN_ENTRY
    assert "installation elsewhere" in seen.text
    with pytest.raises(Refused):
        target.deliver(a_delivery(a_secret(), 9), seen)
    assert spot.read() == theirs.reveal()


def test_an_immutable_secret_is_refused_before_a_key_is_minted(spot: SecretPlace) -> None:
    _deliver(spot, a_secret())
    spot.cluster.merge(spot.path, {"immutable": True})
    with pytest.raises(Refused, match="immutable"):
        spot.build().check("checkout")


def test_entries_that_are_too_large_are_refused_before_a_key_is_minted(spot: SecretPlace) -> None:
    target = spot.build(data={"api_key": "{key}", "padding": "x" * (1024 * 1024)})
    with pytest.raises(Refused, match="1048576 at most"):
        target.check("checkout")
    assert spot.find() is None


def test_a_namespace_that_is_not_there_is_named(spot: SecretPlace) -> None:
    target = spot.build(namespaces=[spot.namespace, "not-there"])
    with pytest.raises(Refused, match="not-there"):
        target.check("checkout")


def test_one_secret_in_each_of_many_namespaces(spot: SecretPlace) -> None:
    others = [spot.cluster.namespace() for _ in range(3)]
    target, secret = spot.build(namespaces=[spot.namespace, *others]), a_secret()
    after = target.deliver(a_delivery(secret), target.observe("checkout"))
    assert after.key_id == secret.key_id
    assert all(_entries(spot.cluster.secret(n, spot.name)) == {"api_key": secret.reveal()} for n in others)
    spot.cluster.call("DELETE", f"/api/v1/namespaces/{others[0]}/secrets/{spot.name}")
    assert target.observe("checkout").key_id is None, "each of them must hold it"


def test_one_namespace_that_fails_holds_the_others_back_in_nothing(spot: SecretPlace) -> None:
    other = spot.cluster.namespace()
    spot.cluster.call("POST", f"/api/v1/namespaces/{other}/secrets", {"metadata": {"name": spot.name}, "data": {}})
    target, secret = spot.build(namespaces=[spot.namespace, other]), a_secret()
    with pytest.raises(Refused, match=other):
        target.deliver(a_delivery(secret), target.observe("checkout"))
    assert spot.read() == secret.reveal()
    assert target.observe("checkout").key_id is None


def test_one_namespace_that_cannot_be_looked_at_is_told_by_each_delivery(spot: SecretPlace) -> None:
    """Or the next look would find it behind, and so on without a pause."""
    other = spot.cluster.namespace()
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [spot.name], "verbs": ["get", "create", "patch"]}
    target = spot.build(token=spot.cluster.limited(rule, namespace=spot.namespace), namespaces=[spot.namespace, other])
    wait_until(lambda: other not in (text := target.observe("checkout").text) or spot.namespace not in text)
    secret = a_secret()
    for _ in range(2):
        seen = target.observe("checkout")
        assert seen.key_id is None
        assert other in seen.text
        with pytest.raises(Refused, match=other):
            target.deliver(a_delivery(secret), seen)
    assert spot.read() == secret.reveal()


def test_namespaces_by_label_are_those_of_now(spot: SecretPlace) -> None:
    team = f"team-{spot.namespace}"
    first, second = spot.cluster.namespace(team=team), spot.cluster.namespace()
    target, secret = spot.build(namespaces={"selector": f"team={team}"}), a_secret()
    target.deliver(a_delivery(secret), target.observe("checkout"))
    assert spot.cluster.find_secret(first, spot.name) is not None
    assert spot.cluster.find_secret(second, spot.name) is None
    spot.cluster.merge(f"/api/v1/namespaces/{second}", {"metadata": {"labels": {"team": team}}})
    seen = target.observe("checkout")
    assert seen.key_id is None
    target.deliver(a_delivery(secret), seen)
    assert spot.cluster.find_secret(second, spot.name) is not None


def test_no_namespace_with_the_labels_needs_no_key(spot: SecretPlace) -> None:
    target, secret = spot.build(namespaces={"selector": "team=nobody-has-this"}), a_secret()
    after = target.deliver(a_delivery(secret), target.observe("checkout"))
    assert after.key_id == secret.key_id
    assert target.observe("checkout").key_id == secret.key_id


@pytest.mark.parametrize("others", [False, True])
def test_withdrawing_deletes_what_is_ours_where_that_is_allowed(spot: SecretPlace, others: bool) -> None:
    _deliver(spot, a_secret())
    if others:
        spot.cluster.merge(spot.path, {"data": {"theirs": base64.b64encode(b"kept").decode()}}, fieldManager="somebody")
    with pytest.raises(Refused, match="on_removal"):
        spot.build().withdraw("checkout")
    assert spot.read() is not None
    assert spot.build(on_removal="delete").withdraw("checkout")
    if others:
        assert _entries(spot.find()) == {"theirs": "kept"}
        assert OURS not in dump(spot.find()["metadata"].get("labels", {}))
    else:
        assert spot.find() is None


def test_withdrawing_makes_nothing_of_what_went_meanwhile(spot: SecretPlace) -> None:
    _deliver(spot, a_secret())
    spot.cluster.merge(spot.path, {"data": {"theirs": base64.b64encode(b"kept").decode()}}, fieldManager="somebody")
    target = spot.build(on_removal="delete")
    assert isinstance(target, KubernetesTarget)
    view = target.secrets.look(spot.namespace)
    assert view is not None
    spot.remove()
    with pytest.raises(Conflict):
        target.secrets.remove(spot.namespace, view)
    assert spot.find() is None


def test_two_that_create_it_at_once_leave_one_key(spot: SecretPlace) -> None:
    first, second = spot.build(), spot.build()
    seen = first.observe("checkout"), second.observe("checkout")
    winner, loser = a_secret(), a_secret()
    first.deliver(a_delivery(winner, 2), seen[0])
    with pytest.raises(Conflict, match="made by somebody else"):
        second.deliver(a_delivery(loser, 1), seen[1])
    assert spot.read() == winner.reveal()
    assert spot.build().observe("checkout").key_id == winner.key_id


def test_a_change_beside_the_key_does_not_make_it_younger(spot: SecretPlace) -> None:
    secret = a_secret()
    _deliver(spot, secret)
    before = spot.find()["metadata"]
    _deliver(spot, secret, labels={"team": "new"})
    after = spot.find()["metadata"]
    assert after["labels"]["team"] == "new"
    placed = next(m["time"] for m in before["managedFields"] if m["manager"] == "rotator")
    assert after["annotations"][f"{OURS}placed-at"].startswith(placed.removesuffix("Z"))
    _deliver(spot, a_secret(), 2, labels={"team": "new"})
    assert f"{OURS}placed-at" not in spot.find()["metadata"]["annotations"]


def test_two_clusters_are_two_places(cluster: Cluster, tmp_path: Path) -> None:
    """As far as one API server can tell: two kubeconfigs with contexts of their own."""
    one, two = SecretPlace(cluster, tmp_path / "one"), SecretPlace(cluster, tmp_path / "two")
    secret = a_secret()
    for place in (one, two):
        target = place.build(context="test")
        target.deliver(Delivery("checkout", secret, 1, URL), target.observe("checkout"))
    assert one.read() == two.read() == secret.reveal()
