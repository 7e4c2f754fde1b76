"""WebSockets on their way in: checks the handshake and the limits, and starts an actor for each one that is let in."""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

import h11
import trio

from actors import ActorError, ActorRef, ChildSpec, Mailbox, Restart, Supervisor
from router import handshake
from router.addresses import Caller
from router.connection import WAKE, Connection, Services, Wake
from router.door.heads import Refused, check_upgrade, linger, values
from router.door.tls import ClientStream
from router.errors import CloseCode
from router.frames import CLOSE, frame
from router.handshake import Handshake
from router.lanes import Lane, socket_writer
from router.origin import ForeignRequest, check

WEBSOCKET_PATH = b"/ws"
_SUBPROTOCOL = "sec-websocket-protocol"
#: What the accepted key is made with (RFC 6455 section 1.3).
_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: A connection's mailbox takes wake-ups, of which one waits at most.
_MAILBOX_SIZE = 4


class Visitors:
    """Lets WebSockets in.

    The mutable state is the number of the last one, and how many there are of each address.
    """

    def __init__(self, services: Services, connections: Supervisor, max_connections: int) -> None:
        """Make it.

        Args:
            services: What WebSockets share.
            connections: Supervises them.
            max_connections: WebSockets beyond this number are closed 1013 when they have opened.
        """
        self._services = services
        self._config = services.state.config
        self._connections = connections
        self._max_connections = max_connections
        self._numbers = itertools.count(1)
        self._of_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._connections)

    async def take(self, stream: ClientStream, head: bytes, request: h11.Request, caller: Caller) -> bool:
        """Let a WebSocket in, or turn it away.

        Args:
            stream: The connection.
            head: What was read of it, from the request's head on.
            request: What that head says.
            caller: Whose request it is.

        Returns:
            Whether the stream has gone to an actor.

        Raises:
            Refused: It is not a handshake, or not one that can be met.
            actors.ActorError: The server is going down.
        """
        asked = self._read_handshake(request, caller)
        limit = self._reached(caller)
        if limit is not None:
            await self._turn_away(stream, request, asked, limit)
            return False
        self._admit(stream, head, asked, caller.address)
        return True

    def _read_handshake(self, request: h11.Request, caller: Caller) -> Handshake:
        if request.target.partition(b"?")[0] != WEBSOCKET_PATH:
            raise Refused(HTTPStatus.NOT_FOUND, "not_found", f"the WebSocket is at {WEBSOCKET_PATH.decode()}")
        check_upgrade(request)
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
        offered = [item.strip() for name, value in headers if name == _SUBPROTOCOL for item in value.split(",")]
        origin, host = _text(values(request, b"origin")), _text(values(request, b"host"))
        try:
            check(self._config, origin=origin, host=host, scheme=caller.scheme)
            return handshake.read(request.target.decode(), headers, offered)
        except ForeignRequest as error:
            raise Refused(HTTPStatus.FORBIDDEN, "permission_denied", str(error)) from None
        except handshake.BadHandshake as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "invalid_message", str(error)) from None

    def _reached(self, caller: Caller) -> str | None:
        """The limit that is reached."""
        if len(self._connections) >= self._max_connections:
            return f"the limit of {self._max_connections} connections is reached"
        of_address = self._config.max_connections_per_address
        if of_address is not None and self._of_address[caller.address] >= of_address:
            return f"the limit of {of_address} connections from one address is reached"
        return None

    def _admit(self, stream: ClientStream, head: bytes, asked: Handshake, address: str) -> None:
        """Start the connection's actor."""
        name = f"connection-{next(self._numbers)}"
        make = partial(self._make, name, stream, head, asked, address)
        visit = partial(_Visit, make, partial(self._leave, address))
        self._connections.spawn(ChildSpec(name, visit, Restart.TEMPORARY, mailbox_size=_MAILBOX_SIZE))
        self._of_address[address] += 1

    def _leave(self, address: str) -> None:
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]

    def _make(self, name: str, stream: ClientStream, head: bytes, asked: Handshake, address: str) -> Connection:
        # Past TLS nothing can be written straight to the socket.
        plain = stream if isinstance(stream, trio.SocketStream) else None
        lane = Lane(
            stream,
            head,
            wake=partial(wake, self._connections.ref(name)),
            max_message_bytes=self._config.max_message_bytes,
            try_write=socket_writer(plain) if plain else None,
            wait_writable=partial(trio.lowlevel.wait_writable, plain.socket) if plain else None,
            max_control_messages=self._config.control_messages,
            max_control_bytes=self._config.control_bytes,
        )
        return Connection(lane, asked, self._services, address)

    async def _turn_away(self, stream: ClientStream, request: h11.Request, asked: Handshake, limit: str) -> None:
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
        close = frame(CLOSE, CloseCode.TRY_AGAIN_LATER.to_bytes(2, "big") + limit.encode())
        with trio.move_on_after(self._config.close_s):
            await stream.send_all(b"\r\n".join([*lines, b"", close]))
            await linger(stream, self._config.close_s)


class _Visit:
    """A connection's actor; however it ends, that is reported."""

    def __init__(self, make: Callable[[], Connection], leave: Callable[[], None]) -> None:
        self._make = make
        self._leave = leave

    async def run(self, mailbox: Mailbox[Wake], *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        try:
            await self._make().run(mailbox, task_status=trio.TASK_STATUS_IGNORED)
        finally:
            self._leave()


def _text(given: list[bytes]) -> str | None:
    return b", ".join(given).decode("latin-1") if given else None


def wake(ref: ActorRef[Wake]) -> None:
    """Wake a connection's writer; harmless where it need not or cannot be woken."""
    try:
        ref.tell(WAKE)
    except ActorError:
        pass
