"""Hypercorn, and all that is known of its ways, in one place: it serves HTTP/1.1 and HTTP/2 behind the front door.

What it would do by itself and must not here: wait for ever in a send that it shields from cancellation, or for the
first request of HTTP/2; answer a later upgrade of a kept connection; close while input is unread, which would lose
its answer.
"""

from __future__ import annotations

import logging
import sys
from typing import cast

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Event, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework

from router.heads import becomes_http2, end_of, has_body, linger


class HttpStream(trio.abc.HalfCloseableStream):
    """A connection as Hypercorn is given it: its head read already, each send under a deadline.

    The mutable state is the head until it is read, whether Hypercorn is done, and the scopes of the send and the read
    that wait. The socket is closed by whoever opened it.
    """

    def __init__(self, stream: trio.SocketStream, head: bytes, send_s: float, *, more: bool = True) -> None:
        """Make a stream over another.

        Args:
            stream: The connection.
            head: What was read of it.
            send_s: How long the peer may take for each piece of an answer.
            more: Whether the request goes on behind `head`. Where not, only the connection's end is told: Hypercorn
                would break off its answer for bytes that follow the last request.
        """
        self._stream = stream
        self._head = head
        self._send_s = send_s
        self._more = more
        self._closed = False
        self._sending = trio.CancelScope()
        self._reading = trio.CancelScope()

    @property
    def socket(self) -> trio.socket.SocketType:
        """For the addresses."""
        return self._stream.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """The head first, then what comes.

        Raises:
            trio.ClosedResourceError: `aclose` was called, before or while this waits.
        """
        if self._head:
            head, self._head = self._head, b""
            return head
        if not self._closed:
            with trio.CancelScope() as self._reading:
                data = await self._stream.receive_some(max_bytes)
                while data and not self._more:
                    data = await self._stream.receive_some(max_bytes)
                return data
        raise trio.ClosedResourceError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send within the deadline, and nothing after one that was missed.

        Hypercorn shields its sends, so only what is inside the shield, as this deadline, ends a send that waits.

        Raises:
            trio.BrokenResourceError: The peer has left or does not read.
        """
        if not self._closed:
            with trio.move_on_after(self._send_s) as self._sending:
                await self._stream.send_all(data)
                return
            self.give_up()  # half an answer may be out: nothing can follow it
        raise trio.BrokenResourceError

    def give_up(self) -> None:
        """End a send that waits, and all else."""
        self._sending.cancel()
        self._end_reading()

    def _end_reading(self) -> None:
        self._closed = True
        self._reading.cancel()

    async def wait_send_all_might_not_block(self) -> None:
        """As the socket says."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End Hypercorn's reading. The socket is left to `HttpServer`.

        Cancellation: done all the same. The task that has sent an answer is cancelled right behind it, as often as not.
        """
        self._end_reading()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """As `send_eof`."""
        await self.send_eof()


class _PrefacedServer(TCPServer):
    """A connection that begins with HTTP/2's preface, which Hypercorn takes for a request that goes on.

    So it would bear a peer that never asks anything for ever, and not let go of it when told to terminate.
    """

    _amid_preface = True

    async def protocol_send(self, event: Event) -> None:
        if self._amid_preface and isinstance(event, Updated):
            self._amid_preface = False
        else:
            await super().protocol_send(event)


class HttpServer:
    """Serves an ASGI app, a connection at a time, in its caller's task.

    The mutable state is the streams that are being served.
    """

    def __init__(self, app: object, send_s: float, linger_s: float) -> None:
        """Make a server.

        Args:
            app: An ASGI app.
            send_s: How long the peer may take for each piece of an answer.
            linger_s: How long after the last answer the peer's close is waited for.
        """
        self._app = ASGIWrapper(cast(ASGIFramework, app))
        self._send_s = send_s
        self._linger_s = linger_s
        # A later request of a kept connection could be an upgrade, which must not pass by the front door.
        self._http1 = _hypercorn_config(max_requests=1)
        # HTTP/2 has no such upgrade; a limit would only lose the answers that are under way when it is reached.
        self._http2 = _hypercorn_config(max_requests=sys.maxsize)
        self._context = WorkerContext(None)
        self._streams: set[HttpStream] = set()

    async def serve(self, stream: trio.SocketStream, head: bytes, request: h11.Request) -> None:
        """Answer one connection; `head` is what was read of it, `request` what stands there.

        Cancellation: what the app does is cancelled; an answer on its way is held to its deadline.
        """
        if becomes_http2(request):
            config = self._http2
            http = HttpStream(stream, head, self._send_s)
        else:
            config = self._http1
            more = has_body(request)
            http = HttpStream(stream, head if more else head[: end_of(head)], self._send_s, more=more)
        self._streams.add(http)
        try:
            server = _PrefacedServer if request.http_version == b"2.0" else TCPServer
            # The annotation asks for a TLS stream; the class itself serves any stream that has a socket.
            await server(self._app, config, self._context, {}, http).run()  # type: ignore[arg-type]
        finally:
            self._streams.discard(http)
        await linger(stream, self._linger_s)

    async def terminate(self) -> None:
        """Close idle connections, and the others after their answer."""
        await self._context.terminated.set()

    def give_up(self) -> None:
        """End all sends that wait for a peer; what is not out is lost."""
        for stream in tuple(self._streams):
            stream.give_up()


def _hypercorn_config(max_requests: int) -> HypercornConfig:
    config = HypercornConfig()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.keep_alive_max_requests = max_requests
    config.include_server_header = False
    return config
