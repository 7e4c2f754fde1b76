"""Opening a connection: how long from connect() until the server has said `connected`?"""

from ..load import Idle, idle
from ..plan import Plan
from ..report import Column, Report
from ..servers import BARE, FLOOR, ROUTER, Server

# The load opens so many one at a time, each when the one before is up.
_FULL = 500
_QUICK = 100
_SETTLE_S = 0.5

_COLUMNS: list[Column[Idle]] = [
    Column("p50 ms", lambda run: run.single_p50_ms, 3, compared=True),
    Column("p99 ms", lambda run: run.single_p99_ms, 3, compared=True),
    Column("up", lambda run: run.connected - run.dropped),
]


def connect(plan: Plan) -> Report[Idle]:
    """Measures how long opening takes, one connection at a time."""
    connections = _QUICK if plan.quick else _FULL

    def once(server: Server) -> Idle:
        result, _ = idle(server, plan.load_core, connections=connections, settle_s=_SETTLE_S)
        return result

    report = Report(f"From connect() to `connected`: {connections:,} connections, one at a time", "", _COLUMNS)
    found = plan.alternate([ROUTER, FLOOR, BARE], "connect", once)
    report.add("", found)
    report.compare("", found, ROUTER, plan.beside)
    report.compare("", found, ROUTER, FLOOR)
    report.compare("", found, ROUTER, BARE)
    for kind, runs in found.items():
        up = min(run.connected - run.dropped for run in runs)
        if up < connections:
            report.faults.append(f"{kind.name} opened only {up:,} of {connections:,} connections")
    return report
