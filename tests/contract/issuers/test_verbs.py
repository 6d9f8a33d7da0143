"""What every issuer promises (`domain.ports.Issuer`), against what is behind it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from rotator.domain.errors import AnswerLost, KeyWanted, RateLimited, Refused, Unreachable
from rotator.domain.keys import KeyId, Kind, parse_key_id
from rotator.domain.ports import Abilities, Issuer, MintOrder
from tests.contract.issuers.kinds import CREDENTIAL, UNKNOWN_KEY, Bench, key_ids, needs

LABELS = [
    "prod/5f3a/attempt-1",
    "prod/üñí/日本語/🔑",
    "a b/c%2Fd/e?f=g&h#i",
    "../../x/..",
    "quote'\"\\/{label}/{key_id}",
]


def order(label: str, kind: Kind = Kind.RK) -> MintOrder:
    return MintOrder(label, kind, "live", credential=CREDENTIAL)


def test_it_is_an_issuer(issuer: Issuer) -> None:
    assert isinstance(issuer, Issuer)
    assert isinstance(issuer.abilities, Abilities)


@pytest.mark.parametrize("kind", [Kind.RK, Kind.SK, Kind.AK])
def test_a_minted_key_works_and_is_of_the_kind(bench: Bench, kind: Kind) -> None:
    issued = bench.issuer.mint(order("a/b/c", kind))
    assert issued.secret.key_id.kind is kind
    assert issued.minted_at <= datetime.now(UTC)
    assert bench.works(issued.secret)


@needs("mints")
def test_no_key_is_thought_younger_than_it_is(bench: Bench) -> None:
    before = datetime.now(UTC)
    issued = bench.issuer.mint(order("a/b/c"))
    assert before <= issued.minted_at <= datetime.now(UTC)


@needs("no-mints")
def test_a_key_counts_from_when_it_was_brought(bench: Bench) -> None:
    before = datetime.now(UTC)
    assert bench.issuer.mint(order("a/b/c")).minted_at < before


@pytest.mark.parametrize("label", LABELS)
def test_a_label_comes_back_as_it_was_given(bench: Bench, label: str) -> None:
    issued = bench.issuer.mint(order(label))
    bench.issuer.mint(order("another/one/x"))
    head = label[: len(label) // 2]
    for prefix in (label, head):
        listed = bench.issuer.list_labelled(prefix)
        assert [(key.key_id, key.label, key.revoked) for key in listed] == [(issued.secret.key_id, label, False)]


@needs("repeats")
def test_a_label_is_not_unique(bench: Bench) -> None:
    keys = {str(bench.issuer.mint(order("a/b/c")).secret.key_id) for _ in range(3)}
    assert len(keys) == 3
    assert key_ids(list(bench.issuer.list_labelled("a/b/c"))) == keys


@needs("mints", "no-repeats")
def test_a_second_mint_under_one_label_is_refused(bench: Bench) -> None:
    first = bench.issuer.mint(order("a/b/c"))
    with pytest.raises(Refused):
        bench.issuer.mint(order("a/b/c"))
    assert bench.living() == {str(first.secret.key_id)}


@needs("no-mints")
def test_a_second_mint_under_one_label_gives_the_same_key(bench: Bench) -> None:
    first = bench.issuer.mint(order("a/b/c"))
    assert all(bench.issuer.mint(order("a/b/c")).secret.same_as(first.secret) for _ in range(3))
    assert bench.living() == {str(first.secret.key_id)}


@needs("no-mints")
def test_a_settled_key_is_listed_no_more_and_never_given_out_again(bench: Bench) -> None:
    issued = bench.issuer.mint(order("a/b/c"))
    for _ in range(2):
        bench.issuer.settle("a/b/c")
    assert list(bench.issuer.list_labelled("a/b/c")) == []
    others = {bench.issuer.mint(order(f"a/b/{number}")).secret.key_id for number in range(20)}
    assert issued.secret.key_id not in others


@needs("no-mints")
def test_what_is_listed_has_its_secret(bench: Bench) -> None:
    issued = bench.issuer.mint(order("a/b/c"))
    (listed,) = bench.issuer.list_labelled("a/b/")
    assert listed.secret is not None
    assert listed.secret.same_as(issued.secret)


@needs("no-mints")
def test_a_key_that_somebody_holds_is_not_given_out(bench: Bench) -> None:
    asked: list[KeyId] = []

    def find_holder(key_id: KeyId) -> str:
        asked.append(key_id)
        return "other"

    wish = MintOrder("a/b/c", Kind.SK, "live", credential=CREDENTIAL, find_holder=find_holder)
    for verb in (bench.issuer.check, bench.issuer.mint):
        with pytest.raises(KeyWanted):
            verb(wish)
    assert len(set(asked)) == 2
    assert bench.living() == set()


@needs("no-mints")
@pytest.mark.parametrize(("kind", "env"), [(Kind.RK, "test"), (Kind.PK, "live")])
def test_without_a_key_that_fits_a_person_is_asked_for_one(bench: Bench, kind: Kind, env: str) -> None:
    wish = MintOrder("a/b/c", kind, env, "web", CREDENTIAL)
    for verb in (bench.issuer.check, bench.issuer.mint):
        with pytest.raises(KeyWanted, match=rf"(?s)kind {kind}.*env {env}.*web"):
            verb(wish)


def test_settling_what_is_unknown_is_success(bench: Bench) -> None:
    issued = bench.issuer.mint(order("a/b/c"))
    bench.issuer.settle("a/b/unknown")
    assert key_ids(list(bench.issuer.list_labelled("a/b/"))) == {str(issued.secret.key_id)}


def test_only_labels_that_start_so_are_listed(bench: Bench) -> None:
    for label in ("prod/a/1", "prod/b/1", "production/a/1", "x/prod/a"):
        bench.issuer.mint(order(label))
    assert {key.label for key in bench.issuer.list_labelled("prod/")} == {"prod/a/1", "prod/b/1"}
    assert list(bench.issuer.list_labelled("nothing/")) == []


@needs("revokes")
def test_a_revoked_key_is_dead_and_still_listed_as_revoked(bench: Bench) -> None:
    issued = bench.issuer.mint(order("a/b/c"))
    bench.issuer.revoke(issued.secret.key_id, issued.reference)
    assert not bench.works(issued.secret)
    assert [(key.key_id, key.revoked) for key in bench.issuer.list_labelled("a/b/c")] == [(issued.secret.key_id, True)]


@needs("revokes")
def test_revoking_twice_is_success(bench: Bench) -> None:
    issued = bench.issuer.mint(order("a/b/c"))
    for _ in range(3):
        bench.issuer.revoke(issued.secret.key_id, issued.reference)


@needs("revokes")
def test_revoking_a_key_that_never_was_is_success(bench: Bench) -> None:
    other = bench.issuer.mint(order("a/b/c"))
    bench.issuer.revoke(parse_key_id(UNKNOWN_KEY), None)
    assert bench.works(other.secret)


def test_a_mint_whose_answer_is_lost_is_found_by_its_label(bench: Bench) -> None:
    bench.lose("mint", applied=True)
    with pytest.raises(AnswerLost):
        bench.issuer.mint(order("a/b/lost"))
    assert len(bench.living()) == 1, "a mint is never repeated by itself"
    listed = bench.issuer.list_labelled("a/b/lost")
    assert key_ids(list(listed)) == bench.living()


@needs("revokes")
def test_a_mint_whose_answer_is_lost_can_be_undone(bench: Bench) -> None:
    bench.lose("mint", applied=True)
    with pytest.raises(AnswerLost):
        bench.issuer.mint(order("a/b/lost"))
    (listed,) = bench.issuer.list_labelled("a/b/lost")
    bench.issuer.revoke(listed.key_id, listed.reference)
    assert bench.living() == set()


def test_a_mint_that_did_not_happen_may_have_happened(bench: Bench) -> None:
    bench.lose("mint", applied=False)
    with pytest.raises(AnswerLost):
        bench.issuer.mint(order("a/b/lost"))
    assert bench.living() == set()
    assert list(bench.issuer.list_labelled("a/b/lost")) == []


@needs("revokes")
@pytest.mark.parametrize("applied", [True, False])
def test_a_revoke_whose_answer_is_lost_can_be_repeated(bench: Bench, applied: bool) -> None:
    issued = bench.issuer.mint(order("a/b/c"))
    bench.lose("revoke", applied=applied)
    with pytest.raises(AnswerLost):
        bench.issuer.revoke(issued.secret.key_id, issued.reference)
    assert bench.works(issued.secret) is not applied
    bench.issuer.revoke(issued.secret.key_id, issued.reference)
    assert not bench.works(issued.secret)


@needs("retries")
def test_a_list_whose_answer_is_lost_is_asked_again(bench: Bench) -> None:
    issued = bench.issuer.mint(order("a/b/c"))
    bench.lose("list", applied=True)
    assert key_ids(list(bench.issuer.list_labelled("a/"))) == {str(issued.secret.key_id)}


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        ("mint", lambda issuer: issuer.mint(order("a/b/c"))),
        ("list", lambda issuer: issuer.list_labelled("a/")),
    ],
)
def test_a_time_to_come_back_is_handed_on(bench: Bench, operation: str, call: Callable[[Issuer], object]) -> None:
    _ensure_handed_on(bench, operation, call)


@needs("revokes")
def test_a_time_to_come_back_with_a_revoke_is_handed_on(bench: Bench) -> None:
    _ensure_handed_on(bench, "revoke", lambda issuer: issuer.revoke(parse_key_id(UNKNOWN_KEY), None))


def _ensure_handed_on(bench: Bench, operation: str, call: Callable[[Issuer], object]) -> None:
    bench.slow_down(operation, 17)
    with pytest.raises(RateLimited) as caught:
        call(bench.issuer)
    assert caught.value.after == timedelta(seconds=17)
    assert bench.living() == set()


def test_a_check_mints_nothing(bench: Bench) -> None:
    bench.issuer.check(order("a/b/check"))
    assert bench.living() == set()


def test_mints_at_once_get_keys_of_their_own(bench: Bench) -> None:
    with ThreadPoolExecutor(8) as pool:
        issued = list(pool.map(lambda number: bench.issuer.mint(order(f"a/b/{number}")), range(24)))
    ids = {str(one.secret.key_id) for one in issued}
    assert len(ids) == 24
    assert {str(key.key_id): key.label for key in bench.issuer.list_labelled("a/b/")} == {
        str(one.secret.key_id): f"a/b/{number}" for number, one in enumerate(issued)
    }


def test_what_is_issued_does_not_show_its_secret(bench: Bench) -> None:
    issued = bench.issuer.mint(order("a/b/c"))
    secret_part = issued.secret.reveal().split("_", 3)[3]
    shown = repr(issued) + str(issued) + repr(bench.issuer) + repr(bench.issuer.list_labelled("a/"))
    assert secret_part not in shown


def test_what_cannot_be_done_is_refused(issuer: Issuer) -> None:
    verbs: list[tuple[bool, Callable[[], object]]] = [
        (issuer.abilities.list, lambda: issuer.list_labelled("a/")),
        (issuer.abilities.revoke, lambda: issuer.revoke(parse_key_id(UNKNOWN_KEY), None)),
    ]
    for able, verb in verbs:
        if able:
            verb()
        else:
            with pytest.raises(Refused):
                verb()


def test_lost_answers_are_told_from_unreachable_ones() -> None:
    assert issubclass(AnswerLost, Unreachable)
