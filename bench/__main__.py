"""`python -m bench [startup] [rotations] [vault] [polls] [kubernetes] [idle]`: all by default. Tables or JSON; exit 0 in any case."""

from __future__ import annotations

import argparse
import json

from bench.figures import Table, render_table
from bench.idle import measure_idle
from bench.kubernetes import measure_kubernetes, measure_memory
from bench.polls import measure_polls
from bench.rotations import measure_rotations
from bench.startup import measure_startup

NAMES = ("startup", "rotations", "vault", "polls", "kubernetes", "idle")


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"{', '.join(NAMES)}; default: all")
    parser.add_argument("--credentials", type=int, nargs="+", help="how many; rotations, vault: 500, polls: 1000, idle: 100 1000 10000")
    parser.add_argument("--runs", type=int, default=3, help="runs of rotations, of which the median counts (default 3)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long idle daemons are watched (default 60)")
    parser.add_argument("--namespaces", type=int, default=50, help="of kubernetes, each with 20 Secrets of rotator's (default 50)")
    parser.add_argument("--others", type=int, default=2000, help="Secrets of 100 kB of somebody else's, for kubernetes (default 2000)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args()
    unknown = set(options.benchmarks) - set(NAMES)
    if unknown:
        parser.error(f"unknown benchmark {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    found = {}
    for name in options.benchmarks or NAMES:
        for number, table in enumerate(_measure(name, options)):
            found[f"{name}-{number}" if number else name] = table.data
            if not options.json:
                print(render_table(table), flush=True)
    if options.json:
        print(json.dumps(found, indent=2))


def _measure(name: str, options: argparse.Namespace) -> list[Table]:
    if name == "startup":
        return [measure_startup(max(options.runs, 9))]
    if name == "rotations":
        return [measure_rotations(number, options.runs) for number in options.credentials or [500]]
    if name == "vault":
        return [measure_rotations(number, options.runs, on_vault=True) for number in options.credentials or [500]]
    if name == "polls":
        return [measure_polls(number, options.runs) for number in options.credentials or [1000]]
    if name == "kubernetes":
        return [measure_kubernetes(options.namespaces, options.runs), measure_memory(options.namespaces, options.others)]
    return [measure_idle(options.credentials or [100, 1000, 10000], options.seconds)]


if __name__ == "__main__":
    main()
