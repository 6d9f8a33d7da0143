"""A duration as a command's option: `90s`, `30m`, `12h`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Span:
    """A duration as it was given; `value` None is `never`."""

    text: str
    value: timedelta | None


class DurationType(click.ParamType[Span]):
    """`30m`, or `never`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Span:
        """Fails with the rule that the text breaks."""
        if isinstance(value, Span):
            return value
        if value == "never":
            return Span(value, None)
        from rotator.domain.timing import MalformedTiming, parse_duration

        try:
            return Span(value, parse_duration(value))
        except MalformedTiming as problem:
            self.fail(str(problem), param, ctx)


DURATION = DurationType()
