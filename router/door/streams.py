"""Connections as Hypercorn sees them: each send under a deadline, and with HTTP/1 one request at a time.

Where a request ends is found by a separate parser, so that what comes after it stays here: the front door looks
at each request's head before anybody else does.
"""

from __future__ import annotations

from http import HTTPStatus

import h11
import trio

from router.door.heads import READ_BYTES, Refused, end_of
from router.door.tls import ClientStream

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class HttpStream(trio.abc.HalfCloseableStream):
    """A connection whose beginning has been read, with each send under a deadline.

    The mutable state is that beginning until it is read, whether Hypercorn is done, and the scopes of the send and
    the read that wait. The socket is closed by whoever opened it.

    Attributes:
        answered: Something was sent.
        broken: The peer has left or does not read: nothing more can be sent.
    """

    def __init__(self, stream: ClientStream, begun: bytes, send_s: float) -> None:
        """Make a stream over another.

        Args:
            stream: The connection.
            begun: What was read of it.
            send_s: How long the peer may take for each piece of an answer.
        """
        self._stream = stream
        self._begun = begun
        self._send_s = send_s
        self._closed = False
        self.answered = False
        self.broken = False
        self._sending = trio.CancelScope()
        self._reading = trio.CancelScope()

    @property
    def socket(self) -> trio.socket.SocketType:
        """For the addresses."""
        return self._stream.socket

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """What was read first, then what comes.

        Raises:
            trio.ClosedResourceError: `aclose` was called, before or while this waits.
        """
        if self._begun:
            begun, self._begun = self._begun, b""
            return begun
        if not self._closed:
            with trio.CancelScope() as self._reading:
                return await self._read(max_bytes)
        raise trio.ClosedResourceError

    async def _read(self, max_bytes: int | None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send within the deadline, and nothing after one that was missed.

        Hypercorn shields its sends, so only what is inside the shield, as this deadline, ends a send that waits.

        Raises:
            trio.BrokenResourceError: The peer has left or does not read.
        """
        if not self._closed:
            self.answered = True
            with trio.move_on_after(self._send_s) as self._sending:
                try:
                    await self._stream.send_all(data)
                    return
                except trio.BrokenResourceError:
                    pass
            self.give_up()  # half an answer may be out: nothing can follow it
        raise trio.BrokenResourceError

    def give_up(self) -> None:
        """End a send that waits, and all else."""
        self.broken = True
        self._sending.cancel()
        self.end_reading()

    def end_reading(self) -> None:
        """Let Hypercorn go."""
        self._closed = True
        self._reading.cancel()

    async def wait_send_all_might_not_block(self) -> None:
        """As the socket says."""
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        """End Hypercorn's reading. The socket is left to `HttpServer`.

        Cancellation: done all the same. The task that has sent an answer is cancelled right after it, as often as not.
        """
        self.end_reading()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """As `send_eof`."""
        await self.send_eof()


class RequestStream(HttpStream):
    """One request of a connection, without the headers that are not for Hypercorn. After it only the end is reported.

    The mutable state is that of `HttpStream`, whether the body was asked for, and what has come after the request.

    Attributes:
        behind: That; more is left unread.
        fault: Why the request could not be read to its end.
    """

    def __init__(self, stream: ClientStream, begun: bytes, send_s: float) -> None:
        """Make a stream over another; `begun` has the request's whole head."""
        end = end_of(begun)
        self._framing = Framing(begun[:end])
        super().__init__(stream, _head_of(self._framing.request), send_s)
        self._asked = False
        self.behind = b""
        self.fault: Refused | None = None
        self._begun += self._take(begun[end:])

    async def _read(self, max_bytes: int | None) -> bytes | bytearray:
        while self.fault is None and len(self.behind) < READ_BYTES:
            data = await self._stream.receive_some(max_bytes)
            if not data:
                if self._framing.is_whole():
                    return data
                self.fault = _bad_body("it ended before it was whole")
            elif request := self._take(data):
                return request
        if self.fault is None:
            await trio.sleep_forever()  # until the request is answered: what is here is enough for now
        raise trio.BrokenResourceError

    def awaits_continue(self) -> bool:
        """Whether the peer waits to be asked for its body, and was neither asked nor answered."""
        return self._framing.awaits_continue() and not (self._asked or self.answered)

    async def send_continue(self) -> None:
        """Ask for the body, if the peer waits for that. Nothing else must be on its way out.

        Cancellation: held up until it is sent, or its deadline has passed.
        """
        await trio.lowlevel.checkpoint()
        if self.awaits_continue():
            self._asked = True
            with trio.CancelScope(shield=True):
                try:
                    await self.send_all(_CONTINUE)
                except trio.BrokenResourceError:
                    return  # whoever reads is told
            self.answered = False

    def _take(self, data: bytes | bytearray) -> bytes | bytearray:
        """The part of what came that is the request's."""
        try:
            size = self._framing.take(data)
        except h11.RemoteProtocolError:
            self.fault = _bad_body("a chunk is its size in hexadecimal, a line end, so many bytes, and a line end")
            return b""
        self.behind += data[size:]
        return data[:size]


def _head_of(request: h11.Request) -> bytes:
    """The head as Hypercorn may see it. By itself it would switch to HTTP/2, and ask for a body before the app does."""
    headers = [
        name + b": " + value
        for name, value in request.headers.raw_items()
        if name.lower() not in (b"upgrade", b"http2-settings", b"expect")
    ]
    line = b"%s %s HTTP/%s" % (request.method, request.target, request.http_version)
    return b"\r\n".join([line, *headers, b"", b""])


def _bad_body(reason: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, "invalid_message", f"bad request body: {reason}")


class Framing:
    """Where a request ends in the bytes that come; no I/O. The mutable state is its parser's.

    Attributes:
        request: What the head says.
    """

    def __init__(self, head: bytes) -> None:
        """Make it for the request of this head, which is a good one."""
        self._parser = h11.Connection(h11.SERVER)
        self._parser.receive_data(head)
        request = self._parser.next_event()
        assert isinstance(request, h11.Request), "a good head is a request"
        self.request = request
        self._look()

    def is_whole(self) -> bool:
        """Whether nothing more of the request is to come."""
        return self._parser.their_state is not h11.SEND_BODY

    def awaits_continue(self) -> bool:
        """Whether the peer sends its body when it is asked to, and has not begun."""
        return self._parser.they_are_waiting_for_100_continue

    def take(self, data: bytes | bytearray) -> int:
        """How many of these bytes, which come next, are the request's.

        Raises:
            h11.RemoteProtocolError: The body is not framed as the head says.
        """
        if not data or self.is_whole():
            return 0  # to the parser no bytes would be the end of the connection
        self._parser.receive_data(bytes(data))
        self._look()
        if not self.is_whole():
            return len(data)
        behind, _ = self._parser.trailing_data
        return len(data) - len(behind)

    def _look(self) -> None:
        while not self.is_whole() and self._parser.next_event() is not h11.NEED_DATA:
            pass
