"""Serves HTTP/1.1 and HTTP/2 behind the front door, with Hypercorn, whose API is imported here only.

What it would do by itself and must not here: wait for ever in a send that it shields from cancellation, for the
first request of HTTP/2, for leave to send over HTTP/2, or for room for a body that nobody reads; answer a later
upgrade of a kept connection; close while input is unread, which would lose its answer; raise for bad HTTP/2.
"""

from __future__ import annotations

import logging
import math
import sys
from http import HTTPStatus
from typing import Any, TypeVar, cast

import h11
import structlog
import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Event, Updated
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import AppWrapper

from router.addresses import Peer
from router.config import Config
from router.door.exchange import Exchange, scope_of
from router.door.heads import begins_http2, linger
from router.door.streams import HttpStream, RequestStream
from router.door.tls import ClientStream
from router.rest.asgi import App, Receive, Scope, Send, refuse
from router.rest.problems import ProblemError

log = structlog.get_logger("router.http")


class _Server(TCPServer):
    """Hypercorn's server, and what an answer has to know of the connection."""

    def ends(self) -> bool:
        """Whether the connection ends with an answer that begins now, and the peer is to know."""
        return False

    async def ask_for_body(self) -> None:
        """Have the peer send its body, if it waits to be asked. Cancellation: as `RequestStream.send_continue`."""


class _RequestServer(_Server):
    """Answers one request. A connection that may be kept is released instead of waiting there for the next one."""

    kept = False

    async def protocol_send(self, event: Event) -> None:
        if isinstance(event, Updated) and event.idle:
            self.kept = True
            await self.stream.send_eof()
        else:
            await super().protocol_send(event)

    def ends(self) -> bool:
        """Whether the connection ends with an answer that begins now: at the going down, or amid the request."""
        if self.context.terminated.is_set():
            return True
        connection = cast(h11.Connection, self.protocol.protocol.connection)
        return connection.their_state is not h11.DONE

    async def ask_for_body(self) -> None:
        """As said above, but never amid an answer."""
        stream = cast(RequestStream, self.stream)
        if stream.awaits_continue():
            async with self.send_lock:
                await stream.send_continue()


class _Http2Server(_Server):
    """Serves HTTP/2, and ends with its peer. Hypercorn would go on watching an ended connection for idleness.

    The preface it takes for a request that goes on: it would keep a peer that never asks anything for ever, and not
    let go of it when told to terminate.
    """

    _amid_preface = True

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if self._amid_preface and isinstance(event, Updated):
            self._amid_preface = False
        else:
            await super().protocol_send(event)


_ServerT = TypeVar("_ServerT", bound=_Server)


class HttpServer:
    """Serves an ASGI app, in its caller's task: a request of HTTP/1 at a time, or a connection of HTTP/2.

    The mutable state is the streams that are being served.
    """

    def __init__(self, app: App, config: Config) -> None:
        """Make a server; `config` has its deadlines: `http_send_s`, `http_read_s`, `http_keep_alive_s`, `close_s`."""
        self._app = app
        self._send_s = config.http_send_s
        self._read_s = config.http_read_s
        self._linger_s = config.close_s
        self._config = _hypercorn_config(config.http_keep_alive_s)
        self._context = WorkerContext(None)
        self._streams: set[HttpStream] = set()

    async def serve(self, stream: ClientStream, begun: bytes, request: h11.Request, peer: Peer) -> bytes | None:
        """Answer one request, or all of a connection that speaks HTTP/2.

        Args:
            stream: The connection.
            begun: What was read of it, from the request's head on.
            request: What that head says.
            peer: The other end.

        Returns:
            What has come after the request; None: the connection has ended.

        Raises:
            router.door.heads.Refused: The request's body is not valid, and no answer has begun.

        Cancellation: what the app does is cancelled; an answer on its way is held to its deadline.
        """
        if begins_http2(request):
            await self._serve_http2(stream, begun, peer)
        else:
            behind = await self._serve_http1(stream, begun, peer)
            if behind is not None:
                return behind
        await linger(stream, self._linger_s)
        return None

    async def _serve_http1(self, stream: ClientStream, begun: bytes, peer: Peer) -> bytes | None:
        http = RequestStream(stream, begun, self._send_s)
        server = self._make(_RequestServer, http, peer)
        await self._run(server, http)
        if http.fault is not None and not http.answered:
            raise http.fault
        return http.behind if server.kept and not http.broken else None

    async def _serve_http2(self, stream: ClientStream, begun: bytes, peer: Peer) -> None:
        http = HttpStream(stream, begun, self._send_s)
        try:
            await self._run(self._make(_Http2Server, http, peer), http)
        except* Exception as group:  # the app's are held in its exchange: these are Hypercorn's, for what the peer sent
            kinds = [type(error).__name__ for error in group.exceptions]  # what they say may be the peer's secret
            log.debug("an HTTP/2 connection failed", address=peer.address, errors=kinds)

    def _make(self, kind: type[_ServerT], http: HttpStream, peer: Peer) -> _ServerT:
        async def app(scope: Scope, receive: Receive, send: Send, *_: object) -> None:
            if scope["type"] == "http":
                await self._exchange(server, http, scope_of(scope, peer), receive, send)
            else:
                await _refuse_websocket(receive, send)

        # The annotation asks for a TLS stream; the class itself serves any stream that has a socket.
        server = kind(cast(AppWrapper, app), self._config, self._context, {}, cast(Any, http))
        return server

    async def _exchange(self, server: _Server, http: HttpStream, scope: Scope, receive: Receive, send: Send) -> None:
        # An answer of HTTP/1 waits in the stream alone, which has that deadline; one of HTTP/2 for leave to send, too.
        send_s = math.inf if isinstance(http, RequestStream) else self._send_s
        exchange = Exchange(
            receive, send, read_s=self._read_s, send_s=send_s, last=server.ends, ask=server.ask_for_body
        )
        if not await exchange.serve(self._app, scope):
            http.give_up()
            with trio.move_on_after(self._send_s):
                await exchange.discard()

    async def _run(self, server: TCPServer, http: HttpStream) -> None:
        self._streams.add(http)
        try:
            await server.run()
        finally:
            self._streams.discard(http)

    async def terminate(self) -> None:
        """Close idle connections, and the others after their answer."""
        await self._context.terminated.set()

    def give_up(self) -> None:
        """End all sends that wait for a peer; what is not out is lost."""
        for stream in tuple(self._streams):
            stream.give_up()


async def _refuse_websocket(receive: Receive, send: Send) -> None:
    """Refuse a WebSocket inside HTTP/2, of which only Hypercorn has told us."""

    async def deny(message: dict[str, Any]) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    await receive()
    await refuse(deny, ProblemError(HTTPStatus.NOT_IMPLEMENTED, "a WebSocket is opened by HTTP/1.1, not inside HTTP/2"))


def _hypercorn_config(keep_alive_s: float) -> HypercornConfig:
    config = HypercornConfig()
    config.accesslog = None
    config.errorlog = logging.getLogger("hypercorn.error")
    config.keep_alive_timeout = keep_alive_s
    # Of HTTP/2, where a limit would lose the answers that are under way when it is reached.
    config.keep_alive_max_requests = sys.maxsize
    config.include_server_header = False
    return config
