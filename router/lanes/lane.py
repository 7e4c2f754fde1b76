"""The stream that the WebSocket library is given in place of the socket: both lanes over it.

The library's own reader task drives the inbound lane: its `receive_some` reads, lifts whole messages and hands
them over, and returns to the library only what the library must see. No second reading task is needed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from router.errors import CloseCode
from router.frames import Binary
from router.lanes.inbound import Lifter, MessageTooBigError
from router.lanes.outbound import OutboundLane
from router.lanes.sockets import TryWrite, WaitWritable

READ_BYTES = 64 * 1024
#: After a read that was full: more is waiting, and one large read costs less than several.
FULL_READ_BYTES = 256 * 1024

#: Takes the whole messages of one read, in order. While it waits, nothing is read: that is the back-pressure.
Deliver = Callable[[list[bytes]], Awaitable[None]]
#: The library's `get_message`.
GetMessage = Callable[[], Awaitable[str | bytes]]


class Lane(OutboundLane, trio.abc.Stream):
    """Both lanes of one connection.

    The mutable state is the lifter's and the outbound lane's, plus what the liveness watch reads: `heard_at`, when
    bytes came last, and `begun_at`, since when a message is unfinished (seconds on Trio's clock); and `handing_over`:
    nothing is read as long as messages are being delivered.
    """

    __slots__ = (
        "_deliver", "_get_message", "_head", "_lifter", "_max_message_bytes", "_opened", "_read_bytes", "_transport",
        "begun_at", "handing_over", "heard_at", "left", "on_left",
    )  # fmt: skip

    def __init__(
        self,
        stream: trio.abc.Stream,
        head: bytes,
        *,
        wake: Callable[[], None],
        max_message_bytes: int,
        try_write: TryWrite | None = None,
        wait_writable: WaitWritable | None = None,
        max_control_messages: int = 1000,
        max_control_bytes: int = 1 << 20,
    ) -> None:
        """Make the lanes over `stream`.

        Args:
            stream: The connection.
            head: The request head that was read from it, and what came with it.
            wake: See `OutboundLane`.
            max_message_bytes: A longer message is not taken; the connection is closed 1009.
            try_write: See `OutboundLane`.
            wait_writable: See `OutboundLane`.
            max_control_messages: See `OutboundLane`.
            max_control_bytes: See `OutboundLane`.
        """
        super().__init__(
            stream,
            wake=wake,
            try_write=try_write,
            wait_writable=wait_writable,
            max_control_messages=max_control_messages,
            max_control_bytes=max_control_bytes,
        )
        self._transport = stream
        end = head.index(b"\r\n\r\n") + 4
        self._head = head[:end]
        self._max_message_bytes = max_message_bytes
        self._lifter = Lifter(max_message_bytes)
        self._lifter.feed(head[end:])
        self._read_bytes = READ_BYTES
        self._opened: trio.Event | None = trio.Event()
        self._deliver: Deliver | None = None
        self._get_message: GetMessage | None = None
        self.heard_at = trio.current_time()
        self.begun_at: float | None = None
        self.handing_over = False
        #: The library is done with this stream.
        self.left = False
        #: Called when it is, as long as nobody reads the mailbox yet.
        self.on_left: Callable[[], None] | None = None

    def open(self, deliver: Deliver, get_message: GetMessage) -> None:
        """Begin to read messages. Before this only the request head is read."""
        self._deliver, self._get_message = deliver, get_message
        if self._opened is not None:
            self._opened.set()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The library's way in: bytes that are not ours to lift, empty at the end.

        Cancellation: safe; what was read is kept, but for messages that `deliver` had begun to take.
        """
        if self.left:
            raise trio.ClosedResourceError  # the library reads once more after it has closed
        if self._head:
            head, self._head = self._head, b""
            return head
        if self._opened is not None:
            await self._opened.wait()
            self._opened = None
        if self._lifter.message_passed and not self.closing:
            await self._hand_over_passed()
        while True:
            if self.close_request is not None:
                await self.until_close_sent()  # else the peer's close might be answered, and ours never be said
            messages = [] if self.closing else self._lifter.lift()
            if messages:
                await self._hand_over(messages)
                if self.closing:
                    continue
            # Taken after the last wait, so that it reaches the library in the same step: a ping that the library is
            # shown after it has sent a close frame makes it raise.
            try:
                passed = self._lifter.pass_on(closing=self.closing)
            except MessageTooBigError:
                self.close(CloseCode.MESSAGE_TOO_BIG, f"message over {self._max_message_bytes} bytes")
                continue
            self._note_progress(bool(messages) or (bool(passed) and not self._lifter.amid_passing))
            if passed:
                return passed
            data = await self._read()
            if not data:
                return b""
            self._lifter.feed(data)

    def _note_progress(self, ended: bool) -> None:
        if not self._lifter.amid_message:
            self.begun_at = None
        elif ended or self.begun_at is None:
            self.begun_at = trio.current_time()

    async def _read(self) -> bytes:
        try:
            data = bytes(await self._transport.receive_some(self._read_bytes))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            data = b""
        if not data:
            self.end()
            return data
        self.heard_at = trio.current_time()
        self._read_bytes = FULL_READ_BYTES if len(data) >= READ_BYTES else READ_BYTES
        return data

    async def _hand_over_passed(self) -> None:
        """Fetch the message whose last frame was passed on: it precedes whatever is lifted next."""
        assert self._get_message is not None
        message = await self._get_message()  # it is there: the library never asks for more before it has stored it
        await self._hand_over([message.encode() if isinstance(message, str) else Binary(message)])

    async def _hand_over(self, messages: list[bytes]) -> None:
        assert self._deliver is not None
        self.begun_at = None  # nothing is read meanwhile, so what is unfinished is not late
        self.handing_over = True
        await self._deliver(messages)
        self.handing_over = False

    async def wait_send_all_might_not_block(self) -> None:
        """Part of Trio's stream interface; the library does not call it."""
        async with self._lock:
            await self._transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """The library is done; the socket is closed by `hang_up` and `drop`."""
        self.left = True
        if self.on_left is not None:
            self.on_left()
        self.wake()
        await trio.lowlevel.checkpoint()

    def close(self, code: CloseCode, reason: str) -> None:
        """Ask the connection's task to close. What comes in from now on is discarded, but for a close frame."""
        super().close(code, reason)
        if self._opened is not None:
            self._opened.set()

    async def hang_up(self, linger_s: float) -> None:
        """Read on and discard for up to `linger_s` seconds, until the peer closes: unread input would reset it.

        Cancellation: safe, nothing is lost.
        """
        try:
            with trio.move_on_after(linger_s):
                if isinstance(self._transport, trio.abc.HalfCloseableStream):
                    await self._transport.send_eof()
                while await self._transport.receive_some(READ_BYTES):
                    pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def drop(self) -> None:
        """Close the socket at once."""
        await trio.aclose_forcefully(self._transport)

    def silent_for_s(self) -> float:
        """How long ago bytes came, in seconds."""
        return trio.current_time() - self.heard_at
