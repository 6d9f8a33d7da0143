"""`python -m tests.model [--long] [NAME…]`: walk the worlds of a tier, or those whose names contain NAME; exit 1 if one breaks."""

from __future__ import annotations

import argparse
import sys

from tests.model.explorer import Explorer
from tests.model.worlds import LONG, QUICK


def main() -> int:
    """Walk and report."""
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--long", action="store_true", help="the long tier: about half an hour on one core")
    parser.add_argument("name", nargs="*", help="only worlds whose names contain one of these")
    chosen = parser.parse_args()
    worlds = [w for w in (LONG if chosen.long else QUICK) if not chosen.name or any(n in w.name for n in chosen.name)]
    states, seconds, broken = 0, 0.0, 0
    for world in worlds:
        result = Explorer(world).run()
        states, seconds = states + result.states, seconds + result.seconds
        broken += result.found is not None
        sys.stdout.write(f"{result}\n" if result.found is None else f"{result}\n{result.found}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(worlds)} worlds, {states:,} states, {seconds:.0f} s, {broken} broken\n")
    return 1 if broken or not worlds else 0


if __name__ == "__main__":
    sys.exit(main())
