"""The command: `python -m benchmarks [fanout|gentle|stuck|lagging|idle|connect|host|all] [--quick]`."""

import argparse
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from . import machine, programs
from .cases.connect import connect
from .cases.fanout import fanout
from .cases.gentle import gentle
from .cases.host import host
from .cases.idle import idle_memory
from .cases.lagging import lagging
from .cases.stuck import stuck
from .errors import BenchmarkError
from .plan import Plan
from .report import Report
from .servers import BY_NAME, router_of

_CASES: dict[str, Callable[[Plan], Report[Any]]] = {
    "fanout": fanout,
    "gentle": gentle,
    "stuck": stuck,
    "lagging": lagging,
    "idle": idle_memory,
    "connect": connect,
    "host": host,
}


def main(arguments: Sequence[str]) -> int:
    """Runs the cases that were asked for and prints their tables.

    Returns:
        The exit status: 0, 1 where something was lost, 2 where a measurement could not be made.
    """
    options = _parser().parse_args(arguments)
    # Ended from outside, the servers must be ended too: as an exception it passes every `finally`.
    signal.signal(signal.SIGTERM, _end)
    faults = 0
    try:
        plan = _plan(options)
        programs.build()
        print(f"{machine.describe()}; server on core {plan.server_core}, load on core {plan.load_core}.\n")
        for name in _CASES if options.case == "all" else [options.case]:
            report = _CASES[name](plan)
            print(report.markdown(_command(name, arguments)), flush=True)
            faults += len(report.faults)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("benchmarks: interrupted; all servers are ended", file=sys.stderr)
        return 130
    return 1 if faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("case", nargs="?", default="all", choices=[*_CASES, "all"])
    parser.add_argument("--quick", action="store_true", help="short runs, one of each: does everything work?")
    parser.add_argument("--repeats", type=int, help="how often each server is measured (3; 1 with --quick)")
    parser.add_argument(
        "--servers", default=",".join(BY_NAME), help="which to measure (%(default)s); a case skips what it is not about"
    )
    parser.add_argument(
        "--beside", type=Path, metavar="DIR", help="another checkout, whose router is measured by turns with this one's"
    )
    parser.add_argument("--cores", help="the server's core and the load's, as in 0,1 (the first two)")
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    names = options.servers.split(",")
    unknown = sorted(set(names) - set(BY_NAME))
    if unknown:
        raise BenchmarkError(f"no server named {', '.join(unknown)}; there are {', '.join(BY_NAME)}")
    repeats = options.repeats or (1 if options.quick else 3)
    if repeats < 1:
        raise BenchmarkError(f"--repeats {repeats} measures nothing; say 1 or more")
    server_core, load_core = machine.choose_cores(options.cores)
    open_files = machine.raise_open_files()
    # This process only waits, but where it does it must not disturb the server.
    machine.pin(load_core)
    kinds = [kind for name, kind in BY_NAME.items() if name in names]
    beside = None if options.beside is None else router_of(options.beside)
    return Plan(kinds, beside, repeats, options.quick, server_core, load_core, open_files)


def _command(name: str, arguments: Sequence[str]) -> str:
    options = [word for word in arguments if word not in (*_CASES, "all")]
    return shlex.join(["python", "-m", "benchmarks", name, *options])


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
