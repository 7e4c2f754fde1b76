"""The command as people run it: a process of its own, known by what it writes and how it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from tests.e2e.program import DEADLINE_S, ROOT, environment


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Running:
    """A command that runs, and what it has written."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self.out = b""
        self.err = b""
        self._wrote = trio.Event()

    async def read(self, name: str, stream: trio.abc.ReceiveStream) -> None:
        async for data in stream:
            setattr(self, name, getattr(self, name) + bytes(data))
            self._wrote.set()
            self._wrote = trio.Event()

    async def said(self, text: str) -> None:
        """Wait until it has written a text to standard error."""
        while text not in self.err.decode():
            await self._wrote.wait()

    async def printed(self, lines: int) -> list[str]:
        """Wait until it has written so many lines to standard output."""
        while self.out.count(b"\n") < lines:
            await self._wrote.wait()
        return self.out.decode().splitlines()

    async def feed(self, text: str) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(text.encode())

    async def close_input(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "router", *arguments]


def _variables(port: int | None, settings: dict[str, object]) -> dict[str, str]:
    url = {} if port is None else {"url": f"ws://127.0.0.1:{port}/ws"}
    return environment(url | settings) | {"NO_COLOR": "1", "TERM": "dumb"}


@asynccontextmanager
async def started(*arguments: str, port: int | None = None, **settings: object) -> AsyncIterator[Running]:
    """Run a command; it must have ended, or been signalled, when the context ends."""
    with trio.fail_after(DEADLINE_S):
        process = await trio.lowlevel.open_process(
            _command(arguments),
            cwd=ROOT,
            env=_variables(port, settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        running = Running(process)
        try:
            async with process.stdin, process.stdout, process.stderr, trio.open_nursery() as nursery:
                nursery.start_soon(running.read, "out", process.stdout)
                nursery.start_soon(running.read, "err", process.stderr)
                yield running
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


async def run(*arguments: str, given: str = "", port: int | None = None, **settings: object) -> Done:
    """Run a command to its end."""
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(
            _command(arguments),
            stdin=given.encode(),
            cwd=ROOT,
            env=_variables(port, settings),
            check=False,
            capture_stdout=True,
            capture_stderr=True,
        )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


async def shell(script: str, port: int | None = None, **settings: object) -> Done:
    """Run a piece of bash, with the installed command on its path."""
    variables = _variables(port, settings)
    path = os.pathsep.join((str(Path(sys.executable).parent), variables["PATH"]))
    with trio.fail_after(DEADLINE_S):
        done = await trio.run_process(
            ["bash", "-c", script],
            stdin=b"",
            cwd=ROOT,
            env=variables | {"PATH": path},
            check=False,
            capture_stdout=True,
            capture_stderr=True,
        )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def ended_by(number: signal.Signals) -> int:
    """The exit code as `subprocess` gives it; a shell says 128 + the number."""
    return -number
