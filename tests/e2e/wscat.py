"""wscat, the command-line client from npm, as a person at a shell uses it: lines in, lines out."""

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from tests.e2e.program import ROOT

WSCAT = ROOT / "tests" / "e2e" / "node_modules" / ".bin" / "wscat"

Message = dict[str, Any]


class Wscat:
    """A wscat that runs."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._rest = b""

    async def say(self, **message: object) -> None:
        """Type a line. Only after something was heard: what comes before it has connected is dropped."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(message).encode() + b"\n")

    async def hear(self, **wanted: object) -> Message:
        """The next line whose message has these fields; those before it are skipped."""
        while True:
            message: Message = json.loads((await self._line()).lstrip(b"> "))  # the prompt stands before some lines
            if wanted.items() <= message.items():
                return message

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._rest:
            data = await self._process.stdout.receive_some()
            assert data, f"wscat has ended: {self._rest!r}"
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    async def end(self) -> int:
        """Its exit code, once it has ended."""
        return await self._process.wait()


@asynccontextmanager
async def wscat(port: int, *flags: str, query: str = "") -> AsyncIterator[Wscat]:
    """Run wscat; it is ended with the context."""
    command = [str(WSCAT), "--connect", f"ws://127.0.0.1:{port}/ws{query}", *flags]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with process.stdin, process.stdout:
            yield Wscat(process)
    finally:
        if process.returncode is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
