"""The outbound lane: the socket's only writer.

The router, the connection's writer task and the WebSocket library all write through it, and it alone holds the
state that makes this safe:

- `_inflight`: what was taken for writing and is not wholly out. It may begin amid a frame, so it is finished
  before anything else is written, whoever writes next. Where there is only `send_all`, as over TLS, what that was
  given is out: it cannot be taken back, and of a part nobody would know.
- `_lock`: held by whoever awaits the socket; a second waiter would get `trio.BusyResourceError`.
- `closing`: a close frame is on its way. No event follows it; what waits stays in the outbox.

Where nothing waits, nobody awaits the socket and it takes bytes at once, `offer` writes directly, in the caller's
sync step, without waking the writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import trio

from router.batches import Batch, Slice
from router.errors import CloseCode
from router.frames import is_close
from router.lanes.inflight import InFlight
from router.lanes.sockets import TryWrite, WaitWritable
from router.outbox import Outbox, Piece
from router.queues import Gap, Queue

#: What is taken from the outbox at a time: a reply waits behind this many bytes at most.
CHUNK_BYTES = 256 * 1024
#: What a stream with `send_all` alone is given at a time: of a write that does not end, nobody knows how much is out.
SEND_ALL_BYTES = 64 * 1024
#: What a write that cannot be left half done is given to end, once the connection is to be closed.
LAST_WRITE_S = 1.0


class OutboundLane:
    """Writes replies and events to one connection.

    The mutable state is named in the module's docstring, plus the control queue and `ended`. The sync functions
    may be called by any task; `write_waiting` is for the writer task alone.
    """

    __slots__ = (
        "_control", "_control_bytes", "_inflight", "_last", "_lock", "_max_control_bytes", "_max_control_messages",
        "_outbox", "_stirred", "_stream", "_try_write", "_wait_writable", "_wake", "_woken", "_writing",
        "close_request", "close_sent", "closing", "ended", "said_last",
    )  # fmt: skip

    def __init__(
        self,
        stream: trio.abc.SendStream,
        *,
        wake: Callable[[], None],
        try_write: TryWrite | None = None,
        wait_writable: WaitWritable | None = None,
        max_control_messages: int = 1000,
        max_control_bytes: int = 1 << 20,
    ) -> None:
        """Make a lane over `stream`.

        Args:
            stream: Written by its `send_all` where there is no `try_write`, as with TLS.
            wake: Tells the writer's task that something waits, or that the connection is over.
            try_write: Writes without waiting; goes with `wait_writable`.
            wait_writable: Waits until `try_write` may take something.
            max_control_messages: Replies that may wait.
            max_control_bytes: Bytes of replies that may wait.
        """
        assert (try_write is None) == (wait_writable is None), "the one is of no use without the other"
        self._stream = stream
        self._wake = wake
        self._try_write = try_write
        self._wait_writable = wait_writable
        self._max_control_messages = max_control_messages
        self._max_control_bytes = max_control_bytes
        self._lock = trio.Lock()
        self._inflight = InFlight()
        self._control: list[bytes] = []
        self._control_bytes = 0
        self._outbox: Outbox | None = None
        self._last: bytes | None = None
        self._writing: trio.CancelScope | None = None
        self._woken = False
        # Made where the reading task waits for the lane to go on: `_until_stirred`.
        self._stirred: trio.Event | None = None
        #: A close frame is asked for, on its way or out: events stay in the outbox, and no reply is taken.
        self.closing = False
        #: It has come so far that it follows what is in flight.
        self.close_sent = False
        #: The connection is over: nothing can be written any more.
        self.ended = False
        #: The writer has taken what `finish` was given: all else is out.
        self.said_last = False
        #: Why the connection is to be closed: code and reason.
        self.close_request: tuple[CloseCode, str] | None = None

    # Sync: put in

    def attach(self, outbox: Outbox) -> None:
        """Begin to write a session's events."""
        self._outbox = outbox
        if outbox:
            self.wake()

    def claim_frame(self) -> None:
        """Have an event or gap that is partly out be this connection's alone, unless that is over: it counts as out."""
        if not self.ended:
            self._inflight.claim_frame()

    def release(self) -> None:
        """End writing the session's events; what was not handed whole to the socket goes back to its outbox.

        Only replies that were taken before and a close frame can follow. A frame that is partly out is finished
        before them, and does not go back: `claim_frame`.
        """
        self.claim_frame()
        pieces = self._inflight.release()
        if self._outbox is not None:
            self._outbox.give_back(pieces)
            self._outbox = None
        self._last = None
        self.closing = True
        self._stir()

    def offer(self, queue: Queue, batch: Batch) -> None:
        """Write a batch at once where that is possible, else queue it. Never raises for the connection's end."""
        outbox = self._outbox
        assert outbox is not None, "a lane takes events only between attach and release"
        if (
            self._try_write is None
            or self._inflight
            or not outbox.idle
            or self._control
            or self.closing
            or self.ended
            or self._lock.locked()
        ):
            outbox.put(queue, batch)
            if outbox.overflowed:
                self.close(CloseCode.SLOW_CONSUMER, "the client is too slow for the subscription's policy")
            self.wake()
            return
        sent = self._write_now(batch.buffer)
        if sent != len(batch.buffer):
            self._inflight.append(Piece(batch.buffer, queue, Slice(batch, 0, len(batch)), sent))
            self.wake()

    def send_control(self, frame: bytes) -> None:
        """Write a reply, at once where that is possible; it may overtake events but no earlier reply."""
        if self.closing or self.ended:
            return
        if self._try_write is None or self._inflight or self._control or self._lock.locked():
            self._queue_control(frame)
            return
        sent = self._write_now(frame)
        if sent != len(frame):
            self._inflight.append(Piece(frame, sent=sent))
            self.wake()

    def finish(self, frame: bytes) -> None:
        """Write `frame` once all else is out, or the connection is closed; nothing after it but a close frame."""
        self._last = frame
        self.wake()

    @property
    def draining(self) -> Outbox | None:
        """The outbox that is being written; None: no event is written any more."""
        return None if self.closing or self.ended else self._outbox

    def waiting_for(self, queue: Queue) -> tuple[int, int]:
        """Events that wait for a subscription or are in flight: news to its client, and those that are sent again."""
        news, again = (0, 0) if self._outbox is None else self._outbox.waiting_for(queue)
        if self._inflight:
            for piece in self._inflight:
                if piece.queue is queue:
                    if piece.past is not None and piece.past.again:
                        again += piece.events_left
                    else:
                        news += piece.events_left
        return news, again

    def entries_of(self, queue: Queue) -> Iterator[Slice | Gap]:
        """What waits for a subscription or is in flight, in order."""
        for piece in self._inflight:
            if piece.queue is queue and piece.entry is not None:
                yield piece.entry
        if self._outbox is not None:
            yield from self._outbox.entries_of(queue)

    def carries(self, queue: Queue) -> bool:
        """Whether anything of a queue was taken for writing and is not wholly out."""
        return any(piece.queue is queue for piece in self._inflight)

    @property
    def finished(self) -> bool:
        """Whether nothing waits any more."""
        return not (self._inflight or self._control or self._outbox or self._last)

    def wake(self) -> None:
        """Make the writer's task look at this lane, once, however often this is called."""
        if not self._woken:
            self._woken = True
            self._wake()

    def close(self, code: CloseCode, reason: str) -> None:
        """Ask the connection's task to close; the first reason given holds."""
        if self.close_request is None:
            self.close_request = (code, reason)
        self.closing = True
        if self._writing is not None:
            if self._try_write is not None:
                self._writing.cancel()
            else:  # a write that is cut short leaves half a frame, and a close frame could not follow
                self._writing.deadline = min(self._writing.deadline, trio.current_time() + LAST_WRITE_S)
        self._stir()
        self.wake()

    def end(self) -> None:
        """The connection is over: nothing can be written any more, and nobody need wait to write."""
        self.ended = True
        if self._writing is not None:
            self._writing.cancel()
        self._stir()
        self.wake()

    def _queue_control(self, frame: bytes) -> None:
        if (
            len(self._control) >= self._max_control_messages
            or self._control_bytes + len(frame) > self._max_control_bytes
        ):
            self.close(CloseCode.CONTROL_OVERFLOW, "the client does not read its replies")
            return
        self._control.append(frame)
        self._control_bytes += len(frame)
        self.wake()

    def _write_now(self, buffer: bytes | memoryview) -> int:
        assert self._try_write is not None
        try:
            return self._try_write(buffer)
        except OSError:
            self.end()
            return 0

    # Async: write out

    async def write_waiting(self) -> None:
        """Write until nothing waits, the connection is over, or `close` is called.

        Cancellation: safe over a plain socket; over a stream with `send_all` alone the connection is over.
        """
        self._woken = False
        try:
            with trio.CancelScope() as self._writing:
                while not (self.closing or self.ended or self.finished):
                    async with self._lock:
                        self._fill()
                        await self._write_inflight()
        finally:
            self._writing = None

    async def until_close_sent(self) -> None:
        """Wait until our close frame follows what is in flight, or the connection is over. Cancellation: safe."""
        while not (self.close_sent or self.ended):
            await self._until_stirred()

    async def until_control_taken(self) -> None:
        """Wait until no reply waits to be taken for writing, or none will be. Cancellation: safe."""
        while self._control and not (self.closing or self.ended):
            await self._until_stirred()

    async def _until_stirred(self) -> None:
        self._stirred = trio.Event()
        await self._stirred.wait()

    def _stir(self) -> None:
        """Have all look again who wait for this lane to go on."""
        if self._stirred is not None:
            self._stirred.set()
        if self._outbox is not None:
            self._outbox.stir()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """The WebSocket library's way out: `data`, a pong or close frame, follows what is in flight.

        A close frame also follows the replies that wait, and the last word. No event does so: it stays in the
        outbox.

        Raises:
            trio.BrokenResourceError: The connection is over.

        Cancellation: as `write_waiting`.
        """
        async with self._lock:
            if self.ended or self.close_sent:
                raise trio.BrokenResourceError("the connection is over, or its close frame is out")
            if is_close(data):
                self.closing = self.close_sent = True
                self._take_control()
                self._take_last()
                self.wake()
            self._inflight.append(Piece(bytes(data)))
            await self._write_inflight()
        if self.ended:
            raise trio.BrokenResourceError

    def _fill(self) -> None:
        """Take the next chunk: replies first, then events, and the last word when all else is out."""
        if self._inflight or self.closing:  # both may have changed while the lock was waited for
            return
        self._take_control()
        if self._outbox:
            self._inflight += self._outbox.take(CHUNK_BYTES)
        elif self._last is not None:
            self._take_last()
            self.closing = self.said_last = True

    def _take_control(self) -> None:
        self._inflight += map(Piece, self._control)
        self._control.clear()
        self._control_bytes = 0
        self._stir()

    def _take_last(self) -> None:
        if self._last is not None:
            self._inflight.append(Piece(self._last))
            self._last = None

    async def _write_inflight(self) -> None:
        """Write all that is in flight; the lock is held."""
        while self._inflight and not self.ended:
            await self._write_some(self._inflight.front())

    async def _write_some(self, buffer: bytes | memoryview) -> None:
        """Write what the socket takes of what is in flight, or wait until it may take something."""
        try:
            if self._try_write is None or self._wait_writable is None:
                buffer = memoryview(buffer)[:SEND_ALL_BYTES]
                self._inflight.advance(len(buffer))
                await self._stream.send_all(buffer)
            elif sent := self._try_write(buffer):
                self._inflight.advance(sent)
            else:
                await self._wait_writable()
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            self.end()
        except trio.Cancelled:
            if self._try_write is None:
                self.end()  # half a frame may be out: nothing can follow it
            raise
