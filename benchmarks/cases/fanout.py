"""Saturated fan-out: how fast can one event after another reach everyone?"""

from dataclasses import dataclass

from ..load import Saturated, saturate
from ..plan import Plan
from ..report import Column, Report
from ..servers import FLOOR, ROUTER, Server
from .judgement import judge

# Subscribers, and events enough for the baseline to run for seconds.
_FULL = {1: 8_000_000, 100: 500_000, 1_000: 50_000}
_QUICK = {1: 400_000, 100: 20_000, 1_000: 2_000}
_FULL_LIMIT_S = 12
_QUICK_LIMIT_S = 5


@dataclass(frozen=True)
class _Run:
    result: Saturated
    cpu_s: float

    @property
    def cpu_us(self) -> float:
        return self.cpu_s * 1e6 / max(1, self.result.deliveries)


_COLUMNS: list[Column[_Run]] = [
    Column("events/s", lambda run: run.result.events_per_s, compared=True),
    Column("deliveries/s", lambda run: run.result.deliveries_per_s, compared=True),
    Column("server CPU µs/delivery", lambda run: run.cpu_us, 3, compared=True),
    Column("server busy %", lambda run: 100 * run.cpu_s / run.result.seconds),
    Column("load busy %", lambda run: 100 * run.result.load_cpu_s / run.result.seconds),
    Column("lost", lambda run: run.result.spoilt),
]


def fanout(plan: Plan) -> Report[_Run]:
    """Measures events and deliveries a second, and the server's CPU time for each delivery."""
    report = Report("Saturated fan-out: 1,024 events of about 230 bytes in flight", "subscribers", _COLUMNS)
    for subscribers, events in (_QUICK if plan.quick else _FULL).items():
        _measure(plan, report, subscribers, events)
    report.notes.append(
        "Deliveries are events × subscribers. Where the load is busy for nearly the whole run, it and not the server "
        "sets the pace; where neither is, something else had the cores. Compare CPU per delivery there."
    )
    return report


def _measure(plan: Plan, report: Report[_Run], subscribers: int, events: int) -> None:
    limit_s = _QUICK_LIMIT_S if plan.quick else _FULL_LIMIT_S

    def once(server: Server) -> _Run:
        result, cpu = saturate(server, plan.load_core, subscribers=subscribers, events=events, limit_s=limit_s)
        return _Run(result, cpu)

    found = plan.alternate([ROUTER, FLOOR], f"fan-out to {subscribers:,}", once)
    report.add(f"{subscribers:,}", found)
    report.compare(f"{subscribers:,}", found, ROUTER, plan.beside)
    report.compare(f"{subscribers:,}", found, ROUTER, FLOOR)
    judge(report, found, subscribers)
