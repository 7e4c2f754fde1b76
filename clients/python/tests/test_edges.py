"""The whole client where programs and networks do what is rarely done, under both event loops."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Any

import pytest

from neurograph_ws_client import (
    ClosedError,
    ConnectError,
    MessageTooLargeError,
    NeurographWSClient,
    _asyncio,
    _trio,
    iterating,
)
from neurograph_ws_client.backend import current
from ws_line import NOW, event
from ws_peer import Collected, Peer, Run, both_loops, peers
from ws_router import router
from ws_stall import network

pytestmark = both_loops


def hello(peer: Peer) -> None:
    peer.hello()
    peer.until_closed()


def patch_streams(monkeypatch: pytest.MonkeyPatch, name: str, method: Any) -> None:
    monkeypatch.setattr(_asyncio.AsyncioStream, name, method)
    monkeypatch.setattr(_trio.TrioStream, name, method)


# Connecting


def test_a_block_that_cannot_connect_leaves_nothing(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]

    async def scenario() -> None:
        client = NeurographWSClient(f"ws://127.0.0.1:{port}")
        for _ in range(2):
            with pytest.raises(ConnectError, match="refused"):
                async with client:
                    raise AssertionError("it was entered")

    run(scenario)


def test_a_server_that_hangs_up_at_once(run: Run) -> None:
    async def scenario() -> None:
        with pytest.raises(ConnectError, match="hung up before it answered"):
            await NeurographWSClient(f"ws://127.0.0.1:{listener.getsockname()[1]}").connect()

    def hang_up() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65_536)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hang_up)
        thread.start()
        run(scenario)
        thread.join()


def test_a_token_function_may_disconnect(run: Run) -> None:
    async def scenario() -> None:
        async def token() -> str:
            await client.disconnect()
            return "a.b.c"

        client = NeurographWSClient("ws://127.0.0.1:1", token)
        with pytest.raises(ClosedError, match="disconnect"):
            await client.connect()

    run(scenario)


def test_closed_while_the_handshake_arrives(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        client = NeurographWSClient(f"ws://127.0.0.1:{listener.getsockname()[1]}")

        async def receive(stream: Any, max_bytes: int) -> bytes:
            client._core.close(0.0)
            return b"HTTP/1.1 101 Switching Protocols\r\n"

        patch_streams(monkeypatch, "receive", receive)
        with pytest.raises(ClosedError, match="disconnect"):
            await client.connect()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        run(scenario)


# Losing the connection


def test_a_connection_that_is_reset_is_resumed(run: Run) -> None:
    async def scenario() -> None:
        got, gaps = Collected(), Collected()
        async with NeurographWSClient(between.url) as client, NeurographWSClient(one.url) as publisher:
            client.on("gap", gaps)
            client.subscribe("signals", got)
            await client.ping()
            await publisher.publish_batch("signals", [{"event_type": "signal.a"}] * 10)
            await got.until(10)
            between.reset()
            await publisher.publish_batch("signals", [{"event_type": "signal.a"}] * 10)
            await got.until(20)
        assert got.seqs == list(range(1, 21))
        assert gaps.items == []

    with router() as one, network(one.port) as between:
        run(scenario)


def test_a_socket_that_takes_nothing_more(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        failed = Collected()

        async def send(stream: Any, data: bytes) -> None:
            failed(data)
            raise BrokenPipeError

        async with NeurographWSClient(url, close_timeout=0.1) as client:
            patch_streams(monkeypatch, "send", send)
            client.publish("signals", "signal.a")
            await failed.until(1)
            await client.disconnect()
        assert len(failed.items) == 2  # the publish, and the close

    with peers(hello) as url:
        run(scenario)


# Asking


def test_one_publication_may_be_awaited_by_several(run: Run) -> None:
    async def scenario() -> None:
        found: list[int] = []
        async with NeurographWSClient(url) as client:
            publication = client.publish("signals", "signal.a")
            done = [publication.done]

            async def wait() -> None:
                found.append((await publication).first)

            await current().together(wait, wait)
            assert [*done, publication.done] == [False, True]
            with pytest.raises(MessageTooLargeError, match="the server reads 65536"):
                client.publish("signals", "signal.a", {"text": "x" * 65_536})
            with pytest.raises(ValueError, match="after, since, last: only one"):
                await client.history("signals", last=1, since=NOW)
        assert found == [7, 7]

    def script(peer: Peer) -> None:
        peer.hello()
        asked = peer.hear("publish")
        peer.send({"type": "published", "id": asked["id"], "channel": "signals", "seq": [7, 7], "timestamp": NOW})
        peer.until_closed()

    with peers(script) as url:
        run(scenario)


def test_asked_when_it_is_closed_it_says_so(run: Run) -> None:
    async def scenario() -> None:
        client = NeurographWSClient()
        await client.disconnect()
        with pytest.raises(ClosedError, match="disconnect"):
            await client.ping()

    run(scenario)


def test_a_renewal_that_fails_is_told_and_tried_again_when_asked_for(run: Run) -> None:
    async def scenario() -> None:
        asked, errors = Collected(), Collected()

        async def token() -> str | None:
            asked(None)
            match len(asked.items):
                case 1:
                    return "first"
                case 2:
                    return None
                case 3:
                    raise LookupError("no vault")
            await current().event().wait()
            raise AssertionError("nothing happens")

        client = NeurographWSClient(url, token, connect_timeout=0.5)
        client.on("error", errors)
        async with client:
            await client.authenticate("of somebody else")  # it does not take the function's place
            for number in (2, 3, 4):
                await client.ping()
                await asked.until(number)
            assert "the function raised LookupError: no vault" in str((await errors.until(1))[0])
            assert "the function gave none in time" in str((await errors.until(2))[1])

    def script(peer: Peer) -> None:
        peer.hello()
        peer.send({"type": "authenticated", "id": peer.hear("authenticate")["id"], "role": "viewer", "timestamp": NOW})
        for _ in range(3):
            peer.send({"type": "pong", "id": peer.hear("ping")["id"], "timestamp": NOW})
            peer.send({"type": "token_expiring", "expires_at": NOW, "timestamp": NOW})
        peer.until_closed()

    with peers(script) as url:
        run(scenario)


# Iterating


def serves(*messages: dict[str, Any]) -> Any:
    def script(peer: Peer) -> None:
        peer.hello()
        peer.grant()
        peer.send(*messages)
        while peer.connection.close_code is None:
            try:
                ask = peer.connection.recv()
            except Exception:
                return
            if '"ping"' in str(ask):
                peer.send({"type": "pong", "id": int(str(ask).rpartition(":")[2].rstrip("} ")), "timestamp": NOW})

    return script


def test_an_iterator_that_is_not_read_is_waited_for_events_and_gaps(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterating, "MAX_KEPT", 3)  # where the stream begins, an event, the gap
    gap = {"type": "gap", "of": "signals", "epoch": "e1", "from": 2, "to": 3, "count": 2, "reason": "overflow"}

    async def scenario() -> None:
        before = Collected()
        async with NeurographWSClient(url) as client:
            client.subscribe("signals", before)
            async with client.events("signals", gaps=True) as stream:
                await before.until(1)
                await client.ping()
                await client.ping()
                assert before.seqs == [1]  # the gap behind it waits for room
                found = [await anext(stream) for _ in range(4)]
                assert client.get_connection_info()["positions"]["signals"]["seq"] < 5
                assert [one.get("seq") for one in found] == [1, None, 4, 5]
                client.subscribe("logs", print)
                client.unsubscribe("logs")
                assert await anext(stream) == event("signals", 6)
            stream.close()
            assert client.get_subscriptions() == ["signals"]

    with peers(serves(event("signals", 1), gap, *(event("signals", seq) for seq in range(4, 9)))) as url:
        run(scenario)


def test_a_cancelled_wait_for_the_next_event_ends_the_stream(run: Run) -> None:
    """Though what is kept of it, as of a cancelled task, holds the stream."""

    async def scenario() -> None:
        got = Collected()
        async with NeurographWSClient(url) as client:
            stream = client.events("signals")

            async def read() -> None:
                async for _ in stream:
                    raise AssertionError("there was an event")

            await current().race(read, client.ping)
            assert client.get_subscriptions() == []
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
            client.subscribe("signals", got)
            await got.until(3)

    def script(peer: Peer) -> None:
        peer.hello()
        peer.grant()
        peer.send({"type": "pong", "id": peer.hear("ping")["id"], "timestamp": NOW})
        assert peer.hear("unsubscribe")["channels"] == ["signals"]
        peer.grant()
        peer.events(1, 3)
        peer.until_closed()

    with peers(script) as url:
        run(scenario)


def test_a_stream_that_is_left_lets_the_handlers_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iterating, "MAX_KEPT", 2)  # where the stream begins, and an event

    async def scenario() -> None:
        got = Collected()
        async with NeurographWSClient(url) as client:
            stream = client.events("signals")
            client.subscribe("signals", got)
            async with stream:
                assert (await anext(stream))["seq"] == 1
                await got.until(1)
            await got.until(5)

    with peers(serves(*(event("signals", seq) for seq in range(1, 6)))) as url:
        run(scenario)


def left_by_break(events: Any) -> Any:
    async def loop(_: Any) -> None:
        async for _ in events():
            break

    return loop


def left_by_an_exception(events: Any) -> Any:
    async def loop(kept: list[BaseException]) -> None:
        try:
            async for _ in events():
                raise LookupError
        except LookupError as error:
            kept.append(error)

    return loop


def left_by_return(events: Any) -> Any:
    async def loop(_: Any) -> None:
        async for _ in events():
            return

    return loop


def left_by_a_cancellation(events: Any) -> Any:
    async def loop(kept: list[BaseException]) -> None:
        async def read() -> None:
            try:
                async for _ in events():
                    reached.set()
            except BaseException as error:
                kept.append(error)
                raise

        reached = current().event()
        await current().race(read, reached.wait)

    return loop


@pytest.mark.parametrize("left", [left_by_break, left_by_an_exception, left_by_return, left_by_a_cancellation])
def test_leaving_a_loop_unsubscribes_however_it_is_left(run: Run, left: Any) -> None:
    async def scenario() -> None:
        kept: list[BaseException] = []
        async with NeurographWSClient(url) as client:
            await left(lambda: client.events("signals"))(kept)
            assert client.get_subscriptions() == []

    with peers(serves(event("signals", 1))) as url:
        run(scenario)


def test_a_stream_that_a_handler_closes_takes_nothing_more(run: Run) -> None:
    async def scenario() -> None:
        got, errors = Collected(), Collected()
        async with NeurographWSClient(url) as client:
            client.on("error", errors)

            def handle(event: Any) -> None:
                stream.close()
                got(event)

            client.subscribe("signals", handle)
            async with contextlib.aclosing(client.events("signals")) as stream:
                await got.until(2)
                with pytest.raises(StopAsyncIteration):
                    await anext(stream)
        assert errors.items == []

    with peers(serves(event("signals", 1), event("signals", 2))) as url:
        run(scenario)


def test_a_channel_without_positions_is_iterated_and_its_gap_is_told_to_all(run: Run) -> None:
    gap = {"type": "gap", "of": "global", "epoch": "e1", "from": None, "to": None, "count": 3, "reason": "overflow"}

    async def scenario() -> None:
        gaps = Collected()
        async with NeurographWSClient(url) as client:
            client.on("gap", gaps)
            client.subscribe("signals", print)
            stream = client.events("personal")
            await gaps.until(1)
            assert (await anext(stream))["data"] == {"n": 1}
            assert "personal" not in client.get_connection_info()["positions"]
            assert (await anext(stream))["data"] == {"n": 2}
        assert gaps.items == [gap]

    with peers(serves(*(event("personal", None, data={"n": n}) for n in (1, 2)), gap)) as url:
        run(scenario)
