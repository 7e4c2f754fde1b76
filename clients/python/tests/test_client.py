"""The whole client over real sockets, under asyncio and under Trio, with a server that follows a script."""

from __future__ import annotations

import contextlib
import socket
import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedOK

from neurograph_ws_client import (
    ClosedError,
    ConnectError,
    HandlerError,
    NeurographWSClient,
    RequestTimeoutError,
    State,
    TextEvent,
)
from neurograph_ws_client.backend import current
from ws_certificate import contexts
from ws_line import NOW
from ws_peer import Collected, Peer, Run, both_loops, peers

pytestmark = both_loops


def serves_events(first: int, last: int) -> Any:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.grant(seq=first - 1)
        with contextlib.suppress(ConnectionClosedOK):  # it may have heard enough
            peer.events(first, last)
        assert peer.until_closed() == 1000

    return script


def test_the_seeds_way(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url, token="a.b.c", auto_reconnect=True)
        got, connected = Collected(), Collected()
        async with client:
            assert client.is_connected()
            client.on("connected", connected)  # right after it still hears of it
            client.subscribe("signals", got)
            assert await got.until(3)
            assert (await connected.until(1))[0]["role"] == "admin"
            info = client.get_connection_info()
            assert info["state"] is State.OPEN
            assert info["subscriptions"] == client.get_subscriptions() == ["signals"]
        assert client.state is State.CLOSED
        assert got.seqs == [1, 2, 3]

    def script(peer: Peer) -> None:
        assert peer.headers["Authorization"] == "Bearer a.b.c"
        assert peer.path == "/ws"
        serves_events(1, 3)(peer)

    with peers(script) as url:
        run(scenario)


