"""What the client needs of an event loop, and which one runs."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Event(Protocol):
    """Something that happens once."""

    def set(self) -> object:
        """It has happened."""

    async def wait(self) -> object:
        """Until it has."""


class Stream(Protocol):
    """A connected socket. Its errors are OSErrors."""

    async def receive(self, max_bytes: int) -> bytes:
        """What there is to read, at least a byte; nothing at the end. Cancellation: safe."""

    async def send(self, data: bytes) -> None:
        """Write all of it, waiting while the peer does not read. Cancellation: a part may be out."""

    async def close(self) -> None:
        """Close it, quickly. No error."""


class Backend(Protocol):
    """An event loop."""

    @property
    def needs_nursery(self) -> bool:
        """Tasks may only be started where something owns them: a nursery."""

    def now(self) -> float:
        """The time in seconds, of a clock that never goes back."""

    def event(self) -> Event:
        """A new event."""

    def task(self) -> object:
        """The task that runs."""

    async def connect(self, host: str, port: int, tls: ssl.SSLContext | None) -> Stream:
        """Open a connection. Raises: OSError."""

    async def within(self, seconds: float, function: Callable[[], Awaitable[T]]) -> T:
        """Call it. Raises: TimeoutError, when the time is over; the call is then cancelled."""

    async def shielded(self, seconds: float, function: Callable[[], Awaitable[object]]) -> None:
        """Call it, also amid a cancellation, and give it so much time."""

    async def race(self, *functions: Callable[[], Awaitable[object]]) -> None:
        """Run them side by side until the first returns, or one raises; the others are then cancelled."""

    async def together(self, *functions: Callable[[], Awaitable[object]]) -> None:
        """Run them side by side until all have returned, or one raises; the others are then cancelled."""

    async def breathe(self) -> None:
        """Let others run."""

    async def check_cancelled(self) -> None:
        """Be cancelled here, if that is due, so that the send that follows is not before its first byte."""

    def is_stray(self, error: BaseException) -> bool:
        """Whether it is a cancellation of something else, that came out of a handler; not of the task that runs."""


class Wake:
    """Wakes one task, which may be waiting or may come to wait. Several sets before the wait are one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._event = backend.event()

    def set(self) -> None:
        """Wake it."""
        self._event.set()

    async def wait(self) -> None:
        """Until it is set. Cancellation: safe."""
        await self._event.wait()
        self._event = self._backend.event()


def current() -> Backend:
    """The event loop that runs; asyncio's where none does."""
    if "trio" in sys.modules:  # it is optional
        from neurograph_ws_client import _trio

        if _trio.runs():
            return _trio.BACKEND
    from neurograph_ws_client import _asyncio

    return _asyncio.BACKEND
