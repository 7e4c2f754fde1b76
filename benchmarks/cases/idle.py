"""Idle connections: what does holding one cost in memory?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ..load import Idle, Memory, idle
from ..plan import Plan
from ..report import Column, Report
from ..servers import BARE, FLOOR, ROUTER, Server, ServerKind

_FULL = 9_000
_QUICK = 1_000
# What a server opens besides its clients: listeners, pipes, its own files.
_OTHER_FILES = 200
_SETTLE_S = 2.0
# How much more than a bare trio-websocket server the router may take for each connection.
_AIM_KIB = 10.0
_KIB = 1024
_MIB = 1024 * 1024


@dataclass(frozen=True)
class _Run:
    result: Idle
    memory: Memory

    @property
    def each_kib(self) -> float:
        return (self.memory.held - self.memory.empty) / max(1, self.result.connected) / _KIB

    @property
    def up(self) -> int:
        return self.result.connected - self.result.dropped


_COLUMNS: list[Column[_Run]] = [
    Column("empty MiB", lambda run: run.memory.empty / _MIB, 1),
    Column("with all MiB", lambda run: run.memory.held / _MIB, 1),
    Column("KiB/connection", lambda run: run.each_kib, 2),
    Column("opened in bulk/s", lambda run: run.result.bulk_per_s),
    Column("bulk p50 ms", lambda run: run.result.bulk_p50_ms, 1),
    Column("bulk p99 ms", lambda run: run.result.bulk_p99_ms, 1),
    Column("up", lambda run: run.up),
]


def idle_memory(plan: Plan) -> Report[_Run]:
    """Measures resident memory before and with thousands of connections."""
    connections = min(_QUICK if plan.quick else _FULL, plan.open_files - _OTHER_FILES)

    def once(server: Server) -> _Run:
        return _Run(*idle(server, plan.load_core, connections=connections, settle_s=_SETTLE_S))

    report = Report(f"Idle connections: {connections:,} held", "", _COLUMNS)
    found = plan.alternate([ROUTER, FLOOR, BARE], f"{connections:,} idle", once)
    report.add("", found)
    report.notes.append(
        "Resident memory of the server's process; what the kernel keeps for the sockets is not in it. "
        "In bulk, 64 connections are being opened at any time."
    )
    if connections < _FULL and not plan.quick:
        report.notes.append(f"The limit of open files, {plan.open_files:,}, allowed no more; raise it (ulimit -Hn).")
    if ROUTER in found and BARE in found:
        report.notes.append(_verdict(found))
    for kind, runs in found.items():
        up = min(run.up for run in runs)
        if up < connections:
            report.faults.append(f"{kind.name} held only {up:,} of {connections:,} connections")
    return report


def _verdict(found: Mapping[ServerKind, Sequence[_Run]]) -> str:
    router, bare = (median(run.each_kib for run in found[kind]) for kind in (ROUTER, BARE))
    verdict = "met" if router - bare <= _AIM_KIB else "missed"
    return (
        f"The router takes {router - bare:.2f} KiB a connection more than bare trio-websocket "
        f"(aim: at most {_AIM_KIB:g}; {verdict})."
    )
