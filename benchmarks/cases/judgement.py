"""What spoils a run that publishes: one event missing is too many."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from ..load import Stream
from ..report import Report
from ..servers import ServerKind


class _Run(Protocol):
    @property
    def result(self) -> Stream: ...


Run = TypeVar("Run", bound=_Run)


def judge(report: Report[Run], found: Mapping[ServerKind, Sequence[Run]], subscribers: int) -> None:
    """Adds to the report what was lost, and what came too late to be judged."""
    for kind, runs in found.items():
        spoilt = sum(run.result.spoilt for run in runs)
        pending = sum(run.result.pending for run in runs)
        if spoilt:
            report.faults.append(f"{kind.name} lost {spoilt:,} deliveries to {subscribers:,} subscribers")
        if pending:
            report.faults.append(
                f"{kind.name} fell behind: {pending:,} deliveries to {subscribers:,} subscribers were still to come "
                "when the load ended"
            )
