"""Programs started for a measurement: pinned to a core, heard line by line, ended whatever happens."""

import contextlib
import queue
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from .errors import BenchmarkError
from .machine import child_setup

T = TypeVar("T")

_LINES_KEPT = 30
_END_TIMEOUT_S = 15.0


class Child:
    """A running program whose lines, from both its outputs, are read by a thread.

    Args:
        command: the program and its arguments.
        core: the core it runs on.
        directory: where it runs; `None` for this process's own.
        environment: its environment; `None` for this process's own.
    """

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        *,
        directory: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name = Path(command[0]).name if len(command) < 3 else " ".join([Path(command[0]).name, *command[1:3]])
        # Lines that are waited for. Nobody reads them later, and a server may log a lot: then only the last are kept.
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._last: deque[str] = deque(maxlen=_LINES_KEPT)
        self._heard = True
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=directory,
            env=environment,
            preexec_fn=child_setup(core),
        )
        self._reader = threading.Thread(target=self._read, name=f"lines of {self._name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def wait_line(self, wanted: Callable[[str], T | None], seconds: float) -> T:
        """Reads lines until `wanted` returns something for one, and returns that.

        Raises:
            BenchmarkError: no such line came in time, or the program ended before.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise BenchmarkError(self._complaint(f"said nothing of what was awaited for {seconds:g} s")) from None
            if line is None:
                raise BenchmarkError(self._complaint(f"ended with status {self._process.wait(_END_TIMEOUT_S)}"))
            found = wanted(line)
            if found is not None:
                return found

    def stop_listening(self) -> None:
        """From now on only the last lines are kept, for error messages."""
        self._heard = False

    def say_line(self) -> None:
        """Writes an empty line to the program's standard input."""
        pipe = self._process.stdin
        assert pipe is not None
        # A program that has ended says so by its lines, to whoever waits for one.
        with contextlib.suppress(BrokenPipeError):
            pipe.write("\n")
            pipe.flush()

    def end(self) -> None:
        """Asks the program to end, makes it end if it does not, and waits until it has."""
        try:
            self._process.terminate()
            self._process.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._process.kill()
            self._process.wait()
        self._reader.join(_END_TIMEOUT_S)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        for line in pipe:
            self._last.append(line.rstrip("\n"))
            if self._heard:
                self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _complaint(self, what: str) -> str:
        lines = "\n".join(f"    {line}" for line in self._last) or "    (none)"
        return f"{self._name} {what}. Its last lines, to see what it lacks:\n{lines}"


@contextmanager
def running(child: Child) -> Iterator[Child]:
    """Ends the child when the block is left, however it is left."""
    try:
        yield child
    finally:
        child.end()
