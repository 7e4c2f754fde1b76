"""The front door: what is led where, what is refused how, and that no connection's failure is another's."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import Any, cast

import h11
import pytest
import structlog
import trio
from structlog.typing import EventDict
from websockets.exceptions import ConnectionClosed
from websockets.trio.client import ClientConnection
from websockets.typing import Subprotocol

from actors import Actor, ActorRef, ChildSpec, Supervisor
from router.addresses import Peer
from router.config import Config
from router.connection import Services
from router.door.front_door import FrontDoor
from router.door.heads import Refused
from router.door.http import HttpServer
from router.door.tls import ClientStream
from router.door.visitors import Visitors, wake
from router.hub.state import RouterState
from router.letters import Message
from router.server import Server
from tests.router.serving import DEADLINE_S, close_of, connect, hear, serving

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
#: How HTTP/2 begins, with empty settings, and the word that they have come.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
SETTINGS_HEARD = bytes.fromhex("000000040100000000")


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


def get(target: str, *more: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: localhost", *more, "", ""]).encode()


def text(message: str) -> bytes:
    """A text frame with the mask that changes nothing."""
    payload = message.encode()
    assert len(payload) < 126
    return bytes((0x81, 0x80 | len(payload))) + bytes(4) + payload


async def talk(port: int, data: bytes) -> bytes:
    """Send, and read until the server closes."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
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
        answer = await talk(port, get("/api/v1/websocket/status", "Connection: close"))
        assert answer.startswith(b"HTTP/1.1 200")
        answer = await talk(port, get("/ws", "Connection: close"))
        assert problem_of(answer)["status"] == 426


async def test_frames_that_come_with_the_head_are_heard() -> None:
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(handshake() + text('{"type":"ping","id":"early"}'))
        data = await read_until(stream, b'"id":"early"')
        assert data.startswith(b"HTTP/1.1 101")
        assert b'"type":"pong"' in data


async def test_http2_by_prior_knowledge_is_spoken() -> None:
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(PREFACE)
        await read_until(stream, SETTINGS_HEARD)


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
        (b"NONSENSE\r\n\r\n", 400, "invalid_message", "not an HTTP request"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid_message", "Host"),
        (get("//healthz"), 400, "invalid_message", "one slash"),
        (get("/x", "Authorization: Bearer a", "Authorization: Bearer b"), 400, "invalid_message", "given once"),
    ],
)
async def test_what_cannot_be_served_is_told_why(request_: bytes, status: int, code: str, detail: str) -> None:
    async with serving() as port:
        problem = problem_of(await talk(port, request_))
    assert (problem["status"], problem["code"]) == (status, code)
    assert detail in problem["detail"]


UPLOAD = "POST /api/v1/websocket/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"


@pytest.mark.parametrize("body", ["Content-Length: 10\r\n\r\n01", "Transfer-Encoding: chunked\r\n\r\n5\r\n01"])
async def test_a_body_that_ends_early_is_told_so(body: str) -> None:
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all((UPLOAD + body).encode())
        await stream.send_eof()
        problem = problem_of(await read_all(stream))
    assert (problem["status"], problem["detail"]) == (400, "bad request body: it ended before it was whole")


