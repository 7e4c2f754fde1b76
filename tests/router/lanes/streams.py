"""Fakes for the lanes: frames of a client, a socket that takes what it is told to, a server around one lane."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import pytest
import trio
import trio.testing
from hypothesis import settings

from router.batches import Batch
from router.errors import CloseCode
from router.frames import close_frame, frame, text_frame
from router.lanes import Lane, WebSocket
from router.lanes.outbound import OutboundLane
from router.outbox import Outbox
from router.queues import Queue
from tests.conformance import wire
from tests.conformance.wire import FrameReader, Op, ServerFrame

#: The same examples each time, however busy the machine is.
STEADY: Final = settings(deadline=None, derandomize=True, database=None)

KEY: Final = b"\x01\x80\xff\x7e"
HEAD: Final = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
HEAD_END: Final = b"\r\n\r\n"
MAX_MESSAGE_BYTES: Final = 70_000
ROOMY: Final = 1 << 30


# Frames of a client, masked by one key so that a test is the same each time.


def client_frame(opcode: int, payload: bytes = b"", *, fin: bool = True, **odd: Any) -> bytes:
    return wire.frame(opcode, payload, fin=fin, key=KEY, **odd)


def text(payload: str | bytes) -> bytes:
    return client_frame(Op.TEXT, payload.encode() if isinstance(payload, str) else payload)


def close(code: int | None = None, reason: str = "") -> bytes:
    return client_frame(Op.CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason.encode())


def fragments(opcode: int, parts: Sequence[bytes]) -> list[bytes]:
    last = len(parts) - 1
    return [client_frame(Op.CONTINUATION if n else opcode, part, fin=n == last) for n, part in enumerate(parts)]


# Frames of a server.


def frames_of(data: bytes | bytearray, *, cut: bool = False) -> list[ServerFrame]:
    """What a server sent, read strictly; `cut`: it may end amid a frame."""
    reader = FrameReader()
    reader.feed(bytes(data))
    frames = []
    while (frame := reader.next()) is not None:
        frames.append(frame)
    assert cut or not reader.mid_frame, "the bytes end amid a frame"
    return frames


def event_frame(channel: str, seq: int, size: int = 0, epoch: str = "e") -> bytes:
    """An event's frame that says where it belongs; `size` makes it longer."""
    return text_frame(json.dumps({"channel": channel, "epoch": epoch, "seq": seq, "data": "x" * size}).encode())


def event_batch(channel: str, first_seq: int, sizes: Sequence[int] = (0,), epoch: str = "e") -> Batch:
    """A batch of one event for each size."""
    frames = [event_frame(channel, first_seq + n, size, epoch) for n, size in enumerate(sizes)]
    ends = [len(b"".join(frames[: n + 1])) for n in range(len(frames))]
    return Batch(b"".join(frames), ends, range(first_seq, first_seq + len(ends)), epoch)


def pong(number: int) -> bytes:
    return frame(Op.PONG, b"%d" % number)


def reply(number: int) -> bytes:
    return text_frame(json.dumps({"reply": number}).encode())


GOODBYE = text_frame(b'{"goodbye":0}')
CLOSE = close_frame(CloseCode.GOING_AWAY)


def summary(data: bytes | bytearray, *, cut: bool = False) -> list[str]:
    """The frames in `data`, each as one word: `a1` is channel a's first event."""
    words = []
    for each in frames_of(data, cut=cut):
        if each.opcode is Op.TEXT:
            message = json.loads(each.payload)
            if "seq" in message:
                words.append(f"{message['channel']}{message['seq']}")
            elif "type" in message:
                words.append(f"{message['of']}:{message['from']}-{message['to']}")
            else:
                words += [f"{key}{value}" for key, value in message.items()]
        elif each.opcode is Op.CLOSE:
            words.append("close")
        else:
            words.append(each.opcode.name.lower() + each.payload.decode())
    return words


# A plain socket


class FakeSocket:
    """A plain socket as a lane sees it: what it takes at a time, and in all, is the test's choice.

    Like Trio it bears one waiter alone.
    """

    def __init__(self, *, at_once: int = ROOMY, room: int = ROOMY) -> None:
        self.at_once = at_once
        self.room = room
        self.out = bytearray()
        self.writes = 0
        #: The most it was given to write at a time.
        self.most_given = 0
        #: Raised by every write from now on.
        self.error: OSError | None = None
        self._room_made: trio.Event | None = None

    def try_write(self, buffer: bytes | memoryview) -> int:
        if self.error is not None:
            raise self.error
        self.most_given = max(self.most_given, len(buffer))
        part = bytes(buffer[: min(self.at_once, self.room)])
        self.writes += bool(part)
        self.room -= len(part)
        self.out += part
        return len(part)

    async def wait_writable(self) -> None:
        if self._room_made is not None:
            raise trio.BusyResourceError
        self._room_made = trio.Event()
        try:
            if self.room or self.error is not None:
                await trio.lowlevel.checkpoint()
            else:
                await self._room_made.wait()
        finally:
            self._room_made = None

    def make_room(self, amount: int = ROOMY) -> None:
        self.room += amount
        self.stir()

    def fail(self, error: OSError) -> None:
        self.error = error
        self.stir()

    def stir(self) -> None:
        if self._room_made is not None:
            self._room_made.set()


