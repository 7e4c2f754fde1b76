"""The servers that are measured, and how each says which port it got."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from . import machine
from .children import Child, running
from .programs import BASELINE

_ROOT = Path(__file__).parent.parent
_START_TIMEOUT_S = 30.0
# The router is measured as it comes: settings in the environment would change what is measured.
_ROUTER_SETTINGS = "NEUROGRAPH_"


@dataclass(frozen=True)
class ServerKind:
    """A server that can be started.

    Attributes:
        name: how tables and the command line call it.
        command: the program and its arguments.
        port_of: returns the port where a line of its output says it, else `None`.
    """

    name: str
    command: tuple[str, ...]
    port_of: Callable[[str], int | None]


@dataclass(frozen=True)
class Server:
    """A running server."""

    kind: ServerKind
    port: int
    pid: int

    def cpu_seconds(self) -> float:
        """The CPU time it has used so far."""
        return machine.cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        """The memory it holds now."""
        return machine.resident_bytes(self.pid)


class _LogRecord(msgspec.Struct):
    event: str
    port: int


def port_in_log(line: str) -> int | None:
    """The port in the router's JSON log record of the event `listening`."""
    try:
        record = msgspec.json.decode(line, type=_LogRecord)
    except msgspec.DecodeError:
        return None
    return record.port if record.event == "listening" else None


def port_in_words(line: str) -> int | None:
    """The port in a line `listening PORT`."""
    word, _, number = line.partition(" ")
    return int(number) if word == "listening" and number.isdecimal() else None


ROUTER = ServerKind(
    "router", (sys.executable, "-m", "router", "serve", "--host", "127.0.0.1", "--port", "0"), port_in_log
)
FLOOR = ServerKind("baseline", (str(BASELINE),), port_in_words)
BARE = ServerKind("bare", (sys.executable, "-m", "benchmarks.bare_trio_websocket"), port_in_words)

BY_NAME = {kind.name: kind for kind in (ROUTER, FLOOR, BARE)}


@contextmanager
def serving(kind: ServerKind, core: int) -> Iterator[Server]:
    """Starts a server on a core, and ends it when the block is left."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_ROUTER_SETTINGS)}
    with running(Child(kind.command, core, directory=_ROOT, environment=environment)) as child:
        port = child.wait_line(kind.port_of, _START_TIMEOUT_S)
        child.stop_listening()
        yield Server(kind, port, child.pid)
