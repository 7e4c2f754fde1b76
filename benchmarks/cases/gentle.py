"""A gentle load, where nothing can batch: what does one event cost, and how long is it on its way?"""

from dataclasses import dataclass

from ..load import Paced, paced
from ..plan import Plan
from ..report import Column, Report
from ..servers import FLOOR, ROUTER, Server
from .judgement import judge

_SUBSCRIBERS = (1, 100)
_RATE = 1_000
_FULL_S = 10
_QUICK_S = 2


@dataclass(frozen=True)
class _Run:
    result: Paced
    cpu_us: float


_COLUMNS: list[Column[_Run]] = [
    Column("server CPU µs/delivery", lambda run: run.cpu_us, 2, compared=True),
    Column("latency p50 µs", lambda run: run.result.latency_p50_us, compared=True),
    Column("p99 µs", lambda run: run.result.latency_p99_us, compared=True),
    Column("max µs", lambda run: run.result.latency_max_us),
    Column("late ticks", lambda run: run.result.late_ticks),
    Column("lost", lambda run: run.result.spoilt),
]


def gentle(plan: Plan) -> Report[_Run]:
    """Measures latency, and the server's CPU time for each delivery, at an even rate."""
    report = Report(f"Gentle load: {_RATE:,} events/s, one a tick", "subscribers", _COLUMNS)
    for subscribers in _SUBSCRIBERS:
        _measure(plan, report, subscribers)
    report.notes.append(
        "Latency runs from the publisher's write to the subscriber's read, both on the load's one thread: with 100 "
        "subscribers it holds the time in which the load reads the other 99. Late ticks are events which the load "
        "itself published a tick or more too late; their latency counts from when they were sent."
    )
    return report


def _measure(plan: Plan, report: Report[_Run], subscribers: int) -> None:
    seconds = _QUICK_S if plan.quick else _FULL_S

    def once(server: Server) -> _Run:
        result, cpu = paced(server, plan.load_core, subscribers=subscribers, rate=_RATE, seconds=seconds)
        return _Run(result, cpu * 1e6 / max(1, result.deliveries))

    found = plan.alternate([ROUTER, FLOOR], f"gentle to {subscribers:,}", once)
    report.add(f"{subscribers:,}", found)
    report.compare(f"{subscribers:,}", found, ROUTER, plan.beside)
    report.compare(f"{subscribers:,}", found, ROUTER, FLOOR)
    judge(report, found, subscribers)
