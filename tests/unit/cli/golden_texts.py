"""The screens whose text is kept in `golden/`. `python -m tests.unit.cli.golden_texts` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rotator.cli.present.blocks import Block, render
from rotator.cli.present.checks import build_checks
from rotator.cli.present.history import build_audit, build_history
from rotator.cli.present.plan import build_plans
from rotator.cli.present.status import build_status
from rotator.cli.present.timeline import Story, build_timeline
from tests.unit.cli.build import NEW, NOW, OLD, a_plan, a_retirement, a_rotation, a_status, a_target, an_event, at

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (80, 140)

_MIXED = [
    a_status(),
    a_status(
        "billing-read-of-the-reporting-team",
        phase="parked",
        targets=[
            a_target("laptop-of-the-whole-platform-team"),
            a_target(
                "cursor",
                state="failed",
                key_id=OLD,
                text="~/.cursor/mcp.json is tracked by git: remove it from the repository, or use another file",
            ),
        ],
        parked=[{"reason": "consumers-behind", "text": f"overlap.max has passed and cursor still lack(s) the new key: {OLD} lives on"}],
        waiting=[{"reason": "targets-behind", "until": at(seconds=2), "names": ["cursor"]}],
        retirements=[
            {
                "id": "ret1",
                "key_id": OLD,
                "phase": "waiting",
                "why": "replaced",
                "revoked_at": None,
                "last_alive": at(seconds=-9),
                "first_refused": None,
            }
        ],
    ),
    a_status(
        "agency", kind="ak", key_id="ak_live_cccccccc", compromised=True, phase="promoted", expires_at=at(hours=-3), targets=[], orphans=2
    ),
    a_status("new", key_id=None, minted_at=None, age_seconds=None, expires_at=None, next_rotation_at=at(), phase="opened", recovered=True),
]
_EVENTS = [
    an_event(1, "leak", phase="note", reason="compromised", key_id=OLD, process=None, text="by on-call"),
    an_event(2, "mint", phase="intent"),
    an_event(3, "mint", ok=False, reason="answer-lost", text="the issuer's answer was lost"),
    an_event(4, "stage", phase="note", key_id=NEW),
    an_event(5, "probe", phase="note", key_id=NEW, text="alive"),
    an_event(6, "promote", key_id=NEW),
    an_event(7, "deliver", phase="note", key_id=NEW, text="laptop"),
]
_DEAD = Story(
    "checkout-read",
    OLD,
    NOW,
    tuple(_EVENTS),
    a_status(
        targets=[a_target(since=at(seconds=7)), a_target("attic", state="behind", key_id=OLD, required=False, text="does not answer")]
    ),
    a_retirement(
        revoked_at=at(seconds=8),
        last_alive=at(minutes=4, seconds=40),
        first_refused=at(minutes=5, seconds=10.5),
        confirmed_at=at(minutes=10, seconds=2),
        closed_at=at(minutes=10, seconds=2),
        outcome="dead",
    ),
)
_HELD = Story("checkout-read", OLD, NOW, tuple(_EVENTS[:3]), a_status(key_id=OLD, targets=[]), a_retirement())

CASES: dict[str, Sequence[Block]] = {
    "status": build_status(_MIXED, NOW, verbose=False),
    "status-verbose": build_status(_MIXED[1:2], NOW, verbose=True),
    "status-well": build_status(_MIXED[:1], NOW, verbose=False),
    "status-empty": build_status([], NOW, verbose=False),
    "plan": build_plans(
        [
            a_plan(),
            a_plan(
                credential="billing",
                now=[{"process": "rotation", "does": "mint", "key_id": None, "text": "a key of kind rk"}],
                waiting=[{"reason": "overlap", "until": at(hours=1), "names": ["laptop", "cursor"]}],
                parked=[{"reason": "revoke-by-hand", "text": f"the issuer cannot revoke: revoke key {OLD} in the dashboard"}],
                next_rotation_at=None,
                affects=[],
            ),
        ],
        NOW,
    ),
    "history": build_history(
        [
            a_rotation(id="rot2", reason="emergency", emergency=True, failures=1),
            a_rotation(closed_at=at(seconds=12.3), outcome="distributed", key_id=NEW),
        ],
        [a_retirement(revoked_at=at(seconds=8))],
        _EVENTS,
        verbose=False,
    ),
    "history-verbose": build_history([], [], _EVENTS, verbose=True),
    "history-empty": build_history([], [], [], verbose=False),
    "audit": build_audit({"lines": 1204, "head": f"{77:064x}", "problems": []}),
    "audit-broken": build_audit({"lines": 1, "head": "ab", "problems": ["line 17 was altered: its hash does not match its content"]}),
    "timeline-dead": build_timeline(_DEAD),
    "timeline-held": build_timeline(_HELD),
    "checks": build_checks(
        [("configuration", True, "rotator.yaml: 2 credentials"), ("issuer admin", False, "the issuer does not answer")], ok=False
    ),
}


def main() -> None:
    """Writes all golden texts."""
    GOLDEN.mkdir(exist_ok=True)
    for name, blocks in CASES.items():
        for width in WIDTHS:
            (GOLDEN / f"{name}-{width}.txt").write_text(render(blocks, width), encoding="utf-8")


if __name__ == "__main__":
    main()
