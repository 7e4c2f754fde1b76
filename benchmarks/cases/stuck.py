"""One of 100 subscribers reads nothing: what do the other 99 notice?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from ..errors import BenchmarkError
from ..load import Paced, Saturated, paced, saturate
from ..plan import Plan
from ..report import Column, Report
from ..servers import Server, ServerKind, router_as
from ..session import Session, opened
from .judgement import judge

_SUBSCRIBERS = 100
_RATE = 1_000
_FULL_S = 6
_FULL_EVENTS = 300_000
_LIMIT_S = 20
_QUICK_S = 1
_QUICK_EVENTS = 20_000
# More than the kernel, what is being written and an outbox of 10,000 events hold. The load's events are as long.
_FILLING = 20_000
_AT_ONCE = 200
_EVENT = {"event_type": "signal.input.text", "data": {"pad": "x" * 102}}
# A spread of fewer repeats says nothing.
_LEAST_REPEATS = 3

# Each event that comes to a full outbox makes one leave it.
_LEAST_DROPPED = 0.99

_Measure = Callable[[Server, int], tuple[Paced | Saturated, float]]

_ALL_READ = router_as("all read")
_ONE_STUCK = router_as("one stuck")


@dataclass(frozen=True)
class _Run:
    result: Paced | Saturated
    cpu_s: float
    dropped: int

    @property
    def cpu_us(self) -> float:
        return self.cpu_s * 1e6 / max(1, self.result.deliveries)

    @property
    def events_per_s(self) -> float:
        return self.result.events / self.result.seconds


_CPU: Column[_Run] = Column("server CPU µs/delivery", lambda run: run.cpu_us, 3, compared=True)
_P99: Column[_Run] = Column("p99 µs", lambda run: run.result.latency_p99_us, compared=True)
_COLUMNS: list[Column[_Run]] = [
    Column("events/s", lambda run: run.events_per_s, compared=True),
    _CPU,
    Column("latency p50 µs", lambda run: run.result.latency_p50_us, compared=True),
    _P99,
    Column("dropped of the stuck one's, %", lambda run: 100 * run.dropped / run.result.events, 1),
    Column("lost by others", lambda run: run.result.spoilt),
]


class _Account(msgspec.Struct):
    dropped: int


def stuck(plan: Plan) -> Report[_Run]:
    """Measures what is delivered to 100 subscribers, and to 99 beside one that reads nothing, by turns."""
    seconds, events = (_QUICK_S, _QUICK_EVENTS) if plan.quick else (_FULL_S, _FULL_EVENTS)

    def evenly(server: Server, readers: int) -> tuple[Paced, float]:
        return paced(server, plan.load_core, subscribers=readers, rate=_RATE, seconds=seconds)

    def saturated(server: Server, readers: int) -> tuple[Saturated, float]:
        return saturate(server, plan.load_core, subscribers=readers, events=events, limit_s=_LIMIT_S)

    report = Report(f"One of {_SUBSCRIBERS} subscribers reads nothing", "load", _COLUMNS)
    _measure(plan, report, f"{_RATE:,} events/s", evenly)
    _measure(plan, report, "saturated", saturated)
    report.notes.append(
        "Deliveries are those to subscribers that read: what the stuck one costs is shared among the 99 others. "
        "Latency at an even rate is each delivery's; saturated, it runs until the slowest of them has the event."
    )
    return report


def _measure(plan: Plan, report: Report[_Run], label: str, measure: _Measure) -> None:
    found = plan.by_turns([_ALL_READ, _ONE_STUCK], label, lambda server: _once(server, measure))
    report.add(label, found)
    report.compare(label, found, _ONE_STUCK, _ALL_READ)
    judge(report, found, _SUBSCRIBERS)
    if plan.repeats >= _LEAST_REPEATS:
        report.notes += [f"{label}: {_verdict(column, found)}" for column in (_CPU, _P99)]
    share = min(run.dropped / run.result.events for run in found[_ONE_STUCK])
    if share < _LEAST_DROPPED:
        report.faults.append(f"{label}: the stuck one lost only {share:.0%}, so its outbox was not always full")


def _once(server: Server, measure: _Measure) -> _Run:
    """One measurement, with one subscriber that reads nothing where the server is started for that."""
    with opened(server.port, int(server.kind is _ONE_STUCK), reads=False) as silent:
        for session in silent:
            session.say(type="subscribe", channels=["signals"])
            session.hear("subscribed")
        # Also where all read, so that both begin with the same past.
        with opened(server.port, 1) as [publisher]:
            for _ in range(_FILLING // _AT_ONCE):
                publisher.publish("signals", [_EVENT] * _AT_ONCE)
        before = _dropped(server, silent)
        if silent and not before:
            raise BenchmarkError(f"{_FILLING:,} events did not fill the outbox of a client that reads nothing")
        result, cpu = measure(server, _SUBSCRIBERS - len(silent))
        return _Run(result, cpu, _dropped(server, silent) - before)


def _dropped(server: Server, silent: Sequence[Session]) -> int:
    return sum(server.get(f"connections/{session.client_id}", _Account).dropped for session in silent)


def _verdict(column: Column[_Run], found: Mapping[ServerKind, Sequence[_Run]]) -> str:
    """Whether one that is stuck makes more of a difference than one run makes to the next."""
    middle = median(column.value(run) for run in found[_ONE_STUCK])
    most = max(column.value(run) for run in found[_ALL_READ])
    where = "within" if middle <= most else "above"
    return f"with one stuck, the median of {column.head} is {where} the spread of the runs in which all read."
