"""From a file, a secrets directory and the environment to `Settings`, or to every mistake in them at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rotator.settings.document import Document, find_origin, read_document
from rotator.settings.explaining import explain
from rotator.settings.models import Settings
from rotator.settings.overlay import CONFIG, find_misspelt, lay_over
from rotator.settings.problems import ConfigurationProblems, Origin, Problem, render_path, tidy
from rotator.settings.problems import Path as Place
from rotator.settings.rules import Broken, Names, check_files, check_rules, find_warnings

__all__ = ["Loaded", "find_config", "load_settings"]

_NAMED = ("stores", "issuers", "targets", "credentials")
"""Sections of named entries: a mistake in one leaves the others to be checked."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings that are right, and where they came from."""

    settings: Settings
    path: Path | None
    """the file; None: the environment alone"""
    warnings: tuple[str, ...] = ()
    """what is allowed and probably not meant, each with its place"""


def find_config(option: Path | None, environ: Mapping[str, str] = os.environ, cwd: Path | None = None) -> Path | None:
    """The configuration's file: `--config`, ROTATOR_CONFIG, or the first of the usual places that is there. The first two may not exist."""
    if option is not None:
        return option.expanduser()
    if environ.get(CONFIG):
        return Path(environ[CONFIG]).expanduser()
    return next((place for place in _usual_places(environ, cwd) if place.exists() or place.is_symlink()), None)


def _usual_places(environ: Mapping[str, str], cwd: Path | None) -> tuple[Path, ...]:
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():  # as the XDG specification says
        home = environ.get("HOME")
        base = (Path(home) if home else Path.home()) / ".config"
    return ((cwd or Path()) / "rotator.yaml", base / "rotator" / "rotator.yaml", Path("/etc/rotator/rotator.yaml"))


def load_settings(path: Path | None, environ: Mapping[str, str] = os.environ, *, files: bool = True) -> Loaded:
    """The settings in that file, with the secrets directory and the environment over it.

    `path` None: as `find_config` finds it, or the environment alone. `files` False: the files and variables that the settings name are not
    looked at. Raises `ConfigurationProblems` with every mistake, by line.
    """
    path = find_config(None, environ) if path is None else path.expanduser()
    document = Document({}, {(): Origin("the environment")}) if path is None else read_document(path)
    if not lay_over(document, environ) and path is None and not document.problems:
        raise ConfigurationProblems([_missing(environ)])
    _drop_empty_sections(document.data)
    settings = _validate(document, environ, files=files)
    if document.problems or settings is None:
        raise ConfigurationProblems(document.problems)
    warnings = [str(problem) for problem in tidy(_locate_all(document, find_warnings(settings)))]
    return Loaded(settings, path, (*warnings, *find_misspelt(environ)))


def _missing(environ: Mapping[str, str]) -> Problem:
    places = ", ".join(map(str, _usual_places(environ, None)))
    rule = f"not found: name it with --config or {CONFIG}, or put it at one of {places}; `rotator config example` prints one to begin with"
    return Problem(Origin("the configuration"), "", rule)


def _drop_empty_sections(data: dict[str, Any]) -> None:
    """A section with nothing below it is as good as none."""
    for name in [name for name, value in data.items() if value is None and name in Settings.model_fields]:
        del data[name]


def _validate(document: Document, environ: Mapping[str, str], *, files: bool) -> Settings | None:
    """The settings, and their mistakes in the document. What is right by itself is checked further even where something else is wrong."""
    names = _gather_names(document.data)
    try:
        settings = Settings(**document.data)
        sound = settings
    except ValidationError as failure:
        found = list(explain(document, failure, Settings))
        noted = {problem.path for problem in document.problems}
        document.problems += [problem for _, problem in found if problem.path not in noted]
        settings = None
        sound = Settings(**_without(document.data, (path for path, _ in found)))
    broken = list(check_rules(sound, names))
    if files:
        broken += check_files(sound, environ)
    document.problems += _locate_all(document, broken)
    return settings


def _gather_names(data: Mapping[str, Any]) -> Names:
    defaults = Settings()
    sections = {name: data.get(name, getattr(defaults, name)) for name in _NAMED}
    return {name: frozenset(section if isinstance(section, dict) else ()) for name, section in sections.items()}


def _without(data: Mapping[str, Any], wrong: Iterable[Place]) -> dict[str, Any]:
    """The data without the entries, or sections, that hold mistakes."""
    rest = {name: dict(value) if name in _NAMED and isinstance(value, dict) else value for name, value in data.items()}
    for section, *entry in wrong:
        if entry and section in _NAMED:
            rest.get(str(section), {}).pop(entry[0], None)
        else:
            rest.pop(str(section), None)
    return rest


def _locate_all(document: Document, broken: Iterable[Broken]) -> list[Problem]:
    return [Problem(find_origin(document.origins, path), render_path(path), rule) for path, rule in broken]
