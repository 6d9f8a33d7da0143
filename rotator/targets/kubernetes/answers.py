"""What the API server answered, in our words and our error tree. Of its own text only names of a checked shape get through."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from rotator.domain.errors import AnswerLost, Conflict, RateLimited, Refused, RotatorError, Unreachable
from rotator.domain.reasons import Reason

__all__ = ["Answered", "Expired", "Forbidden", "explain"]

_MANAGER = re.compile(r'conflicts? with "([\w.:/ -]{1,128})"')
_FIELD = re.compile(r"[\w.\[\]/-]{1,128}")
_MOST_NAMED = 3


class Expired(Unreachable):
    """The version from which something was to go on is too old: list again (410)."""


class Forbidden(Refused):
    """RBAC does not let us."""


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer's status and, where it is an error of the API server's own, what that says."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    after: timedelta | None = None
    """the pause that it asks for"""

    @property
    def reason(self) -> str:
        """The API server's word for it, such as `AlreadyExists`."""
        return str(self.body.get("reason") or "")

    @property
    def causes(self) -> tuple[Mapping[str, Any], ...]:
        """The single complaints."""
        details = self.body.get("details")
        causes = details.get("causes") if isinstance(details, dict) else None
        return tuple(c for c in causes if isinstance(c, dict)) if isinstance(causes, list) else ()

    @property
    def complains_of_immutable(self) -> bool:
        """Whether the object is closed for changes."""
        return any("immutable" in str(cause.get("message", "")) for cause in self.causes)


def explain(answered: Answered, name: str, what: str, *, writes: bool) -> RotatorError:
    """The error for an answer. `what` was asked, as in "applying Secret a/b"; `writes`: it may have had an effect."""
    status, where = answered.status, f"{name}: {what}"
    if status == 401:
        return Unreachable(f"{where}: the API server does not know us (401): see that the token is still good")
    if status == 403 and any(cause.get("reason") == "NamespaceTerminating" for cause in answered.causes):
        return Unreachable(f"{where}: the namespace is being deleted: take it out of the target")
    if status == 403:
        return Forbidden(f"{where}: not allowed (403): `rotator check --live` prints the Role that is missing")
    if status == 404:
        return Refused(f"{where}: there is no such namespace or object (404): create it, or correct the name")
    if status == 409:
        managers = sorted({m for cause in answered.causes for m in _MANAGER.findall(str(cause.get("message", "")))})
        if any(cause.get("reason") == "FieldManagerConflict" for cause in answered.causes):
            return Refused(f"{where}: {', '.join(managers) or 'another manager'} owns a field of it", reason=Reason.FOREIGN_ENTRY)
        return Conflict(f"{where}: somebody else wrote since it was read (409)")
    if status == 410:
        return Expired(f"{where}: the version to go on from is too old (410)")
    if status == 413:
        return Refused(f"{where}: it is too large for the API server (413): make its entries shorter")
    if status == 429:
        return RateLimited(f"{where}: the API server asks to come back later (429)", after=answered.after)
    if status >= 500:
        kind = AnswerLost if writes and answered.after is None else Unreachable
        return kind(f"{where}: the API server failed ({status}): it is tried again", after=answered.after)
    if answered.complains_of_immutable:
        return Refused(f"{where}: it is `immutable`, so no key can ever be replaced in it: delete it, or use another name")
    return Refused(f"{where}: the API server refuses it ({status}{_name_fields(answered)})")


def _name_fields(answered: Answered) -> str:
    fields = [str(cause.get("field", "")) for cause in answered.causes]
    named = [f for f in fields if _FIELD.fullmatch(f)][:_MOST_NAMED]
    return f": {', '.join(named)}" if named else ""
