"""The servers that are measured, and how each says which port it got."""

import http.client
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from . import machine
from .children import Child, running
from .errors import BenchmarkError
from .programs import BASELINE

T = TypeVar("T")

_ROOT = Path(__file__).parent.parent
_START_TIMEOUT_S = 30.0
_ANSWER_TIMEOUT_S = 30.0
# The router is measured as it comes: settings in the environment would change what is measured.
_ROUTER_SETTINGS = "NEUROGRAPH_"


@dataclass(frozen=True)
class ServerKind:
    """A server that can be started.

    Attributes:
        name: how tables and the command line call it.
        command: the program and its arguments.
        port_of: returns the port where a line of its output says it, else `None`.
        directory: where it runs; Python's packages are looked for there first.
    """

    name: str
    command: tuple[str, ...]
    port_of: Callable[[str], int | None]
    directory: Path = _ROOT


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

    def get(self, path: str, kind: type[T]) -> T:
        """What it answers to a request below `/api/v1/websocket/`.

        Raises:
            BenchmarkError: it did not answer in time, or otherwise than expected.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_ANSWER_TIMEOUT_S)
        try:
            connection.request("GET", f"/api/v1/websocket/{path}")
            answer = connection.getresponse().read()
            return msgspec.json.decode(answer, type=kind)
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise BenchmarkError(f"{self.kind.name} did not tell its {path} ({error})") from error
        finally:
            connection.close()


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


def router_as(name: str, **settings: str) -> ServerKind:
    """The router under another name, with settings."""
    words = [word for setting, value in settings.items() for word in ("--set", f"{setting}={value}")]
    return replace(ROUTER, name=name, command=(*ROUTER.command, *words))


def router_of(directory: Path) -> ServerKind:
    """The router of another checkout, with this one's interpreter and packages.

    Raises:
        BenchmarkError: there is none in that directory.
    """
    kind = replace(ROUTER, name="beside", directory=directory.resolve())
    command = [sys.executable, "-c", "import router; print(router.__file__)"]
    found = ""
    if directory.is_dir():
        done = subprocess.run(
            command,
            cwd=directory,
            env=_environment(kind),
            capture_output=True,
            text=True,
            timeout=_START_TIMEOUT_S,
            check=False,
        )
        found = done.stdout.strip()
    if not found or not Path(found).is_relative_to(kind.directory):
        raise BenchmarkError(f"no router in {directory}; name a checkout of this project (git worktree add DIR COMMIT)")
    return kind


def _environment(kind: ServerKind) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(_ROUTER_SETTINGS)}
    # The package is installed from this checkout: what is to come from another one must be found first.
    return ours | {"PYTHONPATH": str(kind.directory)}


@contextmanager
def serving(kind: ServerKind, core: int) -> Iterator[Server]:
    """Starts a server on a core, and ends it when the block is left."""
    with running(Child(kind.command, core, directory=kind.directory, environment=_environment(kind))) as child:
        port = child.wait_line(kind.port_of, _START_TIMEOUT_S)
        child.stop_listening()
        yield Server(kind, port, child.pid)
