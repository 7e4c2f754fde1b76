"""One run of the load generator against a running server, with what the server spent on it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import msgspec

from .children import Child, running
from .errors import BenchmarkError
from .programs import LOAD
from .servers import Server

# Opening thousands of connections to a slow server takes its time.
_READY_TIMEOUT_S = 300.0
_MARGIN_S = 90.0


class Stream(msgspec.Struct, frozen=True):
    """What the modes that publish have in common.

    Attributes:
        events: published.
        deliveries: events received, over all subscribers.
        lost: deliveries which a hole in `seq`, a `gap`, or silence at the end says are missing.
        gaps: `gap` messages.
        disorder: events whose `seq` did not go up.
        pending: deliveries still coming when the load had waited long enough for the last ones.
        seconds: from the first event published to the last one received.
        load_cpu_s: the load generator's own CPU time.
    """

    events: int
    deliveries: int
    lost: int
    gaps: int
    disorder: int
    pending: int
    seconds: float
    load_cpu_s: float

    @property
    def spoilt(self) -> int:
        """How much went wrong; anything but 0 makes the run worthless."""
        return self.lost + self.gaps + self.disorder


class Saturated(Stream, frozen=True):
    """The result of the mode `saturate`; `completed` is false where the time limit ended it.

    Its latencies run from an event's publication until the slowest subscriber has it.
    """

    mode: Literal["saturate"]
    completed: bool
    events_per_s: float
    deliveries_per_s: float
    latency_p50_us: float
    latency_p99_us: float


class Paced(Stream, frozen=True):
    """The result of the mode `paced`; `late_ticks` are events which the load itself published too late."""

    mode: Literal["paced"]
    late_ticks: int
    latency_p50_us: float
    latency_p99_us: float
    latency_max_us: float


class Listened(Stream, frozen=True):
    """The result of the mode `listen`; `seconds` begin with the first event that came."""

    mode: Literal["listen"]


class Idle(msgspec.Struct, frozen=True):
    """The result of the mode `idle`: `single` are connections opened one at a time, `bulk` the other ones."""

    mode: Literal["idle"]
    connected: int
    dropped: int
    single_p50_ms: float
    single_p99_ms: float
    bulk_p50_ms: float
    bulk_p99_ms: float
    bulk_per_s: float


Result = TypeVar("Result", bound=msgspec.Struct)
StreamResult = TypeVar("StreamResult", Saturated, Paced)


@dataclass(frozen=True)
class Memory:
    """The server's resident memory around an idle run, in bytes."""

    empty: int
    held: int


def saturate(server: Server, core: int, *, subscribers: int, events: int, limit_s: int) -> tuple[Saturated, float]:
    """Runs a saturated fan-out. Returns its result and the server's CPU seconds."""
    words = ["saturate", str(server.port), str(subscribers), str(events), "112", str(limit_s)]
    return _stream(server, core, words, limit_s, Saturated)


def paced(server: Server, core: int, *, subscribers: int, rate: int, seconds: int) -> tuple[Paced, float]:
    """Runs a gentle, even load. Returns its result and the server's CPU seconds."""
    words = ["paced", str(server.port), str(subscribers), str(rate), str(seconds)]
    return _stream(server, core, words, seconds, Paced)


def idle(server: Server, core: int, *, connections: int, settle_s: float) -> tuple[Idle, Memory]:
    """Opens connections and holds them. Returns its result and the server's memory before and with them."""
    time.sleep(settle_s)
    empty = server.resident_bytes()
    hold_s = int(settle_s) + 60
    words = ["idle", str(server.port), str(connections), str(hold_s)]
    with running(Child([str(LOAD), *words], core)) as load:
        load.wait_line(_ready, _READY_TIMEOUT_S)
        time.sleep(settle_s)
        held = server.resident_bytes()
        load.say_line()
        result = load.wait_line(lambda line: _decode(line, Idle), _MARGIN_S)
    return result, Memory(empty, held)


def _stream(
    server: Server, core: int, words: list[str], seconds: float, kind: type[StreamResult]
) -> tuple[StreamResult, float]:
    with running(Child([str(LOAD), *words], core)) as load:
        load.wait_line(_ready, _READY_TIMEOUT_S)
        before = server.cpu_seconds()
        load.say_line()
        result = load.wait_line(lambda line: _decode(line, kind), seconds + _MARGIN_S)
        spent = server.cpu_seconds() - before
        load.say_line()
    return result, spent


@contextmanager
def listening(port: int, core: int, *, subscribers: int, events: int, limit_s: int) -> Iterator[Child]:
    """Subscribers that are up and wait for a line; then they count the events that somebody else publishes."""
    words = ["listen", str(port), str(subscribers), str(events), str(limit_s)]
    with running(Child([str(LOAD), *words], core)) as load:
        load.wait_line(_ready, _READY_TIMEOUT_S)
        yield load


def ask(program: Child, kind: type[Result], seconds: float) -> Result:
    """The result that a program says within so many seconds, and a margin."""
    return program.wait_line(lambda line: _decode(line, kind), seconds + _MARGIN_S)


def _ready(line: str) -> bool | None:
    return True if line == "ready" else None


def _decode(line: str, kind: type[Result]) -> Result | None:
    if not line.startswith("{"):
        return None
    try:
        return msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        raise BenchmarkError(f"the load generator's result is not as expected ({error}): {line}") from error
