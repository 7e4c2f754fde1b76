"""A program with a router in it: how fast can another of its threads broadcast, and at what price?"""

import sys
from dataclasses import dataclass
from pathlib import Path

from .. import machine
from ..children import Child, running
from ..host_program import CALLS, Broadcast
from ..load import Listened, ask, listening
from ..plan import Plan
from ..report import Column, Report
from ..servers import ServerKind, port_in_words

_ROOT = Path(__file__).parents[2]
_SUBSCRIBERS = 1
_FULL = 3_000_000
_QUICK = 200_000
_LIMIT_S = 60
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class _Run:
    result: Listened
    told: Broadcast
    cpu_s: float

    @property
    def events_per_s(self) -> float:
        return self.result.events / max(self.told.seconds, self.result.seconds)


_COLUMNS: list[Column[_Run]] = [
    Column("events/s", lambda run: run.events_per_s),
    Column("host CPU µs/event", lambda run: run.cpu_s * 1e6 / run.result.events, 2),
    Column("load busy %", lambda run: 100 * run.result.load_cpu_s / max(run.result.seconds, 1e-9)),
    Column("refused, made again", lambda run: run.told.refused),
    Column("lost", lambda run: run.result.spoilt),
]


def host(plan: Plan) -> Report[_Run]:
    """Measures events a second from a thread beside the router, through it, to a subscriber in another process."""
    events = _QUICK if plan.quick else _FULL
    report = Report(f"Embedded: {events:,} events broadcast by another thread, {_SUBSCRIBERS} subscriber", "", _COLUMNS)
    found: dict[ServerKind, list[_Run]] = {
        ServerKind(call, _command(call, events), port_in_words): [] for call in CALLS
    }
    for turn in range(1, plan.repeats + 1):
        for kind, runs in found.items():
            print(f"host: {kind.name}, {turn} of {plan.repeats}", file=sys.stderr, flush=True)
            runs.append(_once(kind, plan, events))
    report.add("", found)
    report.notes.append(
        "One thread broadcasts and waits 1 ms whenever it is refused, another one runs the router; both share the "
        "interpreter lock. CPU time is the whole program's, so it holds both the call and the delivery."
    )
    for kind, runs in found.items():
        spoilt = sum(run.result.spoilt + run.result.pending for run in runs)
        if spoilt:
            report.faults.append(f"{kind.name}: {spoilt:,} deliveries lost or late")
    return report


def _command(call: str, events: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "benchmarks.host_program", call, str(events))


def _once(kind: ServerKind, plan: Plan, events: int) -> _Run:
    with running(Child(kind.command, plan.server_core, directory=_ROOT)) as program:
        port = program.wait_line(kind.port_of, _START_TIMEOUT_S)
        with listening(port, plan.load_core, subscribers=_SUBSCRIBERS, events=events, limit_s=_LIMIT_S) as load:
            before = machine.cpu_seconds(program.pid)
            load.say_line()
            program.say_line()
            told = ask(program, Broadcast, _LIMIT_S)
            result = ask(load, Listened, _LIMIT_S)
            spent = machine.cpu_seconds(program.pid) - before
            load.say_line()
        program.say_line()
    return _Run(result, told, spent)
