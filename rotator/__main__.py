"""`rotator` and `python -m rotator`: runs the command line."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

from rotator.cli.main import cli


def main() -> None:
    """Runs the command line with the process's arguments, and exits with its code."""
    if os.getpid() == 1:  # a container's first process is not ended by a signal that it does not handle
        signal.signal(signal.SIGTERM, _end)
    cli.main(prog_name="rotator")


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    main()
