"""The journal's steps and the engine's reasons in sentences. One table each; what is not in them is shown as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from rotator.cli.humane import clean, parse_instant, render_clock, render_span, render_stamp

Row = Mapping[str, Any]

_DONE = {
    "open": "opened ({reason})",
    "close": "closed: {reason}",
    "preflight": "preflight",
    "sweep": "looked for orphans",
    "orphan": "found orphan {key}",
    "doom-orphan": "condemned orphan {key}",
    "revoke-orphan": "revoked orphan {key}",
    "open-attempt": "opened an attempt to mint",
    "close-attempt": "closed the attempt",
    "mint": "minted {key}",
    "stage": "staged {key}",
    "probe": "probed {key}",
    "promote": "promoted {key}",
    "retire": "gave up {key}",
    "adopt": "adopted {key}",
    "distribute": "distributed {key}",
    "deliver": "delivered {key}",
    "retirement": "retiring {key}",
    "doom": "condemned {key}",
    "revoke": "revoked {key}",
    "forget": "proved {key} dead",
    "close-retirement": "ended the retirement of {key}",
    "recognise": "recognised the store's record",
    "leak": "leak of {key} reported",
    "rotate": "made the open rotation go on",
    "retry": "asked to look again",
    "sync": "asked to bring targets up to date",
    "abandon": "asked to give the rotation up",
}

_ENDS = {
    ("open", "replaced"): "retiring {key} ({reason})",
    ("open", "attempt-abandoned"): "retiring {key} ({reason})",
    ("open", "compromised"): "retiring {key} ({reason})",
    ("close", "dead"): "{key} is proven dead",
    ("close", "confirmed-elsewhere"): "{key} was proven dead by another replica",
    ("close", "rolled-back"): "{key} is current again",
}
"""(action, reason) of a key's end; the same actions without these belong to rotations."""

_DETAILS = frozenset({"probe", "preflight", "sweep", "open-attempt", "distribute", "forget"})
"""Steps whose success says nothing that another line does not say better."""

_WAITS = {
    "not-due": "nothing is due",
    "backing-off": "an attempt failed; the next one comes later",
    "attempt-held": "another replica holds the lease on minting",
    "verifying": "the new key must be accepted everywhere",
    "overlap": "the old key lives on, for consumers that give no receipt",
    "settling": "consumers get time to read the new key",
    "targets-behind": "a required target does not hold the current key yet",
    "current-unproven": "the current key must be seen alive first",
    "replacing": "the leaked key lives until its replacement is promoted",
    "confirming": "refusals of the old key are counted over the time that the service caches keys",
    "no-witness": "no key answers at the endpoint, so a refusal proves nothing",
    "held-elsewhere": "another credential holds the same key",
    "store-unreachable": "the store does not answer",
    "issuer-unreachable": "the issuer does not answer",
    "unreachable": "something does not answer; it is tried again",
    "answer-lost": "an answer was lost; what came of it is found out",
    "rate-limited": "the service asked to come back later",
    "conflict": "someone else wrote first; it is tried again",
    "refused": "a step was refused; it is tried again later",
}

_LOOKED_AT_AGAIN = frozenset(
    {"targets-behind", "confirming", "no-witness", "held-elsewhere", "current-unproven", "verifying", "store-unreachable", "attempt-held"}
)
"""Waits whose time is that of the next look, not that of their end."""
_TRIED_AGAIN = frozenset(
    {"backing-off", "issuer-unreachable", "unreachable", "answer-lost", "rate-limited", "conflict", "refused", "failed"}
)
"""Waits whose time is that of the next try."""


def render_event(event: Row) -> str:
    """A journal line as a sentence without its time."""
    action, ok = str(event.get("action") or ""), bool(event.get("ok", True))
    key = event.get("key_id") or "a key"
    reason = event.get("reason")
    text = str(event.get("text") or "")
    pattern = _ENDS.get((action, str(reason))) or _DONE.get(action) or f"{action}{' {key}' if event.get('key_id') else ''}"
    if event.get("phase") == "intent":
        pattern = f"begins: {action}{' {key}' if event.get('key_id') else ''}"
    elif not ok and action != "probe":
        pattern = f"{action} failed"
    said = pattern.format(key=key, reason=reason or "done")
    shown = f" ({reason})" if reason and not ok and action != "probe" else ""
    return clean(f"{said}{shown}{f': {text}' if text else ''}")


def is_worth_showing(event: Row, *, verbose: bool) -> bool:
    """Whether a line is a step that a person follows: intents, probes and details that went well are not."""
    if verbose:
        return True
    if event.get("phase") == "intent" or event.get("action") == "probe":
        return False
    return event.get("action") not in _DETAILS or not event.get("ok", True)


def render_wait(wait: Row, now: datetime) -> str:
    """What is waited for and until when."""
    said, until = split_wait(wait, now)
    return f"{said}, {until}" if until else said


def split_wait(wait: Row, now: datetime) -> tuple[str, str]:
    """What is waited for, and until when: the second part changes with every look, the first does not."""
    reason = str(wait.get("reason") or "")
    names = _names(wait.get("names"))
    said = clean(f"{_WAITS.get(reason, reason)}{f' ({names})' if names else ''}")
    until = parse_instant(wait.get("until"))
    if until is None or until <= now:
        return said, ""
    span = until - now
    at = render_clock(wait["until"]) if span < timedelta(hours=12) else f"{render_stamp(wait['until'])} UTC"
    word = "looked at again at" if reason in _LOOKED_AT_AGAIN else "tried again at" if reason in _TRIED_AGAIN else "until"
    return said, f"{word} {at}, in {render_span(timedelta(seconds=int(span.total_seconds())))}"


def _names(names: object) -> str:
    return ", ".join(str(n) for n in names) if isinstance(names, Sequence) and not isinstance(names, str) else ""
