"""The front door: reads the head of each request on the one port and leads it to the WebSocket side or to HTTP."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
import trio

from actors import ActorError
from router.addresses import Peer, networks
from router.config import Config
from router.door.heads import (
    READ_BYTES,
    Refused,
    begins_http2,
    linger,
    not_spoken,
    parse_head,
    read_head,
    refuse,
    to_origin_form,
    wants_websocket,
)
from router.door.http import HttpServer
from router.door.listening import address_of
from router.door.tls import ClientStream, Tls
from router.door.visitors import Visitors

log = structlog.get_logger("router.front_door")


class FrontDoor:
    """Takes connections from the listeners.

    The mutable state is how many streams are in its own hands, which of these wait for a request, and whether the
    door is shut. WebSockets belong to their supervisor.
    """

    def __init__(self, config: Config, visitors: Visitors, http: HttpServer, tls: Tls | None = None) -> None:
        """Make a front door.

        Args:
            config: Deadlines and trusted proxies.
            visitors: Lets WebSockets in.
            http: Serves all else.
            tls: What every connection begins with; None: nothing.
        """
        self._config = config
        self._trusted = networks(config.trusted_proxies)
        self._visitors = visitors
        self._http = http
        self._tls = tls
        if tls is not None:
            tls.tell()
        self._shut = False
        self._inside = 0
        #: Those whose request is not whole yet.
        self._waiting: set[trio.CancelScope] = set()
        #: Those who may ask something more, the longest idle first.
        self._idle: dict[trio.CancelScope, None] = {}
        self._emptied = trio.Event()

    @property
    def open(self) -> int:
        """How many connections there are, of any kind."""
        return self._inside + len(self._visitors)

    def take(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        """Serve one connection: a WebSocket goes to a new actor, HTTP is answered by a task in `nursery`.

        Whatever goes wrong is this connection's own: it is logged and ends there.
        """
        self._inside += 1
        nursery.start_soon(self._handle, stream, name="front door")

    def make_way(self) -> None:
        """Make room for more: of the connections without a request close the quarter that had none for longest."""
        for scope in list(self._idle)[: math.ceil(len(self._idle) / 4)]:
            scope.cancel()

    def shut(self) -> None:
        """Close all connections whose request is not whole yet, and those that come now."""
        self._shut = True
        for scope in self._waiting:
            scope.cancel()

    async def wait_empty(self) -> None:
        """Wait until every stream has ended or gone to its actor. Cancellation: safe."""
        await trio.lowlevel.checkpoint()
        while self._inside:
            self._emptied = trio.Event()
            await self._emptied.wait()

    async def _handle(self, stream: trio.SocketStream) -> None:
        address, kept = address_of(stream), False
        try:
            kept = await self._lead(stream, address)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ActorError):
            pass  # the peer has left, or the server is going down
        except* Exception as group:
            log.error("a connection failed", address=address, exc_info=group)
        finally:
            self._inside -= 1
            if not self._inside:
                self._emptied.set()
            if not kept:
                await trio.aclose_forcefully(stream)

    async def _lead(self, plain: trio.SocketStream, address: str) -> bool:
        """Returns whether the stream has gone to an actor."""
        stream: ClientStream | None = plain
        try:
            if self._tls is not None:
                stream = await self._shake_hands(self._tls, plain)
            if stream is None:
                return False
            return await self._serve(stream, Peer(address, "https" if self._tls else "http", self._trusted))
        except Refused as refused:
            log.debug("a request was refused", address=address, status=refused.status.value, reason=refused.detail)
            await refuse(stream or plain, refused, self._config.close_s)
            return False

    async def _shake_hands(self, tls: Tls, plain: trio.SocketStream) -> ClientStream | None:
        with trio.CancelScope() as scope, self._until_shut(scope):
            return await tls.shake_hands(plain, self._config.handshake_s)
        return None

    async def _serve(self, stream: ClientStream, peer: Peer) -> bool:
        """Serve one request after the other. Returns whether the stream has gone to an actor."""
        head = await self._read_head(stream)
        if not head:
            return False
        while head:
            head, request = to_origin_form(head, parse_head(head))
            if self._tls is not None and begins_http2(request):
                raise not_spoken("2.0", "under TLS")  # HTTP/1.1 is what was agreed on
            if wants_websocket(request):
                return await self._visitors.take(stream, head, request, peer.caller(request.headers))
            behind = await self._http.serve(stream, head, request, peer)
            if behind is None:
                return False
            head = await self._read_next_head(stream, behind)
        await linger(stream, self._config.close_s)
        return False

    async def _read_next_head(self, stream: ClientStream, behind: bytes) -> bytes:
        """The head of another request, if one begins before the connection has been idle for too long."""
        if not behind:
            with trio.move_on_after(self._config.http_keep_alive_s) as idle, self._until_shut(idle):
                self._idle[idle] = None
                try:
                    behind = bytes(await stream.receive_some(READ_BYTES))
                finally:
                    del self._idle[idle]
        return await self._read_head(stream, behind) if behind else b""

    async def _read_head(self, stream: ClientStream, begun: bytes = b"") -> bytes:
        with trio.CancelScope() as scope, self._until_shut(scope):
            await trio.lowlevel.checkpoint_if_cancelled()
            return await read_head(stream, self._config.max_head_bytes, self._config.handshake_s, begun)
        return b""

    @contextmanager
    def _until_shut(self, scope: trio.CancelScope) -> Iterator[None]:
        """What waits in this scope for the peer ends when the door is shut."""
        self._waiting.add(scope)
        if self._shut:
            scope.cancel()
        try:
            yield
        finally:
            self._waiting.discard(scope)
