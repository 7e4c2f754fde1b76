"""The server under test, once for the whole run, and a fresh connection to it for each test."""

import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.peer import Peer, open_peer

ROOT: Final = Path(__file__).resolve().parents[2]
START_S: Final = 30.0
STOP_S: Final = 10.0


@pytest.fixture(scope="session")
def echo_port() -> Iterator[int]:
    command = [sys.executable, "-m", "tests.conformance.echo", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield _announced_port(process)
            assert process.poll() is None, f"the echo program ended by itself: {process.returncode}"
        finally:
            _stop(process)


def _announced_port(process: subprocess.Popen[str]) -> int:
    """Read the line that names the port; a program that never prints it is killed, which ends the wait."""
    assert process.stdout is not None
    watchdog = threading.Timer(START_S, process.kill)
    watchdog.start()
    try:
        line = process.stdout.readline()
    finally:
        watchdog.cancel()
        watchdog.join()
    word, _, port = line.strip().partition(" ")
    assert word == "listening", f"the echo program did not start: {line!r}"
    return int(port)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


@pytest.fixture
async def peer(echo_port: int) -> AsyncIterator[Peer]:
    async with open_peer(echo_port) as peer:
        yield peer
