"""Hypercorn behind the front door: one request a connection, answers that arrive, and peers that do not read."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import h2.config
import h2.connection
import h2.events
import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair

from router.heads import READ_BYTES, parse_head
from router.http import HttpServer, HttpStream

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

#: Passes only where something hangs; nothing here takes as long, also by a clock that jumps.
DEADLINE_S = 100

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Socket:
    """What Hypercorn asks a socket for."""

    family = trio.socket.AF_INET

    def getpeername(self) -> tuple[str, int]:
        return "192.0.2.1", 1234

    def getsockname(self) -> tuple[str, int]:
        return "192.0.2.2", 80


class Wire(trio.abc.HalfCloseableStream):
    """A stream in memory with such a socket, as far as a socket stream is needed here."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self.socket = Socket()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


def as_socket_stream(stream: trio.abc.HalfCloseableStream) -> trio.SocketStream:
    return cast(trio.SocketStream, Wire(stream))


async def answer(scope: Scope, receive: Receive, send: Send, body: bytes = b"hello") -> None:
    """An app that answers every request without looking at it."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while more := await stream.receive_some():
        data += more
    return data


# The stream that Hypercorn is given


@pytest.fixture
def lockstep() -> tuple[trio.abc.HalfCloseableStream, HttpStream]:
    """A peer that takes nothing until it reads, and the stream to it, with a head read before."""
    client, server = lockstep_stream_pair()
    return client, HttpStream(as_socket_stream(server), b"head", send_s=5)


Lockstep = tuple[trio.abc.HalfCloseableStream, HttpStream]


async def test_the_head_comes_first_then_what_follows(lockstep: Lockstep) -> None:
    client, stream = lockstep
    assert await stream.receive_some(10) == b"head"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send_all, b"more")
        assert await stream.receive_some(10) == b"more"


async def test_a_send_has_a_deadline_and_nothing_follows_it(lockstep: Lockstep, autojump_clock: MockClock) -> None:
    client, stream = lockstep
    with trio.fail_after(DEADLINE_S), pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    assert trio.current_time() == 5
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_some)
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"y")
        nursery.cancel_scope.cancel()


async def test_a_send_within_the_deadline_is_sent(lockstep: Lockstep, autojump_clock: MockClock) -> None:
    client, stream = lockstep

    async def read_late() -> None:
        await trio.sleep(4.9)
        assert await client.receive_some() == b"x"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read_late)
        await stream.send_all(b"x")


async def test_giving_up_ends_the_send_and_the_read_that_wait(lockstep: Lockstep, autojump_clock: MockClock) -> None:
    _client, stream = lockstep
    await stream.receive_some()

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        stream.give_up()
    assert trio.current_time() == 0


async def test_closing_ends_the_reading_and_leaves_the_socket_open(
    lockstep: Lockstep, autojump_clock: MockClock
) -> None:
    client, stream = lockstep
    await stream.receive_some()

    async def read() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_some()

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_eof()
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()
    with trio.move_on_after(0) as scope:
        await client.receive_some()
    assert scope.cancelled_caught, "an end was announced"


async def test_waiting_to_send_is_the_sockets_part(lockstep: Lockstep) -> None:
    client, stream = lockstep
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.receive_some)
        await stream.wait_send_all_might_not_block()
        nursery.cancel_scope.cancel()


# The server


@asynccontextmanager
async def serving(
    app: object, *, sent: bytes = GET, send_s: float = 5, linger_s: float = 1
) -> AsyncIterator[tuple[HttpServer, trio.abc.HalfCloseableStream]]:
    """Serve one connection, of which `sent` has been read; it must have ended when the context ends."""
    client, server = memory_stream_pair()
    http = HttpServer(app, send_s, linger_s)

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await http.serve(as_socket_stream(server), sent, parse_head(sent))

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            yield http, client


async def test_a_request_is_answered_and_the_connection_ends() -> None:
    async with serving(answer) as (_, client):
        head, _, body = (await read_all(client)).partition(b"\r\n\r\n")
        await client.send_eof()
    assert head.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in head.lower()
    assert b"\r\nserver:" not in head.lower()
    assert body == b"hello"


@pytest.mark.parametrize("behind", [GET, GET.replace(b"Host", b"Upgrade: websocket\r\nConnection: upgrade\r\nHost")])
async def test_a_second_request_on_the_connection_is_not_served(behind: bytes) -> None:
    asked = 0

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        await answer(scope, receive, send)

    async with serving(count, sent=GET + behind) as (_, client):
        await client.send_all(behind)
        data = await read_all(client)
        await client.send_eof()
    assert data.count(b"HTTP/1.1 ") == 1
    assert data.endswith(b"hello")
    assert asked == 1


async def test_a_peer_that_leaves_is_told_to_the_app() -> None:
    gone = trio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async with serving(wait) as (_, client):
        await client.send_all(b"what follows the only request")
        await client.send_eof()
        await gone.wait()


async def test_a_body_reaches_the_app() -> None:
    body = b""

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal body
        while (message := await receive()).get("more_body"):
            body += message["body"]
        await answer(scope, receive, send)

    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(echo, sent=head + b"3\r\nabc\r\n") as (_, client):
        await client.send_all(b"3\r\ndef\r\n0\r\n\r\n")
        assert (await read_all(client)).endswith(b"hello")
        await client.send_eof()
    assert body == b"abcdef"


async def test_unread_input_is_taken_before_the_close() -> None:
    big = GET.replace(b"GET", b"POST").replace(b"Host", b"Content-Length: 10000000\r\nHost")
    client, server = lockstep_stream_pair()
    http = HttpServer(answer, 5, math.inf)

    async def send_on() -> None:
        for _ in range(20):  # far more than Hypercorn reads before its answer is out
            await client.send_all(bytes(READ_BYTES))
        await client.send_eof()

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(http.serve, as_socket_stream(server), big, parse_head(big))
            nursery.start_soon(send_on)
            assert (await read_all(client)).endswith(b"hello")


async def test_a_peer_that_stays_after_its_answer_is_closed(autojump_clock: MockClock) -> None:
    async with serving(answer, linger_s=1) as (_, client):
        await read_all(client)
    assert trio.current_time() == 1


async def test_a_peer_that_does_not_read_its_answer_is_dropped(autojump_clock: MockClock) -> None:
    _client, server = lockstep_stream_pair()
    http = HttpServer(answer, send_s=5, linger_s=1)
    with trio.fail_after(DEADLINE_S):
        await http.serve(as_socket_stream(server), GET, parse_head(GET))
    assert trio.current_time() == 6


#: How HTTP/2 begins, with empty settings.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")


async def test_told_to_terminate_it_closes_idle_connections(autojump_clock: MockClock) -> None:
    async with serving(answer, sent=PREFACE) as (http, client):
        await trio.testing.wait_all_tasks_blocked()
        await http.terminate()
        await read_all(client)
        await client.send_eof()
    assert trio.current_time() == 0


async def test_a_peer_that_never_asks_anything_is_closed(autojump_clock: MockClock) -> None:
    async with serving(answer, sent=PREFACE) as (_, client):
        await read_all(client)
        await client.send_eof()
    assert 0 < trio.current_time() < 10


async def test_a_slow_answer_over_http2_is_not_cut_off(autojump_clock: MockClock) -> None:
    async def think(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(60)
        await answer(scope, receive, send)

    peer = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    peer.initiate_connection()
    async with serving(think, sent=peer.data_to_send()) as (_, client):
        await ask_http2(peer, client)
        await until_answered(peer, client)
        await client.send_eof()


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: \r\n\r\n"
)


async def test_an_upgrade_to_http2_is_answered_there(autojump_clock: MockClock) -> None:
    peer = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    peer.initiate_upgrade_connection()
    async with serving(answer, sent=UPGRADE) as (_, client):
        await client.send_all(peer.data_to_send())
        head = b""
        while b"\r\n\r\n" not in head:
            head += await client.receive_some()
        head, _, rest = head.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101")
        await until_answered(peer, client, bytes(rest))
        for _ in range(3):
            await ask_http2(peer, client)
            await until_answered(peer, client)
        await client.send_eof()


async def test_giving_up_ends_what_no_cancellation_reaches(autojump_clock: MockClock) -> None:
    _client, server = lockstep_stream_pair()
    http = HttpServer(answer, send_s=DEADLINE_S, linger_s=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(http.serve, as_socket_stream(server), GET, parse_head(GET))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        http.give_up()
    assert trio.current_time() == 0


async def test_http2_answers_many_requests_on_one_connection(autojump_clock: MockClock) -> None:
    peer = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    peer.initiate_connection()
    async with serving(answer, sent=peer.data_to_send()) as (_, client):
        for _ in range(5):
            await ask_http2(peer, client)
            await until_answered(peer, client)
        await client.send_eof()


async def ask_http2(peer: h2.connection.H2Connection, client: trio.abc.Stream) -> None:
    headers = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "localhost")]
    peer.send_headers(peer.get_next_available_stream_id(), headers, end_stream=True)
    await client.send_all(peer.data_to_send())


async def until_answered(peer: h2.connection.H2Connection, client: trio.abc.Stream, data: bytes = b"") -> None:
    while True:
        if any(isinstance(event, h2.events.StreamEnded) for event in peer.receive_data(data)):
            return
        data = bytes(await client.receive_some())
        assert data, "the connection was closed"


async def test_what_the_app_fails_with_is_logged_as_ours(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("not today")

    async with serving(fail) as (_, client):
        assert (await read_all(client)).startswith(b"HTTP/1.1 500")
        await client.send_eof()
    (record,) = caplog.records
    assert record.name == "hypercorn.error"
    assert record.exc_info is not None
    assert "not today" in str(record.exc_info[1])
