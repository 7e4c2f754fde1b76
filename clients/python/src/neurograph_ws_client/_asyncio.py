"""The client under asyncio."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from neurograph_ws_client.backend import Backend, Event, Stream

T = TypeVar("T")

#: The reader keeps up to twice as much; then the socket is not read.
_BUFFER_BYTES: Final = 1 << 17


class AsyncioStream:
    """A connected socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def receive(self, max_bytes: int) -> bytes:
        """See `Stream`."""
        return await self._reader.read(max_bytes)

    async def send(self, data: bytes) -> None:
        """See `Stream`."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """See `Stream`."""
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            pass
        finally:
            self._writer.transport.abort()


class AsyncioBackend:
    """See `Backend`."""

    needs_nursery = False
    now = staticmethod(time.monotonic)

    def event(self) -> Event:
        """See `Backend`."""
        return asyncio.Event()

    def task(self) -> object:
        """See `Backend`."""
        return asyncio.current_task()

    async def connect(self, host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        """See `Backend`."""
        name = None if tls is None else host
        return AsyncioStream(
            *await asyncio.open_connection(host, port, ssl=tls, server_hostname=name, limit=_BUFFER_BYTES)
        )

    async def within(self, seconds: float, function: Callable[[], Awaitable[T]]) -> T:
        """See `Backend`."""
        async with asyncio.timeout(seconds):
            return await function()

    async def shielded(self, seconds: float, function: Callable[[], Awaitable[object]]) -> None:
        """See `Backend`. A cancellation is delivered once, so what is awaited after it needs no shield."""
        try:
            async with asyncio.timeout(seconds):
                await function()
        except TimeoutError:
            pass

    async def race(self, *functions: Callable[[], Awaitable[object]]) -> None:
        """See `Backend`."""
        tasks: list[asyncio.Task[None]] = []

        async def run(function: Callable[[], Awaitable[object]]) -> None:
            await function()
            for task in tasks:
                if task is not asyncio.current_task():
                    task.cancel()

        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(run(function)) for function in functions]
        except BaseExceptionGroup as errors:
            raise _only(errors) from None

    async def together(self, *functions: Callable[[], Awaitable[object]]) -> None:
        """See `Backend`."""

        async def run(function: Callable[[], Awaitable[object]]) -> None:
            await function()

        try:
            async with asyncio.TaskGroup() as group:
                for function in functions:
                    group.create_task(run(function))
        except BaseExceptionGroup as errors:
            raise _only(errors) from None

    async def breathe(self) -> None:
        """See `Backend`."""
        await asyncio.sleep(0)

    async def check_cancelled(self) -> None:
        """See `Backend`. A write takes all bytes at once here, and waits afterwards."""

    def is_stray(self, error: BaseException) -> bool:
        """See `Backend`."""
        task = asyncio.current_task()
        return isinstance(error, asyncio.CancelledError) and task is not None and not task.cancelling()


def _only(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    return errors.exceptions[0] if len(errors.exceptions) == 1 else errors


BACKEND: Final[Backend] = AsyncioBackend()
