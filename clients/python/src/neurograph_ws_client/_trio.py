"""The client under Trio."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import trio

from neurograph_ws_client.backend import Backend, Event, Stream

T = TypeVar("T")


class TrioStream:
    """A connected socket."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream

    async def receive(self, max_bytes: int) -> bytes:
        """See `Stream`."""
        try:
            return bytes(await self._stream.receive_some(max_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _os_error(error) from None

    async def send(self, data: bytes) -> None:
        """See `Stream`."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise _os_error(error) from None

    async def close(self) -> None:
        """See `Stream`."""
        try:
            await self._stream.aclose()
        except trio.BrokenResourceError:
            pass


class TrioBackend:
    """See `Backend`."""

    needs_nursery = True

    def now(self) -> float:
        """See `Backend`."""
        return trio.current_time()

    def event(self) -> Event:
        """See `Backend`."""
        return trio.Event()

    def task(self) -> object:
        """See `Backend`."""
        return trio.lowlevel.current_task()

    async def connect(self, host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        """See `Backend`."""
        stream = await trio.open_tcp_stream(host, port)
        if tls is None:
            return TrioStream(stream)
        secure = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
        try:
            await secure.do_handshake()
        except trio.BrokenResourceError as error:
            raise _os_error(error) from None
        finally:
            if not _is_up(secure):
                await trio.aclose_forcefully(stream)
        return TrioStream(secure)

    async def within(self, seconds: float, function: Callable[[], Awaitable[T]]) -> T:
        """See `Backend`."""
        with trio.move_on_after(seconds):
            return await function()
        raise TimeoutError

    async def shielded(self, seconds: float, function: Callable[[], Awaitable[object]]) -> None:
        """See `Backend`."""
        with trio.move_on_after(seconds, shield=True):
            await function()

    async def race(self, *functions: Callable[[], Awaitable[object]]) -> None:
        """See `Backend`."""

        async def run(function: Callable[[], Awaitable[object]]) -> None:
            await function()
            nursery.cancel_scope.cancel()

        try:
            async with trio.open_nursery() as nursery:
                for function in functions:
                    nursery.start_soon(run, function)
        except BaseExceptionGroup as errors:
            raise _only(errors) from None

    async def together(self, *functions: Callable[[], Awaitable[object]]) -> None:
        """See `Backend`."""
        try:
            async with trio.open_nursery() as nursery:
                for function in functions:
                    nursery.start_soon(function)
        except BaseExceptionGroup as errors:
            raise _only(errors) from None

    async def breathe(self) -> None:
        """See `Backend`."""
        await trio.lowlevel.checkpoint()

    async def check_cancelled(self) -> None:
        """See `Backend`."""
        await trio.lowlevel.checkpoint_if_cancelled()

    def is_stray(self, error: BaseException) -> bool:
        """See `Backend`. A cancellation never leaves its scope."""
        return False


class Owner:
    """Owns a client's tasks from `__aenter__` to `__aexit__`; those are two calls, so the nursery is opened by hand."""

    def __init__(self, nursery: trio.Nursery, leave: Callable[[None, None, None], Awaitable[object]]) -> None:
        self._nursery = nursery
        self._leave = leave

    @classmethod
    async def open(cls) -> Owner:
        """Open the nursery; `close` must follow, in the same task."""
        manager = trio.open_nursery()
        return cls(await manager.__aenter__(), manager.__aexit__)

    def start(self, function: Callable[[], Awaitable[object]]) -> None:
        """Start a task."""
        self._nursery.start_soon(function)

    async def close(self) -> None:
        """Cancel the tasks, and wait for their end."""
        self._nursery.cancel_scope.cancel()
        await self._leave(None, None, None)


def runs() -> bool:
    """Whether Trio runs the code that asks."""
    return trio.lowlevel.in_trio_run()


def _is_up(stream: trio.SSLStream[trio.SocketStream]) -> bool:
    try:
        stream.selected_alpn_protocol()
    except trio.NeedHandshakeError:
        return False
    return True


def _only(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    return errors.exceptions[0] if len(errors.exceptions) == 1 else errors


def _os_error(error: trio.BrokenResourceError | trio.ClosedResourceError) -> OSError:
    cause = error.__cause__
    return cause if isinstance(cause, OSError) else ConnectionResetError("the connection was cut")


BACKEND: Final[Backend] = TrioBackend()
