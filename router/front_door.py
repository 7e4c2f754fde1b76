"""The front door: reads the head of each request on the one port and leads it to the WebSocket side or to HTTP."""

from __future__ import annotations

import itertools
from functools import partial
from http import HTTPStatus

import h11
import structlog
import trio

from actors import ActorError, ActorRef, ChildSpec, Restart, Supervisor
from router import handshake
from router.config import Config
from router.connection import WAKE, Connection, Services, Wake
from router.errors import CloseCode
from router.http import HeadTooLargeError, HttpServer, NotHttpError, address_of, parse_head, read_head, refuse
from router.lanes import Lane, socket_writer
from router.origin import ForeignRequest, check

log = structlog.get_logger("router.front_door")

WEBSOCKET_PATH = b"/ws"
#: A connection's mailbox takes wake-ups, of which one waits at most.
_MAILBOX_SIZE = 4


class _Refused(Exception):
    """A request that is answered here, by a problem document."""

    def __init__(self, status: HTTPStatus, code: str, detail: str, *headers: tuple[str, str]) -> None:
        super().__init__(detail)
        self.answer = (status, code, detail, headers)


class FrontDoor:
    """Takes connections from the listeners.

    The mutable state is the number of the last connection; connections themselves belong to their supervisor.
    """

    def __init__(self, services: Services, connections: Supervisor, http: HttpServer, max_connections: int) -> None:
        self._services = services
        self._config: Config = services.state.config
        self._connections = connections
        self._http = http
        self._max_connections = max_connections
        self._numbers = itertools.count(1)

    async def handle(self, stream: trio.SocketStream) -> None:
        """Serve one connection: a WebSocket goes to an actor of its own, HTTP is answered in this task.

        Cancellation: the connection is closed at once.
        """
        kept = False
        try:
            head = await self._head(stream)
            if head:
                kept = await self._lead(stream, head)
        except _Refused as refused:
            await self._refuse(stream, refused)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer has left
        finally:
            if not kept:
                await trio.aclose_forcefully(stream)

    async def _head(self, stream: trio.SocketStream) -> bytes:
        limit = self._config.max_head_bytes
        try:
            with trio.fail_after(self._config.handshake_s):
                return await read_head(stream, limit)
        except trio.TooSlowError:
            detail = f"the request head was not whole within {self._config.handshake_s:g} s"
            raise _Refused(HTTPStatus.REQUEST_TIMEOUT, "request_timeout", detail) from None
        except HeadTooLargeError:
            detail = f"the request head is over {limit} bytes"
            raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "payload_too_large", detail) from None
        except NotHttpError:
            raise _Refused(HTTPStatus.BAD_REQUEST, "invalid_message", "this is no HTTP request") from None

    async def _lead(self, stream: trio.SocketStream, head: bytes) -> bool:
        """Returns whether the stream has gone to an actor."""
        request = parse_head(head)
        if request is None or not _wants_websocket(request):
            await self._http.serve(stream, head)
            return False
        self._admit(stream, head, request)
        return True

    def _admit(self, stream: trio.SocketStream, head: bytes, request: h11.Request) -> None:
        """Check what the WebSocket library does not, and start the connection's actor."""
        if request.http_version < b"1.1":
            raise _Refused(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "invalid_message", "a WebSocket needs HTTP/1.1")
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        fields = dict(headers)
        path, _, _ = request.target.partition(b"?")
        if path != WEBSOCKET_PATH:
            raise _Refused(HTTPStatus.NOT_FOUND, "not_found", f"the WebSocket is at {WEBSOCKET_PATH.decode()}")
        try:
            check(self._config, origin=fields.get("origin"), host=fields.get("host"))
            offered = [item.strip() for item in fields.get("sec-websocket-protocol", "").split(",")]
            asked = handshake.read(request.target.decode("latin-1"), headers, offered)
        except ForeignRequest as error:
            raise _Refused(HTTPStatus.FORBIDDEN, "permission_denied", str(error)) from None
        except handshake.BadHandshake as error:
            raise _Refused(HTTPStatus.BAD_REQUEST, "invalid_message", str(error)) from None
        name = f"connection-{next(self._numbers)}"
        full = len(self._connections) >= self._max_connections
        make = partial(self._make, name, stream, head, asked, full)
        self._connections.spawn(ChildSpec(name, make, Restart.TEMPORARY, mailbox_size=_MAILBOX_SIZE))

    def _make(
        self, name: str, stream: trio.SocketStream, head: bytes, asked: handshake.Handshake, full: bool
    ) -> Connection:
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
        if full:
            lane.close(CloseCode.TRY_AGAIN_LATER, f"the limit of {self._max_connections} connections is reached")
        return Connection(lane, asked, self._services, address_of(stream))

    async def _refuse(self, stream: trio.SocketStream, refused: _Refused) -> None:
        """Answer, and take what still comes for a moment: unread input would reset the answer."""
        with trio.move_on_after(self._config.close_s):
            try:
                await refuse(stream, *refused.answer)
                await stream.send_eof()
                while await stream.receive_some():
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass


def _wants_websocket(request: h11.Request) -> bool:
    return any(name == b"upgrade" and value.strip().lower() == b"websocket" for name, value in request.headers)


def _wake(ref: ActorRef[Wake]) -> None:
    try:
        ref.tell(WAKE)
    except ActorError:
        pass  # it is awake already, or over
