"""Memory streams in a socket's clothes, and what an ASGI app is made of."""

from typing import Final, cast

import trio

from router.rest.asgi import Receive, Scope, Send

#: Passes only where something hangs; nothing here takes as long, also by a clock that jumps.
DEADLINE_S: Final = 100


class Socket:
    """What Hypercorn asks a socket for."""

    family = trio.socket.AF_INET

    def getpeername(self) -> tuple[str, int]:
        return "192.0.2.1", 1234

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.2", 80


class Wire(trio.abc.HalfCloseableStream):
    """A stream in memory with such a socket, as far as a socket stream is needed here."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self.socket = Socket()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


def as_socket_stream(stream: trio.abc.HalfCloseableStream) -> trio.SocketStream:
    return cast(trio.SocketStream, Wire(stream))


async def answer(scope: Scope, receive: Receive, send: Send, body: bytes = b"hello") -> None:
    """An app that answers every request without looking at it."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while more := await stream.receive_some():
        data += more
    return data
