"""Running a client in the foreground: standard input and output that wait without blocking the rest, and Ctrl-C."""

from __future__ import annotations

import os
import select
import signal
import stat
from collections.abc import Awaitable, Callable

import trio

from router.nursery import bare_nursery

#: Where a pipe says that it takes anything, it takes this much without blocking (POSIX `PIPE_BUF`).
_PIPE_BYTES = 4096
_READ_BYTES = 64 * 1024


class ReaderGone(Exception):
    """Nobody reads our output any more."""


class Output:
    """Standard output, or what stands in its place. It has no buffer: what `write` was given is out."""

    def __init__(self, descriptor: int) -> None:
        """Take a descriptor, which stays the caller's."""
        self._descriptor = descriptor
        kind = os.fstat(descriptor).st_mode
        self._pipe = stat.S_ISFIFO(kind)
        self._may_wait = not (stat.S_ISREG(kind) or stat.S_ISBLK(kind))
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    async def write(self, data: bytes) -> None:
        """Write all of it, waiting where the reader takes its time.

        Raises:
            ReaderGone: There is no reader any more.
            OSError: It cannot be written, for instance because the disk is full.

        Cancellation: part of it may be out.
        """
        rest = memoryview(data)
        await trio.lowlevel.checkpoint()
        while rest:
            if self._may_wait and not self._poll.poll(0):
                await self._wait(trio.lowlevel.wait_writable)
            try:
                rest = rest[os.write(self._descriptor, rest[:_PIPE_BYTES]) :]
            except BlockingIOError:  # somebody else made it so, and filled it
                await self._wait(trio.lowlevel.wait_writable)
            except BrokenPipeError:
                raise ReaderGone from None

    async def wait_for_no_reader(self) -> None:
        """Return when a pipe has lost its reader, whether or not there is anything to write; else never.

        Cancellation: safe.
        """
        if not self._pipe:
            await trio.sleep_forever()
        gone = select.poll()
        gone.register(self._descriptor, 0)  # errors are always told
        while not gone.poll(0):
            await self._wait(trio.lowlevel.wait_readable)  # of a pipe's writing end: when there is an error

    async def _wait(self, until: Callable[[int], Awaitable[None]]) -> None:
        try:
            await until(self._descriptor)
        except PermissionError:  # a kind of file that never waits
            self._may_wait = False


class Input:
    """Standard input, or a file. The mutable state is whether it is one that can be waited for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._may_wait = True

    async def read(self) -> bytes:
        """What is there, once there is anything; empty at the end.

        Raises:
            OSError: It cannot be read.

        Cancellation: safe.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._may_wait:
                try:
                    await trio.lowlevel.wait_readable(self._descriptor)
                except PermissionError:  # a file: it never waits
                    self._may_wait = False
            try:
                return os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                pass  # another reader was faster


def run(job: Callable[[], Awaitable[int]]) -> int | signal.Signals:
    """Run until the job ends or SIGINT or SIGTERM cancels it; it may then take a moment to say goodbye.

    Returns:
        What the job returned, or the signal.

    Raises:
        Exception: What the job raised, bare.
    """
    return trio.run(_run, job)


async def _run(job: Callable[[], Awaitable[int]]) -> int | signal.Signals:
    outcome: int | signal.Signals = 0
    async with bare_nursery() as nursery:

        async def watch(*, task_status: trio.TaskStatus[None]) -> None:
            nonlocal outcome
            with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                outcome = signal.Signals(await anext(signals))
            nursery.cancel_scope.cancel()  # a second signal does what it always does

        await nursery.start(watch)
        outcome = await job()
    return outcome
