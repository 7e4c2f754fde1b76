"""Writing to a plain socket without waiting."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import trio

#: Takes what the socket has room for, 0 where it has none; raises OSError where the connection is over.
TryWrite = Callable[[bytes | memoryview], int]
#: Waits until a `TryWrite` may take something.
WaitWritable = Callable[[], Awaitable[None]]


def socket_writer(stream: trio.SocketStream) -> TryWrite:
    """A `TryWrite` for a plain socket.

    The descriptor is asked for at every write: a stored one belongs to the next client after a close.
    """
    socket = stream.socket

    def try_write(buffer: bytes | memoryview) -> int:
        try:
            return os.write(socket.fileno(), buffer)
        except BlockingIOError:
            return 0

    return try_write