async def test_who_may_not_upload_is_told_so_before_the_upload() -> None:
    event = b'{"channel":"signals","event_type":"x"}'
    waiting = f"{UPLOAD}Expect: 100-continue\r\nContent-Length: {len(event)}\r\n\r\n".encode()
    async with serving(jwt_keys=("k" * 32,)) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(waiting.replace(b"Host", b"Authorization: Bearer x\r\nHost"))
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 401 ")
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(waiting)
        await read_until(stream, b"HTTP/1.1 100 Continue\r\n\r\n")
        await stream.send_all(event)
        assert (await read_until(stream, b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


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


async def test_an_address_has_a_limit_of_its_own() -> None:
    limits: dict[str, Any] = {"max_connections_per_address": 2, "max_connections": 4}
    async with serving(**limits, trusted_proxies=("127.0.0.1",)) as port, AsyncExitStack() as stack:

        async def enter(address: str) -> ClientConnection:
            return await stack.enter_async_context(connect(port, additional_headers={"X-Forwarded-For": address}))

        async def refuses(address: str, reason: str) -> None:
            async with connect(port, additional_headers={"X-Forwarded-For": address}) as client:
                assert await close_of(client) == (1013, reason)

        first = [await enter("192.0.2.1") for _ in range(2)]
        for client in first:
            await hear(client, type="connected")
        for _ in range(3):  # who is turned away takes nobody's place
            await refuses("192.0.2.1", "the limit of 2 connections from one address is reached")
        await hear(await enter("192.0.2.2"), type="connected")
        await hear(await enter("192.0.2.3"), type="connected")
        await refuses("192.0.2.2", "the limit of 4 connections is reached")
        await first[0].aclose()
        while await is_full(port, "192.0.2.1"):
            pass  # until its end is seen


async def is_full(port: int, address: str = "192.0.2.9") -> bool:
    async with connect(port, additional_headers={"X-Forwarded-For": address}) as client:
        try:
            await hear(client, type="connected")
        except ConnectionClosed:
            return True
        return False


# One request after the other

STATUS = get("/api/v1/websocket/status")


async def test_requests_may_come_one_behind_the_other_and_a_websocket_last() -> None:
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        body = b"POST /nope HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
        await stream.send_all(STATUS + body + STATUS + handshake() + text('{"type":"ping","id":"early"}'))
        data = await read_until(stream, b'"id":"early"')
    assert re.findall(rb"HTTP/1\.1 (\d+)", data) == [b"200", b"404", b"200", b"101"]


async def test_each_request_is_answered_before_the_next_is_sent() -> None:
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for _ in range(3):
            await stream.send_all(STATUS)
            await read_until(stream, b"}}")
        await stream.send_all(handshake())
        await read_until(stream, b'"type":"connected"')
        await stream.send_all(text('{"type":"ping","id":"late"}'))
        await read_until(stream, b'"id":"late"')


@pytest.mark.parametrize(
    ("later", "status"),
    [
        (handshake("/nope"), 404),
        (handshake("/ws", "Origin: https://example.com"), 403),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 16384, 431),
    ],
)
async def test_a_later_head_is_checked_like_the_first(later: bytes, status: int) -> None:
    async with serving() as port:
        answers = await talk(port, STATUS + later)
    assert answers.startswith(b"HTTP/1.1 200")
    assert b"}}HTTP/1.1 %d " % status in answers


async def test_a_later_head_has_to_be_whole_in_time() -> None:
    async with serving(handshake_s=0.1) as port:
        assert b"}}HTTP/1.1 408 " in await talk(port, STATUS + STATUS[:-1])


async def test_a_connection_that_asks_nothing_more_is_closed_without_a_word() -> None:
    async with serving(http_keep_alive_s=0.1) as port:
        assert (await talk(port, STATUS)).count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(("asked", "heard"), [(STATUS, b"}}"), (PREFACE, SETTINGS_HEARD)], ids=["HTTP/1", "HTTP/2"])
async def test_a_kept_connection_holds_nothing_up_at_the_going_down(asked: bytes, heard: bytes) -> None:
    server = Server(Config(port=0, drain_s=DEADLINE_S, http_keep_alive_s=DEADLINE_S))
    async with serving(server) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(asked)
        await read_until(stream, heard)
        server.stop()
        await read_all(stream)


async def test_what_is_refused_is_in_the_log_for_who_looks_closely(logged: list[EventDict]) -> None:
    async with serving() as port:
        await talk(port, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    (record,) = [record for record in logged if record["event"] == "a request was refused"]
    assert (record["log_level"], record["address"], record["status"]) == ("debug", "127.0.0.1", 400)
    assert "meant for TLS" in record["reason"]


@pytest.mark.parametrize(("scheme", "status"), [("https", 101), ("http", 403)])
async def test_behind_a_trusted_proxy_the_own_origin_is_the_one_outside(scheme: str, status: int) -> None:
    """At the handshake and for HTTP."""
    origin, forwarded = "Origin: https://example.com", f"X-Forwarded-Proto: {scheme}"
    insecure: dict[str, Any] = {"insecure": True, "trusted_proxies": ("127.0.0.0/8",)}
    async with serving(**insecure) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        asked = get("/api/v1/websocket/status", origin, forwarded).replace(b"localhost", b"example.com")
        await stream.send_all(asked)
        assert (b"HTTP/1.1 200" in await read_until(stream, b"}")) is (status == 101)
        await stream.send_all(handshake("/ws", origin, forwarded, host="example.com"))
        assert b"HTTP/1.1 %d " % status in await read_until(stream, b"\r\n\r\n")


async def test_who_is_no_trusted_proxy_is_not_believed() -> None:
    origin, forwarded = "Origin: https://example.com", "X-Forwarded-Proto: https"
    async with serving(insecure=True, trusted_proxies=("192.0.2.1",)) as port:
        assert problem_of(await talk(port, handshake("/ws", origin, forwarded, host="example.com")))["status"] == 403


async def test_a_target_as_proxies_are_sent_it_is_served() -> None:
    async with serving() as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(get("http://localhost/api/v1/websocket/status"))
        assert (await read_until(stream, b"}}")).startswith(b"HTTP/1.1 200")
        await stream.send_all(handshake("http://localhost/ws?heartbeat=message"))
        assert (await read_until(stream, b'"type":"connected"')).startswith(b"HTTP/1.1 101")
        refused = problem_of(await talk(port, handshake("http://example.com/ws")))
        assert "must be the same" in refused["detail"]


def test_an_address_that_nobody_comes_from_any_more_is_forgotten() -> None:
    services = Services(RouterState(Config()), cast(ActorRef[Message], None), None, set())
    visitors = Visitors(services, Supervisor("connections"), 10)
    visitors._of_address["192.0.2.1"] = 2
    visitors._leave("192.0.2.1")
    assert visitors._of_address == {"192.0.2.1": 1}
    visitors._leave("192.0.2.1")
    assert "192.0.2.1" not in visitors._of_address


def test_to_wake_whoever_is_awake_or_gone_is_no_error() -> None:
    ref = Supervisor("connections", [ChildSpec("c", lambda: cast(Actor, None), mailbox_size=1)]).ref("c")
    for _ in range(3):
        wake(ref)
    assert ref.depth == 1


# Each connection's failure is its own


class Http:
    """Serves by what it is told to do."""

    def __init__(self, error: BaseException | None = None, behind: bytes | None = None) -> None:
        self.error = error
        self.behind = behind
        self.serving = trio.Event()
        self.release = trio.Event()
        self.served = 0

    async def serve(self, stream: ClientStream, head: bytes, request: h11.Request, peer: Peer) -> bytes | None:
        self.serving.set()
        if self.error is not None:
            await trio.lowlevel.checkpoint()
            raise self.error
        await self.release.wait()
        self.served += 1
        return self.behind


def socket_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    client, server = trio.socket.socketpair()
    return trio.SocketStream(client), trio.SocketStream(server)


@asynccontextmanager
async def door_with(http: Http, **settings: Any) -> AsyncIterator[tuple[FrontDoor, trio.Nursery]]:
    """A front door whose router and connections nobody needs, and a nursery that has to end."""
    config = Config(**settings)
    services = Services(RouterState(config), cast(ActorRef[Message], None), None, set())
    visitors = Visitors(services, Supervisor("connections"), 10)
    door = FrontDoor(config, visitors, cast(HttpServer, http))
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


async def test_shut_it_closes_idle_connections_at_once() -> None:
    http = Http(behind=b"")
    http.release.set()
    idle, server = socket_pair()
    begun, other = socket_pair()
    async with door_with(http, close_s=DEADLINE_S) as (door, nursery), idle, begun:
        for client, stream in ((idle, server), (begun, other)):
            door.take(stream, nursery)
            await client.send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        await begun.send_all(GET[:-1])  # a request that is never whole is nobody's
        await trio.testing.wait_all_tasks_blocked()
        assert (http.served, door.open) == (2, 2)
        door.shut()
        for client in (idle, begun):
            assert await read_all(client) == b""
            await client.send_eof()
        await door.wait_empty()


async def test_shut_it_serves_no_request_that_waits_behind_another() -> None:
    http = Http(behind=GET)
    client, server = socket_pair()
    async with door_with(http) as (door, nursery), client:
        door.take(server, nursery)
        await client.send_all(GET)
        await http.serving.wait()
        await client.send_all(GET)  # which stays unread, and may not turn the close into a reset
        door.shut()
        http.release.set()
        assert await read_all(client) == b""
        await client.send_eof()
    assert http.served == 1


async def test_those_idle_for_longest_make_way_for_others() -> None:
    http = Http(behind=b"")
    http.release.set()
    pairs = [socket_pair() for _ in range(5)]
    async with door_with(http, close_s=DEADLINE_S) as (door, nursery), AsyncExitStack() as stack:
        door.make_way()  # nobody is there
        for client, server in pairs:
            await stack.enter_async_context(client)
            door.take(server, nursery)
            await client.send_all(GET)
            await trio.testing.wait_all_tasks_blocked()
        await pairs[0][0].send_all(GET)  # so that the second is idle for longest
        await trio.testing.wait_all_tasks_blocked()
        door.make_way()
        for index in (1, 2):
            assert await read_all(pairs[index][0]) == b""
            await pairs[index][0].send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert door.open == 3
        for index in (0, 3, 4):
            await pairs[index][0].send_all(GET)
        await trio.testing.wait_all_tasks_blocked()
        assert http.served == 9
        door.shut()
        for client, _ in pairs:
            await client.send_eof()


async def test_a_request_that_is_refused_amid_its_body_is_told_so() -> None:
    client, server = socket_pair()
    async with (
        door_with(Http(Refused(HTTPStatus.BAD_REQUEST, "invalid_message", "bad body"))) as (door, nursery),
        client,
    ):
        door.take(server, nursery)
        await client.send_all(GET)
        assert problem_of(await read_all(client))["detail"] == "bad body"


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
