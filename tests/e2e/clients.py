"""Clients: the `websockets` library's, and a raw one that may break every rule and reads only when told to."""

import itertools
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import trio
import websockets.trio.client
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection

Message = dict[str, Any]


class Client:
    """A well-behaved client, over the `websockets` library."""

    def __init__(self, connection: ClientConnection, stream: trio.SocketStream) -> None:
        self.connection = connection
        self.stream = stream
        self._ids = itertools.count(1)

    async def say(self, **message: object) -> None:
        await self.connection.send(json.dumps(message))

    async def hear(self, **wanted: object) -> Message:
        """The next message that has these fields; those before it are skipped."""
        while True:
            message: Message = json.loads(await self.connection.recv())
            if wanted.items() <= message.items():
                return message

    async def ask(self, **message: object) -> Message:
        """Send a message with an `id`; its reply or error."""
        number = next(self._ids)
        await self.say(**message, id=number)
        return await self.hear(id=number)

    async def subscribe(self, *channels: str) -> Message:
        reply = await self.ask(type="subscribe", channels=channels)
        assert reply["type"] == "subscribed", reply
        return reply

    async def publish(self, data: object, channel: str = "signals") -> Message:
        reply = await self.ask(type="publish", channel=channel, event_type="test.event", data=data)
        assert reply["type"] == "published", reply
        return reply

    async def close_of(self) -> tuple[int, str]:
        """Read to the end; code and reason of the server's close frame."""
        received = None
        try:
            while True:
                await self.connection.recv()
        except ConnectionClosed as closed:
            received = closed.rcvd
        assert received is not None, "the connection ended without a close frame"
        return received.code, received.reason

    async def reset(self) -> None:
        """Be gone without a word, as with a pulled plug."""
        await reset(self.stream)


@asynccontextmanager
async def connected(port: int, query: str = "", **options: Any) -> AsyncIterator[Client]:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    url = f"ws://127.0.0.1:{port}/ws{query}"
    async with websockets.trio.client.connect(url, stream=stream, proxy=None, **options) as connection:
        yield Client(connection, stream)


async def reset(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


# Raw

TEXT, BINARY, CLOSE = 0x81, 0x82, 0x88


def frame(first_byte: int, payload: bytes) -> bytes:
    """A client's frame, with the mask that changes nothing."""
    length = len(payload)
    if length < 126:
        size = bytes([0x80 | length])
    elif length < 1 << 16:
        size = struct.pack("!BH", 0x80 | 126, length)
    else:
        size = struct.pack("!BQ", 0x80 | 127, length)
    return bytes([first_byte]) + size + bytes(4) + payload


def text(payload: str) -> bytes:
    return frame(TEXT, payload.encode())


def handshake(query: str = "") -> bytes:
    return (
        f"GET /ws{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


class RawClient:
    """A client that sends what it is told to. It reads only where it is told to."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = bytearray()

    async def send(self, *frames: bytes) -> None:
        await self.stream.send_all(b"".join(frames))

    async def _fill(self, size: int) -> bool:
        """Read until so much is there; False where the connection ends first."""
        while len(self._buffer) < size:
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                return False
            if not data:
                return False
            self._buffer += data
        return True

    async def shake_hands(self, query: str = "") -> None:
        await self.send(handshake(query))
        while b"\r\n\r\n" not in self._buffer:
            assert await self._fill(len(self._buffer) + 1), "the connection ended amid the handshake"
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101"), head
        self._buffer[:] = rest

    async def next_frame(self) -> tuple[int, bytes] | None:
        """First byte and payload of the next frame; None where the connection ends."""
        if not await self._fill(2):
            return None
        length, start = self._buffer[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            if not await self._fill(start):
                return None
            length = int.from_bytes(self._buffer[2:start], "big")
        if not await self._fill(start + length):
            return None
        first, payload = self._buffer[0], bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return first, payload

    async def next_message(self) -> Message:
        while frame := await self.next_frame():
            first, payload = frame
            if first == TEXT:
                message: Message = json.loads(payload)
                return message
        raise AssertionError("the connection ended")

    async def hear(self, **wanted: object) -> Message:
        """The next message that has these fields; those before it are skipped."""
        while True:
            message = await self.next_message()
            if wanted.items() <= message.items():
                return message

    async def close_of(self) -> tuple[int, str] | None:
        """Code and reason of the server's close frame; None where the connection ends without one."""
        while frame := await self.next_frame():
            first, payload = frame
            if first == CLOSE:
                return int.from_bytes(payload[:2], "big"), payload[2:].decode()
        return None


@asynccontextmanager
async def raw(port: int, query: str = "", *, receive_buffer: int | None = None) -> AsyncIterator[RawClient]:
    """A raw client with its handshake done."""
    sock = trio.socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await sock.connect(("127.0.0.1", port))
    async with trio.SocketStream(sock) as stream:
        client = RawClient(stream)
        await client.shake_hands(query)
        yield client


# HTTP


async def talk(port: int, data: bytes) -> bytes:
    """Send to a fresh connection, and read to its end."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(data)
        answer = b""
        while more := await stream.receive_some():
            answer += more
        return answer


async def get(port: int, path: str, *headers: str) -> tuple[int, Any]:
    """Make a request; its status and its decoded body."""
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close", *headers]
    head, _, body = (await talk(port, "\r\n".join([*lines, "", ""]).encode())).partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def status(port: int, *headers: str) -> Message:
    code, body = await get(port, "/api/v1/websocket/status?limit=1000", *headers)
    assert code == 200
    websocket: Message = body["websocket"]
    return websocket


async def until_connections(port: int, number: int, *headers: str) -> None:
    """Wait until the server has so many WebSockets."""
    while (await status(port, *headers))["total_connections"] != number:
        pass


def batches(events: int, size: int = 1000) -> Iterator[list[int]]:
    """The numbers from 1 to `events`, in lists of at most `size`."""
    for start in range(1, events + 1, size):
        yield list(range(start, min(start + size, events + 1)))


class Http2:
    """Just enough of an HTTP/2 client to upset the library that serves it."""

    def __init__(self, port: int) -> None:
        self._authority = f"127.0.0.1:{port}"
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        self._connection = h2.connection.H2Connection(config)
        self._connection.initiate_connection()
        self.answered = False

    def begin(self, method: str, *more: tuple[str, str]) -> bytes:
        """A request whose body is still to come."""
        self._connection.send_headers(1, [(":method", method), (":authority", self._authority), *more])
        return self._connection.data_to_send()

    def hear(self, data: bytes | bytearray) -> None:
        for event in self._connection.receive_data(bytes(data)):
            self.answered = self.answered or isinstance(event, h2.events.StreamEnded)

    def finish(self) -> bytes:
        """The body."""
        self._connection.send_data(1, b"late", end_stream=True)
        return self._connection.data_to_send()
