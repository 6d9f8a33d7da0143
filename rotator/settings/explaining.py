"""What pydantic found wrong, in the words of whoever wrote the file, and where in it. Values are never repeated from here."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from rotator.settings.base import suggest
from rotator.settings.document import Document, find_origin
from rotator.settings.problems import Path, Problem, render_path

__all__ = ["explain", "find_models"]

_SECTION_WORDS = "must be a mapping: `name: value` lines below it, indented"
_LIST_WORDS = "must be a list, such as [one, two]"
_WORDS = {
    "missing": "is required",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text; put it in quotes if it looks like a number",
    "string_too_short": "must not be empty",
    "path_type": "must be the path of a file",
    "dict_type": _SECTION_WORDS,
    "model_type": _SECTION_WORDS,
    "model_attributes_type": _SECTION_WORDS,
    "mapping_type": _SECTION_WORDS,
    "list_type": _LIST_WORDS,
    "tuple_type": _LIST_WORDS,
    "frozen_set_type": _LIST_WORDS,
    "too_short": "must not be empty",
}
_OF_SECTIONS = frozenset({"value_error", "bad_type", "union_tag_invalid"})
_LIMITS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def explain(document: Document, failure: ValidationError, root: type[BaseModel]) -> Iterator[tuple[Path, Problem]]:
    """Each mistake with its path. A mistake of a whole section points at the first field that its text names and the file has."""
    for error in failure.errors(include_url=False, include_input=False):
        written, path = _locate(document.data, error)
        rule = _rule(error, path, root, document.data)
        if error["type"] in _OF_SECTIONS:
            named = next((word for word in re.findall(r"\w+", rule) if (*written, word) in document.origins), None)
            written = path = written if named is None else (*written, named)
        yield path, Problem(find_origin(document.origins, written), render_path(path), rule)


def _locate(data: Any, error: ErrorDetails) -> tuple[Path, Path]:
    """Where pydantic's location lies in the file, and the path to show: with the name of a missing field at its end."""
    written: list[str | int] = []
    *_, last = error["loc"] or ("",)
    tagged: Any = None
    for part in error["loc"]:
        if isinstance(data, dict) and data.get("type") == part and data is not tagged:
            tagged = data  # pydantic names the chosen kind in between; a setting may be called the same
            continue
        inside = part in data if isinstance(data, dict) else isinstance(data, list) and isinstance(part, int) and part < len(data)
        if inside:
            data = data[part]
            written.append(part)
    missing = error["type"] == "missing"
    return tuple(written), (*written, last) if missing else tuple(written)


def _rule(error: ErrorDetails, path: Path, root: type[BaseModel], data: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return _explain_unknown(str(path[-1]), find_models(root, path[:-1]), _get_section(data, path[:-1]).get("type"))
    if kind in {"literal_error", "enum"}:
        return f"must be {str(context['expected']).replace(chr(39), '')}"
    if kind == "union_tag_invalid":
        return f"type must be one of {str(context['expected_tags']).replace(chr(39), '')}"
    if kind == "union_tag_not_found":
        return "needs a `type`"
    if kind in _LIMITS:
        name, words = _LIMITS[kind]
        return f"must be {words} {context[name]}"
    if kind == "string_pattern_mismatch":
        return f"is not of the form {context['pattern']}"
    return _WORDS.get(kind, error["msg"])


def _explain_unknown(name: str, models: Sequence[type[BaseModel]], kind: Any) -> str:
    """`kind`: what `type` says beside it. A setting of another type is not a slip of the pen."""
    others = [other for model in models if name in _field_names(model) for other in _find_types(model)]
    if others and kind is not None:
        return f"is a setting of type {' and '.join(others)}, not of type {kind}"
    fitting = [model for model in models if kind in _find_types(model)] or models
    return f"is not a setting{suggest(name, {known for model in fitting for known in _field_names(model)})}"


def _find_types(model: type[BaseModel]) -> tuple[str, ...]:
    return get_args(model.model_fields["type"].annotation) if "type" in model.model_fields else ()


def _get_section(data: Any, path: Path) -> dict[Any, Any]:
    for part in path:
        data = data[part]
    return dict(data)


def _field_names(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def find_models(root: Any, path: Path) -> list[type[BaseModel]]:
    """The models that may stand at a path below a type; several where a `type` decides."""
    reached = list(_flatten(root))
    for part in path:
        reached = [inner for one in reached for inner in _step(one, part)]
    return [one for one in reached if isinstance(one, type) and issubclass(one, BaseModel)]


def _step(annotation: Any, part: str | int) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if part == (field.alias or name):
                yield from _flatten(field.annotation)
    elif get_origin(annotation) in {dict, Mapping}:
        yield from _flatten(get_args(annotation)[1])
    elif get_origin(annotation) in {tuple, list, frozenset}:
        yield from _flatten(get_args(annotation)[0])


def _flatten(annotation: Any) -> Iterator[Any]:
    """The types behind annotations and unions."""
    if get_origin(annotation) is Annotated:
        yield from _flatten(get_args(annotation)[0])
    elif get_origin(annotation) in {Union, types.UnionType}:
        for inner in get_args(annotation):
            yield from _flatten(inner)
    else:
        yield annotation
