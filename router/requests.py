"""Connections as Hypercorn is given them: each send under a deadline, and of HTTP/1 one request at a time.

Where a request ends is found by a parser of its own, so that what comes behind it stays here: the front door looks
at each request's head before anybody else does.
"""

from __future__ import annotations

from http import HTTPStatus

import h11
import trio

from router.heads import READ_BYTES, Refused, end_of
from router.tls import ClientStream


class HttpStream(trio.abc.HalfCloseableStream):
    """A connection whose beginning was read already, each send under a deadline.

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

        Cancellation: done all the same. The task that has sent an answer is cancelled right behind it, as often as not.
        """
        self.end_reading()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        """As `send_eof`."""
        await self.send_eof()


class RequestStream(HttpStream):
    """One request of a connection. Behind it only the connection's end is told.

    The mutable state is that of `HttpStream`, and what has come behind the request.

    Attributes:
        behind: That; more is left unread.
        fault: Why the request could not be read to its end.
    """

    def __init__(self, stream: ClientStream, begun: bytes, send_s: float) -> None:
        """Make a stream over another; `begun` has the request's whole head."""
        end = end_of(begun)
        super().__init__(stream, begun[:end], send_s)
        self._framing = Framing(begun[:end])
        self.behind = b""
        self.fault: Refused | None = None
        self._begun += self._take(begun[end:])

    async def _read(self, max_bytes: int | None) -> bytes | bytearray:
        while self.fault is None and len(self.behind) < READ_BYTES:
            data = await self._stream.receive_some(max_bytes)
            if not data:
                return data
            if request := self._take(data):
                return request
        if self.fault is None:
            await trio.sleep_forever()  # until the request is answered: what is here is enough for now
        raise trio.BrokenResourceError

    def _take(self, data: bytes | bytearray) -> bytes | bytearray:
        """The part of what came that is the request's."""
        try:
            size = self._framing.take(data)
        except h11.RemoteProtocolError as error:
            self.fault = Refused(HTTPStatus.BAD_REQUEST, "invalid_message", f"bad request body: {error}")
            return b""
        self.behind += data[size:]
        return data[:size]


class Framing:
    """Where a request ends in the bytes that come; no I/O. The mutable state is its parser's."""

    def __init__(self, head: bytes) -> None:
        """Make it for the request of this head, which is a good one."""
        self._parser = h11.Connection(h11.SERVER)
        self._parser.receive_data(head)
        self._parser.next_event()
        self._look()

    def take(self, data: bytes | bytearray) -> int:
        """How many of these bytes, which come next, are the request's.

        Raises:
            h11.RemoteProtocolError: The body is not framed as the head says.
        """
        if not data or self._parser.their_state is not h11.SEND_BODY:
            return 0  # to the parser no bytes would be the end of the connection
        self._parser.receive_data(bytes(data))
        self._look()
        if self._parser.their_state is h11.SEND_BODY:
            return len(data)
        behind, _ = self._parser.trailing_data
        return len(data) - len(behind)

    def _look(self) -> None:
        while self._parser.their_state is h11.SEND_BODY and self._parser.next_event() is not h11.NEED_DATA:
            pass
