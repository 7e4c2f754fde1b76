"""The front door: what is led where, what is refused how, and that no connection's failure is another's."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import h11
import pytest
import structlog
import trio
from structlog.typing import EventDict
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from actors import ActorRef, Supervisor
from router.config import Config
from router.connection import Services
from router.front_door import FrontDoor
from router.http import HttpServer
from router.letters import Message
from router.state import RouterState
from tests.router.serving import DEADLINE_S, close_of, connect, hear, serving

KEY = "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.fixture
def logged() -> Iterator[list[EventDict]]:
    with structlog.testing.capture_logs() as records:
        yield records


def handshake(target: str = "/ws", *more: str, host: str = "localhost", version: str = "1.1") -> bytes:
    lines = [
        f"GET {target} HTTP/{version}",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *more,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def text(message: str) -> bytes:
    """A text frame with the mask that changes nothing."""
    payload = message.encode()
    assert len(payload) < 126
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload


async def talk(port: int, data: bytes) -> bytes:
    """Send, and read until the server closes."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(data)
        return await read_all(stream)


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while more := await stream.receive_some():
        data += more
    return data


async def read_until(stream: trio.abc.ReceiveStream, wanted: bytes) -> bytes:
    data = b""
    while wanted not in data:
        more = await stream.receive_some()
        assert more, f"the connection ended behind {data!r}"
        data += more
    return data


