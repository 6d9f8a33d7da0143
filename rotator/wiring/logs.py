"""Sets structured logging up. The last processor masks whatever looks like a key: a net under a rule that needs none."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

_KEY = re.compile(r"\b((?:rk|sk|ak|pk)_[a-z][a-z0-9]*_[A-Za-z0-9]{8})_[A-Za-z0-9_-]+")

Line = MutableMapping[str, Any]


def configure_logs(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> None:
    """Log to `stream` (standard error): `json` lines, `console` lines, or (`auto`) the latter on a terminal only."""
    out = stream if stream is not None else sys.stderr
    lines = form == "json" or (form == "auto" and not out.isatty())
    # Never with local variables: a frame may hold key material.
    renderer: Any = structlog.processors.JSONRenderer(sort_keys=False) if lines else _console(out)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
            if lines
            else structlog.processors.format_exc_info,
            renderer,
            _mask,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=out, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", force=True)


def _console(out: TextIO) -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=structlog.dev.plain_traceback)


def _mask(_logger: Any, _method: str, line: Any) -> str:
    return _KEY.sub(r"\1_…", line)
