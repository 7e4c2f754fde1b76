"""The front door: reads the head of each request on the one port and leads it to the WebSocket side or to HTTP."""

from __future__ import annotations

import base64
import hashlib
import itertools
from functools import partial
from http import HTTPStatus

import h11
import structlog
import trio

from actors import ActorError, ActorRef, ChildSpec, Restart, Supervisor
from router import handshake
from router.connection import WAKE, Connection, Services, Wake
from router.errors import CloseCode
from router.frames import CLOSE, frame
from router.handshake import Handshake
from router.heads import Refused, check_upgrade, linger, parse_head, read_head, refuse, values, wants_websocket
from router.http import HttpServer
from router.lanes import Lane, socket_writer
from router.listening import address_of
from router.origin import ForeignRequest, check

log = structlog.get_logger("router.front_door")

WEBSOCKET_PATH = b"/ws"
_SUBPROTOCOL = "sec-websocket-protocol"
#: What the accepted key is made with (RFC 6455 section 1.3).
_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: A connection's mailbox takes wake-ups, of which one waits at most.
_MAILBOX_SIZE = 4


class FrontDoor:
    """Takes connections from the listeners.

    The mutable state is the number of the last WebSocket, how many streams are in its own hands, which of these
    wait for a head, and whether the door is shut. WebSockets belong to their supervisor.
    """

    def __init__(self, services: Services, connections: Supervisor, http: HttpServer, max_connections: int) -> None:
        """Make a front door.

        Args:
            services: What WebSockets share.
            connections: Supervises them.
            http: Serves all else.
            max_connections: WebSockets beyond this number are closed 1013 when they have opened.
        """
        self._services = services
        self._config = services.state.config
        self._connections = connections
        self._http = http
        self._max_connections = max_connections
        self._numbers = itertools.count(1)
        self._shut = False
        self._inside = 0
        self._waiting_for_heads: set[trio.CancelScope] = set()
        self._emptied = trio.Event()

    @property
    def open(self) -> int:
        """How many connections there are, of any kind."""
        return self._inside + len(self._connections)

    def take(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        """Serve one connection: a WebSocket goes to an actor of its own, HTTP is answered by a task in `nursery`.

        Whatever goes wrong is this connection's own: it is logged and ends there.
        """
        self._inside += 1
        nursery.start_soon(self._handle, stream, name="front door")

    async def _handle(self, stream: trio.SocketStream) -> None:
        kept = False
        try:
            kept = await self._lead(stream)
        except* (trio.BrokenResourceError, trio.ClosedResourceError, ActorError):
            pass  # the peer has left, or the server is going down
        except* Exception as group:
            log.error("a connection failed", address=address_of(stream), exc_info=group)
        finally:
            self._inside -= 1
            if not self._inside:
                self._emptied.set()
            if not kept:
                await trio.aclose_forcefully(stream)

    def shut(self) -> None:
        """Close all connections whose request is not whole yet, and those that come now."""
        self._shut = True
        for scope in self._waiting_for_heads:
            scope.cancel()

    async def wait_empty(self) -> None:
        """Wait until every stream has ended or gone to its actor. Cancellation: safe."""
        await trio.lowlevel.checkpoint()
        while self._inside:
            self._emptied = trio.Event()
            await self._emptied.wait()

    async def _lead(self, stream: trio.SocketStream) -> bool:
        """Returns whether the stream has gone to an actor."""
        try:
            head = await self._read_head(stream)
            if not head:
                return False
            request = parse_head(head)
            asked = self._read_handshake(request) if wants_websocket(request) else None
        except Refused as refused:
            await refuse(stream, refused, self._config.close_s)
            return False
        if asked is None:
            await self._http.serve(stream, head, request)
            return False
        if len(self._connections) >= self._max_connections:
            await self._turn_away(stream, request, asked)
            return False
        self._admit(stream, head, asked)
        return True

    async def _read_head(self, stream: trio.SocketStream) -> bytes:
        head = b""
        if not self._shut:
            with trio.CancelScope() as waiting:
                self._waiting_for_heads.add(waiting)
                try:
                    head = await read_head(stream, self._config.max_head_bytes, self._config.handshake_s)
                finally:
                    self._waiting_for_heads.discard(waiting)
        return head

    def _read_handshake(self, request: h11.Request) -> Handshake:
        if request.target.partition(b"?")[0] != WEBSOCKET_PATH:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", f"the WebSocket is at {WEBSOCKET_PATH.decode()}")
        check_upgrade(request)
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
        offered = [item.strip() for name, value in headers if name == _SUBPROTOCOL for item in value.split(",")]
        try:
            check(self._config, origin=_text(values(request, b"origin")), host=_text(values(request, b"host")))
            return handshake.read(request.target.decode(), headers, offered)
        except ForeignRequest as error:
            raise Refused(HTTPStatus.FORBIDDEN, "permission_denied", str(error)) from None
        except handshake.BadHandshake as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "invalid_message", str(error)) from None

    def _admit(self, stream: trio.SocketStream, head: bytes, asked: Handshake) -> None:
        """Start the connection's actor."""
        name = f"connection-{next(self._numbers)}"
        make = partial(self._make, name, stream, head, asked)
        self._connections.spawn(ChildSpec(name, make, Restart.TEMPORARY, mailbox_size=_MAILBOX_SIZE))

    def _make(self, name: str, stream: trio.SocketStream, head: bytes, asked: Handshake) -> Connection:
        lane = Lane(
            stream,
            head,
            wake=partial(_wake, self._connections.ref(name)),
            max_message_bytes=self._config.max_message_bytes,
            try_write=socket_writer(stream),
            wait_writable=partial(trio.lowlevel.wait_writable, stream.socket),
            max_control_messages=self._config.control_messages,
            max_control_bytes=self._config.control_bytes,
        )
        return Connection(lane, asked, self._services, address_of(stream))

    async def _turn_away(self, stream: trio.SocketStream, request: h11.Request, asked: Handshake) -> None:
        """Complete the handshake, for browsers cannot read a failed one, and close. No actor is spent on it."""
        (key,) = values(request, b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + _KEY_SUFFIX, usedforsecurity=False).digest())
        lines = [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: " + accept,
        ]
        if asked.subprotocol is not None:
            lines.append(b"Sec-WebSocket-Protocol: " + asked.subprotocol.encode())
        reason = f"the limit of {self._max_connections} connections is reached"
        close = frame(CLOSE, CloseCode.TRY_AGAIN_LATER.to_bytes(2, "big") + reason.encode())
        with trio.move_on_after(self._config.close_s):
            await stream.send_all(b"\r\n".join([*lines, b"", close]))
            await linger(stream, self._config.close_s)


def _text(values: list[bytes]) -> str | None:
    return b", ".join(values).decode("latin-1") if values else None


def _wake(ref: ActorRef[Wake]) -> None:
    try:
        ref.tell(WAKE)
    except ActorError:
        pass  # it is awake already, or over