class NoStream(trio.abc.SendStream):
    """In the place of a stream that must not be used: the lane writes by `try_write` alone."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        raise AssertionError

    async def wait_send_all_might_not_block(self) -> None:
        raise AssertionError

    async def aclose(self) -> None:
        raise AssertionError


class Wakes:
    """The writer's task is to be woken: told by the lane, waited for by the task."""

    def __init__(self) -> None:
        self.count = 0
        self._event = trio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()
        self._event = trio.Event()


async def write_when_woken(lane: OutboundLane, wakes: Wakes) -> None:
    """The writer's task, as a connection has it, until the connection is over or to be closed."""
    while not (lane.ended or lane.closing):
        await wakes.wait()
        await lane.write_waiting()


class World:
    """A lane over a socket that takes what it is told to, attached to an outbox with a queue or two."""

    def __init__(self, *, at_once: int = ROOMY, room: int = ROOMY, max_events: int = 1000) -> None:
        self.socket = FakeSocket(at_once=at_once, room=room)
        self.wakes = Wakes()
        self.lane = OutboundLane(
            NoStream(),
            wake=self.wakes,
            try_write=self.socket.try_write,
            wait_writable=self.socket.wait_writable,
            max_control_messages=50,
            max_control_bytes=2000,
        )
        self.outbox = Outbox(max_events, ROOMY)
        self.lane.attach(self.outbox)
        self.queues = {name: Queue(name) for name in "abc"}
        self.seqs = dict.fromkeys("abc", 0)

    def offer(self, name: str = "a", *sizes: int) -> None:
        batch = event_batch(name, self.seqs[name] + 1, sizes or (0,))
        self.seqs[name] += len(batch)
        self.lane.offer(self.queues[name], batch)

    def asked_to_close(self) -> CloseCode | None:
        return None if self.lane.close_request is None else self.lane.close_request[0]

    @property
    def out(self) -> list[str]:
        return summary(self.socket.out)

    @property
    def waiting(self) -> list[str]:
        """What is in the outbox, taken out of it."""
        return summary(b"".join(bytes(piece.buffer) for piece in self.outbox.take(ROOMY)))


async def expect_broken(lane: OutboundLane, data: bytes) -> None:
    with pytest.raises(trio.BrokenResourceError):
        await lane.send_all(data)


# A server around one lane


class Host:
    """One connection, run as the server runs it: handshake, reading and writing, close, hanging up."""

    CLOSE_S: Final = 1.0
    OPEN_S: Final = 10.0

    def __init__(
        self,
        *,
        plain: bool = True,
        head: bytes = HEAD,
        came_with_head: bytes = b"",
        library_takes: int = 1000,
        subprotocol: str | None = None,
    ) -> None:
        self.client, self.transport = trio.testing.memory_stream_pair()
        self.socket = FakeSocket()
        self.wakes = Wakes()
        self.lane = Lane(
            self.transport,
            head + came_with_head,
            wake=self.wakes,
            max_message_bytes=1000,
            try_write=self.socket.try_write if plain else None,
            wait_writable=self.socket.wait_writable if plain else None,
        )
        self.ws = WebSocket(self.lane)
        self._plain = plain
        self._library_takes = library_takes
        self._subprotocol = subprotocol
        self.messages: list[bytes] = []
        self.opened: bool | None = None
        #: When the WebSocket was done with, and when the connection was.
        self.closed_at: float | None = None
        self.ended_at: float | None = None

    async def run(self) -> None:
        lane = self.lane
        async with trio.open_nursery() as collector:
            if not self._plain:
                collector.start_soon(self._collect)
            async with trio.open_nursery() as nursery:
                self.opened = await self.ws.open(
                    nursery,
                    max_message_bytes=self._library_takes,
                    within_s=self.OPEN_S,
                    subprotocol=self._subprotocol,
                )
                if self.opened:
                    self.ws.read(self.deliver)
                    while not (lane.close_request or lane.left or lane.ended):
                        await self.wakes.wait()
                        await lane.write_waiting()
                    await self.ws.close(self.CLOSE_S)
                nursery.cancel_scope.cancel()
            self.closed_at = trio.current_time()
            await lane.hang_up(self.CLOSE_S)
            self.ended_at = trio.current_time()
            await lane.drop()

    async def deliver(self, messages: list[bytes]) -> None:
        self.messages += messages

    async def _collect(self) -> None:
        """Over a stream alone, what the client got lies in the stream."""
        async for data in self.client:
            self.socket.out += data

    async def send(self, *data: bytes) -> None:
        await self.client.send_all(b"".join(data))

    @property
    def response(self) -> bytes:
        return bytes(self.socket.out).partition(HEAD_END)[0]

    @property
    def frames(self) -> list[ServerFrame]:
        return frames_of(bytes(self.socket.out).partition(HEAD_END)[2])

    @property
    def close_frame(self) -> tuple[int, str] | None:
        """Code and reason of the one close frame that was sent, the last frame of all."""
        closes = [each for each in self.frames if each.opcode is Op.CLOSE]
        if not closes:
            return None
        assert closes == self.frames[-1:]
        payload = closes[0].payload
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()
