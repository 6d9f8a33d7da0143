"""The journal's steps and the engine's reasons in sentences. One table each; what is not in them is shown as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rotator.cli.humane import clean, parse_instant, render_clock, render_span

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


def render_event(event: Row) -> str:
    """A journal line as a sentence without its time."""
    action, ok = str(event.get("action") or ""), bool(event.get("ok", True))
    key = event.get("key_id") or "a key"
    reason = event.get("reason")
    text = str(event.get("text") or "")
    pattern = _DONE.get(action) or f"{action}{' {key}' if event.get('key_id') else ''}"
    if action == "mint" and not event.get("key_id"):
        pattern = "minted a key"
    if event.get("phase") == "intent":
        pattern = f"begins: {action}{' {key}' if event.get('key_id') else ''}"
    elif not ok and action != "probe":
        pattern = f"{action} failed"
    said = pattern.format(key=key, reason=reason or "done")
    shown = f" ({reason})" if reason and not ok and action != "probe" else ""
    return clean(f"{said}{shown}{f': {text}' if text else ''}")


def is_worth_showing(event: Row, *, verbose: bool) -> bool:
    """Whether a line is a step that a person follows: intents and probes are not."""
    return verbose or not (event.get("phase") == "intent" or event.get("action") in ("probe", "preflight", "sweep"))


def render_wait(wait: Row, now: datetime) -> str:
    """What is waited for and until when."""
    reason = str(wait.get("reason") or "")
    said = _WAITS.get(reason, reason)
    names = _names(wait.get("names"))
    until = parse_instant(wait.get("until"))
    parts = [f"{said}{f' ({names})' if names else ''}"]
    if until is not None and until > now:
        parts.append(f"until {render_clock(wait.get('until'))}, in {render_span(until - now)}")
    return clean(", ".join(parts))


def _names(names: object) -> str:
    return ", ".join(str(n) for n in names) if isinstance(names, Sequence) and not isinstance(names, str) else ""
