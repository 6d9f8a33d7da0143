"""The base of the sections' models, and field types that only settings use."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from rotator.remote.fields import Duration

__all__ = ["Flag", "Name", "OneOf", "Port", "PositiveDuration", "Section", "Whole", "suggest"]

_NAME = r"[a-z0-9][a-z0-9-]{0,62}"


class Section(BaseModel):
    """A part of the configuration. Closed: an unknown key is an error; frozen: a reload makes a new one."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True)


def suggest(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or what there is, or nothing where there is nothing."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(names)}" if names else ""


@dataclass(frozen=True, slots=True)
class OneOf:
    """Annotates a plug-in point: its `type` is looked at first, so that a wrong one is one mistake and not one for each field."""

    types: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._check, handler(source))

    def _check(self, value: object) -> object:
        if not isinstance(value, dict):
            return value
        kind = value.get("type")
        if kind is None:
            raise PydanticCustomError("no_type", "{text}", {"text": f"needs a `type`: {' or '.join(self.types)}"})
        if kind not in self.types:
            raise PydanticCustomError("bad_type", "{text}", {"text": f"type must be {' or '.join(self.types)}{self._hint(kind)}"})
        return value

    def _hint(self, kind: object) -> str:
        if len(self.types) == 1:
            return ""  # the rule has named it
        close = difflib.get_close_matches(str(kind), self.types, n=1)
        return f"; did you mean {close[0]}?" if close else ""


def _ensure_name(value: str) -> str:
    if not re.fullmatch(_NAME, value):
        raise ValueError("a name is made of a-z, 0-9 and '-', begins with a letter or a digit, and has 63 characters at most")
    return value


def _refuse_flag(value: object) -> object:
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


def _refuse_number(value: object) -> object:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise PydanticCustomError("bool_type", "must be true or false")
    return value


def _ensure_positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be longer than nothing, for instance 10m")
    return value


Name = Annotated[str, AfterValidator(_ensure_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})]
"""What a person calls a credential, a store, an issuer, a target, an installation or a token."""

Whole = Annotated[int, BeforeValidator(_refuse_flag)]
"""A whole number; `true` is none."""

Flag = Annotated[bool, BeforeValidator(_refuse_number)]
"""true or false; 0 and 1 are neither."""

Port = Annotated[Whole, Field(ge=0, le=65535)]
"""A TCP port; 0: any free one."""

PositiveDuration = Annotated[Duration, AfterValidator(_ensure_positive)]
"""A duration that is longer than nothing."""
