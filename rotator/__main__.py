"""`rotator` and `python -m rotator`: runs the command line."""

from __future__ import annotations

from rotator.cli.main import cli


def main() -> None:
    """Runs the command line with the process's arguments, and exits with its code."""
    cli.main(prog_name="rotator")


if __name__ == "__main__":
    main()
