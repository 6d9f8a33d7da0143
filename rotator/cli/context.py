"""The options that many commands share, accepted before and after the command's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

__all__ = ["Options", "common", "keeps_state", "pass_options", "prints_json", "reads_config", "uses_daemon"]

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


@dataclass(slots=True)
class Options:
    """What was given, wherever it stood."""

    config: Path | None = None
    state_dir: Path | None = None
    json: bool = False
    verbose: int = 0
    debug: bool = False


pass_options = click.make_pass_decorator(Options, ensure=True)


def _keep(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
    name = str(parameter.name)
    if value is not None and ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
        setattr(ctx.ensure_object(Options), name, value)
    return value


def _option(*names: str, **attributes: Any) -> Callable[[_Decorated], _Decorated]:
    return click.option(*names, expose_value=False, callback=_keep, is_eager=True, **attributes)


_config = _option(
    "-c",
    "--config",
    type=click.Path(path_type=Path, readable=False),  # what is wrong with it is for the loader to say
    metavar="FILE",
    help="The configuration. Else ROTATOR_CONFIG, ./rotator.yaml, ~/.config/rotator/rotator.yaml, /etc/rotator/rotator.yaml.",
)
_state_dir = _option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the daemon keeps its state. Else ROTATOR_STATE_DIR, ~/.local/state/rotator.",
)
_json = _option("--json", is_flag=True, help="Print JSON, with exact times.")
_verbose = _option("-v", "--verbose", count=True, help="Show more.")
_debug = _option("--debug", is_flag=True, help="Show tracebacks. Also ROTATOR_DEBUG=1.")


def _all(*options: Callable[[Any], Any]) -> Callable[[_Decorated], _Decorated]:
    def decorate(command: _Decorated) -> _Decorated:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


common = _all(_config, _state_dir, _json, _verbose, _debug)
"""For the root: all of them, before the command's name."""
uses_daemon = _all(_state_dir, _json, _verbose, _debug)
"""For a command that talks to the daemon."""
reads_config = _all(_config, _state_dir, _verbose, _debug)
"""For a command that reads the configuration itself."""
keeps_state = _all(_state_dir, _debug)
"""For a command that only keeps files of its own there."""
prints_json = _all(_json)
"""For a command of the latter that prints data."""
