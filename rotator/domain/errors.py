"""The error tree, branched by what the engine does next.

    RotatorError                    exit 1
    ├── Retry                       the world may be different later: back off and look again
    │   ├── Unreachable             the remote did not answer, or not in its own words
    │   │   └── AnswerLost          the request was sent, its answer never came: it may have been applied
    │   ├── RateLimited             the remote named a time to come back
    │   └── Conflict                compare-and-set lost: someone else wrote first; gather again
    ├── Permanent                   asking again will not help; the rotation's attempt is over
    │   ├── Refused                 the remote understood and said no
    │   └── IllegalTransition       the record forbids this change, whoever asks
    ├── NeedsHuman                  parked until a person or the facts change (exit 4)
    │   └── KeyWanted               the issuer gives out what people bring, and has no key that fits
    └── Misconfigured               the user's configuration, or a file it names, is wrong (exit 3)
        └── MalformedKey            a string is not of the shape {kind}_{env}_{prefix}_{secret}

Every message says what failed, for which key id or path, and what to do. None ever carries key material or a foreign body.
Foreign exceptions are mapped to this tree at the seam where they arise, and chained.
"""

from __future__ import annotations

from datetime import timedelta

from rotator.domain.reasons import Reason


class RotatorError(Exception):
    """Something went wrong that is not the fault of the code."""

    exit_code = 1
    reason: Reason = Reason.FAILED

    def __init__(self, message: str, *, reason: Reason | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class Retry(RotatorError):
    """The world may be different later."""

    def __init__(self, message: str, *, reason: Reason | None = None, after: timedelta | None = None) -> None:
        super().__init__(message, reason=reason)
        self.after = after


class Unreachable(Retry):
    """The remote did not answer, or answered in words that are not its own."""

    reason = Reason.UNREACHABLE


class AnswerLost(Unreachable):
    """The request was sent and its answer never came; the effect may have happened, or may still happen."""

    reason = Reason.ANSWER_LOST


class RateLimited(Retry):
    """The remote asked to come back later; `after` says when, where it said so."""

    reason = Reason.RATE_LIMITED


class Conflict(Retry):
    """A compare-and-set lost its race. Nothing was written; gather again."""

    reason = Reason.CONFLICT


class Permanent(RotatorError):
    """Asking again will not help."""


class Refused(Permanent):
    """The remote understood the request and said no."""

    reason = Reason.REFUSED


class IllegalTransition(Permanent):
    """The record's own rules forbid this change, whoever asks for it."""

    reason = Reason.ILLEGAL_TRANSITION


class NeedsHuman(RotatorError):
    """Only a person can take this on."""

    exit_code = 4


class KeyWanted(NeedsHuman):
    """The issuer makes no keys itself, and a person has yet to bring one that fits. Nothing failed: no attempt is counted for it."""

    reason = Reason.KEY_WANTED


class Misconfigured(RotatorError):
    """The configuration, or something it names, is wrong."""

    exit_code = 3
    reason = Reason.MISCONFIGURED


class MalformedKey(Misconfigured):
    """A string is not a Millimetric key. The message never repeats the string."""

    reason = Reason.MALFORMED_KEY