def problem_of(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    decoded: dict[str, Any] = json.loads(body)
    assert head.startswith(b"HTTP/1.1 %d " % decoded["status"])
    return decoded


# Where a request is led


async def test_both_sides_are_served_on_one_port() -> None:
    async with serving() as port:
        async with connect(port, "/ws?x=1") as client:
            await hear(client, type="connected")
        answer = await talk(port, b"GET /api/v1/websocket/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")
        answer = await talk(port, b"GET /ws HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert problem_of(answer)["status"] == 426


async def test_frames_that_come_with_the_head_are_heard() -> None:
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(handshake() + text('{"type":"ping","id":"early"}'))
        data = await read_until(stream, b'"id":"early"')
        assert data.startswith(b"HTTP/1.1 101")
        assert b'"type":"pong"' in data


async def test_http2_by_prior_knowledge_is_spoken() -> None:
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        settings = bytes.fromhex("000000040000000000")
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        await read_until(stream, bytes.fromhex("000000040100000000"))  # our settings are acknowledged


@pytest.mark.parametrize(
    ("offer", "selected"),
    [
        (["neurograph.v1"], "neurograph.v1"),
        (["other, neurograph.v1"], "neurograph.v1"),
        (["other", "neurograph.v1"], "neurograph.v1"),
        (["neurograph.v1", "other"], "neurograph.v1"),
        (["other"], None),
    ],
)
async def test_a_subprotocol_is_selected_wherever_it_is_offered(offer: list[str], selected: str | None) -> None:
    lines = [f"Sec-WebSocket-Protocol: {names}" for names in offer]
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(handshake("/ws", *lines))
        head = (await read_until(stream, b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 101")
        assert (b"sec-websocket-protocol: neurograph.v1" in head) is (selected is not None)
        assert b"sec-websocket-extensions" not in head


# What is refused


@pytest.mark.parametrize(
    ("request_", "status", "code", "detail"),
    [
        (handshake("/"), 404, "not_found", "the WebSocket is at /ws"),
        (handshake("/ws/"), 404, "not_found", "the WebSocket is at /ws"),
        (handshake(version="1.0"), 426, "upgrade_required", "needs HTTP/1.1"),
        (handshake("/ws", "Sec-WebSocket-Key: x"), 400, "invalid_message", "once"),
        (handshake("/ws", "Sec-WebSocket-Protocol: bearer.x"), 400, "invalid_message", "neurograph.v1 beside"),
        (handshake("/ws", "Origin: https://example.com"), 403, "permission_denied", "allowed_origins"),
        (handshake("/ws", "Origin: null"), 403, "permission_denied", "allowed_origins"),
        (handshake("/ws", "Origin: http://localhost", "Origin: http://a"), 403, "permission_denied", "allowed_origins"),
        (handshake(host="example.com"), 403, "permission_denied", "loopback"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 16384, 431, "payload_too_large", "over 16384 bytes"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "invalid_message", "TLS"),
        (b"NONSENSE\r\n\r\n", 400, "invalid_message", "no HTTP request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_message", "Host"),
    ],
)
async def test_what_cannot_be_served_is_told_why(request_: bytes, status: int, code: str, detail: str) -> None:
    async with serving() as port:
        problem = problem_of(await talk(port, request_))
    assert (problem["status"], problem["code"]) == (status, code)
    assert detail in problem["detail"]


async def test_a_head_that_is_never_whole_is_told_so() -> None:
    async with serving(handshake_s=0.1) as port:
        assert problem_of(await talk(port, b"GET / HTTP/1.1\r\n"))["status"] == 408


@pytest.mark.parametrize("origin", ["http://127.0.0.1:5173", "http://localhost"])
async def test_a_page_of_this_machine_may_open_a_socket(origin: str) -> None:
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(handshake("/ws", f"Origin: {origin}"))
        assert (await read_until(stream, b'"type":"connected"')).startswith(b"HTTP/1.1 101")


async def test_beyond_the_limit_the_handshake_completes_and_is_closed_1013() -> None:
    async with serving(max_connections=1) as port:
        async with connect(port) as first:
            await hear(first, type="connected")
            for offered in (None, [Subprotocol("neurograph.v1")]):
                async with connect(port, subprotocols=offered) as second:
                    assert second.subprotocol == (offered and offered[0])
                    assert await close_of(second) == (1013, "the limit of 1 connections is reached")
            await first.send('{"type":"ping"}')
            await hear(first, type="pong")
        while await is_full(port):
            pass  # until the first one's end is seen


async def test_who_was_turned_away_takes_nobodys_place() -> None:
    """However many stay who were refused, the next one finds the place that has become free."""
    async with serving(max_connections=1, close_s=DEADLINE_S) as port, AsyncExitStack() as stack:
        async with connect(port) as first:
            await hear(first, type="connected")
            for _ in range(3):
                refused = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", port))
                await refused.send_all(handshake())
                await read_all(refused)  # and it stays open
        while await is_full(port):
            pass


async def is_full(port: int) -> bool:
    async with connect(port) as client:
        try:
            await hear(client, type="connected")
        except ConnectionClosed:
            return True
        return False


# Each connection's failure is its own


class Http:
    """Serves by what it is told to do."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.serving = trio.Event()
        self.release = trio.Event()

    async def serve(self, stream: trio.SocketStream, head: bytes, request: h11.Request) -> None:
        self.serving.set()
        if self.error is not None:
            await trio.lowlevel.checkpoint()
            raise self.error
        await self.release.wait()


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    client, server = trio.socket.socketpair()
    return trio.SocketStream(client), trio.SocketStream(server)


@asynccontextmanager
async def door_with(http: Http, connections: Supervisor | None = None) -> AsyncIterator[tuple[FrontDoor, trio.Nursery]]:
    """A front door whose router and connections nobody needs, and a nursery that has to end."""
    services = Services(RouterState(Config()), cast(ActorRef[Message], None), None, set())
    door = FrontDoor(services, connections or Supervisor("connections"), cast(HttpServer, http), 10)
    with trio.fail_after(DEADLINE_S):
        await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            yield door, nursery


GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "error", [ValueError("bad luck"), ExceptionGroup("from a nursery", [KeyError(7), trio.BrokenResourceError()])]
)
async def test_an_unexpected_failure_is_logged_and_ends_the_connection(
    error: Exception, logged: list[EventDict]
) -> None:
    client, server = socket_pair()
    async with door_with(Http(error)) as (door, nursery), client:
        door.take(server, nursery)
        assert door.open == 1
        await client.send_all(GET)
        assert await read_all(client) == b""
        await door.wait_empty()
    assert door.open == 0
    (record,) = logged
    assert (record["event"], record["log_level"]) == ("a connection failed", "error")
    assert isinstance(record["exc_info"], ExceptionGroup)
    assert not record["exc_info"].subgroup(trio.BrokenResourceError)


@pytest.mark.parametrize("error", [trio.BrokenResourceError(), trio.ClosedResourceError()])
async def test_a_peer_that_leaves_is_nothing_to_log(error: Exception, logged: list[EventDict]) -> None:
    client, server = socket_pair()
    async with door_with(Http(error)) as (door, nursery), client:
        door.take(server, nursery)
        await client.send_all(GET)
        assert await read_all(client) == b""
    assert logged == []


async def test_a_handshake_amid_the_going_down_is_closed(logged: list[EventDict]) -> None:
    client, server = socket_pair()
    async with door_with(Http()) as (door, nursery), client:  # whose supervisor does not run (any more)
        door.take(server, nursery)
        await client.send_all(handshake())
        assert await read_all(client) == b""
    assert logged == []


async def test_shut_it_lets_nobody_in_and_goes_on_serving_who_is_in() -> None:
    http = Http()
    asking, asked = socket_pair()
    waiting, waited = socket_pair()
    late, later = socket_pair()
    async with door_with(http) as (door, nursery), asking, waiting, late:
        door.take(asked, nursery)
        door.take(waited, nursery)
        await asking.send_all(GET)
        await waiting.send_all(GET[:-1])
        await http.serving.wait()
        door.shut()
        assert await read_all(waiting) == b""
        door.take(later, nursery)
        assert await read_all(late) == b""
        await trio.testing.wait_all_tasks_blocked()
        assert door.open == 1
        http.release.set()
        await door.wait_empty()
        assert await read_all(asking) == b""


async def test_cancelled_it_closes_what_it_serves() -> None:
    http = Http()
    client, server = socket_pair()
    async with door_with(http) as (door, nursery), client:
        door.take(server, nursery)
        await client.send_all(GET)
        await http.serving.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            assert await read_all(client) == b""
