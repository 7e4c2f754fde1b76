"""Plain HTTP under the front door: request heads, short answers, and Hypercorn for everything else."""

from __future__ import annotations

import logging
import socket
from http import HTTPStatus
from typing import cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework

from router.rest.problems import CONTENT_TYPE, problem

READ_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"


class HeadTooLargeError(Exception):
    """A request head over the limit."""


class NotHttpError(Exception):
    """Bytes that begin no request, as those of TLS."""


async def read_head(stream: trio.abc.ReceiveStream, max_bytes: int) -> bytes:
    """Read a request head, and what came with it.

    Returns:
        The bytes; empty where the peer left before its head was whole.

    Raises:
        HeadTooLargeError: There is no end within `max_bytes`.
        NotHttpError: No method begins with its first byte.

    Cancellation: what was read is lost; the stream is to be closed.
    """
    head = b""
    while _HEAD_END not in head:
        if len(head) >= max_bytes:
            raise HeadTooLargeError
        data = bytes(await stream.receive_some(READ_BYTES))
        if not data:
            return b""
        head += data
        if not chr(head[0]).isalpha():
            raise NotHttpError
    if head.index(_HEAD_END) > max_bytes:
        raise HeadTooLargeError
    return head


def parse_head(head: bytes) -> h11.Request | None:
    """The request of a head; None: it is none that HTTP/1.1 knows, HTTP/2's preface among them."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head[: head.index(_HEAD_END) + len(_HEAD_END)])
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    return event if isinstance(event, h11.Request) else None


async def refuse(
    stream: trio.abc.Stream, status: HTTPStatus, code: str, detail: str, headers: tuple[tuple[str, str], ...] = ()
) -> None:
    """Answer a request by a problem document and say that no other will be answered.

    Raises:
        trio.BrokenResourceError: The peer has left.
    """
    body = problem(status, code, detail)
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers),
    ]
    await stream.send_all("\r\n".join(lines).encode("latin-1") + _HEAD_END + body)


class HttpStream(trio.abc.HalfCloseableStream):
    """A connection as Hypercorn is given it: its head read already, each send under a deadline.

    Hypercorn shields its sends, so a peer that stops reading would hold its task for ever; the deadline inside
    `send_all` ends that from below.
    """

    def __init__(self, stream: trio.SocketStream, head: bytes, send_s: float) -> None:
        self._stream = stream
        self._head = head
        self._send_s = send_s

    @property
    def socket(self) -> trio.socket.SocketType:
        """For the addresses."""
        return self._stream.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """The head first, then what comes."""
        if self._head:
            head, self._head = self._head, b""
            return head
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send within the deadline, or close.

        Raises:
            trio.BrokenResourceError: The peer has left or does not read.
        """
        with trio.move_on_after(self._send_s) as deadline:
            await self._stream.send_all(data)
        if deadline.cancelled_caught:
            await trio.aclose_forcefully(self._stream)
            raise trio.BrokenResourceError(f"the peer took nothing for {self._send_s:g} s")

    async def wait_send_all_might_not_block(self) -> None:
        """As the socket says."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """No more from this side."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """Close."""
        await self._stream.aclose()


class HttpServer:
    """Serves an ASGI app, a connection at a time, in its caller's task."""

    def __init__(self, app: object, send_s: float) -> None:
        self._app = ASGIWrapper(cast(ASGIFramework, app))
        self._send_s = send_s
        self._config = HypercornConfig()
        self._config.accesslog = None
        self._config.errorlog = logging.getLogger("hypercorn.error")
        # A later request of a kept connection could be an upgrade, which must not pass by the front door.
        self._config.keep_alive_max_requests = 1
        self._config.include_server_header = False
        self._context = WorkerContext(None)

    async def serve(self, stream: trio.SocketStream, head: bytes) -> None:
        """Answer one connection. Cancellation: it is closed at once."""
        http = HttpStream(stream, head, self._send_s)
        # The annotation asks for a TLS stream; the class itself serves any stream that has a socket.
        await TCPServer(self._app, self._config, self._context, {}, http).run()  # type: ignore[arg-type]

    async def terminate(self) -> None:
        """Close idle connections, and the others after their answer."""
        await self._context.terminated.set()


def address_of(stream: trio.SocketStream) -> str:
    """The peer's address, for logs and limits."""
    try:
        peer = stream.socket.getpeername()
    except OSError:
        return "unknown"
    return str(peer[0]) if stream.socket.family in (socket.AF_INET, socket.AF_INET6) else "local"
