"""Trio without `async with`: nothing reads between `connect` and `run_forever`, and nothing is started."""

from __future__ import annotations

import pytest
import trio

from neurograph_ws_client import NeurographWSClient, State
from ws_line import NOW
from ws_peer import Collected, Peer, on_trio, peers


def script(peer: Peer) -> None:
    peer.hello()
    peer.grant()
    asked = peer.hear("publish")
    peer.send({"type": "published", "id": asked["id"], "channel": "signals", "seq": [1, 1], "timestamp": NOW})
    peer.events(1, 2)
    peer.send({"type": "pong", "id": peer.hear("ping")["id"], "timestamp": NOW})
    assert peer.until_closed() == 1000


def test_plain_calls_wait_for_run_forever_and_what_awaits_a_reply_names_async_with() -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        got, connected = Collected(), Collected()
        await client.connect()
        assert client.is_connected()
        client.on("connected", connected)
        client.subscribe("signals", got)
        published = client.publish("signals", "signal.a")
        for ask in (client.ping, client.fetch_subscriptions, lambda: client.history("signals")):
            with pytest.raises(RuntimeError, match="async with client"):
                await ask()
        with pytest.raises(RuntimeError, match="async with client"):
            await published
        with pytest.raises(RuntimeError, match="async with client"):
            await anext(client.events("signals"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.run_forever)
            await got.until(2)
            assert (await published).first == 1
            await client.ping()
            await client.disconnect()
        assert connected.items
        assert client.state is State.CLOSED

    with peers(script) as url:
        on_trio(scenario)


def test_disconnect_before_run_forever_closes_in_order() -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        await client.connect()
        await client.disconnect()
        assert client.state is State.CLOSED

    def only_hello(peer: Peer) -> None:
        peer.hello()
        assert peer.until_closed() == 1000

    with peers(only_hello) as url:
        on_trio(scenario)


def test_a_block_that_raises_closes_in_order_and_raises() -> None:
    async def scenario() -> None:
        client = NeurographWSClient(url)
        with pytest.raises(LookupError):
            async with client:
                raise LookupError
        with trio.move_on_after(60) as scope:
            async with NeurographWSClient(url):
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught

    def only_hello(peer: Peer) -> None:
        peer.hello()
        assert peer.until_closed() == 1000

    with peers(only_hello, only_hello) as url:
        on_trio(scenario)
