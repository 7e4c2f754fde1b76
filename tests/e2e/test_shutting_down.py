"""Going down: told, drained and closed in order, whatever clients do; a second signal ends it at once."""

import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from tests.e2e.clients import Client, RawClient, connected, handshake, raw, status, text
from tests.e2e.program import running


async def test_everybody_is_told_drained_and_closed() -> None:
    async with running(reconnect_spread_s=1) as program, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(program.port)) for _ in range(4)]
        for client in clients:
            await client.subscribe("signals")
        await clients[0].publish({"last": True})
        program.signal(signal.SIGTERM)
        slots = set()
        for client in clients:
            assert (await client.hear(channel="signals"))["data"] == {"last": True}
            goodbye = await client.hear()
            assert (goodbye["type"], goodbye["reason"]) == ("goodbye", "shutdown")
            slots.add(goodbye["reconnect_after_ms"])
            assert await client.close_of() == (1001, "the server is going down")
        assert slots == {250, 500, 750, 1000}
        assert await program.end() == 0
    steps = ("listening", "stopping", "draining", "stopped")
    assert tuple(record["event"] for record in program.records if record["event"] in steps) == steps


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_under_load_with_everything_in_the_way(number: signal.Signals) -> None:
    """Publishers that do not stop, one who never reads, half a handshake, and an answer that nobody takes."""
    async with (
        running(drain_s=2, close_s=0.5, send_buffer_bytes=4096, handshake_s=60, http_send_s=60) as program,
        trio.open_nursery() as nursery,
        AsyncExitStack() as stack,
    ):
        for _ in range(100):  # who make the answer long, and do not answer the close
            await stack.enter_async_context(raw(program.port))
        await stack.enter_async_context(sleeping(program.port))
        taker = await stack.enter_async_context(await connect_small(program.port))
        await taker.send_all(b"GET /api/v1/websocket/status?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await taker.receive_some(1)
        half = await stack.enter_async_context(await trio.open_tcp_stream("127.0.0.1", program.port))
        await half.send_all(handshake()[:-2])
        for _ in range(2):
            flood = await stack.enter_async_context(raw(program.port))
            nursery.start_soon(publish_on, flood)
        listener = await stack.enter_async_context(connected(program.port))
        await listener.subscribe("signals")
        await listener.hear(channel="signals")

        began = time.monotonic()
        program.signal(number)
        await hears_all_to_the_end(listener)
        assert await program.end() == 0
        assert time.monotonic() - began < 2 + 0.5 + 1 + 5  # the last is the machine's
    assert (await program.record("closing those who did not drain"))["connections"] >= 2
    await program.record("stopped")


@asynccontextmanager
async def sleeping(port: int) -> AsyncIterator[None]:
    """A client for whom events wait, for it does not read."""
    async with raw(port, receive_buffer=2048) as sleeper, connected(port) as publisher:
        await sleeper.send(text('{"type":"subscribe","channels":["signals"]}'))
        await sleeper.hear(type="subscribed")
        while (await status(port))["buffered_events"] == 0:
            await publisher.publish({"filler": "x" * 1000})
        yield


async def connect_small(port: int) -> trio.SocketStream:
    """A connection that takes next to nothing into its own buffers."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    await sock.connect(("127.0.0.1", port))
    return trio.SocketStream(sock)


async def publish_on(client: RawClient) -> None:
    publish = text('{"type":"publish","channel":"signals","event_type":"flood","data":{}}')
    try:
        while True:
            await client.send(publish * 100)
    except trio.BrokenResourceError:
        pass  # the server has gone


async def hears_all_to_the_end(client: Client) -> None:
    """Events without a hole that was not told, the goodbye, the close."""
    at: int | None = None
    while (message := await client.hear()).get("type") != "goodbye":
        first = message.get("seq", message.get("from"))
        if first is not None:
            assert at is None or first == at + 1
            at = message.get("seq", message.get("to"))
    assert at is not None
    assert await client.close_of() == (1001, "the server is going down")


@pytest.mark.parametrize(("second", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
async def test_a_second_signal_ends_it_at_once(second: signal.Signals, exit_code: int) -> None:
    async with running(exit_code=exit_code, drain_s=60, send_buffer_bytes=4096) as program, sleeping(program.port):
        program.signal(signal.SIGTERM)
        await program.record("draining")
        began = time.monotonic()
        program.signal(second)
        assert await program.end() == exit_code
        assert time.monotonic() - began < 10
        assert "stopped" not in [record["event"] for record in program.records]


async def test_nobody_is_let_in_any_more() -> None:
    async with running(drain_s=60, send_buffer_bytes=4096, exit_code=143) as program, sleeping(program.port):
        program.signal(signal.SIGTERM)
        await program.record("draining")
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", program.port)
        program.signal(signal.SIGTERM)
