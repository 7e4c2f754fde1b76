"""Run the simulation with many seeds: `python -m tests.simulation 1000 [first seed] [steps]`.

A failing seed is printed, and how to run it again.
"""

import argparse
import logging
import sys
import time

import structlog

from tests.simulation.simulation import Simulation


def main(seeds: int, first: int = 0, steps: int = 2000) -> None:
    """Run so many seeds, and stop at the first that fails."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began, digest = time.perf_counter(), ""
    for seed in range(first, first + seeds):
        simulation = Simulation(seed, steps)
        try:
            simulation.run()
            digest = simulation.digest
        except BaseException:
            print(f"seed {seed} fails; again with: python -m tests.simulation 1 {seed} {steps}", file=sys.stderr)  # noqa: T201
            raise
    if seeds == 1:
        print(f"the server wrote {digest}")  # noqa: T201
    print(f"{seeds} seeds of {steps} steps, none fails; {time.perf_counter() - began:.1f} s")  # noqa: T201


parser = argparse.ArgumentParser(prog="python -m tests.simulation", description="Run the simulation with many seeds.")
parser.add_argument("seeds", type=int, help="how many seeds")
parser.add_argument("first", type=int, nargs="?", default=0, help="the first of them (default: 0)")
parser.add_argument("steps", type=int, nargs="?", default=2000, help="steps of each (default: 2000)")
given = parser.parse_args()
main(given.seeds, given.first, given.steps)
