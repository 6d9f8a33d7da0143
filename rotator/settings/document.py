"""A YAML file as plain data, with the place of every value.

YAML 1.1 reads `no` as false, `010` as 8 and `12:30:45` as 45045, and takes the last of two equal keys without a word. Here only true,
false, null and plain numbers are anything but text, and equal keys are a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rotator.settings.problems import KEY_SHAPED, ConfigurationProblems, Origin, Problem, render_path
from rotator.settings.problems import Path as Place

__all__ = ["Document", "find_origin", "read_document"]

_LARGEST = 4 * 1024 * 1024
_DEEPEST = 50
_NODES_AT_LEAST = 10_000
"""Aliases can make a small file as large as one likes. This many values are taken from any, and from a larger one as many as it has
characters."""
_PREFIX = "tag:yaml.org,2002:"
_WORDS = {"true": True, "false": False}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, with fewer words that are not text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  # PyYAML's own name and shape


_Loader.add_implicit_resolver(f"{_PREFIX}null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(f"{_PREFIX}bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"))
_Loader.add_implicit_resolver(f"{_PREFIX}int", re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})\Z"), list("-+0123456789"))
_Loader.add_implicit_resolver(f"{_PREFIX}float", re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})\.[0-9]{1,18}\Z"), list("-+0123456789"))


@dataclass(slots=True)
class Document:
    """What stands in a file, and where. `data` is the file's mapping."""

    data: dict[str, Any]
    origins: dict[Place, Origin] = field(default_factory=dict)
    """path → its key, or the item itself in a list"""
    problems: list[Problem] = field(default_factory=list)
    """mistakes that did not keep the rest from being read"""


def read_document(path: Path) -> Document:
    """The file's content. Raises `ConfigurationProblems` where there is nothing to go on with."""
    text = _read(path)
    leaks = list(_find_keys(path, text))
    try:
        _refuse_depth(path, text)
        root = yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as fault:
        raise ConfigurationProblems([*leaks, _explain(path, fault)]) from None
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == f"{_PREFIX}null"):
        raise ConfigurationProblems([Problem(Origin(str(path)), "", "is empty: `rotator config example` prints one to begin with")])
    if not isinstance(root, yaml.MappingNode):
        origin = _origin(path, root)
        raise ConfigurationProblems([*leaks, Problem(origin, "", "must be a mapping at its top level, with keys such as `credentials:`")])
    builder = _Builder(path, max(len(text), _NODES_AT_LEAST))
    data = builder.build(root, ())
    return Document(data, builder.origins, [*leaks, *builder.problems])


def _read(path: Path) -> str:
    def unusable(rule: str, line: int = 0, column: int = 0) -> ConfigurationProblems:
        return ConfigurationProblems([Problem(Origin(str(path), line, column), "", rule)])

    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST + 1)
    except IsADirectoryError:
        raise unusable("is a folder: name the file in it") from None
    except FileNotFoundError:
        raise unusable("does not exist") from None
    except (OSError, ValueError) as fault:
        raise unusable(f"cannot be read ({getattr(fault, 'strerror', None) or 'its name is unusable'})") from None
    if len(content) > _LARGEST:
        raise unusable("is larger than 4 MiB: this cannot be a configuration")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        before = content[: fault.start]
        line, column = before.count(b"\n") + 1, fault.start - before.rfind(b"\n")
        raise unusable("is not UTF-8 text: save it as UTF-8", line, column) from None


def _find_keys(path: Path, text: str) -> Iterator[Problem]:
    for found in KEY_SHAPED.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        rule = f"a full key stands here ({found[1]}): take it out, treat it as leaked, and keep keys in a store"
        yield Problem(Origin(str(path), line, column), "", rule, leak=True)


def _refuse_depth(path: Path, text: str) -> None:
    """libyaml composes by recursion, without a limit of its own: a file of brackets would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            mark = event.start_mark
            origin = Origin(str(path), mark.line + 1, mark.column + 1) if mark is not None else Origin(str(path))
            raise ConfigurationProblems([Problem(origin, "", "is nested too deeply: this cannot be a configuration")])


def _origin(path: Path, node: yaml.Node) -> Origin:
    return Origin(str(path), node.start_mark.line + 1, node.start_mark.column + 1)


def _explain(path: Path, fault: yaml.YAMLError) -> Problem:
    marks = [mark for mark in (getattr(fault, "problem_mark", None), getattr(fault, "context_mark", None)) if mark is not None]
    if "simple key" in str(getattr(fault, "context", "")):
        marks.reverse()  # the colon is missed on the next line, and missing on this one
    mark = next(iter(marks), None)
    origin = Origin(str(path), mark.line + 1, mark.column + 1) if mark is not None else Origin(str(path))
    words = [str(part) for part in (getattr(fault, "context", None), getattr(fault, "problem", None)) if part]
    if not words:
        words = [str(getattr(fault, "reason", "")) or "it cannot be parsed"]
    return Problem(origin, "", f"is not YAML: {', '.join(words)}")


class _Builder:
    """Turns nodes into plain data, and notes where each stood."""

    def __init__(self, path: Path, most: int) -> None:
        self._path = path
        self._most = most
        self._open: list[yaml.Node] = []
        self._built = 0
        self.origins: dict[Place, Origin] = {(): Origin(str(path), 1, 1)}
        self.problems: list[Problem] = []

    def build(self, node: yaml.Node, place: Place) -> Any:
        """The data of a node. Mistakes are noted, and their value left out."""
        self._built += 1
        if self._built > self._most or len(self._open) > _DEEPEST:
            raise ConfigurationProblems([Problem(_origin(self._path, node), "", "is too large with all its aliases")])
        if any(node is outer for outer in self._open):
            self._note(node, place, "refers to itself")
            return None
        self._open.append(node)
        try:
            if isinstance(node, yaml.MappingNode):
                return self._build_mapping(node, place)
            if isinstance(node, yaml.SequenceNode):
                return [self._build_item(item, (*place, number)) for number, item in enumerate(node.value)]
            return self._build_scalar(node, place)
        finally:
            self._open.pop()

    def _build_mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._note(key, place, "a key must be text")
                continue
            name = str(key.value)
            inner = (*place, name)
            if name in data:
                self._note(key, inner, f"stands here a second time; first on line {self.origins[inner].line}")
                continue
            if name == "<<":
                self._note(key, place, "merging with << is not taken: write it out, or use an alias for a whole value")
                continue
            self.origins[inner] = _origin(self._path, key)
            data[name] = self.build(value, inner)
        return data

    def _build_item(self, node: yaml.Node, place: Place) -> Any:
        self.origins[place] = _origin(self._path, node)
        return self.build(node, place)

    def _build_scalar(self, node: yaml.Node, place: Place) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_PREFIX):
            case "str":
                return text
            case "null":
                return None
            case "bool" if text.lower() in _WORDS:
                return _WORDS[text.lower()]
            case "int" | "float" as kind:
                try:
                    return int(text) if kind == "int" else float(text)
                except ValueError:
                    pass
        self._note(node, place, f"the tag {node.tag.removeprefix(_PREFIX)!r} is not taken here: write plain text, numbers, true or false")
        return None

    def _note(self, node: yaml.Node, place: Place, rule: str) -> None:
        self.problems.append(Problem(_origin(self._path, node), render_path(place), rule))


def find_origin(origins: Mapping[Place, Origin], path: Place) -> Origin:
    """Where a value stands, or the nearest thing around it."""
    while path not in origins and path:
        path = path[:-1]
    return origins[path]
