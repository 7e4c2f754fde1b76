"""The server as people run it: a process of its own, known by its log, its port and its exit code."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio

ROOT: Final = Path(__file__).parents[2]
#: For a whole test; it only ever passes where something hangs.
DEADLINE_S: Final = 60.0

Record = dict[str, Any]


class Program:
    """A server that runs, and what it has said."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = trio.Event()
        self._log_ended = trio.Event()
        self.signalled = False
        self.port = 0
        self.records: list[Record] = []
        #: Lines that are no records: nothing should write past the log.
        self.other: list[str] = []

    async def read_log(self) -> None:
        """Keep what it says, to the end of it."""
        assert self._process.stderr is not None
        rest = b""
        async for data in self._process.stderr:
            *lines, rest = (rest + bytes(data)).split(b"\n")
            for line in lines:
                try:
                    self.records.append(json.loads(line))
                except ValueError:
                    self.other.append(line.decode())
            self._hear()
        self.other += [rest.decode()] if rest else []
        self._log_ended.set()
        self._hear()

    def _hear(self) -> None:
        self._said.set()
        self._said = trio.Event()

    async def record(self, event: str) -> Record:
        """The first record of an event, once there is one."""
        while True:
            for record in self.records:
                if record["event"] == event:
                    return record
            assert not self._log_ended.is_set(), f"it ended: {self.records} {self.other}"
            await self._said.wait()

    def signal(self, number: signal.Signals) -> None:
        """Tell it to end."""
        self.signalled = True
        self._process.send_signal(number)

    def hang_up(self) -> None:
        """Have it read its configuration again."""
        self._process.send_signal(signal.SIGHUP)

    async def end(self) -> int:
        """Its exit code, once it has ended and all that it said was read."""
        await self._log_ended.wait()
        return await self._process.wait()

    def errors(self) -> list[Record]:
        return [record for record in self.records if record["level"] in ("error", "critical")]


@asynccontextmanager
async def running(
    *flags: str, exit_code: int = 0, descriptors: int | None = None, errors: tuple[str, ...] = (), **settings: object
) -> AsyncIterator[Program]:
    """Run a server on a free port; once the context ends it is told to stop, if it was not.

    It must then end with `exit_code`, and have logged no error but those whose events are named in `errors`.
    """
    command = [sys.executable, "-m", "router", "serve", "--port", "0", *flags]
    if descriptors is not None:
        command = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(descriptors), *command]
    with trio.fail_after(DEADLINE_S):
        process = await trio.lowlevel.open_process(
            command, cwd=ROOT, env=environment(settings), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        program = Program(process)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(program.read_log)
                program.port = (await program.record("listening"))["port"]
                yield program
                if not program.signalled:  # a second one would cut it off
                    program.signal(signal.SIGTERM)
                assert await program.end() == exit_code
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()
    assert [record for record in program.errors() if record["event"] not in errors] == []
    assert program.other == []


async def refused(*flags: str, **settings: object) -> tuple[int, str]:
    """Run a server that cannot start; its exit code and all that it wrote."""
    command = [sys.executable, "-m", "router", "serve", *flags]
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(
            command,
            cwd=ROOT,
            env=environment(settings),
            check=False,
            capture_stdout=True,
            stderr=subprocess.STDOUT,
        )
    return done.returncode, done.stdout.decode()


def environment(settings: dict[str, object]) -> dict[str, str]:
    """This process's variables, with these settings and no others."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NEUROGRAPH_")}
    return variables | {f"NEUROGRAPH_{name.upper()}": str(value) for name, value in settings.items()}
