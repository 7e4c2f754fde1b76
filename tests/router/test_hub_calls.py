"""What comes to the router from others than connections: HTTP calls, and the program that it is embedded in."""

import msgspec
import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from actors import ActorError
from router.batches import Batch
from router.config import ChannelSettings, Config
from router.engine.memory import FULL_BATCH_BYTES, Stream
from router.letters import Broadcast, Events, HostEvents, Receipt, SendTo, SendToCall
from router.protocol import EventIn, Refusal
from tests.router.harness import World, running, seqs

SETTINGS = Config(channels={"orders.*": ChannelSettings()}, max_channels=7)


def events(channel: str, count: int = 1, data: bytes = b"{}") -> Events:
    return Events(channel, [EventIn("x", msgspec.Raw(data)) for _ in range(count)])


async def broadcast(world: World, *items: Events) -> list[Receipt | Refusal]:
    return await world.router.ask(lambda reply: Broadcast(reply, items))


async def test_a_broadcast_is_receipted_run_by_run(autojump_clock: MockClock) -> None:
    async with running(SETTINGS) as world:
        client = await world.subscriber("signals", "orders.1")
        receipts = await broadcast(world, events("signals", 2), events("orders.1"), events("signals"), events("logs"))
        assert receipts == [Receipt(1, 2, 1), Receipt(1, 1, 1), Receipt(3, 3, 1), Receipt(1, 1, 0)]
        await world.settle()
        messages = client.take()
        assert (seqs(messages), seqs(messages, "orders.1")) == ([1, 2, 3], [1])


async def test_a_run_that_cannot_be_published_does_not_hold_up_the_others(autojump_clock: MockClock) -> None:
    async with running(SETTINGS) as world:
        answers = await broadcast(world, events("orders.1"), events("orders.2"), events("nope"), events("signals"))
        assert answers[0] == answers[3] == Receipt(1, 1, 0)
        refusals = [answer for answer in answers if isinstance(answer, Refusal)]
        assert [refusal.message for refusal in refusals] == [
            "no room for channel orders.2: the limit max_channels = 7 is reached",
            "Unknown channel: nope",
        ]


async def test_a_large_broadcast_is_fanned_out_on_the_way(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running() as world:
        client = await world.subscriber("signals")
        sizes: list[int] = []
        flush = Stream.flush

        def noting(stream: Stream, epoch: str) -> Batch | None:
            sizes.append(stream.pending_bytes)
            return flush(stream, epoch)

        monkeypatch.setattr(Stream, "flush", noting)
        large = events("signals", data=b'{"text":"%b"}' % (b"x" * 100_000))
        await broadcast(world, *[large] * 5)
        await world.settle()
        assert seqs(client.take()) == [1, 2, 3, 4, 5]
        assert len([size for size in sizes if size]) == 3
        assert max(sizes) < FULL_BATCH_BYTES + 101_000


async def test_who_asked_a_router_that_failed_is_told(autojump_clock: MockClock) -> None:
    async with running() as world:
        with pytest.raises(ActorError):
            await broadcast(world, Events("signals", [EventIn("no type")]))
        await trio.sleep(1)
        assert await broadcast(world, events("signals")) == [Receipt(1, 1, 0)]


async def test_events_of_the_host_go_out_in_their_order(autojump_clock: MockClock) -> None:
    async with running(SETTINGS) as world:
        client = await world.subscriber("signals")
        to_all = SendTo("maintenance", b'{"in_s":60}')
        await world.router.send(HostEvents([events("signals", 2), to_all, events("orders.1"), events("signals")]))
        await world.settle()
        messages = client.take()
        assert seqs(messages) == [1, 2, 3]
        assert [(each["event_type"], each["data"]) for each in messages if each["channel"] == "global"] == [
            ("maintenance", {"in_s": 60})
        ]


async def test_events_of_the_host_that_find_no_room_are_logged(autojump_clock: MockClock) -> None:
    async with running(SETTINGS) as world:
        with capture_logs() as logs:
            await world.router.send(HostEvents([events("orders.1"), events("orders.2", 3)]))
            await world.settle()
        assert [(record["event"], record["events"]) for record in logs] == [("events of the host program lost", 3)]


async def test_an_event_for_some_is_answered_by_how_many_they_are(autojump_clock: MockClock) -> None:
    async with running() as world:
        client = await world.connect()
        await world.connect()

        async def send(message: SendTo) -> int:
            return await world.router.ask(lambda reply: SendToCall(reply, message))

        assert await send(SendTo("x", b"{}", client_id=client.client_id)) == 1
        assert await send(SendTo("x", b"{}", client_id="nobody")) == 0
        assert await send(SendTo("x", b"{}", user_id="nobody")) == 0
        assert await send(SendTo("x", b"{}")) == 2
        await world.settle()
        assert [each["channel"] for each in client.take()] == ["personal", "global"]
