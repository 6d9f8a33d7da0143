"""Values from `ROTATOR_…` variables and from a secrets directory, laid over those of the file.

pydantic-settings says how a variable's name and text become a value; one variable is taken at a time, so that a mistake can name it.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic_settings import EnvSettingsSource, SettingsError

from rotator.settings.document import Document
from rotator.settings.models import Settings
from rotator.settings.problems import KEY_SHAPED, Origin, Problem
from rotator.settings.problems import Path as Place

__all__ = ["CONFIG", "SECRETS_DIR", "STATE_DIR", "find_misspelt", "lay_over"]

CONFIG = "ROTATOR_CONFIG"
SECRETS_DIR = "ROTATOR_SECRETS_DIR"
STATE_DIR = "ROTATOR_STATE_DIR"

_PREFIX = "rotator_"
_DELIMITER = "__"


def lay_over(document: Document, environ: Mapping[str, str]) -> bool:
    """Put the values of the secrets directory, then those of the environment, into the document. Whether there were any."""
    found = False
    document.problems += _find_strangers(environ)
    for name, text, origin in (*_gather_files(environ, document.problems.append), *_gather_variables(environ)):
        found = True
        if KEY_SHAPED.search(text) or KEY_SHAPED.search(name):
            rule = "holds a full key: take it out, treat it as leaked, and keep keys in a store"
            document.problems.append(Problem(origin, "", rule, leak=True))
            continue
        try:
            value = _One(name, text)()
        except (SettingsError, ValueError):
            document.problems.append(Problem(origin, "", 'must be written as JSON, for instance ["one", "two"] or {"name": "value"}'))
            continue
        _merge(document, document.data, value, (), origin)
    return found


class _One(EnvSettingsSource):
    """pydantic-settings' reading of a single variable."""

    def __init__(self, name: str, text: str) -> None:
        self._variables = {name: text}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._variables


def _gather_variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str, Origin]]:
    for name, text in sorted(environ.items()):
        if _is_setting(name):
            yield name.lower(), text, Origin(name)


def _gather_files(environ: Mapping[str, str], note: Callable[[Problem], None]) -> Iterator[tuple[str, str, Origin]]:
    folder = environ.get(SECRETS_DIR)
    if not folder:
        return
    try:
        files = sorted(Path(folder).iterdir())
    except OSError as fault:
        note(Problem(Origin(SECRETS_DIR), "", f"the folder {folder} cannot be read ({fault.strerror})"))
        return
    for file in files:
        if not _is_setting(file.name):
            continue
        try:
            yield file.name.lower(), file.read_text(encoding="utf-8").strip(), Origin(str(file))
        except OSError as fault:
            note(Problem(Origin(str(file)), "", f"cannot be read ({fault.strerror})"))
        except UnicodeDecodeError:
            note(Problem(Origin(str(file)), "", "is not UTF-8 text"))


def _find_strangers(environ: Mapping[str, str]) -> Iterator[Problem]:
    """Names with two underscores that begin with no section: they can't be meant for anything else."""
    files: list[Path] = []
    with contextlib.suppress(OSError):  # a folder that can't be read is told where its values are gathered
        files += Path(environ[SECRETS_DIR]).iterdir() if environ.get(SECRETS_DIR) else ()
    for name, origin in sorted([*((name, name) for name in environ), *((file.name, str(file)) for file in files)]):
        section, delimiter, rest = name[len(_PREFIX) :].partition(_DELIMITER)
        if not name.lower().startswith(_PREFIX) or not delimiter or _is_setting(name) or _is_kubernetes(name, environ.get(name, "")):
            continue
        close = difflib.get_close_matches(section.lower(), Settings.model_fields, n=1)
        meant = f"{close[0].upper() if section.isupper() else close[0]}{delimiter}{rest}" if close else ""
        hint = f"; did you mean {name[: len(_PREFIX)]}{meant}?" if meant else f"; known are {', '.join(sorted(Settings.model_fields))}"
        yield Problem(Origin(origin), "", f"there is no section called {section}{hint}")


def _is_kubernetes(name: str, text: str) -> bool:
    """Kubernetes puts variables of a setting's very shape into the environment for a service called rotator-…."""
    return "_SERVICE_" in name or text.startswith("tcp://")


def _is_setting(name: str) -> bool:
    lower = name.lower()
    return lower.startswith(_PREFIX) and lower.removeprefix(_PREFIX).split(_DELIMITER)[0] in Settings.model_fields


def find_misspelt(environ: Mapping[str, str]) -> Iterator[str]:
    """Warnings for variables that look like a setting's and are none: one underscore where two belong."""
    for name in sorted(environ):
        lower = name.lower()
        if not lower.startswith(_PREFIX) or _is_setting(name) or _is_kubernetes(name, environ[name]):
            continue
        section = next((one for one in Settings.model_fields if lower.startswith(f"{_PREFIX}{one}_")), None)
        if section is not None:
            rest = name[len(_PREFIX) + len(section) :].lstrip("_")
            yield f"{name} is not used: two underscores separate names, as in ROTATOR_{section.upper()}__{rest.upper()}"


def _merge(document: Document, into: dict[str, Any], value: Mapping[str, Any], place: Place, origin: Origin) -> None:
    for given, inner in value.items():
        name = _match(given, into)
        path = (*place, name)
        if isinstance(inner, dict) and inner:
            below = into.get(name)
            if not isinstance(below, dict):
                below = {}
                document.origins[path] = origin
            into[name] = below
            _merge(document, below, inner, path, origin)
            continue
        for known in [one for one in document.origins if one[: len(path)] == path]:
            del document.origins[known]
        document.origins[path] = origin
        into[name] = None if inner == "null" else inner


def _match(given: str, known: Mapping[str, Any]) -> str:
    """The name as the file writes it: variables have no case, and many shells allow no `-` in their names."""
    if given in known:
        return given
    plain = given.lower().replace("-", "_")
    return next((name for name in known if name.lower().replace("-", "_") == plain), given)
