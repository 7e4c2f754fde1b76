"""The example programs run, and are the programs that the documentation shows."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from websockets.trio.client import ClientConnection

import actors
from tests.e2e.program import environment
from tests.router.serving import close_of, connect, hear

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
#: Passes only where something hangs.
DEADLINE_S = 60


def run(name: str) -> str:
    """What the program prints; it is to succeed and to complain of nothing."""
    program = [sys.executable, "-W", "error", str(EXAMPLES / name)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    return done.stdout


def without_docstrings(source: str) -> str:
    """The program itself, however it is laid out; a body that is only a docstring counts as `pass`."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node) is not None:
                del node.body[0]
            if not node.body:
                node.body.append(ast.Pass())
    return ast.unparse(tree)


def test_the_counter_counts() -> None:
    assert run("counter.py") == "42\n"


def test_the_counter_is_the_program_that_the_package_shows() -> None:
    assert actors.__doc__ is not None
    _, named, shown = actors.__doc__.partition("`examples/counter.py`:\n")
    assert named
    assert without_docstrings(textwrap.dedent(shown)) == without_docstrings((EXAMPLES / "counter.py").read_text())


class Running:
    """An example that runs."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._said = ""

    async def say(self, pattern: str) -> str:
        """Read what it says until a URL stands behind these words; the URL."""
        assert self.process.stdout is not None
        while (at := self._said.find(pattern)) < 0 or "\n" not in self._said[at:]:
            data = await self.process.stdout.receive_some()
            assert data, f"it has ended: {self._said}"
            self._said += data.decode()
        return self._said[at + len(pattern) :].split()[0].rstrip(",")

    async def rest(self) -> str:
        """All that it says, to its end."""
        assert self.process.stdout is not None
        async for data in self.process.stdout:
            self._said += data.decode()
        return self._said


@asynccontextmanager
async def running(*command: str) -> AsyncIterator[Running]:
    """Run an example whose router takes a free port; it is to end by itself, and well."""
    with trio.fail_after(DEADLINE_S):
        process = await trio.lowlevel.open_process(
            [sys.executable, "-W", "error", *command],
            cwd=ROOT,
            env=environment({"port": 0, "metrics_interval_s": 3600}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            example = Running(process)
            yield example
            said = await example.rest()
            assert await process.wait() == 0, said
            assert "Traceback" not in said
        finally:
            if process.returncode is None:
                process.kill()
            with trio.CancelScope(shield=True):
                await process.wait()


@asynccontextmanager
async def subscriber(url: str, *channels: str) -> AsyncIterator[ClientConnection]:
    """A client of the example's router; at the end it must have been sent its goodbye."""
    async with connect(int(url.rpartition(":")[2].partition("/")[0])) as client:
        await client.send(json.dumps({"type": "subscribe", "channels": channels}))
        await hear(client, type="subscribed")
        yield client
        await hear(client, type="goodbye")
        assert (await close_of(client))[0] == 1001


async def call(url: str, method: str = "GET") -> dict[str, Any]:
    """Make an HTTP request; the answer."""

    def request() -> dict[str, Any]:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=DEADLINE_S) as answer:
            body: dict[str, Any] = json.load(answer)
            return body

    return await trio.to_thread.run_sync(request)


async def test_plain_threads_are_heard() -> None:
    async with (
        running(str(EXAMPLES / "plain_threads.py")) as example,
        subscriber(await example.say("listening at "), "signals") as client,
    ):
        for sensor in ("kitchen", "cellar", "roof"):
            event = await hear(client, channel="signals")
            while event["data"]["sensor"] != sensor:
                event = await hear(client, channel="signals")
        assert example.process.stdin is not None
        await example.process.stdin.send_all(b"\n")


async def test_a_trio_program_is_heard() -> None:
    async with (
        running(str(EXAMPLES / "trio_program.py")) as example,
        subscriber(await example.say("listening at "), "actions", "status") as client,
    ):
        event = await hear(client, channel="actions", event_type="action.executed")
        assert event["data"]["action_type"] == "nap"
        assert event["data"]["execution_time_ms"] >= 500
        os.kill(example.process.pid, signal.SIGTERM)
        await hear(client, event_type="status.stopped")


async def test_a_fastapi_application_is_heard() -> None:
    command = ("-m", "uvicorn", "--app-dir", str(EXAMPLES), "fastapi_app:app", "--port", "0", "--no-use-colors")
    async with running(*command) as example:
        api = await example.say("Uvicorn running on ")
        events = (await call(api))["events"]
        async with subscriber(events, "actions", "signals") as client:
            assert await call(f"{api}/orders/7", "POST") == {"told": True}
            event = await hear(client, channel="actions")
            assert (event["event_type"], event["data"]["action_id"]) == ("action.executed", "7")
            assert await call(f"{api}/signals/input.text?priority=200", "POST") == {"told": True}
            event = await hear(client, channel="signals")
            assert (event["event_type"], event["data"]["priority"]) == ("signal.input.text", 200)
            os.kill(example.process.pid, signal.SIGINT)
