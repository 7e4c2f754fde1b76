"""Hypercorn behind the front door: one request at a time, answers that arrive, and peers that do not read or send."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
import structlog
import trio
from structlog.typing import EventDict
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from router.addresses import Peer, networks
from router.config import Config
from router.door.heads import READ_BYTES, Refused, parse_head
from router.door.http import HttpServer
from router.rest.asgi import App, Receive, Scope, Send
from tests.router.wires import DEADLINE_S, as_socket_stream

GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = GET.replace(b"Host", b"Connection: close\r\nHost")
POST = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
CHUNKED = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
PEER = Peer("192.0.2.1", "http")


async def answer(scope: Scope, receive: Receive, send: Send, body: bytes = b"hello") -> None:
    """An app that answers every request without looking at it."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = b""
    while more := await stream.receive_some():
        data += more
    return data


class Served:
    """A connection that is being served.

    Attributes:
        http: By whom.
        client: The other end.
        behind: What `serve` returned.
        refused: What it raised.
    """

    def __init__(self, http: HttpServer, client: trio.abc.HalfCloseableStream) -> None:
        self.http = http
        self.client = client
        self.behind: bytes | None = None
        self.refused: Refused | None = None

    async def serve(
        self,
        server: trio.abc.HalfCloseableStream,
        sent: bytes,
        peer: Peer,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Answer one request, then close the socket, as the front door would."""
        task_status.started()
        try:
            self.behind = await self.http.serve(as_socket_stream(server), sent, parse_head(sent), peer)
        except Refused as refused:
            self.refused = refused
        await trio.aclose_forcefully(server)


@asynccontextmanager
async def serving(app: App, *, sent: bytes = GET, peer: Peer = PEER, **settings: Any) -> AsyncIterator[Served]:
    """Serve one request, of which `sent` has been read; it must have ended when the context ends."""
    client, server = memory_stream_pair()
    served = Served(HttpServer(app, Config(**settings)), client)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(served.serve, server, sent, peer)
            yield served


# HTTP/1: one request


async def test_a_request_is_answered_and_the_connection_is_kept() -> None:
    async with serving(answer) as served:
        head, _, body = (await read_all(served.client)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"connection" not in head.lower()
    assert b"\r\nserver:" not in head.lower()
    assert body == b"hello"
    assert served.behind == b""


@pytest.mark.parametrize("sent", [LAST, GET.replace(b"1.1", b"1.0")], ids=["close", "HTTP/1.0"])
async def test_a_peer_that_asks_nothing_more_is_told_that_the_connection_ends(sent: bytes) -> None:
    async with serving(answer, sent=sent) as served:
        head, _, body = (await read_all(served.client)).partition(b"\r\n\r\n")
        await served.client.send_eof()
    assert b"\r\nconnection: close" in head.lower()
    assert body == b"hello"
    assert served.behind is None


async def test_what_comes_behind_a_request_is_given_back() -> None:
    asked = 0

    async def count(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        await wait_all_tasks_blocked()  # until what comes meanwhile was read, too
        await answer(scope, receive, send)

    async with serving(count, sent=GET + GET) as served:
        await served.client.send_all(GET)
        data = await read_all(served.client)
    assert data.count(b"HTTP/1.1 ") == asked == 1
    assert served.behind == GET + GET


async def test_a_body_reaches_the_app_and_the_connection_is_kept() -> None:
    body = b""

    async def take(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal body
        more = True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await answer(scope, receive, send)

    async with serving(take, sent=CHUNKED + b"3\r\nabc\r\n") as served:
        await served.client.send_all(b"3\r\ndef\r\n0\r\n\r\n" + GET)
        assert (await read_all(served.client)).endswith(b"hello")
    assert body == b"abcdef"
    assert served.behind == GET


async def test_an_answer_before_the_body_is_whole_says_that_it_is_the_last() -> None:
    async with serving(answer, sent=POST % 10 + b"01234") as served:
        head, _, body = (await read_all(served.client)).partition(b"\r\n\r\n")
        await served.client.send_eof()
    assert b"\r\nconnection: close" in head.lower()
    assert body == b"hello"
    assert served.behind is None


async def test_an_answer_at_the_going_down_says_that_it_is_the_last() -> None:
    async def go_down(scope: Scope, receive: Receive, send: Send) -> None:
        await served.http.terminate()
        await answer(scope, receive, send)

    async with serving(go_down) as served:
        assert b"\r\nconnection: close" in (await read_all(served.client)).lower()
        await served.client.send_eof()
    assert served.behind is None


async def test_an_answer_that_was_under_way_at_the_going_down_is_the_last() -> None:
    async def go_down(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await served.http.terminate()
        await send({"type": "http.response.body", "body": b"hello"})

    async with serving(go_down) as served:
        assert b"hello" in await read_all(served.client)
        await served.client.send_eof()
    assert served.behind is None


async def test_a_peer_that_waits_to_be_asked_for_its_body_is_asked() -> None:
    sent = (POST % 2).replace(b"Host", b"Expect: 100-continue\r\nHost")
    async with serving(echo, sent=sent) as served:
        assert (await served.client.receive_some()).startswith(b"HTTP/1.1 100")
        await served.client.send_all(b"ok")
        assert (await read_all(served.client)).endswith(b"ok")
    assert served.behind == b""


async def test_who_is_refused_is_not_asked_for_its_body() -> None:
    sent = (POST % 2).replace(b"Host", b"Expect: 100-continue\r\nHost")
    async with serving(answer, sent=sent) as served:
        data = await read_all(served.client)
        await served.client.send_eof()
    assert data.startswith(b"HTTP/1.1 200")
    assert b"\r\nconnection: close" in data.lower()


async def test_a_peer_is_asked_for_its_body_once_and_may_still_be_refused() -> None:
    sent = CHUNKED.replace(b"Host", b"Expect: 100-continue\r\nHost")
    async with serving(until_gone, sent=sent) as served:
        assert await served.client.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await served.client.send_all(b"2\r\nok\r\n")
        await wait_all_tasks_blocked()
        await served.client.send_all(b"no number\r\n")
        assert await read_all(served.client) == b""
    assert served.refused is not None


async def test_an_upgrade_to_http2_is_not_made() -> None:
    """A proxy would let it pass, and believe that who is behind is still one request of HTTP/1."""
    upgrade = b"Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
    async with serving(answer, sent=GET.replace(b"Host", upgrade + b"Host")) as served:
        data = await read_all(served.client)
    assert data.startswith(b"HTTP/1.1 200")
    assert data.endswith(b"hello")
    assert served.behind == b""


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    await answer(scope, receive, send, body)


@pytest.mark.parametrize("begun", [b"", b"3\r\nabc\r\n"])
async def test_a_body_that_is_not_framed_as_it_says_is_refused(begun: bytes) -> None:
    async with serving(until_gone, sent=CHUNKED + begun) as served:
        await served.client.send_all(b"no number\r\n")
        assert await read_all(served.client) == b""
    assert served.refused is not None
    assert served.refused.status == 400


@pytest.mark.parametrize("sent", [POST % 10 + b"01234", CHUNKED + b"3\r\nab"], ids=["length", "chunks"])
async def test_a_body_that_ends_early_is_refused(sent: bytes) -> None:
    async with serving(until_gone, sent=sent) as served:
        await served.client.send_eof()
        assert await read_all(served.client) == b""
    assert served.refused is not None
    assert (served.refused.status, "before it was whole" in served.refused.detail) == (400, True)


async def until_gone(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_an_answer_that_has_begun_is_not_followed_by_a_refusal() -> None:
    async def begin(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await until_gone(scope, receive, send)

    async with serving(begin, sent=CHUNKED) as served:
        data = await served.client.receive_some()
        await served.client.send_all(b"no number\r\n")
        data += await read_all(served.client)
        await served.client.send_eof()
    assert data.count(b"HTTP/1.1") == 1
    assert not data.endswith(b"0\r\n\r\n"), "it looks as if it were whole"
    assert (served.refused, served.behind) == (None, None)


async def test_a_body_that_pauses_is_answered_408(autojump_clock: MockClock) -> None:
    async with serving(until_gone, sent=POST % 10, http_read_s=7) as served:
        await served.client.send_all(b"01234")
        data = await read_all(served.client)
        await served.client.send_eof()
    assert data.startswith(b"HTTP/1.1 408")
    assert b"\r\nconnection: close" in data.lower()
    assert b"for 7 s" in data
    assert trio.current_time() == 7


async def test_a_body_may_take_long_as_long_as_it_goes_on(autojump_clock: MockClock) -> None:
    async with serving(echo, sent=POST % 10, http_read_s=7) as served:
        for _ in range(10):
            await trio.sleep(6)
            await served.client.send_all(b"x")
        assert (await read_all(served.client)).endswith(b"x" * 10)


async def test_who_has_asked_may_wait_for_long(autojump_clock: MockClock) -> None:
    async def think(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        with trio.move_on_after(50):
            await receive()
        await answer(scope, receive, send)

    async with serving(think, http_read_s=7) as served:
        assert (await read_all(served.client)).endswith(b"hello")
    assert trio.current_time() == 50


async def test_a_peer_that_leaves_is_told_to_the_app() -> None:
    gone = trio.Event()

    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await until_gone(scope, receive, send)
        gone.set()

    async with serving(wait) as served:
        await served.client.send_all(GET)
        await served.client.send_eof()
        await gone.wait()


async def test_a_body_that_nobody_reads_does_not_hold_up_the_answer() -> None:
    """Hypercorn takes ten pieces, then waits for the app; its answer must get past them."""
    client, server = lockstep_stream_pair()

    async def answer_late(scope: Scope, receive: Receive, send: Send) -> None:
        await wait_all_tasks_blocked()
        await answer(scope, receive, send)

    served = Served(HttpServer(answer_late, Config()), client)

    async def send_on() -> None:
        for _ in range(20):
            await client.send_all(bytes(READ_BYTES))
        await client.send_eof()

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.serve, server, POST % 10**7, PEER)
            nursery.start_soon(send_on)
            assert (await read_all(client)).endswith(b"hello")


async def test_unread_input_is_taken_before_the_close() -> None:
    client, server = lockstep_stream_pair()
    served = Served(HttpServer(answer, Config(close_s=DEADLINE_S)), client)

    async def send_on() -> None:
        for _ in range(20):  # far more than Hypercorn reads before its answer is out
            await client.send_all(bytes(READ_BYTES))
        await client.send_eof()

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.serve, server, POST % 10**7, PEER)
            nursery.start_soon(send_on)
            assert (await read_all(client)).endswith(b"hello")


async def test_a_peer_that_stays_after_its_last_answer_is_closed(autojump_clock: MockClock) -> None:
    async with serving(answer, sent=LAST, close_s=1) as served:
        await read_all(served.client)
    assert trio.current_time() == 1


async def test_a_peer_that_does_not_read_its_answer_is_dropped(autojump_clock: MockClock) -> None:
    client, server = lockstep_stream_pair()
    served = Served(HttpServer(answer, Config(http_send_s=5, close_s=1)), client)
    with trio.fail_after(DEADLINE_S):
        await served.serve(server, GET, PEER)
    assert trio.current_time() == 6
    assert served.behind is None


async def test_giving_up_ends_what_no_cancellation_reaches(autojump_clock: MockClock) -> None:
    client, server = lockstep_stream_pair()
    served = Served(HttpServer(answer, Config(http_send_s=DEADLINE_S)), client)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(served.serve, server, GET, PEER)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        served.http.give_up()
    assert trio.current_time() == 0


async def test_the_app_is_told_who_calls_and_how() -> None:
    scopes: list[Scope] = []

    async def note(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await answer(scope, receive, send)

    forwarded = GET.replace(b"Host", b"X-Forwarded-For: 198.51.100.7\r\nX-Forwarded-Proto: https\r\nHost")
    for peer in (PEER, Peer("192.0.2.1", "https"), Peer("192.0.2.1", "http", networks(["192.0.2.0/24"]))):
        async with serving(note, sent=forwarded, peer=peer) as served:
            await read_all(served.client)
    assert [(scope["client"], scope["scheme"]) for scope in scopes] == [
        (("192.0.2.1", 1234), "http"),
        (("192.0.2.1", 1234), "https"),
        (("198.51.100.7", 0), "https"),
    ]


@pytest.fixture
def logged() -> Any:
    with structlog.testing.capture_logs() as records:
        yield records


async def test_what_the_app_fails_with_is_logged_and_answered(logged: list[EventDict]) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("not today")

    async with serving(fail) as served:
        data = await read_all(served.client)
    assert data.startswith(b"HTTP/1.1 500")
    assert b"application/problem+json" in data
    assert b"not today" not in data
    (record,) = logged
    assert (record["event"], record["log_level"], record["path"]) == ("a request failed", "error", "/x")
    assert served.behind == b""


async def test_an_app_that_fails_amid_its_answer_ends_the_connection(logged: list[EventDict]) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await wait_all_tasks_blocked()  # until Hypercorn waits for room for what it has read
        raise ValueError("not today")

    async with serving(fail, sent=POST % 10**7) as served:
        data = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.client.send_all, bytes(20 * READ_BYTES))
            data = await read_all(served.client)
        await served.client.send_eof()
    assert data.endswith(b"half\r\n")
    assert len(logged) == 1
    assert served.behind is None


async def test_an_app_that_forgets_to_answer_is_answered_for() -> None:
    async def forget(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.lowlevel.checkpoint()

    async with serving(forget) as served:
        assert (await read_all(served.client)).startswith(b"HTTP/1.1 500")


# HTTP/2

#: How it begins, with empty settings.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")


class Http2:
    """A client's side of HTTP/2.

    Attributes:
        sent: What is to be sent first.
        bodies: What was answered, by stream.
        statuses: Likewise.
        ended: The streams whose answer is whole.
    """

    def __init__(self, *, window: int | None = None) -> None:
        config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        self._h2 = h2.connection.H2Connection(config)
        if window is not None:
            codes = {h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
            self._h2.local_settings = h2.settings.Settings(client=True, initial_values=codes)
        self._h2.initiate_connection()
        self.sent = self._h2.data_to_send()
        self.bodies: dict[int, bytes] = {}
        self.statuses: dict[int, int] = {}
        self.ended: set[int] = set()

    async def ask(
        self, client: trio.abc.Stream, method: str = "GET", *more: tuple[str, str], body: bool = False
    ) -> int:
        """Begin a request; its stream. Where it has a body, that is still to come."""
        headers = [(":method", method), (":path", "/x"), (":scheme", "http"), (":authority", "localhost"), *more]
        return await self.send(client, headers, body=body)

    async def send(
        self, client: trio.abc.Stream, headers: Sequence[tuple[str, str | bytes]], *, body: bool = False
    ) -> int:
        """As `ask`, whatever the headers are."""
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, headers, end_stream=not body)
        await client.send_all(self._h2.data_to_send())
        return stream

    async def send_body(self, client: trio.abc.Stream, stream: int, data: bytes, *, ends: bool) -> None:
        self._h2.send_data(stream, data, end_stream=ends)
        await client.send_all(self._h2.data_to_send())

    async def until_answered(self, client: trio.abc.Stream, stream: int, data: bytes = b"") -> bytes:
        """Read until the answer is whole; its body."""
        while stream not in self.ended:
            self._take(data)
            await client.send_all(self._h2.data_to_send())
            if stream not in self.ended:
                data = bytes(await client.receive_some())
                assert data, "the connection was closed"
        return self.bodies.get(stream, b"")

    def _take(self, data: bytes) -> None:
        for event in self._h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    (status,) = [value for name, value in event.headers if name == b":status"]
                    self.statuses[event.stream_id] = int(status)
                case h2.events.DataReceived():
                    self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                case h2.events.StreamEnded():
                    self.ended.add(event.stream_id)


async def test_told_to_terminate_it_closes_idle_connections(autojump_clock: MockClock) -> None:
    async with serving(answer, sent=PREFACE) as served:
        await wait_all_tasks_blocked()
        await served.http.terminate()
        await read_all(served.client)
        await served.client.send_eof()
    assert trio.current_time() == 0


async def test_a_peer_that_never_asks_anything_is_closed(autojump_clock: MockClock) -> None:
    async with serving(answer, sent=PREFACE, http_keep_alive_s=75) as served:
        await read_all(served.client)
        await served.client.send_eof()
    assert trio.current_time() == 75


async def test_a_peer_that_asks_nothing_more_is_closed(autojump_clock: MockClock) -> None:
    peer = Http2()
    async with serving(answer, sent=peer.sent, http_keep_alive_s=75) as served:
        await trio.sleep(10)
        await peer.until_answered(served.client, await peer.ask(served.client))
        await read_all(served.client)
        await served.client.send_eof()
    assert trio.current_time() == 85


async def test_many_requests_on_one_connection() -> None:
    peer = Http2()
    async with serving(answer, sent=peer.sent) as served:
        for _ in range(5):
            assert await peer.until_answered(served.client, await peer.ask(served.client)) == b"hello"
        await served.client.send_eof()


async def test_a_slow_answer_is_not_cut_off(autojump_clock: MockClock) -> None:
    async def think(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(60)
        await answer(scope, receive, send)

    peer = Http2()
    async with serving(think, sent=peer.sent) as served:
        assert await peer.until_answered(served.client, await peer.ask(served.client)) == b"hello"
        await served.client.send_eof()


async def test_a_body_that_never_comes_is_answered_408_and_others_go_on(autojump_clock: MockClock) -> None:
    peer = Http2()
    async with serving(echo, sent=peer.sent, http_read_s=7) as served:
        late = await peer.ask(served.client, "POST", body=True)
        good = await peer.ask(served.client, "POST", body=True)
        await peer.send_body(served.client, good, b"here", ends=True)
        assert await peer.until_answered(served.client, good) == b"here"
        assert b"for 7 s" in await peer.until_answered(served.client, late)
        assert peer.statuses == {late: 408, good: 200}
        await served.client.send_eof()
    assert trio.current_time() == 7


async def test_a_peer_that_never_lets_the_answer_come_is_closed(autojump_clock: MockClock) -> None:
    went_on = False

    async def answer_and_go_on(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal went_on
        await answer(scope, receive, send)
        went_on = True

    peer = Http2(window=0)
    async with serving(answer_and_go_on, sent=peer.sent, http_send_s=7) as served:
        await peer.ask(served.client)
        await read_all(served.client)
        await served.client.send_eof()
    assert trio.current_time() == 7
    assert not went_on


async def test_an_app_that_fails_amid_its_answer_ends_its_connection(logged: list[EventDict]) -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("not today")

    peer = Http2()
    async with serving(fail, sent=peer.sent) as served:
        await peer.ask(served.client, "POST", body=True)
        await read_all(served.client)
        await served.client.send_eof()
    assert len(logged) == 1


async def test_a_websocket_inside_http2_is_declined() -> None:
    """Hypercorn announces them."""
    peer = Http2()
    async with serving(answer, sent=peer.sent) as served:
        stream = await peer.ask(served.client, "CONNECT", (":protocol", "websocket"), ("sec-websocket-version", "13"))
        assert b"is opened by HTTP/1.1" in await peer.until_answered(served.client, stream)
        assert peer.statuses == {stream: 501}
        await served.client.send_eof()


@pytest.mark.parametrize(
    "headers",
    [
        [(":method", "CONNECT"), (":authority", "localhost")],
        [(":method", "GET"), (":path", b"/\xff"), (":scheme", "http"), (":authority", "localhost")],
        [(":method", b"\xff"), (":path", "/"), (":scheme", "http"), (":authority", "localhost")],
    ],
    ids=["no path", "a path that is no text", "a method that is no text"],
)
async def test_a_request_that_upsets_hypercorn_ends_its_connection_without_a_fuss(
    headers: list[tuple[str, str | bytes]], logged: list[EventDict]
) -> None:
    peer = Http2()
    async with serving(answer, sent=peer.sent) as served:
        await peer.send(served.client, [*headers, ("authorization", "Bearer secret")])
        await read_all(served.client)
        await served.client.send_eof()
    (record,) = logged
    assert (record["event"], record["log_level"]) == ("an HTTP/2 connection failed", "debug")
    assert record["address"] == "192.0.2.1"
    assert record["errors"] in (["UnboundLocalError"], ["UnicodeDecodeError"])
    assert record.keys() == {"event", "log_level", "address", "errors"}, "what the peer sent may be secret"


async def test_a_body_behind_its_answer_ends_its_connection_without_a_fuss(logged: list[EventDict]) -> None:
    peer = Http2()
    async with serving(answer, sent=peer.sent) as served:
        stream = await peer.ask(served.client, "POST", body=True)
        await peer.until_answered(served.client, stream)
        await peer.send_body(served.client, stream, b"late", ends=True)
        await read_all(served.client)
        await served.client.send_eof()
    assert [(record["log_level"], record["errors"]) for record in logged] == [("debug", ["KeyError"])]