def test_connect_then_run_forever_until_a_final_close(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        got = Collected()
        client.subscribe("signals", got)
        await client.connect()
        with pytest.raises(ClosedError, match="an administrator") as caught:
            await client.run_forever()
        assert caught.value.code == 4500
        assert got.seqs == [1, 2, 3]
        with pytest.raises(ClosedError, match="4500"):
            client.publish("signals", "a")

    def script(peer: Peer) -> None:
        peer.hello()
        peer.grant()
        peer.events(1, 3)
        peer.connection.close(4500, "an administrator")

    with peers(script) as url:
        run(scenario)


def test_a_callback_may_close_it_as_soon_as_it_is_back(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        client.subscribe("signals")
        connected = 0

        async def leave(_: object) -> None:
            nonlocal connected
            connected += 1
            if connected == 2:
                await client.disconnect()

        client.on("connected", leave)
        async with client:
            await client.run_forever()
        assert connected == 2
        assert client.state is State.CLOSED

    def first(peer: Peer) -> None:
        peer.hello(reconnection_token="again")
        peer.grant()
        peer.send({"type": "goodbye", "reason": "restart", "timestamp": NOW, "reconnect_after_ms": 1})
        peer.connection.close(1012, "restart")

    def second(peer: Peer) -> None:
        peer.hello(reconnected=True, channels=["signals"], positions={"signals": {"epoch": "e1", "seq": 0}})
        assert peer.until_closed() == 1000

    with peers(first, second) as url:
        run(scenario)


def test_events_may_keep_the_bytes_that_they_came_in(run: Run) -> None:
    text = '{"channel":"signals", "seq":1, "event_type":"a", "timestamp":"t", "data":{"n":1.50, "u":"\\u00fc"}}'

    async def scenario() -> None:
        got = Collected()
        async with NeurographWSClient(url, keep_text=True) as client:
            client.subscribe("signals", got)
            (event,) = await got.until(1)
        assert isinstance(event, TextEvent)
        assert event.text == text.encode()
        assert event["data"] == {"n": 1.5, "u": "ü"}

    def script(peer: Peer) -> None:
        peer.hello()
        peer.grant()
        peer.connection.send(text)
        assert peer.until_closed() == 1000

    with peers(script) as url:
        run(scenario)


def test_it_is_entered_once(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        async with client:
            with pytest.raises(RuntimeError, match="async with: the client is open already"):
                async with client:
                    raise AssertionError("it was entered again")
            with pytest.raises(RuntimeError, match=r"connect\(\): the client is open already"):
                await client.connect()
            assert client.is_connected()
        with pytest.raises(ClosedError, match="disconnect"):
            async with client:
                raise AssertionError("it was entered again")

    def script(peer: Peer) -> None:
        peer.hello()
        assert peer.until_closed() == 1000

    with peers(script) as url:
        run(scenario)


def test_run_forever_connects_by_itself_and_retries(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]

    async def scenario() -> None:
        client = NeurographWSClient(f"ws://127.0.0.1:{port}", max_reconnect_attempts=2)
        delays = Collected()
        client.on("reconnecting", delays)
        with pytest.raises(ConnectError, match=r"gave up after 2 attempts.*refused"):
            await client.run_forever()
        assert len(delays.items) == 1

    run(scenario)


def test_cut_and_resumed_without_loss_or_duplicate(run: Run) -> None:
    async def scenario() -> None:
        got, lost = Collected(), Collected()
        async with NeurographWSClient(url) as client:
            client.on("disconnected", lost)
            client.subscribe("signals", got)
            await got.until(6)
            assert client.get_connection_info()["reconnects"] == 1
        assert got.seqs == [1, 2, 3, 4, 5, 6]
        assert lost.items[0]["reconnect"]

    def first(peer: Peer) -> None:
        peer.hello()
        peer.grant()
        peer.events(1, 3)
        peer.cut()

    def second(peer: Peer) -> None:
        assert peer.path == "/ws?reconnection_token=r.8fQ2&resume=1"
        peer.hello(reconnected=True, channels=["signals"], positions={"signals": {"epoch": "e1", "seq": 3}})
        resume = peer.hear("resume")
        seq = resume["positions"]["signals"]["seq"]
        peer.events(seq, 6)  # the first of them once more
        peer.send({"type": "resumed", "id": resume["id"], "channels": ["signals"], "replayed": 3})
        peer.until_closed()

    with peers(first, second) as url:
        run(scenario)


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (HTTPStatus.UNAUTHORIZED, "HTTP 401: it wants a token"),
        (HTTPStatus.FORBIDDEN, "HTTP 403"),
        (HTTPStatus.NOT_FOUND, "HTTP 404: no router is at this path; it is /ws"),
        (HTTPStatus.UPGRADE_REQUIRED, "HTTP 426"),
        (HTTPStatus.BAD_GATEWAY, "HTTP 502"),
    ],
)
def test_an_http_answer_is_a_clear_error(run: Run, status: HTTPStatus, says: str) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        with pytest.raises(ConnectError, match=f"cannot connect to {url}/ws: .*{says}") as caught:
            await client.connect()
        assert (caught.value.status, caught.value.code) == (status, None)
        assert "cannot connect" not in caught.value.reason
        assert client.state is State.IDLE

    with peers(status) as url:
        run(scenario)


def test_connect_fails_where_nothing_listens_and_may_be_called_again(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]

    async def scenario() -> None:
        client = NeurographWSClient(f"ws://127.0.0.1:{port}")
        for _ in range(2):
            with pytest.raises(ConnectError, match=f"cannot connect to ws://127.0.0.1:{port}/ws: .*refused"):
                await client.connect()
        assert client.state is State.IDLE

    run(scenario)


def test_connect_has_a_time_limit(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url, connect_timeout=0.2)
        with pytest.raises(ConnectError, match=r"no `connected` .* within 0.2 s; does it want a token\?"):
            await client.connect()
        assert client.state is State.IDLE

    def script(peer: Peer) -> None:
        assert peer.until_closed() == 1006

    with peers(script) as url:
        run(scenario)


def test_a_server_that_speaks_no_http_is_told(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(f"ws://127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(ConnectError, match="does not answer as a WebSocket server"):
            await client.connect()

    def speak() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"220 mail.example ESMTP\r\n")
            connection.recv(65_536)
            while connection.recv(65_536):
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak)
        thread.start()
        run(scenario)
        thread.join()


def test_a_handler_that_throws_is_reported_and_harms_nothing(run: Run) -> None:
    async def scenario() -> None:
        got, errors = Collected(), Collected()

        def bad(event: Any) -> None:
            raise LookupError(event["seq"])

        async def worse(event: Any) -> None:
            await current().breathe()
            raise ValueError(event["seq"])

        async with NeurographWSClient(url) as client:
            client.on("error", errors)
            for handler in (bad, worse, got):
                client.subscribe("signals", handler)
            await got.until(2)
            await errors.until(4)
        assert [type(error) for error in errors.items] == [HandlerError] * 4
        assert [type(error.__cause__) for error in errors.items] == [LookupError, ValueError] * 2
        assert errors.items[0].channel == "signals"

    with peers(serves_events(1, 2)) as url:
        run(scenario)


def test_a_callback_that_throws_is_reported_and_one_for_errors_is_logged(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        errors, pongs = Collected(), Collected()

        def bad(argument: Any) -> None:
            raise LookupError(argument)

        async with NeurographWSClient(url) as client:
            client.on("pong", bad)
            client.on("pong", pongs)
            client.on("error", bad)
            client.on("error", errors)
            await client.ping()
            await pongs.until(1)
            await errors.until(1)
        assert [type(error.__cause__) for error in errors.items] == [LookupError]
        assert errors.items[0].channel == "pong"

    def script(peer: Peer) -> None:
        peer.hello()
        peer.send({"type": "pong", "id": peer.hear("ping")["id"], "timestamp": NOW})
        peer.until_closed()

    with peers(script) as url:
        run(scenario)
    assert "a callback for 'error' raised" in caplog.text


def test_an_error_that_nobody_asked_to_hear_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        got = Collected()

        def bad(event: Any) -> None:
            got(event)
            raise LookupError("of mine")

        async with NeurographWSClient(url) as client:
            client.subscribe("signals", bad)
            await got.until(1)

    with peers(serves_events(1, 1)) as url:
        run(scenario)
    assert "handler of 'signals' raised LookupError: of mine" in caplog.text


def test_a_token_function_that_fails_is_told(run: Run) -> None:
    async def scenario() -> None:
        def token() -> str:
            raise LookupError("no vault")

        client = NeurographWSClient("ws://127.0.0.1:1", token)
        with pytest.raises(ConnectError, match="token: the function raised LookupError: no vault"):
            await client.connect()
        client = NeurographWSClient("ws://127.0.0.1:1", "two words")
        with pytest.raises(ConnectError, match=r"connect to ws://127.0.0.1:1/ws: token: not a JWT; .* line break"):
            await client.connect()
        assert client.state is State.IDLE

    run(scenario)


def test_disconnect_ends_an_attempt_to_connect(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url, connect_timeout=1_000)

        async def connect() -> None:
            with pytest.raises(ClosedError):
                await client.connect()

        async def disconnect() -> None:
            while not asked.is_set():
                await _short_wait()
            await client.disconnect()

        await current().together(connect, disconnect)
        assert client.state is State.CLOSED

    asked = threading.Event()

    def script(peer: Peer) -> None:
        asked.set()
        peer.until_closed()

    with peers(script) as url:
        run(scenario)


def test_async_handlers_are_awaited_in_order(run: Run) -> None:
    async def scenario() -> None:
        got, order = Collected(), []

        async def handler(event: Any) -> None:
            order.append(("begin", event["seq"]))
            await current().breathe()
            order.append(("end", event["seq"]))
            got(event)

        async with NeurographWSClient(url) as client:
            client.subscribe("signals", handler)
            await got.until(3)
        assert order == [(what, seq) for seq in (1, 2, 3) for what in ("begin", "end")]

    with peers(serves_events(1, 3)) as url:
        run(scenario)


def test_a_handler_may_ask_while_the_queue_is_full(run: Run) -> None:
    async def scenario() -> None:
        got = Collected()

        async def handler(event: Any) -> None:
            if not got.items:
                await client.ping()
            got(event)

        async with NeurographWSClient(url, queue_events=10) as client:
            client.subscribe("signals", handler)
            await got.until(5_000)
        assert got.seqs == list(range(1, 5_001))

    def script(peer: Peer) -> None:
        peer.hello()
        peer.grant()
        peer.events(1, 8)
        peer.send({"type": "pong", "id": peer.hear("ping")["id"], "timestamp": NOW})
        peer.events(9, 5_000)
        assert peer.until_closed() == 1000

    with peers(script) as url:
        run(scenario)


def test_a_slow_handler_stops_the_socket_and_pongs_go_on(run: Run) -> None:
    ponged = threading.Event()

    async def scenario() -> None:
        got = Collected()
        gate = current().event()

        async def handler(event: Any) -> None:
            if not got.items:
                await gate.wait()
            got(event)

        async with NeurographWSClient(url, queue_events=100) as client:
            client.subscribe("signals", handler)
            # The server counts pongs that nobody asked for; only a socket that is not read makes them.
            while not ponged.is_set():
                await current().within(1, _short_wait)
            waiting = len(client._core.inbox)
            gate.set()
            await got.until(50_000)
        assert 100 <= waiting < 50_000
        assert got.seqs == list(range(1, 50_001))

    def script(peer: Peer) -> None:
        pongs = 0
        take = peer.connection.protocol.recv_frame

        def count(frame: Any) -> None:
            nonlocal pongs
            pongs += frame.opcode == 10
            if pongs >= 3:
                ponged.set()
            take(frame)

        peer.connection.protocol.recv_frame = count  # type: ignore[method-assign]  # the layer tells of pongs in no other way
        peer.hello(heartbeat_s=0.2)
        peer.grant()
        peer.events(1, 50_000)
        peer.until_closed()

    with peers(script) as url:
        run(scenario)


async def _short_wait() -> None:
    event = current().event()
    with contextlib.suppress(TimeoutError):
        await current().within(0.02, event.wait)


def test_events_iterates_and_unsubscribes_when_left(run: Run) -> None:
    async def scenario() -> None:
        seqs = []
        async with NeurographWSClient(url) as client:
            async for event in client.events("signals", last=5):
                seqs.append(event["seq"])
                if len(seqs) == 3:
                    assert client.get_connection_info()["positions"]["signals"]["seq"] == 2
                    break
            assert client.get_subscriptions() == []
            await current().within(10, unsubscribed.until_set)
        assert seqs == [1, 2, 3]

    class Flag(threading.Event):
        async def until_set(self) -> None:
            while not self.is_set():
                await _short_wait()

    unsubscribed = Flag()

    def script(peer: Peer) -> None:
        peer.hello()
        assert peer.grant()["last"] == 5
        peer.events(1, 5)
        assert peer.hear("unsubscribe")["channels"] == ["signals"]
        unsubscribed.set()
        peer.until_closed()

    with peers(script) as url:
        run(scenario)


def test_gaps_come_inline_where_asked_for_and_to_callbacks(run: Run) -> None:
    gap = {"type": "gap", "of": "signals", "epoch": "e1", "from": 3, "to": 9, "count": 7, "reason": "slow_consumer"}

    async def scenario() -> None:
        found: list[Any] = []
        told = Collected()
        async with NeurographWSClient(url) as client:
            client.on("gap", told)
            async for item in client.events("signals", gaps=True):
                found.append(item if "type" in item else item["seq"])
                if len(found) == 5:
                    break
        assert found == [1, 2, gap, 10, 11]
        assert told.items == [gap]

    def script(peer: Peer) -> None:
        peer.hello()
        peer.grant()
        peer.events(1, 2)
        peer.send(gap)
        peer.events(10, 11)
        peer.until_closed()

    with peers(script) as url:
        run(scenario)


def test_an_iterator_ends_with_disconnect_and_raises_at_a_final_close(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        async with client:
            async for event in client.events("signals"):
                if event["seq"] == 2:
                    await client.disconnect()
        client = NeurographWSClient(url)
        async with client:
            events = client.events("signals")
            assert [(await anext(events))["seq"] for _ in range(2)] == [1, 2]
            with pytest.raises(ClosedError, match="4501"):
                await anext(events)

    def revoked(peer: Peer) -> None:
        peer.hello()
        peer.grant()
        peer.events(1, 2)
        peer.connection.close(4501, "revoked")

    with peers(serves_events(1, 2), revoked) as url:
        run(scenario)


def test_a_slow_iterator_is_waited_for(run: Run) -> None:
    async def scenario() -> None:
        got = 0
        async with NeurographWSClient(url, queue_events=10) as client:
            async for event in client.events("signals"):
                got += 1
                assert event["seq"] == got
                if got % 700 == 0:
                    await _short_wait()
                if got == 10_000:
                    break

    with peers(serves_events(1, 10_000)) as url:
        run(scenario)


def test_disconnect_in_a_handler(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        seqs = []

        async def handler(event: Any) -> None:
            seqs.append(event["seq"])
            if event["seq"] == 2:
                await client.disconnect()
                seqs.append("went on")

        client.subscribe("signals", handler)
        await client.connect()
        await client.run_forever()
        assert seqs == [1, 2, "went on"]
        assert client.state is State.CLOSED
        await client.disconnect()

    with peers(serves_events(1, 5)) as url:
        run(scenario)


def test_disconnect_cuts_off_a_handler_that_does_not_end(run: Run) -> None:
    async def scenario() -> None:
        began = Collected()
        cut_off = []

        async def handler(event: Any) -> None:
            began(event)
            try:
                await current().event().wait()
            finally:
                cut_off.append(event["seq"])

        client = NeurographWSClient(url, close_timeout=0.1)
        async with client:
            client.subscribe("signals", handler)
            await began.until(1)
            await client.disconnect()
            assert cut_off == [1]

    with peers(serves_events(1, 3)) as url:
        run(scenario)


def test_disconnect_does_not_wait_for_an_iterator_that_is_not_read(run: Run) -> None:
    async def scenario() -> None:
        async with NeurographWSClient(url, close_timeout=1_000) as client:
            unread = client.events("signals")
            assert (await anext(unread))["seq"] == 1
            full = client._core.inbox
            while not len(full) > 100:
                await _short_wait()
            await client.disconnect()
            with pytest.raises(StopAsyncIteration):
                await anext(unread)

    with peers(serves_events(1, 3_000)) as url:
        run(scenario)


def test_a_dead_server_is_noticed(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url, auto_reconnect=False)
        await client.connect()
        with pytest.raises(ClosedError, match=r"silent for 0.1 s"):
            await client.run_forever()

    def silent(peer: Peer) -> None:
        peer.hello(heartbeat_s=-14.9)  # and 15 s
        assert peer.until_closed() == 1006

    with peers(silent) as url:
        run(scenario)


def test_requests(run: Run) -> None:
    async def scenario() -> None:
        async with NeurographWSClient(url, request_timeout=0.3) as client:
            assert 0 <= await client.ping() < 10
            assert await client.fetch_subscriptions() == ["metrics"]
            history = await client.history("signals", last=2)
            assert (history.epoch, history.complete, len(history.events)) == ("e1", True, 0)
            assert (await client.authenticate("new")).user_id == "u"
            with pytest.raises(RequestTimeoutError, match=r"ping: no reply within 0.3 s"):
                await client.ping()
            published = await client.publish("signals", "signal.a", {"priority": 1})
            assert (published.first, published.last, published.subscribers) == (5, 5, 2)

    def script(peer: Peer) -> None:
        peer.hello()
        peer.send({"type": "pong", "id": peer.hear("ping")["id"], "timestamp": NOW})
        peer.send({"type": "subscriptions", "id": peer.hear("get_subscriptions")["id"], "channels": ["metrics"]})
        asked = peer.hear("history")
        peer.send({"type": "history", "id": asked["id"], "channel": "signals", "epoch": "e1", "complete": True,
                   "more": False, "events": []})  # fmt: skip
        asked = peer.hear("authenticate")
        assert asked["token"] == "new"
        peer.send({"type": "authenticated", "id": asked["id"], "user_id": "u", "role": "viewer", "expires_at": None})
        peer.hear("ping")
        asked = peer.hear("publish")
        peer.send({"type": "published", "id": asked["id"], "channel": "signals", "seq": [5, 5], "subscribers": 2,
                   "timestamp": NOW})  # fmt: skip
        peer.until_closed()

    with peers(script) as url:
        run(scenario)


def test_the_token_function_is_asked_at_each_connection_and_before_the_end(run: Run) -> None:
    async def scenario() -> None:
        tokens = iter(["t1", "t2", "t3"])

        async def token() -> str:
            await current().breathe()
            return next(tokens)

        connected = Collected()
        async with NeurographWSClient(url, token) as client:
            client.on("connected", connected)
            await connected.until(2)

    def first(peer: Peer) -> None:
        assert peer.headers["Authorization"] == "Bearer t1"
        peer.hello()
        peer.send({"type": "token_expiring", "expires_at": NOW})
        asked = peer.hear("authenticate")
        assert asked["token"] == "t2"
        peer.send({"type": "authenticated", "id": asked["id"], "user_id": "u", "role": "viewer", "expires_at": None})
        peer.connection.close(4002, "token expired")

    def second(peer: Peer) -> None:
        assert peer.headers["Authorization"] == "Bearer t3"
        peer.hello()
        peer.until_closed()

    with peers(first, second) as url:
        run(scenario)


def test_a_renewed_token_that_is_refused_is_not_come_back_with(run: Run) -> None:
    async def scenario() -> None:
        tokens = iter(["t1", "t2", "t2"])
        client = NeurographWSClient(url, lambda: next(tokens))
        await client.connect()
        with pytest.raises(ClosedError, match="4002"):
            await client.run_forever()

    def script(peer: Peer) -> None:
        peer.hello()
        peer.send({"type": "token_expiring", "expires_at": NOW})
        asked = peer.hear("authenticate")
        peer.send({"type": "authenticated", "id": asked["id"], "user_id": "u", "role": "viewer", "expires_at": None})
        peer.connection.close(4002, "token expired")

    with peers(script) as url:
        run(scenario)


def test_a_token_that_is_refused_while_coming_back_is_said_once(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url, lambda: "t1")
        await client.connect()
        with pytest.raises(ConnectError) as caught:
            await client.run_forever()
        assert str(caught.value) == f"cannot connect to {url}/ws: not yours (1008)"

    def accepts(peer: Peer) -> None:
        peer.hello()
        peer.cut()

    def refuses(peer: Peer) -> None:
        peer.connection.close(1008, "not yours")

    with peers(accepts, refuses, refuses) as url:  # with the session, and without it
        run(scenario)


def test_the_same_token_again_is_not_sent(run: Run) -> None:
    async def scenario() -> None:
        asked = Collected()

        def token() -> str:
            asked(None)
            return "t1"

        async with NeurographWSClient(url, token) as client:
            await asked.until(2)
            await client.ping()
            await client.authenticate("t2")
            await asked.until(3)
            await client.ping()

    def script(peer: Peer) -> None:
        def pong() -> None:
            peer.send({"type": "pong", "id": peer.hear("ping")["id"], "timestamp": NOW})

        def authenticated(token: str) -> None:
            asked = peer.hear("authenticate")
            assert asked["token"] == token
            peer.send({"type": "authenticated", "id": asked["id"], "user_id": "u", "role": "admin", "expires_at": None})

        peer.hello()
        peer.send({"type": "token_expiring", "expires_at": NOW})
        pong()  # nothing came before it
        authenticated("t2")  # by the program
        peer.send({"type": "token_expiring", "expires_at": NOW})
        authenticated("t1")  # the function's is another one now
        pong()
        peer.until_closed()

    with peers(script) as url:
        run(scenario)


def test_what_answers_in_the_routers_place_while_it_is_away_is_no_end(run: Run) -> None:
    async def scenario() -> None:
        connected, attempts = Collected(), Collected()
        client = NeurographWSClient(url)
        client._core.returning._backoff._random = lambda: 0.01
        async with client:
            client.on("connected", connected)
            client.on("reconnecting", attempts)
            await connected.until(2)
        assert [getattr(info["error"], "status", None) for info in attempts.items] == [None, 404, 426]

    def first(peer: Peer) -> None:
        peer.hello()
        peer.cut()

    def last(peer: Peer) -> None:
        peer.hello()
        peer.until_closed()

    with peers(first, HTTPStatus.NOT_FOUND, HTTPStatus.UPGRADE_REQUIRED, last) as url:
        run(scenario)


def test_an_end_that_comes_while_away_is_told(run: Run) -> None:
    async def scenario() -> None:
        lost, errors = Collected(), Collected()
        async with NeurographWSClient(url, "a.b.c") as client:
            client.on("disconnected", lost)
            client.on("error", errors)
            await errors.until(1)
            assert client.state is State.CLOSED
        assert [info["reconnect"] for info in lost.items] == [True, False]
        assert (lost.items[1]["code"], lost.items[1]["reason"]) == (1008, "expired")
        assert [type(error) for error in errors.items] == [ConnectError]

    def first(peer: Peer) -> None:
        peer.hello()
        peer.cut()

    def second(peer: Peer) -> None:
        peer.connection.close(1008, "expired")

    with peers(first, second) as url:
        run(scenario)


def test_what_a_lambda_publishes_is_not_waited_for(run: Run) -> None:
    async def scenario() -> None:
        got, pongs = Collected(), Collected()
        async with NeurographWSClient(url) as client:
            client.subscribe("signals", lambda event: client.publish("actions", "action.executed"))
            client.subscribe("signals", got)
            client.on("pong", lambda _: client.publish("actions", "action.executed"))
            client.on("pong", pongs)
            await client.ping()
            await pongs.until(1)
            await got.until(3)  # the server answers none of the publishes

    def script(peer: Peer) -> None:
        peer.hello()
        grants = (peer.hear("subscribe"), peer.hear("ping"))
        peer.send({"type": "subscribed", "id": grants[0]["id"], "channels": ["signals"],
                   "positions": {"signals": {"epoch": "e1", "seq": 0}}})  # fmt: skip
        peer.send({"type": "pong", "id": grants[1]["id"], "timestamp": NOW})
        peer.events(1, 3)
        for _ in range(4):
            peer.hear("publish")
        assert peer.until_closed() == 1000

    with peers(script) as url:
        run(scenario)


def test_an_iterator_ends_with_its_subscription(run: Run) -> None:
    async def scenario() -> None:
        seqs = []
        async with NeurographWSClient(url) as client:
            async for event in client.events("signals"):
                seqs.append(event["seq"])
                if len(seqs) == 3:
                    client.unsubscribe("signals")
        assert seqs == [1, 2, 3]

    with peers(serves_events(1, 3)) as url:
        run(scenario)


def test_cancelled_while_it_runs_it_closes_in_order(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        got = Collected()
        client.subscribe("signals", got)
        await current().race(client.run_forever, lambda: got.until(1))
        assert client.state is State.CLOSED
        with pytest.raises(ClosedError, match="the task or event loop that it ran in has ended"):
            client.subscribe("signals", got)

    with peers(serves_events(1, 1)) as url:
        run(scenario)


def test_tls(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        got = Collected()
        async with NeurographWSClient(url, ssl_context=trusting) as client:
            client.subscribe("signals", got)
            await got.until(3)

    server, trusting = contexts(tmp_path)
    with peers(serves_events(1, 3), tls=server) as url:
        run(scenario)


def test_a_certificate_that_is_not_trusted_is_told(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        with pytest.raises(ConnectError, match=r"certificate is not trusted: .*ssl_context") as caught:
            await client.connect()
        assert not caught.value.retry

    server, _ = contexts(tmp_path)
    with peers(tls=server) as url:
        run(scenario)


def test_tls_to_a_server_without_is_told(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url.replace("ws:", "wss:"))
        with pytest.raises(ConnectError, match=r"TLS failed|hung up|reset"):
            await client.connect()
        assert client.state is State.IDLE

    with peers() as url:
        run(scenario)
